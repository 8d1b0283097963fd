//! What the keeper does for the command line: documents, credentials, the gateway's admin protocol. Lines of JSON over standard input
//! and output, each with a number, answered in any order.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use platform_gateway_api::admin::Status;
use platform_gateway_api::client::{Client, ClientError};
use platform_gateway_api::{Config, Reason, Tallies};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::{AUTHORITY, CREDENTIALS, Change, Documents, SOCKETS, STATE, SigningAsk, signing};

/// A request under a number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) ask: Ask,
}

/// An answer under the request's number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) number: u64,
    pub(crate) answer: Answer,
}

/// What can be asked of the keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    Read {
        key: String,
    },
    Write {
        key: String,
        /// Base64.
        bytes: String,
        expected: Option<String>,
    },
    Delete {
        key: String,
    },
    List {
        prefix: String,
    },
    /// The credential of a resource, made where there is none.
    Credential {
        name: String,
    },
    /// Forget a resource's credential.
    Forget {
        name: String,
    },
    Gateway(GatewayAsk),
    Signing(SigningAsk),
}

/// What can be asked of the gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum GatewayAsk {
    Put(Box<Config>),
    Config,
    Tallies,
    Status,
}

/// What the keeper answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The document in base64, if there is one.
    Document(Option<String>),
    /// The version that was written.
    Written(String),
    Conflict,
    Done,
    Keys(Vec<String>),
    Credential(String),
    Revision(u64),
    Refused(Vec<Reason>),
    Config(Box<Config>),
    Tallies(Box<Tallies>),
    Status(Box<Status>),
    /// Nobody listens on the gateway's socket.
    Silent(String),
    Failed(String),
}

/// Answers until nobody asks any more.
pub(super) async fn serve() -> io::Result<()> {
    let (tell, mut told) = mpsc::unbounded_channel::<Told>();
    let writing = async {
        let mut out = tokio::io::stdout();
        while let Some(answer) = told.recv().await {
            let mut line = serde_json::to_vec(&answer).map_err(io::Error::other)?;
            line.push(b'\n');
            out.write_all(&line).await?;
            out.flush().await?;
        }
        Ok(())
    };
    let reading = async {
        let shared = Arc::new((
            Documents::new(Path::new(STATE)),
            Documents::new(Path::new(CREDENTIALS)),
            Client::new(Path::new(SOCKETS).join("gateway.sock")),
        ));
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            let (number, ask) = match serde_json::from_str::<Asked>(&line) {
                Ok(asked) => (asked.number, asked.ask),
                Err(error) => return Err(io::Error::other(error)),
            };
            let (tell, shared) = (tell.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                let (documents, credentials, gateway) = &*shared;
                let answer = answer(documents, credentials, gateway, ask).await;
                let _ = tell.send(Told { number, answer });
            });
        }
        drop(tell);
        Ok(())
    };
    let (read, written): (io::Result<()>, io::Result<()>) = tokio::join!(reading, writing);
    read.and(written)
}

async fn answer(
    documents: &Documents,
    credentials: &Documents,
    gateway: &Client,
    ask: Ask,
) -> Answer {
    let done = match ask {
        Ask::Gateway(ask) => return through(gateway, ask).await,
        Ask::Signing(ask) => signing::through(Path::new(AUTHORITY), ask).await,
        Ask::Read { key } => documents
            .read(&key)
            .map(|found| Answer::Document(found.map(|bytes| BASE64_STANDARD.encode(bytes)))),
        Ask::Write {
            key,
            bytes,
            expected,
        } => write(documents, &key, &bytes, expected.as_deref()),
        Ask::Delete { key } => documents.delete(&key).map(|()| Answer::Done),
        Ask::List { prefix } => documents.list(&prefix).map(Answer::Keys),
        Ask::Credential { name } => credential(credentials, &name),
        Ask::Forget { name } => credentials.delete(&name).map(|()| Answer::Done),
    };
    done.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}

fn write(
    documents: &Documents,
    key: &str,
    bytes: &str,
    expected: Option<&str>,
) -> io::Result<Answer> {
    let bytes = BASE64_STANDARD.decode(bytes).map_err(io::Error::other)?;
    Ok(match documents.write(key, &bytes, expected)? {
        Change::Made(version) => Answer::Written(version),
        Change::Conflict => Answer::Conflict,
    })
}

/// Makes a password that nobody guesses.
pub(crate) fn new_credential() -> io::Result<String> {
    let mut random = [0; 24];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| io::Error::other("no randomness is to be had"))?;
    Ok(hex::encode(random))
}

fn credential(credentials: &Documents, name: &str) -> io::Result<Answer> {
    let known = |bytes: Vec<u8>| Answer::Credential(String::from_utf8_lossy(&bytes).into_owned());
    if let Some(found) = credentials.read(name)? {
        return Ok(known(found));
    }
    let made = new_credential()?.into_bytes();
    match credentials.write(name, &made, None)? {
        Change::Made(_) => Ok(known(made)),
        // Somebody else was first.
        Change::Conflict => Ok(known(credentials.read(name)?.unwrap_or_default())),
    }
}

async fn through(gateway: &Client, ask: GatewayAsk) -> Answer {
    let answered = match ask {
        GatewayAsk::Put(config) => gateway.put_config(&config).await.map(Answer::Revision),
        GatewayAsk::Config => gateway
            .config()
            .await
            .map(|config| Answer::Config(Box::new(config))),
        GatewayAsk::Tallies => gateway
            .tallies()
            .await
            .map(|tallies| Answer::Tallies(Box::new(tallies))),
        GatewayAsk::Status => gateway
            .status()
            .await
            .map(|status| Answer::Status(Box::new(status))),
    };
    match answered {
        Ok(answer) => answer,
        Err(ClientError::Refused(reasons)) => Answer::Refused(reasons),
        Err(error @ (ClientError::Unreachable { .. } | ClientError::Silent { .. })) => {
            Answer::Silent(error.to_string())
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}
