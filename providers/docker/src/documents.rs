//! Documents of the adapter's own, beside those that a run keeps.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use platform_port::TargetError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PROVIDER;
use crate::inside::{Answer, Ask, version_of};
use crate::keeper::{Reach, unexpected};
use crate::site::Site;

impl Site {
    /// Reads a document and its version; the usual value where there is none.
    pub(crate) async fn document<T: DeserializeOwned + Default>(
        &self,
        key: &str,
        reach: Reach,
    ) -> Result<(T, Option<String>), TargetError> {
        let action = format!("read document `{key}`");
        let ask = Ask::Read {
            key: key.to_owned(),
        };
        match self.ask(ask, reach).await? {
            None | Some(Answer::Document(None)) => Ok((T::default(), None)),
            Some(Answer::Document(Some(text))) => {
                let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
                    TargetError::refused(PROVIDER, action.clone(), error)
                };
                let bytes = BASE64_STANDARD
                    .decode(text)
                    .map_err(|error| damaged(error.into()))?;
                let value =
                    serde_json::from_slice(&bytes).map_err(|error| damaged(error.into()))?;
                Ok((value, Some(version_of(&bytes))))
            }
            other => Err(unexpected(&action, other)),
        }
    }

    /// Changes a document, however many others change it, and returns it.
    pub(crate) async fn change<T>(
        &self,
        key: &str,
        change: impl Fn(&mut T),
    ) -> Result<T, TargetError>
    where
        T: DeserializeOwned + Serialize + Default + Clone + PartialEq,
    {
        loop {
            let (before, version) = self.document::<T>(key, Reach::Make).await?;
            let mut value = before.clone();
            change(&mut value);
            if value == before {
                return Ok(value);
            }
            let bytes = serde_json::to_vec(&value).unwrap_or_default();
            let ask = Ask::Write {
                key: key.to_owned(),
                bytes: BASE64_STANDARD.encode(bytes),
                expected: version,
            };
            match self.ask(ask, Reach::Make).await? {
                Some(Answer::Written(_)) => return Ok(value),
                Some(Answer::Conflict) => {}
                other => return Err(unexpected(&format!("write document `{key}`"), other)),
            }
        }
    }
}
