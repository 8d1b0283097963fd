//! What the gateway has while a release comes up.

use super::*;

#[test]
fn the_gateway_is_routed_once_what_it_counts_through_is_there() {
    let counted =
        format!("{TWO}\n[gateway]\nshared = \"counts\"\n[resources.counts]\nkind = \"redis\"\n");
    let scenes = [Scene::default(), deployed(TWO)];
    for scene in scenes {
        let plan = scene.plan(&desired(&counted));
        let early = plan.steps.iter().find(|step| step.id.0 == "route early");
        let after: Vec<&str> = early
            .iter()
            .flat_map(|s| &s.after)
            .map(|id| id.0.as_str())
            .collect();
        assert_eq!(after, ["gateway", "resource counts"]);
    }
}

/// With the first change of shares the gateway has what was given to it early, which is nothing that a release has.
#[test]
fn routes_stay_while_a_release_comes_up_that_changes_what_the_gateway_knows_of_a_service() {
    let mut scene = deployed(TWO);
    let changed = TWO
        .replace("[\"web\"]", "[\"web\", \"--new\"]")
        .replace("port = 8081", "port = 8081\ntraffic = { concurrency = 9 }")
        .replace("path = \"/\"", "path = \"/shop\"");
    let plan = scene.plan(&desired(&changed));
    let given = |scene: &mut Scene, plan: &Plan| {
        let early = plan.early_traffic(&scene.observed, scene.current.as_ref());
        let seen = scene.observed.gateway.as_mut().expect("a gateway");
        seen.ingress = Digest::of_value(&early.ingress);
        seen.splits = early.splits;
        let anybody = early.ingress.routes.iter().filter(|r| r.headers.is_empty());
        let paths = anybody.map(|route| route.path.as_str().to_owned());
        paths.collect::<Vec<_>>()
    };
    assert_eq!(given(&mut scene, &plan), ["/"]);
    assert_eq!(given(&mut scene, &plan), ["/"]);
    // Nor does another release, after a run that was stopped, have its own before it is up.
    let another = scene.plan(&desired(&changed.replace("= 9", "= 8")));
    assert_eq!(given(&mut scene, &another), ["/"]);
    // Once it has the last ones they stay.
    let seen = scene.observed.gateway.as_mut().expect("a gateway");
    seen.ingress = Digest::of_value(&plan.release.ingress);
    assert_eq!(given(&mut scene, &plan), ["/shop"]);
}

#[test]
fn new_routes_are_there_before_for_who_asks_for_the_release_on_trial() {
    let scene = deployed(TWO);
    let led = |more: &str| {
        let changed = TWO.replace("[\"web\"]", "[\"web\", \"--new\"]");
        let plan = scene.plan(&desired(&format!("{changed}\n{more}")));
        let early = plan.early_traffic(&scene.observed, scene.current.as_ref());
        let route = plan.release.ingress.routes.last().expect("a route");
        let shown = early.ingress.routes.iter().map(|route| {
            let by: Vec<&str> = route.headers.keys().map(String::as_str).collect();
            [&[route.path.as_str()], by.as_slice()].concat().join(" ")
        });
        (shown.collect::<Vec<_>>(), plan.leads(route, &early))
    };
    let new = "[[routes]]\npath = \"/new\"\nservice = ";
    assert_eq!(
        led(&format!("{new}\"web\"")),
        (vec!["/".into(), "/new x-platform-release".into()], true)
    );
    // A route to the release on trial is for whoever knows its path.
    assert_eq!(
        led(&format!("{new}\"web\"\npreview = true")),
        (vec!["/".into(), "/new".into()], true)
    );
    // What is not on trial has nothing to show, and a route may name what only the new gateway has.
    assert_eq!(led(&format!("{new}\"orders\"")), (vec!["/".into()], false));
    let counted = "rate_limit = { requests = 1 }\n[gateway]\ntrust = [\"10.0.0.1\"]";
    assert_eq!(
        led(&format!("{new}\"web\"\n{counted}")),
        (vec!["/".into()], false)
    );
}
