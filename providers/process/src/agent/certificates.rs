//! Certificates that instances and the gateway show each other: signed, handed over as files and replaced in time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use platform_blueprint::{CERTIFICATE_VARIABLES, SecretName};
use platform_decide::group::{GroupId, GroupSpec};
use platform_port::{SecretValue, SecretValues};
use platform_traffic::Mutual;
use platform_traffic::authority::{Authority, Holder, Pair, believing, client, replace_at};
use platform_traffic::certificates::{authority_file, one_sided};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use super::instance::Instance;
use super::state::Agent;
use super::{gateway_secrets, sealed, start};
use crate::probe::Secured;

/// How often it is looked at the least, as a clock may be set.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// When something could not be replaced, it is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// What the agent holds of certificates.
#[derive(Default)]
pub(super) struct Certificates {
    authority: RefCell<Option<Rc<Authority>>>,
    own: RefCell<Option<Rc<Own>>>,
    /// Something is to be looked at before its time.
    news: Notify,
}

/// What the gateway shows, and the agent itself when it checks.
struct Own {
    pair: Pair,
    authority: String,
    connector: TlsConnector,
    /// As the other, but it asks for HTTP/2.
    connector_http2: TlsConnector,
}

impl Certificates {
    /// Forgets everything, as there is nothing left that believes in it.
    pub(super) fn forget(&self) {
        *self.authority.borrow_mut() = None;
        *self.own.borrow_mut() = None;
    }

    /// Says that another setting came.
    pub(super) fn look(&self) {
        self.news.notify_one();
    }
}

/// Whether the instances of a group are asked over TLS.
pub(super) fn secured(spec: &GroupSpec) -> bool {
    let service = &spec.spec.service;
    service.protocol.is_mutual() && service.port.is_some()
}

fn lasts(agent: &Agent) -> Duration {
    let kept = agent.kept.borrow();
    let gateway = kept
        .traffic
        .as_ref()
        .map(|traffic| traffic.ingress.gateway.mtls.clone());
    gateway.unwrap_or_default().lasts.duration()
}

/// The environment's authority, made where there is none yet.
fn authority(agent: &Agent) -> Result<Rc<Authority>, String> {
    if let Some(known) = &*agent.certificates.authority.borrow() {
        return Ok(Rc::clone(known));
    }
    let name = |text: &str| {
        text.parse::<SecretName>()
            .map_err(|error| error.to_string())
    };
    let (certificate, key) = (name("certificate")?, name("key")?);
    let kept = {
        let secrets = agent.secrets.borrow();
        let kept = &secrets.authority;
        kept.get(&certificate).zip(kept.get(&key)).map(|pair| Pair {
            certificate: pair.0.reveal().to_owned(),
            key: pair.1.clone(),
        })
    };
    let pair = if let Some(pair) = kept {
        pair
    } else {
        let title = format!("{} {}", agent.options.project, agent.options.environment);
        let pair = Authority::make(&title, SystemTime::now())
            .map_err(|error| format!("no authority can be made: {error}"))?;
        agent.secrets.borrow_mut().authority = SecretValues::from([
            (certificate, SecretValue::new(pair.certificate.clone())),
            (key, pair.key.clone()),
        ]);
        if let Err(fault) = sealed::save(agent) {
            agent.secrets.borrow_mut().authority.clear();
            return Err(fault.message);
        }
        pair
    };
    let made = Authority::of(&pair)
        .map_err(|error| format!("the environment's authority cannot be used: {error}"))?;
    let made = Rc::new(made);
    *agent.certificates.authority.borrow_mut() = Some(Rc::clone(&made));
    Ok(made)
}

fn issue(agent: &Agent, holder: Holder<'_>) -> Result<(Rc<Authority>, Pair), String> {
    let authority = authority(agent)?;
    let pair = authority
        .issue(holder, lasts(agent), SystemTime::now())
        .map_err(|error| format!("no certificate can be signed: {error}"))?;
    Ok((authority, pair))
}

/// The files of an instance's certificates, in the order of their variables.
pub(super) fn places(folder: &Path) -> [PathBuf; 3] {
    CERTIFICATE_VARIABLES.map(|variable| folder.join(variable))
}

