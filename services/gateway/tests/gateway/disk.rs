//! A disk that is full, and has room again.

use std::io::Write;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::bench::{Place, Running, Upstream, client, get, orders, skip, until};

/// A small disk below a test's place; only root can have one.
struct Disk(PathBuf);

impl Disk {
    fn new(place: &Place) -> Option<Self> {
        let path = place.path().join("disk");
        std::fs::create_dir(&path).expect("a folder");
        let kind = Some("tmpfs");
        match mount(kind, &path, kind, MsFlags::empty(), Some("size=256k")) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                skip(&format!("a disk cannot be mounted here: {error}"));
                None
            }
        }
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        for size in [4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("the filler");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

async fn lost<T>(gateway: &Running<T>) -> u64 {
    let metrics = gateway.admin.metrics().await.expect("metrics");
    let name = "gateway_access_log_lost_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.expect("the metric").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_lines_and_no_request() {
    let place = Place::new();
    let Some(disk) = Disk::new(&place) else {
        return;
    };
    // The gateway's own files lie on that disk.
    std::os::unix::fs::symlink(disk.0.join("access.log"), place.log()).expect("a link");
    std::os::unix::fs::symlink(disk.0.join("state"), place.path().join("state")).expect("a link");
    std::fs::create_dir(disk.0.join("state")).expect("a folder");
    let gateway = place.process().await;
    let upstream = Upstream::start("orders").await;
    let config = |revision: u64| json!({ "revision": revision, "services": orders(&[&upstream]) });
    gateway.configure(config(1)).await;
    let address = gateway.address("public").await;
    let client = client();
    assert_eq!(get(&client, address, "/before").await.status, 200);
    disk.fill();
    until("lines are lost", async || {
        assert_eq!(get(&client, address, "/full").await.status, 200);
        lost(&gateway).await > 3
    })
    .await;
    // A configuration comes into force all the same, and it is told that a restart would not find it.
    gateway.configure(config(2)).await;
    let status = gateway.admin.status().await.expect("a status");
    assert_eq!((status.revision, status.unkept), (2, true));
    let metrics = gateway.admin.metrics().await.expect("metrics");
    assert!(metrics.contains("\ngateway_config_unkept 1\n"), "{metrics}");
    assert_eq!(get(&client, address, "/full").await.status, 200);
    disk.free();
    until("the configuration is kept", async || {
        !gateway.admin.status().await.expect("a status").unkept
    })
    .await;
    until("lines are written again", async || {
        assert_eq!(get(&client, address, "/after").await.status, 200);
        let text = std::fs::read_to_string(place.log()).expect("the log");
        text.contains("\"/after\"")
    })
    .await;
    gateway.stopped().await;
    // At most the one line that met the end of the disk is not whole.
    let text = std::fs::read_to_string(place.log()).expect("the log");
    let torn = text
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err());
    assert!(torn.count() <= 1, "{text}");
    let gateway = place.process().await;
    assert_eq!(gateway.admin.status().await.expect("a status").revision, 2);
    gateway.stopped().await;
}
