//! What instances last wrote, for whoever has to find out why they failed.

use futures::TryStreamExt;
use platform_blueprint::ResourceName;
use platform_decide::group::GroupId;
use platform_port::{LogLine, LogQuery, Party, Target};

/// Lines shown of what failed.
const LAST_LINES: usize = 20;

/// What the instances of some groups last wrote, oldest first, of each group its part.
///
/// - `instance`: of this one alone
pub(crate) async fn last_lines(
    target: &dyn Target,
    groups: &[&GroupId],
    instance: Option<&str>,
) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for group in groups {
        let query = LogQuery {
            parties: vec![Party::Service(group.service.clone())],
            instance: instance.map(str::to_owned),
            version: Some(group.version),
            since: None,
            tail: Some((LAST_LINES / groups.len()).max(1)),
            follow: false,
        };
        lines.extend(Box::pin(read(target, &query)).await);
    }
    lines
}

/// What the server of a resource last wrote, oldest first; nothing where it has none.
pub(crate) async fn last_lines_of_server(
    target: &dyn Target,
    resource: &ResourceName,
) -> Vec<LogLine> {
    let query = LogQuery {
        parties: vec![Party::Resource(resource.clone())],
        tail: Some(LAST_LINES),
        ..LogQuery::default()
    };
    read(target, &query).await
}

/// The lines that are there; the log is an extra, so one that cannot be read is no error.
async fn read(target: &dyn Target, query: &LogQuery) -> Vec<LogLine> {
    match target.logs(query).await {
        Ok(found) => found.try_collect().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}
