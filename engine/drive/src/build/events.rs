//! What a build tells while it runs.

use std::path::PathBuf;
use std::time::Duration;

use platform_blueprint::ServiceName;
use serde::Serialize;

/// Something that happened in a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum BuildEvent {
    /// A service is being built; several may be by one run of one program.
    Started {
        /// The service.
        service: ServiceName,
        /// What is run.
        command: String,
    },
    /// Another part is done, such as one crate.
    Progress {
        /// The service.
        service: ServiceName,
        /// How many parts are done.
        done: usize,
        /// The part.
        part: String,
    },
    /// A line that a build's program wrote for people, verbatim.
    Output {
        /// The services that are built by it.
        services: Vec<ServiceName>,
        /// The line.
        line: String,
    },
    /// A service could not be built. What failed for several is told in full for the first.
    Failed {
        /// The service.
        service: ServiceName,
        /// How it failed.
        message: String,
        /// The last lines its program wrote, verbatim.
        output: Vec<String>,
    },
    /// A service's artifact is there.
    Built {
        /// The service.
        service: ServiceName,
        /// Where it is.
        place: PathBuf,
        /// How long its build took.
        took: Duration,
        /// How large it is, in bytes.
        size: u64,
    },
    /// A service's image is there.
    Image {
        /// The service.
        service: ServiceName,
        /// Its name with its digest.
        reference: String,
        /// Bytes in its layers; 0 where the engine alone knows.
        size: u64,
        /// How long it took, the program's build left out.
        took: Duration,
    },
    /// An image was sent to its registry.
    Pushed {
        /// The service.
        service: ServiceName,
        /// Its name with its digest.
        reference: String,
        /// Bytes the registry did not have yet.
        sent: u64,
    },
    /// A reference was pinned to the digest it stands for now.
    Pinned {
        /// The service, or the resource.
        service: String,
        /// The reference.
        reference: String,
        /// The digest.
        digest: String,
    },
    /// No digest of an image can be had, so that its reference is not pinned.
    Unpinned {
        /// The service, or the resource.
        service: String,
        /// The reference.
        reference: String,
        /// Why the registry did not tell.
        why: String,
    },
    /// A build read a file that its key does not cover, so a change of it would go unseen.
    Uncovered {
        /// The service.
        service: ServiceName,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// Sources changed during the build, which is done again.
    Again {
        /// The services.
        services: Vec<ServiceName>,
        /// Some of what changed.
        changed: Vec<String>,
    },
    /// Another run is building this project; this one waits for it.
    Waiting,
}

/// Takes what builds tell.
pub trait BuildSink: Send + Sync {
    /// Takes one event. Called often; must not block.
    fn event(&self, event: BuildEvent);
}

impl<F: Fn(BuildEvent) + Send + Sync> BuildSink for F {
    fn event(&self, event: BuildEvent) {
        self(event);
    }
}