/// Fresh certificates for an instance, to be written where it looks for them; nothing where it speaks in the clear.
///
/// # Errors
///
/// In words.
pub(super) fn fresh(
    agent: &Agent,
    instance: &Instance,
    spec: &GroupSpec,
) -> Result<Vec<(PathBuf, SecretValue)>, String> {
    if !secured(spec) {
        return Ok(Vec::new());
    }
    let holder = Holder::Service(instance.group.service.as_str());
    let (authority, pair) = issue(agent, holder)?;
    let texts = [
        SecretValue::new(pair.certificate),
        pair.key,
        SecretValue::new(authority.certificate()),
    ];
    agent.certificates.look();
    let folder = start::secret_folder(agent, instance);
    Ok(places(&folder).into_iter().zip(texts).collect())
}

/// What the gateway and the agent show, signed where there is none yet.
fn own(agent: &Agent) -> Result<Rc<Own>, String> {
    if let Some(known) = &*agent.certificates.own.borrow() {
        return Ok(Rc::clone(known));
    }
    let (authority, pair) = issue(agent, Holder::Gateway)?;
    let mut config = client(authority.certificate(), &pair)
        .map_err(|error| format!("certificates cannot be used: {error}"))?;
    let connector = TlsConnector::from(Arc::new(config.clone()));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let own = Rc::new(Own {
        pair,
        authority: authority.certificate().to_owned(),
        connector,
        connector_http2: TlsConnector::from(Arc::new(config)),
    });
    *agent.certificates.own.borrow_mut() = Some(Rc::clone(&own));
    Ok(own)
}

/// How an instance is checked over TLS; nothing where it speaks in the clear.
///
/// # Errors
///
/// In words.
pub(super) fn to_check(agent: &Agent, spec: &GroupSpec) -> Result<Option<Secured>, String> {
    if !secured(spec) {
        return Ok(None);
    }
    let own = own(agent)?;
    let connector = if spec.spec.service.protocol.is_http2() {
        &own.connector_http2
    } else {
        &own.connector
    };
    let name = spec.id.service.as_str();
    let fault = "it does not speak TLS with the certificate it was handed in TLS_CERTIFICATE_FILE";
    Ok(Some(Secured::new(connector.clone(), name, fault)?))
}

/// How an instance is checked that shows a certificate of its own; nothing where it shows none.
///
/// # Errors
///
/// In words.
pub(super) fn to_check_its_own(spec: &GroupSpec) -> Result<Option<Secured>, String> {
    // Authorities are believed by what they hold here, in no file.
    let Some(tls) = one_sided(Path::new(""), &spec.id.service, &spec.spec) else {
        return Ok(None);
    };
    let authorities = tls.ca.is_some().then_some(&spec.spec.authority);
    let authorities = authorities.map(|text| text.as_deref().unwrap_or_default());
    let mut config = believing(authorities)
        .map_err(|error| format!("the authorities of `tls.ca` cannot be used: {error}"))?;
    if spec.spec.service.protocol.is_http2() {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let connector = TlsConnector::from(Arc::new(config));
    let fault = "it does not speak TLS with a certificate that is believed";
    let name = tls.name.unwrap_or_default();
    Ok(Some(Secured::new(connector, &name, fault)?))
}

/// The files of the authorities of groups that show certificates of their own.
pub(super) fn authorities(agent: &Agent) -> Vec<(PathBuf, SecretValue)> {
    let folder = gateway_secrets::folder(agent);
    let kept = agent.kept.borrow();
    let all = kept.groups.values().chain(kept.leaving.values());
    all.filter_map(|group| group.spec.authority.as_ref())
        .map(|text| {
            let file = authority_file(&folder, text);
            (file, SecretValue::new(text.clone()))
        })
        .collect()
}

/// How the gateway asks those groups that speak mtls, and the files that it needs for that.
pub(super) struct Shown {
    pub(super) mutual: Mutual,
    pub(super) files: Vec<(PathBuf, SecretValue)>,
}

/// What the gateway is to show; nothing where no group speaks mtls.
///
/// # Errors
///
/// In words.
pub(super) fn shown(agent: &Agent) -> Result<Option<Shown>, String> {
    let groups: BTreeSet<GroupId> = {
        let kept = agent.kept.borrow();
        let all = kept.groups.values().chain(kept.leaving.values());
        all.filter(|group| secured(group))
            .map(|group| group.id.clone())
            .collect()
    };
    if groups.is_empty() {
        return Ok(None);
    }
    let own = own(agent)?;
    let folder = gateway_secrets::folder(agent);
    let place = |kind: &str, text: &str| {
        let digest = hex::encode(&Sha256::digest(text.as_bytes())[..8]);
        folder.join(format!("mtls-{kind}.{digest}"))
    };
    let mutual = Mutual {
        groups,
        authority: place("authority", &own.authority),
        certificate: place("certificate", &own.pair.certificate),
        // Named after the certificate: nothing is told of a key, not even its digest.
        key: place("key", &own.pair.certificate),
    };
    let files = vec![
        (
            mutual.authority.clone(),
            SecretValue::new(own.authority.clone()),
        ),
        (
            mutual.certificate.clone(),
            SecretValue::new(own.pair.certificate.clone()),
        ),
        (mutual.key.clone(), own.pair.key.clone()),
    ];
    Ok(Some(Shown { mutual, files }))
}

/// Replaces what runs out, as long as the agent lives.
pub(super) async fn renewing(agent: Rc<Agent>) {
    loop {
        let now = SystemTime::now();
        let next = renew(&agent, now);
        let pause = next.duration_since(now).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(pause.clamp(Duration::from_millis(100), LOOK_EVERY)) => {}
            () = agent.certificates.news.notified() => {}
        }
    }
}

