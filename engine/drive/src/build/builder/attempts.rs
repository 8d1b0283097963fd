//! Jobs run until their sources hold still, and what they yield is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use platform_blueprint::{ServiceName, Services};
use platform_decide::digest::Digest;
use tokio::sync::Semaphore;

use super::{BuildOptions, Builder};
use crate::build::error::{BuildError, BuildErrors};
use crate::build::events::{BuildEvent, BuildSink};
use crate::build::inputs::Inputs;
use crate::build::jobs::Job;
use crate::build::store::{Manifest, ManifestFile};
use crate::build::work::{Outcome, Workplace, Yield};

/// How often a build is run while its sources keep changing.
pub(in crate::build) const ATTEMPTS: u32 = 3;

impl Builder {
    /// Runs jobs, so many at once as the options say, and keeps what they yield; returns the inputs that it was made of.
    pub(super) async fn run(
        &self,
        jobs: Vec<Job>,
        all: &Services,
        inputs: &BTreeMap<ServiceName, Inputs>,
        options: &BuildOptions,
        sink: &dyn BuildSink,
    ) -> Result<BTreeMap<ServiceName, Inputs>, BuildErrors> {
        let slots = Semaphore::new(options.parallelism.max(1));
        let results = futures::future::join_all(jobs.iter().map(|job| async {
            let Ok(_slot) = slots.acquire().await else {
                return Ok(BTreeMap::new());
            };
            if options.stop.is_cancelled() {
                return Err(vec![BuildError::Interrupted]);
            }
            let done = self.job(job, all, inputs, options, sink).await;
            if let Err(errors) = &done {
                tell_failures(job, errors, sink);
            }
            done
        }))
        .await;
        let mut built = BTreeMap::new();
        let mut errors = Vec::new();
        for result in results {
            match result {
                Ok(inputs) => built.extend(inputs),
                Err(own) => errors.extend(own),
            }
        }
        if errors.is_empty() {
            return Ok(built);
        }
        if options.stop.is_cancelled() {
            errors = vec![BuildError::Interrupted];
        }
        Err(BuildErrors(errors))
    }

    /// Runs one job until its sources hold still; returns the inputs that it saw then, or what went wrong.
    async fn job(
        &self,
        job: &Job,
        all: &Services,
        inputs: &BTreeMap<ServiceName, Inputs>,
        options: &BuildOptions,
        sink: &dyn BuildSink,
    ) -> Result<BTreeMap<ServiceName, Inputs>, Vec<BuildError>> {
        let services: BTreeMap<_, _> = job
            .services
            .iter()
            .map(|name| (name.clone(), all[name].clone()))
            .collect();
        let mut before: BTreeMap<_, _> = job
            .services
            .iter()
            .map(|name| (name.clone(), inputs[name].clone()))
            .collect();
        let mut attempt = 1;
        loop {
            let place = Workplace {
                project: &self.project,
                logs: &self.cache().join("logs"),
                options,
                sink,
                standing_alone: self.images.is_some(),
            };
            let started = std::time::Instant::now();
            let outcome = place.work(job).await;
            let after = match self.inputs_apart(services.clone()).await {
                Ok(after) => after,
                Err(errors) => return Err(errors.0),
            };
            if before == after {
                let errors = self.keep(outcome, &after, started.elapsed(), sink).await;
                return if errors.is_empty() {
                    Ok(after)
                } else {
                    Err(errors)
                };
            }
            // What failed on sources that have changed since may well build now; so may what did not.
            let changed: BTreeMap<_, _> = before
                .iter()
                .map(|(name, inputs)| (name, inputs.differing(&after[name])))
                .filter(|(_, changed)| !changed.is_empty())
                .collect();
            if attempt == ATTEMPTS {
                return Err(changed
                    .into_iter()
                    .map(|(name, changed)| BuildError::SourcesChanged {
                        service: name.clone(),
                        attempts: ATTEMPTS,
                        changed,
                    })
                    .collect());
            }
            sink.event(BuildEvent::Again {
                services: job.services.clone(),
                changed: changed
                    .into_values()
                    .flatten()
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
            });
            attempt += 1;
            before = after;
        }
    }

    /// Puts what a job yielded into the store; returns what went wrong, in it or before.
    async fn keep(
        &self,
        outcome: Outcome,
        inputs: &BTreeMap<ServiceName, Inputs>,
        took: std::time::Duration,
        sink: &dyn BuildSink,
    ) -> Vec<BuildError> {
        let mut errors = outcome.errors;
        let mut kept: BTreeMap<Digest, u64> = BTreeMap::new();
        for (name, yielded) in outcome.yields {
            let inputs = &inputs[&name];
            let key = inputs.key();
            let size = match kept.get(&key) {
                Some(size) => *size,
                None => match self
                    .publish(key.clone(), inputs, yielded.clone(), took)
                    .await
                {
                    Ok(size) => size,
                    Err(error) => {
                        errors.push(error);
                        continue;
                    }
                },
            };
            kept.insert(key.clone(), size);
            if let Some(files) = uncovered(&self.project, &yielded, inputs) {
                sink.event(BuildEvent::Uncovered {
                    service: name.clone(),
                    files,
                });
            }
            sink.event(BuildEvent::Built {
                service: name,
                place: self.store.place(&key),
                took,
                size,
            });
        }
        errors
    }

    async fn publish(
        &self,
        key: Digest,
        inputs: &Inputs,
        yielded: Yield,
        took: std::time::Duration,
    ) -> Result<u64, BuildError> {
        let manifest = Manifest {
            key,
            built_by: yielded.command.clone(),
            inputs: inputs.described(),
            built_at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            files: BTreeMap::new(),
        };
        let store = self.store.clone();
        let copied = tokio::task::spawn_blocking(move || {
            let draft = store.begin()?;
            for (from, to) in &yielded.files {
                draft.add(from, to)?;
            }
            store.publish(draft, manifest)
        });
        let manifest = copied.await.unwrap_or(Err(BuildError::Interrupted))?;
        Ok(manifest
            .files
            .values()
            .map(|file| match file {
                ManifestFile::File { size, .. } => *size,
                ManifestFile::Link { .. } => 0,
            })
            .sum())
    }
}

/// Tells of each service of a job that was not built.
fn tell_failures(job: &Job, errors: &[BuildError], sink: &dyn BuildSink) {
    for error in errors {
        let concerned = error.services();
        let mut output = match error {
            BuildError::Failed(failure) => failure.tail.clone(),
            _ => Vec::new(),
        };
        let all = if concerned.is_empty() {
            &job.services
        } else {
            concerned
        };
        for service in all {
            sink.event(BuildEvent::Failed {
                service: service.clone(),
                message: error.to_string(),
                output: std::mem::take(&mut output),
            });
        }
    }
}

/// Files of the project that a build read and its key does not cover.
fn uncovered(project: &Path, yielded: &Yield, inputs: &Inputs) -> Option<Vec<PathBuf>> {
    let covered: BTreeSet<_> = inputs.files.iter().map(|(path, _)| path.as_str()).collect();
    let files: Vec<_> = yielded
        .read
        .iter()
        .filter(|path| path.is_file())
        .filter_map(|path| {
            let within = path.strip_prefix(project).ok()?;
            (!covered.contains(within.to_str()?)).then(|| within.to_owned())
        })
        .collect();
    (!files.is_empty()).then_some(files)
}
