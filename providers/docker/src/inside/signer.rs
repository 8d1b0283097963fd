//! The environment's authority, which the keeper alone holds: signs for instances of services that speak mtls, and sees to it that what
//! the gateway shows them does not run out.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use platform_blueprint::Mtls;
use platform_port::SecretValue;
use platform_traffic::authority::{Authority, Holder, Pair, replace_at};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::certified::write_file;
use super::serve::new_credential;
use super::signing::{Signed, SigningAsk, Wanted, say};
use super::{Answer, Documents, version_of};

/// The document with the authority.
const AUTHORITY_KEY: &str = "authority";
/// The document with how long certificates last, in seconds.
const LASTS_KEY: &str = "lasts";
/// Files of what the gateway believes and shows.
pub(crate) const AUTHORITY_FILE: &str = "authority.pem";
/// The gateway's certificate and its key in one, so that neither is ever read without the other.
pub(crate) const GATEWAY_FILE: &str = "gateway.pem";
/// How often it is looked at the least, as a clock may be set.
pub(super) const LOOK_EVERY: Duration = Duration::from_hours(1);
/// When something could not be replaced, it is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The authority as it is kept. Never printed.
#[derive(Serialize, Deserialize)]
struct Kept {
    certificate: String,
    key: String,
    /// What tokens are made with.
    secret: String,
}

struct Own {
    authority: Authority,
    secret: hmac::Key,
}

impl Own {
    fn of(bytes: &[u8]) -> io::Result<Self> {
        // Their own words might show a key.
        let unreadable = || io::Error::other("the environment's authority cannot be made out");
        let kept: Kept = serde_json::from_slice(bytes).map_err(|_| unreadable())?;
        let pair = Pair {
            certificate: kept.certificate,
            key: SecretValue::new(kept.key),
        };
        Ok(Self {
            authority: Authority::of(&pair).map_err(|_| unreadable())?,
            secret: hmac::Key::new(hmac::HMAC_SHA256, kept.secret.as_bytes()),
        })
    }

    fn token(&self, service: &str) -> String {
        hex::encode(hmac::sign(&self.secret, service.as_bytes()))
    }

    fn is_of(&self, service: &str, token: &str) -> bool {
        let token = hex::decode(token).unwrap_or_default();
        hmac::verify(&self.secret, service.as_bytes(), &token).is_ok()
    }
}

/// Signs for one environment.
pub(super) struct Signer {
    documents: Documents,
    /// Where the gateway's files are.
    shown: PathBuf,
    own: Mutex<Option<Arc<Own>>>,
    /// How long certificates last; whoever waits for a change is to ask again.
    pub(super) lasts: watch::Sender<Duration>,
}

impl Signer {
    pub(super) fn new(folder: &Path, shown: &Path) -> io::Result<Self> {
        let documents = Documents::new(folder);
        let noted = documents.read(LASTS_KEY)?;
        let seconds = noted.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        let usual = Mtls::default().lasts.duration();
        Ok(Self {
            documents,
            shown: shown.to_owned(),
            own: Mutex::default(),
            lasts: watch::Sender::new(seconds.map_or(usual, Duration::from_secs)),
        })
    }

    /// The authority, if there is one.
    fn known(&self) -> io::Result<Option<Arc<Own>>> {
        let mut known = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none()
            && let Some(bytes) = self.documents.read(AUTHORITY_KEY)?
        {
            *known = Some(Arc::new(Own::of(&bytes)?));
        }
        Ok(known.clone())
    }

    /// The authority, made where there is none.
    fn own(&self) -> io::Result<Arc<Own>> {
        if let Some(own) = self.known()? {
            return Ok(own);
        }
        let made = Authority::make("platform", SystemTime::now()).map_err(io::Error::other)?;
        let kept = Kept {
            certificate: made.certificate,
            key: made.key.reveal().to_owned(),
            secret: new_credential()?,
        };
        let bytes = serde_json::to_vec(&kept).map_err(io::Error::other)?;
        // If somebody else was first, theirs is taken up.
        self.documents.write(AUTHORITY_KEY, &bytes, None)?;
        self.known()?
            .ok_or_else(|| io::Error::other("the environment's authority is gone"))
    }