/// Replaces what is due, and tells when the next is.
fn renew(agent: &Rc<Agent>, now: SystemTime) -> SystemTime {
    let lasts = lasts(agent);
    let mut next = now + LOOK_EVERY;
    let instances: Vec<Rc<Instance>> = agent.instances.borrow().values().cloned().collect();
    for instance in instances {
        if instance.record().process.is_none() {
            continue;
        }
        let spec = {
            let kept = agent.kept.borrow();
            let spec = kept
                .groups
                .get(&instance.group)
                .or_else(|| kept.leaving.get(&instance.group));
            spec.filter(|spec| secured(spec)).cloned()
        };
        let Some(spec) = spec else { continue };
        let due = due(agent, &instance, lasts, now);
        if due > now {
            next = next.min(due);
            continue;
        }
        match hand_over(agent, &instance, &spec) {
            Ok(()) => {
                tracing::info!(instance = %instance.name, "its certificate was replaced");
                next = next.min(now + lasts - lasts / 3);
            }
            Err(error) => {
                tracing::error!(instance = %instance.name, error, "its certificate cannot be replaced");
                next = next.min(now + AGAIN_AFTER);
            }
        }
    }
    let own = agent.certificates.own.borrow().clone();
    if let Some(own) = own {
        let due = replace_at(own.pair.certificate.as_bytes(), lasts, now);
        if due > now {
            next = next.min(due);
        } else {
            *agent.certificates.own.borrow_mut() = None;
            tracing::info!("the gateway's certificate for services is replaced");
            agent.touch();
            next = next.min(now + lasts - lasts / 3);
        }
    }
    next
}

/// When what lies in an instance's folder is to be replaced: at once if another authority signed it.
fn due(agent: &Agent, instance: &Instance, lasts: Duration, now: SystemTime) -> SystemTime {
    let [certificate, _, signer] = places(&start::secret_folder(agent, instance));
    let ours = authority(agent).is_ok_and(|authority| {
        fs::read(signer).is_ok_and(|known| known == authority.certificate().as_bytes())
    });
    match fs::read(certificate) {
        Ok(certificate) if ours => replace_at(&certificate, lasts, now),
        _ => now,
    }
}

fn hand_over(agent: &Agent, instance: &Instance, spec: &GroupSpec) -> Result<(), String> {
    let files = fresh(agent, instance, spec)?;
    let user = start::user_of(spec.spec.service.user.as_deref())?;
    start::write_secrets(&files, user)
}
