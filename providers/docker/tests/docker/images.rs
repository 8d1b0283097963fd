//! Images of our own program: one for each build, and gone with the last environment that needs it.

use std::collections::BTreeSet;
use std::io::Write as _;

use platform_port::Target;
use platform_testkit::scene;

use crate::world::{World, docker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_of_our_program_goes_with_the_last_who_needs_it() {
    // A build that no other test has.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    std::fs::copy(scene::example("program"), &program).expect("a copy");
    let mut file = std::fs::File::options()
        .append(true)
        .open(&program)
        .expect("a program");
    writeln!(file, "{}", std::process::id()).expect("written");
    drop(file);
    let worlds = ["image-1", "image-2", "image-3"].map(|test| World::of_build(test, &program));
    let [Some(first), Some(second), Some(third)] = worlds else {
        return;
    };

    first.target.ensure_gateway().await.expect("a gateway");
    let label = "{{index .Config.Labels \"platform.build\"}}";
    let build = docker(&["inspect", "-f", label, &first.container("keeper")]);
    let own = format!("label=platform.build={build}");
    let all = |said: String| said.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let images = || all(docker(&["images", "-q", "--no-trunc", "--filter", &own]));
    // Its name goes to another, as when several bring it at the same moment.
    let name = format!("platform.local/platform:{build}");
    docker(&["rmi", "-f", &name]);
    let both = tokio::join!(
        second.target.ensure_gateway(),
        third.target.ensure_gateway()
    );
    both.0.expect("a gateway");
    both.1.expect("a gateway");
    assert!(images().len() > 1, "none lost its name");

    // What containers are made from stays, whoever tidies up.
    second.target.tidy(&[]).await.expect("tidied up");
    docker(&["restart", "-t", "1", &first.container("keeper")]);
    first.down().await;
    second.down().await;
    third.target.tidy(&[]).await.expect("tidied up");
    // The two that brought it at once may have taken either's, each for one container and the other.
    let (keeper, gateway) = (third.container("keeper"), third.container("gateway"));
    let needed = || {
        let mut needed = all(docker(&["inspect", "-f", "{{.Image}}", &keeper, &gateway]));
        needed.insert(docker(&["inspect", "-f", "{{.Id}}", &name]));
        needed
    };
    let before = needed();
    assert_eq!(images(), before);
    docker(&["rm", "-f", &gateway]);
    third.target.ensure_gateway().await.expect("a gateway");
    third.target.tidy(&[]).await.expect("tidied up");
    assert_eq!(images(), needed());
    assert!(images().is_subset(&before), "it was brought again");
    third.down().await;
    assert_eq!(images(), BTreeSet::new());
}