    pub(super) fn answer(&self, ask: SigningAsk) -> io::Result<Answer> {
        match ask {
            SigningAsk::Token { service } => Ok(Answer::Credential(self.own()?.token(&service))),
            SigningAsk::Lasts { seconds } => {
                self.own()?;
                let before = self.documents.read(LASTS_KEY)?;
                let text = seconds.to_string();
                if before.as_deref() != Some(text.as_bytes()) {
                    let version = before.as_deref().map(version_of);
                    self.documents
                        .write(LASTS_KEY, text.as_bytes(), version.as_deref())?;
                }
                let lasts = Duration::from_secs(seconds);
                // Before anybody else hears of it: whoever asked goes on with what the gateway shows.
                self.show(lasts, SystemTime::now())?;
                self.lasts.send_if_modified(|known| {
                    let other = *known != lasts;
                    *known = lasts;
                    other
                });
                Ok(Answer::Done)
            }
        }
    }

    /// Replaces what the gateway shows where it is due; returns when that is the next time. Nothing is shown without an authority.
    fn show(&self, lasts: Duration, now: SystemTime) -> io::Result<Option<SystemTime>> {
        let Some(own) = self.known()? else {
            return Ok(None);
        };
        let [authority, gateway] = [AUTHORITY_FILE, GATEWAY_FILE].map(|file| self.shown.join(file));
        let text = own.authority.certificate();
        let is_ours = fs::read(&authority).is_ok_and(|known| known == text.as_bytes());
        if is_ours && let Ok(shown) = fs::read(&gateway) {
            let due = replace_at(&shown, lasts, now);
            if due > now {
                return Ok(Some(due));
            }
        }
        let pair = own.authority.issue(Holder::Gateway, lasts, now);
        let pair = pair.map_err(io::Error::other)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.shown)?;
        write_file(&authority, text)?;
        let both = format!("{}{}", pair.certificate, pair.key.reveal());
        write_file(&gateway, &both)?;
        Ok(Some(replace_at(&fs::read(&gateway)?, lasts, now)))
    }

    pub(super) fn sign(&self, wanted: &Wanted, lasts: Duration) -> Result<Signed, String> {
        let own = self.known().map_err(|error| error.to_string())?;
        let own = own.filter(|own| own.is_of(&wanted.service, &wanted.token));
        let own = own.ok_or("its token is not one of this environment's")?;
        let holder = Holder::Service(&wanted.service);
        let signed = own
            .authority
            .sign(holder, &wanted.key, lasts, SystemTime::now());
        Ok(Signed::Certificate {
            certificate: signed
                .map_err(|error| format!("no certificate can be signed: {error}"))?,
            authority: own.authority.certificate().to_owned(),
            lasts_seconds: lasts.as_secs(),
        })
    }

    /// Replaces what the gateway shows, as long as the keeper lives.
    pub(super) async fn showing(&self) {
        let mut changes = self.lasts.subscribe();
        loop {
            let lasts = *changes.borrow_and_update();
            let now = SystemTime::now();
            let pause = match self.show(lasts, now) {
                Ok(None) => LOOK_EVERY,
                Ok(Some(due)) => due.duration_since(now).unwrap_or_default(),
                Err(error) => {
                    say(&format!(
                        "the gateway's certificate for services cannot be replaced: {error}"
                    ));
                    AGAIN_AFTER
                }
            };
            tokio::select! {
                () = sleep(pause.clamp(Duration::from_millis(100), LOOK_EVERY)) => {}
                _ = changes.changed() => {}
            }
        }
    }
}
