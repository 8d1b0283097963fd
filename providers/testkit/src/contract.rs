//! What every adapter and the fake must do alike.
//!
//! An adapter's own test makes an empty environment on a real target, gives the contract groups that run there, and calls these.

use std::sync::Arc;
use std::time::Duration;

use platform_decide::group::GroupSpec;
use platform_decide::observed::{Coming, Observed};
use platform_decide::traffic::Traffic;
use platform_port::{SecretValues, Store, StoreError, Target};

/// How long the contract waits for a target to come to what was asked.
const WITHIN: Duration = Duration::from_secs(60);

/// The store's promises: compare-and-swap, prefixes, repeatable deletes.
///
/// # Panics
///
/// If a promise is broken.
pub async fn store(store: &dyn Store) {
    assert_eq!(
        read(store, "contract/a").await,
        None,
        "an empty store has no document"
    );
    let first = write(store, "contract/a", b"1", None)
        .await
        .expect("a first write");
    let again = write(store, "contract/a", b"2", None).await;
    assert!(
        matches!(again, Err(StoreError::Conflict { .. })),
        "a document that is there is not made anew"
    );
    let second = write(store, "contract/a", b"2", Some(&first))
        .await
        .expect("a swap");
    let stale = write(store, "contract/a", b"3", Some(&first)).await;
    assert!(
        matches!(stale, Err(StoreError::Conflict { .. })),
        "a stale writer loses"
    );
    let found = store
        .read("contract/a")
        .await
        .expect("a read")
        .expect("a document");
    assert_eq!((found.version, found.bytes), (second, b"2".to_vec()));
    write(store, "contract/b", b"1", None)
        .await
        .expect("another document");
    write(store, "contracted", b"1", None)
        .await
        .expect("a neighbour");
    assert_eq!(
        store.list("contract/").await.expect("a listing"),
        ["contract/a", "contract/b"]
    );
    for key in ["contract/a", "contract/b", "contracted", "contract/a"] {
        store
            .delete(key)
            .await
            .expect("a delete, also of what is gone");
    }
    assert_eq!(read(store, "contract/a").await, None);
}

/// Of many writers that swap the same document, exactly one wins each round.
///
/// # Panics
///
/// If a write is lost.
pub async fn store_contention(target: Arc<dyn Target>) {
    const WRITERS: u32 = 8;
    const ROUNDS: u32 = 10;
    let writers = (0..WRITERS).map(|_| {
        let target = Arc::clone(&target);
        tokio::spawn(async move {
            let store = target.store();
            let mut won = 0;
            while won < ROUNDS {
                let before = store.read("contract/count").await.expect("a read");
                let count: u32 = before
                    .as_ref()
                    .and_then(|d| String::from_utf8_lossy(&d.bytes).parse().ok())
                    .unwrap_or(0);
                let next = (count + 1).to_string();
                let expected = before.as_ref().map(|d| &d.version);
                match store
                    .write("contract/count", next.as_bytes(), expected)
                    .await
                {
                    Ok(_) => won += 1,
                    Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
                    Err(error) => panic!("a write failed: {error}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    let last = read(target.store(), "contract/count").await;
    assert_eq!(last, Some((WRITERS * ROUNDS).to_string().into_bytes()));
    target
        .store()
        .delete("contract/count")
        .await
        .expect("a delete");
}

/// A group's life: it comes up, is scaled up and down, is asked for twice, and goes.
///
/// # Panics
///
/// If the target does otherwise.
pub async fn group_life(target: &dyn Target, group: &GroupSpec, traffic: &Traffic) {
    let secrets = SecretValues::new();
    target.ensure_gateway().await.expect("a gateway");
    until(target, |seen| {
        seen.gateway.as_ref().is_some_and(|g| g.ready)
    })
    .await;
    target.route(traffic, &secrets).await.expect("routes");
    target
        .route(traffic, &secrets)
        .await
        .expect("the same routes again");
    for replicas in [1, 3, 1] {
        let group = GroupSpec {
            replicas,
            ..group.clone()
        };
        // More than is asked for in the end.
        let more = GroupSpec {
            replicas: replicas + 1,
            ..group.clone()
        };
        let running = |seen: &Observed| seen.groups.get(&group.id).map_or(0, |seen| seen.replicas);
        let before = running(&target.observe().await.expect("a look"));
        let prepared = target.prepare_group(&more, &secrets).await;
        prepared.expect("a group that is made ready");
        let after = running(&target.observe().await.expect("a look"));
        assert_eq!(before, after, "what is made ready does not run");
        target
            .ensure_group(&group, &secrets)
            .await
            .expect("a group");
        target
            .ensure_group(&group, &secrets)
            .await
            .expect("the same group again");
        let seen = until(target, |seen| {
            seen.groups.get(&group.id).is_some_and(|g| {
                g.coming(&group.digest, replicas) == Coming::Up
                    && g.instances.len() == replicas as usize
            })
        })
        .await;
        let ids: Vec<&String> = seen.groups[&group.id]
            .instances
            .iter()
            .map(|i| &i.id)
            .collect();
        let mut distinct = ids.clone();
        distinct.dedup();
        assert_eq!(ids, distinct, "instances have names of their own");
    }
    let quiet = target.observe().await.expect("a look").fingerprint();
    let again = target.observe().await.expect("another look").fingerprint();
    assert_eq!(quiet, again, "looking changes nothing");
    let split = target
        .observe()
        .await
        .expect("a look")
        .gateway
        .map(|g| g.splits);
    assert_eq!(
        split.as_ref(),
        Some(&traffic.splits),
        "the gateway shares as it was told"
    );
    target.remove_group(&group.id).await.expect("a removal");
    target
        .remove_group(&group.id)
        .await
        .expect("the same removal again");
    until(target, |seen| !seen.groups.contains_key(&group.id)).await;
    let prepared = target.prepare_group(group, &secrets).await;
    prepared.expect("a group that is made ready");
    target
        .remove_group(&group.id)
        .await
        .expect("a removal of what was made ready");
    until(target, |seen| !seen.groups.contains_key(&group.id)).await;
}

/// Nothing of the environment is left after a destroy, which may be repeated.
///
/// # Panics
///
/// If something is left.
pub async fn destroy(target: &dyn Target) {
    target.destroy(true).await.expect("a destroy");
    target.destroy(true).await.expect("the same destroy again");
    let left = target.observe().await.expect("a look");
    assert_eq!(left, Observed::default(), "nothing is left");
}

async fn until(target: &dyn Target, wanted: impl Fn(&Observed) -> bool) -> Observed {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let seen = target.observe().await.expect("a look at the target");
        if wanted(&seen) {
            return seen;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the target did not come to what was asked: {seen:#?}"
        );
        target.changed(Duration::from_millis(200)).await;
    }
}

async fn read(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.read(key).await.expect("a read").map(|d| d.bytes)
}

async fn write(
    store: &dyn Store,
    key: &str,
    bytes: &[u8],
    expected: Option<&platform_port::Version>,
) -> Result<platform_port::Version, StoreError> {
    store.write(key, bytes, expected).await
}
