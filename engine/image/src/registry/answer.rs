//! What registries answer, and what of it may be otherwise the next time.

use std::future::Future;
use std::time::Duration;

use oci_client::errors::{OciDistributionError, OciErrorCode};

/// How often a request is made that fails for a reason that may pass.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) type Answer<T> = Result<T, OciDistributionError>;

/// What an error means for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Refused,
    Missing,
    /// What came is none, or of a kind that nobody here reads.
    NoManifest,
    /// It may be gone the next time.
    Passing,
    Other,
}

pub(super) fn kind(error: &OciDistributionError) -> Kind {
    use OciDistributionError as Error;
    match error {
        Error::UnauthorizedError { .. } | Error::AuthenticationFailure(_) => Kind::Refused,
        Error::ImageManifestNotFoundError(_) => Kind::Missing,
        Error::VersionedParsingError(_)
        | Error::ManifestParsingError(_)
        | Error::ManifestEncodingError(_)
        | Error::UnsupportedSchemaVersionError(_)
        | Error::UnsupportedMediaTypeError(_) => Kind::NoManifest,
        Error::ServerError { code, .. } => of_status(*code),
        Error::RequestError(error) => match error.status() {
            Some(status) => of_status(status.as_u16()),
            None => Kind::Passing,
        },
        Error::RegistryError { envelope, .. } => {
            let has = |codes: &[OciErrorCode]| {
                envelope
                    .errors
                    .iter()
                    .any(|error| codes.contains(&error.code))
            };
            if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                Kind::Refused
            } else if has(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
            ]) {
                Kind::Missing
            } else if has(&[OciErrorCode::Toomanyrequests]) {
                Kind::Passing
            } else {
                Kind::Other
            }
        }
        _ => Kind::Other,
    }
}

fn of_status(status: u16) -> Kind {
    match status {
        401 | 403 => Kind::Refused,
        404 => Kind::Missing,
        408 | 429 | 500.. => Kind::Passing,
        _ => Kind::Other,
    }
}

/// Asks again where that may help.
pub(super) async fn retried<T, F: Future<Output = Answer<T>>>(
    mut ask: impl FnMut() -> F,
) -> Answer<T> {
    let mut pause = PAUSE;
    let mut attempt = 1;
    loop {
        match ask().await {
            Err(error) if attempt < ATTEMPTS && kind(&error) == Kind::Passing => {
                tracing::debug!(%error, attempt, "a registry is asked again");
                tokio::time::sleep(pause).await;
                pause *= 2;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_the_rest_is_not() {
        assert_eq!(of_status(503), Kind::Passing);
        assert_eq!(of_status(429), Kind::Passing);
        assert_eq!(of_status(404), Kind::Missing);
        assert_eq!(of_status(403), Kind::Refused);
        assert_eq!(of_status(400), Kind::Other);
    }
}
