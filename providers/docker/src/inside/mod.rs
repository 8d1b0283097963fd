//! What our program does inside containers: hidden commands that begin with `platform inside`.

mod bucket;
mod certified;
mod documents;
mod front;
mod live;
mod reach;
mod relay;
mod run;
mod serve;
mod signal;
mod signer;
mod signing;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::SignalKind;

pub(crate) use documents::{Change, Documents, version_of};
pub(crate) use front::CURRENT;
pub(crate) use live::{Live, Shown};
pub(crate) use reach::space;
pub(crate) use run::{FILE as HANDED_FILE, Handed, file_of as handed_file};
pub(crate) use serve::{Answer, Ask, Asked, GatewayAsk, Told, new_credential};
pub(crate) use signal::MARK;
pub(crate) use signer::{AUTHORITY_FILE, GATEWAY_FILE};
pub(crate) use signing::SigningAsk;

/// Where the keeper keeps documents.
pub(crate) const STATE: &str = "/state";
/// Where the keeper keeps generated credentials.
pub(crate) const CREDENTIALS: &str = "/credentials";
/// Where the keeper keeps the authority of services that speak mtls. It is gone with everything that believes in it.
pub(crate) const AUTHORITY: &str = "/authority";
/// Where instances of such services find the keeper's socket.
pub(crate) const SIGNING: &str = "/run/signing";
/// Where the gateway's sockets are.
pub(crate) const SOCKETS: &str = "/run/platform";
/// Where the gateway finds what it believes of such services and shows them.
pub(crate) const SHOWN: &str = "/run/platform/certificates";
/// The volume in which an instance finds its secrets when it starts.
pub(crate) const HANDED: &str = "/run/handed";
/// The memory in which it then has those that are handed over as files.
///
/// A folder of the memory that every container has. A mount of our own would do for the first start only: on the next one
/// runc gives it the mode of the empty folder that it then finds beneath (seen with 1.1.5), which may not be written.
pub(crate) const SECRETS: &str = "/dev/shm/secrets";

/// Runs one of the hidden commands.
pub fn serve(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let Some((what, rest)) = words.split_first() else {
        return ExitCode::from(64);
    };
    if what == "run" {
        return run::run(rest);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return ExitCode::FAILURE;
    };
    let done = match (what.as_str(), rest) {
        ("live", [how, words @ ..]) => match serde_json::from_str::<Live>(how) {
            Ok(how) => match runtime.block_on(live::live(&how, words)) {
                Ok(code) => return code,
                Err(error) => Err(error),
            },
            Err(error) => Err(error.into()),
        },
        ("keep", []) => runtime.block_on(keep()),
        ("serve", []) => runtime.block_on(serve::serve()),
        ("front", [folder, own, arguments @ ..]) => {
            match serde_json::from_str::<Vec<String>>(own) {
                Ok(own) => runtime.block_on(front::front(Path::new(folder), &own, arguments)),
                Err(error) => Err(error.into()),
            }
        }
        ("relay", [address]) => runtime.block_on(relay::relay(address)),
        ("reach", [address, path]) => runtime.block_on(reach::reach(address, path, b"2")),
        ("bucket", [address, name]) => runtime.block_on(bucket::ensure(address, name)),
        ("signal", [mark, name]) => signal::signal(mark, name),
        ("own", [user, folder]) => reach::own(user, folder),
        ("space", [folder]) => reach::space(folder).and_then(|(free, whole)| {
            std::io::Write::write_all(
                &mut std::io::stdout(),
                format!("{free} {whole}\n").as_bytes(),
            )
        }),
        _ => return ExitCode::from(64),
    };
    // A task that reads standard input cannot be stopped, and must not keep us.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut out = std::io::stderr();
            let _ = std::io::Write::write_all(&mut out, format!("{error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Stays until it is told to go, and signs meanwhile.
async fn keep() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let signing = async {
        if let Err(error) =
            signing::sign(Path::new(AUTHORITY), Path::new(SIGNING), Path::new(SHOWN)).await
        {
            // Documents are had all the same.
            signing::say(&format!("nothing can be signed: {error}"));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = signing => {}
    }
    Ok(())
}
