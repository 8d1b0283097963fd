//! What instances last wrote, for whoever has to find out why they failed.

use futures::TryStreamExt;
use platform_decide::group::GroupId;
use platform_port::{LogLine, LogQuery, Target};

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
            services: vec![group.service.clone()],
            instance: instance.map(str::to_owned),
            version: Some(group.version),
            since: None,
            tail: Some((LAST_LINES / groups.len()).max(1)),
            follow: false,
        };
        if let Ok(found) = target.logs(&query).await {
            lines.extend(found.try_collect::<Vec<_>>().await.unwrap_or_default());
        }
    }
    lines
}
