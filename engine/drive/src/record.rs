//! The evidence a run leaves behind.

use std::collections::BTreeMap;

use platform_blueprint::ServiceName;
use platform_decide::digest::Digest;
use platform_decide::plan::{Change, StepId};
use platform_decide::release::{Release, ReleaseNumber};
use platform_decide::rollout::Phase;
use platform_port::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::deploy::Outcome;
use crate::error::DriveError;
use crate::journal::Progress;
use crate::releases::{read_json, to_json};
use crate::rollout;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "kebab-case")]
pub enum Ending {
    /// Everything is as asked.
    Done,
    /// What it had begun was taken back.
    RolledBack {
        /// The release that serves on.
        to: ReleaseNumber,
        /// Why, in words.
        why: String,
    },
    /// It failed.
    Failed {
        /// Stable code.
        code: String,
        /// Why, in words.
        why: String,
    },
    /// It was told to stop.
    Stopped,
}

impl Ending {
    pub(crate) fn of(result: &Result<Outcome, DriveError>) -> Self {
        match result {
            Ok(Outcome::Unchanged { .. } | Outcome::Deployed { .. }) => Self::Done,
            Ok(Outcome::RolledBack { to, failure, .. }) => Self::RolledBack {
                to: *to,
                why: failure.in_words(),
            },
            Err(DriveError::Stopped { .. }) => Self::Stopped,
            Err(DriveError::Failed { failure, .. } | DriveError::Unfinished { failure, .. }) => {
                Self::Failed {
                    code: failure.cause.code().to_owned(),
                    why: failure.in_words(),
                }
            }
            Err(error) => Self::Failed {
                code: error.code().to_owned(),
                why: error.to_string(),
            },
        }
    }
}

/// What a run did, under its run id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub run: String,
    /// The command it carried out.
    pub command: String,
    /// When it began to act, as RFC 3339 in UTC.
    pub since: String,
    /// When it ended.
    pub until: String,
    /// How it ended.
    #[serde(flatten)]
    pub ending: Ending,
    /// The release it deployed.
    pub release: ReleaseNumber,
    /// The release that served before.
    pub from: Option<ReleaseNumber>,
    /// What it was to change and why.
    pub changes: Vec<Change>,
    /// The key of each service's artifact.
    pub artifacts: BTreeMap<ServiceName, Digest>,
    /// How far each step came.
    pub steps: BTreeMap<StepId, Progress>,
}

impl RunRecord {
    /// The key of a run's record in the environment's store.
    pub fn key(run: &str) -> String {
        format!("runs/{run}/record")
    }

    pub(crate) fn artifacts_of(release: &Release) -> BTreeMap<ServiceName, Digest> {
        release
            .services
            .iter()
            .map(|(name, placed)| (name.clone(), placed.spec.artifact.key.clone()))
            .collect()
    }

    pub(crate) async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let key = Self::key(&self.run);
        let before = store.read(&key).await?.map(|document| document.version);
        store.write(&key, &to_json(self), before.as_ref()).await?;
        Ok(())
    }
}

/// Why a release was taken back or never came up, in words; `None` where its newest run says nothing of that.
///
/// # Errors
///
/// If the store fails or a document is damaged.
pub async fn why_taken_back(
    store: &dyn Store,
    number: ReleaseNumber,
) -> Result<Option<String>, StoreError> {
    for state in rollout::all(store, number).await? {
        if let Phase::RolledBack { why } = &state.phase {
            return Ok(Some(why.to_string()));
        }
    }
    let records = all(store).await?.into_iter().rev();
    let newest = records.into_iter().find(|record| record.release == number);
    Ok(newest.and_then(|record| match record.ending {
        Ending::RolledBack { why, .. } | Ending::Failed { why, .. } => Some(why),
        Ending::Done | Ending::Stopped => None,
    }))
}

/// Reads every run's record, in the order of their ids, which is that of their time.
///
/// # Errors
///
/// If the store fails or a document is damaged.
pub async fn all(store: &dyn Store) -> Result<Vec<RunRecord>, StoreError> {
    let mut found = Vec::new();
    for key in store.list("runs/").await? {
        if key.ends_with("/record")
            && let Some((record, _)) = read_json(store, &key).await?
        {
            found.push(record);
        }
    }
    Ok(found)
}
