//! An instance's certificates: a key that never leaves it, what the keeper signed for that, and another in time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use platform_blueprint::CERTIFICATE_VARIABLES;
use platform_traffic::authority::{Authority, Holder, Pair, client, own_key};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::signer::LOOK_EVERY;
use super::signing::{SOCKET, Signed, Wanted, ask, say};

/// The pauses before the keeper is asked again; twice as long each time, up to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];
/// How long the keeper may take to sign.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what asks `health.live` is believed: longer than any container runs.
const OWN_LASTS: Duration = Duration::from_hours(10 * 365 * 24);

/// How an instance is asked over TLS from inside; nothing before it has certificates.
pub(super) type Way = Rc<RefCell<Option<Arc<ClientConfig>>>>;

/// What is signed for an instance, and who asks for it.
pub(super) struct Certified {
    service: String,
    token: String,
    /// The folder of the keeper's socket.
    keeper: PathBuf,
    /// The folder of the instance's files.
    folder: PathBuf,
    /// An authority of the instance's own and a certificate of it.
    ///
    /// What shows us to this instance shows nobody to any other, and no other has it.
    own: (String, Pair),
    pub(super) way: Way,
}

/// What was had of the keeper: for how long, and the connection by whose end it says that it is to be asked again.
pub(super) struct Held {
    until: SystemTime,
    line: BufReader<UnixStream>,
}

impl Certified {
    /// # Errors
    ///
    /// If the machine gives no random numbers.
    pub(super) fn new(
        service: &str,
        token: &str,
        keeper: &Path,
        folder: &Path,
    ) -> io::Result<Self> {
        let now = SystemTime::now();
        let own = Authority::make("checks of this instance", now).map_err(io::Error::other)?;
        let authority = Authority::of(&own).map_err(io::Error::other)?;
        let shown = authority.issue(Holder::Gateway, OWN_LASTS, now);
        Ok(Self {
            service: service.to_owned(),
            token: token.to_owned(),
            keeper: keeper.to_owned(),
            folder: folder.to_owned(),
            own: (own.certificate, shown.map_err(io::Error::other)?),
            way: Way::default(),
        })
    }

    /// Puts fresh certificates in place, however long the keeper has to be waited for.
    pub(super) async fn begin(&mut self) -> Held {
        let mut pause = PAUSES[0];
        let mut told = String::new();
        loop {
            let held = timeout(PATIENCE, self.renew()).await;
            match held.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(held) => return held,
                Err(error) => {
                    let words = format!("no certificate is to be had of the keeper yet: {error}");
                    // At the first moment of an engine that starts, a keeper that starts as well is nothing to tell of.
                    if words != told && pause > PAUSES[0] * 8 {
                        say(&words);
                        told = words;
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Replaces certificates in time, as long as the instance lives.
    pub(super) async fn stay(&mut self, mut held: Held) -> Infallible {
        loop {
            let mut rest = [0];
            loop {
                let left = held.until.duration_since(SystemTime::now());
                let Ok(left) = left.map(|left| left.min(LOOK_EVERY)) else {
                    break;
                };
                if timeout(left, held.line.read(&mut rest)).await.is_ok() {
                    break;
                }
            }
            held = self.begin().await;
        }
    }

    async fn renew(&mut self) -> io::Result<Held> {
        let (key, public) = own_key().map_err(io::Error::other)?;
        let wanted = Wanted {
            service: self.service.clone(),
            token: self.token.clone(),
            key: public,
        };
        let now = SystemTime::now();
        let (line, signed) = ask(&self.keeper.join(SOCKET), &wanted).await?;
        let (certificate, authority, lasts) = match signed {
            Signed::Certificate {
                certificate,
                authority,
                lasts_seconds,
            } => (certificate, authority, Duration::from_secs(lasts_seconds)),
            Signed::Refused(why) => return Err(io::Error::other(why)),
        };
        let config = client(&authority, &self.own.1).map_err(io::Error::other)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let clients = format!("{authority}{}", self.own.0);
        let texts = [certificate.as_str(), key.reveal(), &clients];
        for (variable, text) in CERTIFICATE_VARIABLES.iter().zip(texts) {
            write_file(&self.folder.join(variable), text)?;
        }
        *self.way.borrow_mut() = Some(Arc::new(config));
        Ok(Held {
            until: now + lasts - lasts / 3,
            line,
        })
    }
}

/// Secures a connection to an instance from inside.
///
/// # Errors
///
/// If it does not show a certificate of this name that is believed, or does not believe ours.
pub(super) async fn secure(
    way: &Way,
    name: &str,
    http2: bool,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let config = way.borrow().clone();
    let mut config = config.ok_or_else(|| io::Error::other("it has no certificate yet"))?;
    if http2 {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
    }
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Writes a file that only its owner reads, over the one that is there, at once.
pub(super) fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("fresh");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o400)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(fresh, path)
}
