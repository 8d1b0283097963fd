//! The environment's documents, through the keeper.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use platform_port::{Document, Store, StoreError, TargetError, Version};

use crate::inside::{Answer, Ask, version_of};
use crate::keeper::{Reach, Trouble};
use crate::site::Site;

/// Documents on a volume of the engine.
pub(crate) struct KeeperStore {
    site: Arc<Site>,
}

impl KeeperStore {
    pub(crate) fn new(site: Arc<Site>) -> Self {
        Self { site }
    }

    fn fail(
        &self,
        action: &'static str,
        key: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Unavailable {
            action,
            key: key.to_owned(),
            place: format!(
                "volume `{}` of {}",
                self.site.names.plumbing("state"),
                self.site.engine.place
            ),
            source: source.into(),
        }
    }

    async fn ask(
        &self,
        action: &'static str,
        key: &str,
        ask: Ask,
        reach: Reach,
    ) -> Result<Option<Answer>, StoreError> {
        match self.site.ask(ask, reach).await {
            Ok(Some(Answer::Failed(said))) => Err(self.fail(action, key, said)),
            Ok(answer) => Ok(answer),
            Err(Trouble::Target(error)) => Err(self.fail(action, key, error)),
            Err(broken) => Err(self.fail(action, key, TargetError::from(broken))),
        }
    }

    fn odd(&self, action: &'static str, key: &str) -> StoreError {
        self.fail(
            action,
            key,
            "the keeper is of another build and answers otherwise",
        )
    }
}

#[async_trait]
impl Store for KeeperStore {
    async fn read(&self, key: &str) -> Result<Option<Document>, StoreError> {
        let ask = Ask::Read {
            key: key.to_owned(),
        };
        match self.ask("read", key, ask, Reach::IfKept).await? {
            None | Some(Answer::Document(None)) => Ok(None),
            Some(Answer::Document(Some(text))) => {
                let bytes = BASE64_STANDARD
                    .decode(text)
                    .map_err(|error| self.fail("read", key, error))?;
                Ok(Some(Document {
                    version: Version(version_of(&bytes)),
                    bytes,
                }))
            }
            Some(_) => Err(self.odd("read", key)),
        }
    }

    async fn write(
        &self,
        key: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let ask = Ask::Write {
            key: key.to_owned(),
            bytes: BASE64_STANDARD.encode(bytes),
            expected: expected.map(|version| version.0.clone()),
        };
        let asked = self.site.ask_again(ask, Reach::Make).await;
        let (answer, tries) = asked.map_err(|error| match error {
            Trouble::Target(error) => self.fail("write", key, error),
            broken @ Trouble::Broken(_) => self.fail("write", key, TargetError::from(broken)),
        })?;
        match answer {
            Some(Answer::Written(version)) => Ok(Version(version)),
            Some(Answer::Conflict) => {
                // A connection that broke may have swallowed the answer to a write that was made.
                let now = if tries > 0 {
                    self.read(key).await?
                } else {
                    None
                };
                now.map(|found| found.version)
                    .filter(|version| version.0 == version_of(bytes))
                    .ok_or_else(|| StoreError::Conflict {
                        key: key.to_owned(),
                    })
            }
            Some(Answer::Failed(said)) => Err(self.fail("write", key, said)),
            _ => Err(self.odd("write", key)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let ask = Ask::Delete {
            key: key.to_owned(),
        };
        match self.ask("delete", key, ask, Reach::IfKept).await? {
            None | Some(Answer::Done) => Ok(()),
            Some(_) => Err(self.odd("delete", key)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let ask = Ask::List {
            prefix: prefix.to_owned(),
        };
        match self.ask("list", prefix, ask, Reach::IfKept).await? {
            None => Ok(Vec::new()),
            Some(Answer::Keys(keys)) => Ok(keys),
            Some(_) => Err(self.odd("list", prefix)),
        }
    }
}
