//! How the keeper is asked to sign: by instances of services that speak mtls, over a socket that only these see, and by the command line.
//!
//! An instance keeps its key: it sends the public side of it, and a token that shows of which service it is. The end of the connection
//! tells it to ask again.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Answer;
use super::signer::Signer;

/// The socket, in the folder that instances see and in the one that they do not.
pub(super) const SOCKET: &str = "line.sock";
/// How long somebody may take to say what he wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest request.
const LONGEST: u64 = 16 * 1024;
/// Who may be connected at a time.
const PLACES: usize = 900;
/// How long the command line waits for a keeper that has just been started.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// What the command line asks the authority for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SigningAsk {
    /// What shows that somebody is an instance of a service.
    Token { service: String },
    /// Certificates are to last so long, and the gateway is to have its own.
    Lasts { seconds: u64 },
}

/// What an instance asks. Never printed.
#[derive(Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) service: String,
    pub(super) token: String,
    /// The public side of its key, PEM.
    pub(super) key: String,
}

/// What it is answered.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Signed {
    Certificate {
        /// Its own, PEM,
        certificate: String,
        /// and that of the authority.
        authority: String,
        lasts_seconds: u64,
    },
    Refused(String),
}

/// Signs for an instance, and lets go of it when it is to ask again.
async fn attend(signer: &Signer, stream: UnixStream) -> io::Result<()> {
    let mut changes = signer.lasts.subscribe();
    let lasts = *changes.borrow_and_update();
    let (mut stream, wanted): (_, Wanted) = heard(stream).await?;
    let answer = signer.sign(&wanted, lasts);
    let refused = answer.is_err();
    tell(&mut stream, &answer.unwrap_or_else(Signed::Refused)).await?;
    if !refused {
        let mut rest = [0];
        tokio::select! {
            _ = changes.changed() => {}
            _ = stream.read(&mut rest) => {}
        }
    }
    Ok(())
}

/// Answers the command line.
async fn obey(signer: &Signer, stream: UnixStream) -> io::Result<()> {
    let (mut stream, ask): (_, SigningAsk) = heard(stream).await?;
    let answer = signer.answer(ask);
    tell(
        &mut stream,
        &answer.unwrap_or_else(|error| Answer::Failed(error.to_string())),
    )
    .await
}

/// Reads the one line that somebody says.
async fn heard<T: serde::de::DeserializeOwned>(
    stream: UnixStream,
) -> io::Result<(BufReader<UnixStream>, T)> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let mut limited = (&mut stream).take(LONGEST);
    timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await??;
    // Its own words might show a token.
    let said = serde_json::from_slice(&line)
        .map_err(|_| io::Error::other("what was said cannot be made out"))?;
    Ok((stream, said))
}

/// Says one line.
async fn tell(stream: &mut BufReader<UnixStream>, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what).map_err(io::Error::other)?;
    line.push(b'\n');
    timeout(PATIENCE, stream.write_all(&line)).await?
}

/// Says one line and hears the answer; the connection stays open.
pub(super) async fn ask<T: serde::de::DeserializeOwned>(
    socket: &Path,
    what: &impl Serialize,
) -> io::Result<(BufReader<UnixStream>, T)> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await?);
    tell(&mut stream, what).await?;
    heard(stream.into_inner()).await
}

/// Asks the keeper's own process, from another one beside it.
///
/// - `folder`: where the keeper keeps the authority
pub(super) async fn through(folder: &Path, what: SigningAsk) -> io::Result<Answer> {
    let socket = folder.join(SOCKET);
    let begun = tokio::time::Instant::now();
    loop {
        match ask(&socket, &what).await {
            Ok((_, answer)) => return Ok(answer),
            Err(error) if begun.elapsed() > STARTS_WITHIN => return Err(error),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Signs as long as the keeper lives.
///
/// - `folder`: where the authority is kept
/// - `signing`: where instances find the socket
/// - `shown`: where the gateway finds its files
///
/// # Errors
///
/// If nobody could ask.
pub(super) async fn sign(folder: &Path, signing: &Path, shown: &Path) -> io::Result<()> {
    let signer = Arc::new(Signer::new(folder, shown)?);
    // Instances have users of their own; what they may ask for, their tokens tell.
    fs::set_permissions(signing, fs::Permissions::from_mode(0o755))?;
    let instances = listen(&signing.join(SOCKET), 0o666)?;
    let line = listen(&folder.join(SOCKET), 0o600)?;
    let places = Arc::new(Semaphore::new(PLACES));
    let (own, others) = (Arc::clone(&signer), Arc::clone(&signer));
    let signing = async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Some(stream) = next(&instances).await else {
                continue;
            };
            let signer = Arc::clone(&others);
            tokio::spawn(async move {
                // Whoever went away asks again.
                let _ = attend(&signer, stream).await;
                drop(place);
            });
        }
    };
    let obeying = async move {
        loop {
            let Some(stream) = next(&line).await else {
                continue;
            };
            let signer = Arc::clone(&own);
            tokio::spawn(async move {
                let _ = obey(&signer, stream).await;
            });
        }
    };
    tokio::join!(signing, obeying, signer.showing());
    Ok(())
}

/// Listens on a socket; one that is left of an earlier keeper is gone then.
fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// The next who connects; nobody for a moment where that cannot be told, as descriptors may run short.
async fn next(listener: &UnixListener) -> Option<UnixStream> {
    if let Ok((stream, _)) = listener.accept().await {
        return Some(stream);
    }
    sleep(Duration::from_millis(100)).await;
    None
}

pub(super) fn say(words: &str) {
    let _ = writeln!(io::stderr(), "{words}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use platform_blueprint::CERTIFICATE_VARIABLES;
    use x509_parser::pem::parse_x509_pem;

    use super::super::certified::Certified;
    use super::*;

    /// A keeper's folders, and what an instance of `orders` has.
    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for own in ["authority", "signing"] {
                fs::create_dir(folder.path().join(own)).unwrap();
            }
            Self { folder }
        }

        fn at(&self, what: &str) -> PathBuf {
            self.folder.path().join(what)
        }

        /// A keeper at work, until it is dropped.
        fn keeper(&self) -> tokio::task::JoinSet<io::Result<()>> {
            let [folder, signing, shown] =
                ["authority", "signing", "shown"].map(|own| self.at(own));
            let mut keeper = tokio::task::JoinSet::new();
            keeper.spawn(async move { sign(&folder, &signing, &shown).await });
            keeper
        }

        async fn ask(&self, what: SigningAsk) -> Answer {
            through(&self.at("authority"), what).await.unwrap()
        }

        async fn lasts(&self, seconds: u64) {
            let done = self.ask(SigningAsk::Lasts { seconds }).await;
            assert!(matches!(done, Answer::Done), "{done:?}");
        }

        async fn token(&self, service: &str) -> String {
            let service = service.to_owned();
            match self.ask(SigningAsk::Token { service }).await {
                Answer::Credential(token) => token,
                other => panic!("{other:?}"),
            }
        }

        fn read(&self, file: &str) -> Vec<u8> {
            fs::read(self.at(file)).unwrap()
        }
    }

    async fn until(holds: impl Fn() -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(tokio::time::Instant::now() < end, "not in time");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn certificates_are_signed_for_who_shows_a_token_and_replaced_in_time() {
        let place = Place::new();
        let keeper = place.keeper();
        place.lasts(3600).await;
        let token = place.token("orders").await;
        let authority = place.read("shown/authority.pem");
        let shown = place.read("shown/gateway.pem");

        // Nobody else has anything signed, not with a token for another service either.
        let (_, public) = platform_traffic::authority::own_key().unwrap();
        for (service, token) in [("web", token.as_str()), ("orders", ""), ("orders", "00")] {
            let wanted = Wanted {
                service: service.to_owned(),
                token: token.to_owned(),
                key: public.clone(),
            };
            let socket = place.at("signing").join(SOCKET);
            let (_, signed): (_, Signed) = ask(&socket, &wanted).await.unwrap();
            assert!(matches!(signed, Signed::Refused(_)), "{service} {token}");
        }

        let folder = place.at("instance");
        let instance = Certified::new("orders", &token, &place.at("signing"), &folder);
        let mut own = instance.unwrap();
        let held = own.begin().await;
        let files = CERTIFICATE_VARIABLES.map(|variable| folder.join(variable));
        let first = fs::read(&files[0]).unwrap();
        let (_, pem) = parse_x509_pem(&first).unwrap();
        let subject = pem.parse_x509().unwrap().subject().to_string();
        assert!(subject.contains("orders"), "{subject}");
        assert!(fs::read(&files[2]).unwrap().starts_with(&authority));
        for file in &files {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o400, "{}", file.display());
        }

        // What is to last less is replaced at once, and then again by itself, as is what the gateway shows.
        place.lasts(3).await;
        assert_ne!(place.read("shown/gateway.pem"), shown);
        let (mut certificates, mut gateways) = (BTreeSet::from([first]), BTreeSet::from([shown]));
        let looking = async {
            while certificates.len() < 3 || gateways.len() < 3 {
                certificates.insert(fs::read(&files[0]).unwrap());
                gateways.insert(place.read("shown/gateway.pem"));
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            never = own.stay(held) => match never {},
            seen = timeout(Duration::from_secs(60), looking) => seen.unwrap(),
        }
        assert_eq!(place.read("shown/authority.pem"), authority);

        // Another keeper in its place signs on, with the same authority; who was there before asks it.
        drop(keeper);
        let _other = place.keeper();
        assert_eq!(place.token("orders").await, token);
        let before = fs::read(&files[0]).unwrap();
        let held = own.begin().await;
        tokio::select! {
            never = own.stay(held) => match never {},
            () = until(|| fs::read(&files[0]).is_ok_and(|now| now != before)) => {}
        }
        assert_eq!(place.read("shown/authority.pem"), authority);
    }
}
