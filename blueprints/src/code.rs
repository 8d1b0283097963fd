//! The stable codes of problems, each with what `platform explain` tells.

use std::fmt;

use serde::{Serialize, Serializer};

/// What `platform explain` tells of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CodeDoc {
    /// The code, such as `blueprint::unknown-key`.
    pub code: &'static str,
    /// What it is, in a line.
    pub title: &'static str,
    /// Why it is a problem and what to do.
    pub explanation: &'static str,
    /// A blueprint that has the problem.
    pub example: &'static str,
}

macro_rules! codes {
    ($($name:ident $code:literal $title:literal $explanation:literal $example:literal)+) => {
        /// The kind of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)+
        }

        impl Code {
            /// The code as it is shown, such as `blueprint::unknown-key`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("blueprint::", $code),)+
                }
            }
        }

        const DOCS: &[CodeDoc] = &[$(CodeDoc {
            code: concat!("blueprint::", $code),
            title: $title,
            explanation: $explanation,
            example: $example,
        },)+];
    };
}

/// Every code of this crate, with what there is to tell of it.
pub fn codes() -> &'static [CodeDoc] {
    DOCS
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

codes! {
    Syntax "syntax"
    "The text is not TOML."
    "The blueprint is a TOML file (https://toml.io). The place shows where reading stopped; the \
     cause is often a quote or bracket left open just before, or a key written twice in one \
     table. Other problems are looked for once the text can be read."
    "[project\nname = \"shop\"\n"

    UnknownKey "unknown-key"
    "A key is not known where it stands."
    "Keys that are not known are refused, because a misspelt key would otherwise be a setting \
     that silently does nothing. The help names the nearest known key. `platform schema` prints \
     all of them, and editors complete from it."
    "[project]\nname = \"shop\"\n\n[services.web]\nimage = \"nginx\"\nprot = 80\n"

    UnknownValue "unknown-value"
    "A word is not one of those known here."
    "The value must be one of a fixed set of words. The help names the nearest, or all of them."
    "[project]\nname = \"shop\"\n\n[rollout]\nstrategy = \"cannary\"\n"

    WrongType "wrong-type"
    "A value has the wrong type."
    "A text stands where a number should, or the like. Note that lengths of time, sizes and \
     percentages are texts with a unit, such as \"30s\", \"128MiB\" and \"0.5%\", so that nobody \
     has to guess the unit."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\nreplicas = \"two\"\n"

    BadValue "bad-value"
    "A value has the right type, but cannot be."
    "The value is out of range, lacks its unit, or is not the name, path, image or address that \
     it should be. The help says what to write."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\nstop = { grace = \"10\" }\n"

    MissingKey "missing-key"
    "A key that has no default is missing."
    "Nearly everything has a default. What has none is the project's name, the kind of a \
     resource, the provider of an environment, and the target and fault of a drill."
    "[project]\nname = \"shop\"\n\n[resources.db]\nversion = \"16\"\n"

    NameClash "name-clash"
    "A service and a resource have the same name."
    "`needs` names services and resources alike, so a name stands for one of them only. Rename \
     one, for instance the database of `orders` to `orders-db`."
    "[project]\nname = \"shop\"\n\n[services.orders]\ncommand = [\"orders\"]\n\n\
     [resources.orders]\nkind = \"postgres\"\n"

    DanglingNeed "dangling-need"
    "A service needs something that is not in the blueprint."
    "Each name in `needs` is a service or a resource of the same blueprint. The help names the \
     nearest."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\nneeds = [\"oders\"]\n"

    CyclicNeed "cyclic-need"
    "Services need each other in a circle."
    "A service starts once what it needs is ready; in a circle none would start. Break it where \
     one can start without the other: call it when there is something to ask, and be ready \
     before."
    "[project]\nname = \"shop\"\n\n[services.a]\ncommand = [\"a\"]\nport = 8081\nneeds = [\"b\"]\n\n\
     [services.b]\ncommand = [\"b\"]\nport = 8082\nneeds = [\"a\"]\n"

    UnknownService "unknown-service"
    "Something names a service that is not in the blueprint."
    "Routes, mirrors, the order of a rollout and the place of signing keys name services. The \
     help names the nearest."
    "[project]\nname = \"shop\"\n\n[[routes]]\npath = \"/\"\nservice = \"web\"\n"

    DuplicateRoute "duplicate-route"
    "Two routes take the same requests."
    "Two routes have the same host, path, headers and query, and methods in common: the second \
     would never be reached. Change one, or take it out."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\nport = 8081\n\n\
     [[routes]]\npath = \"/\"\nservice = \"web\"\n\n[[routes]]\npath = \"/\"\nservice = \"web\"\n"

    NoPort "no-port"
    "A service is called and has no port."
    "A route leads to the service, or another one needs it, so the gateway must reach it: say at \
     which `port` it listens. A job that others need is waited for and not called; it needs none."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\n\n\
     [[routes]]\npath = \"/\"\nservice = \"web\"\n"

    PortClash "port-clash"
    "Two things listen on the same port."
    "The gateway cannot listen on one port for both plain HTTP and TLS. For services on local \
     processes this is a warning: each instance is handed a free port as `PORT`, so two services \
     that say the same port get along if both listen where they are told. Use `${PORT}` in \
     `command` or read the variable, or give each its own."
    "[project]\nname = \"shop\"\n\n[gateway]\nport = 8443\ntls = { local_ca = true }\n"

    BadSteps "bad-steps"
    "The steps of a canary do not grow from something to less than all."
    "Each step is a larger share than the one before, the first is more than 0%, and the last \
     less than 100%: all of the traffic comes by itself at the end."
    "[project]\nname = \"shop\"\n\n[rollout]\nstrategy = \"canary\"\nsteps = [\"5%\", \"1%\"]\n"

    UnusedKey "unused-key"
    "A key has no effect here."
    "The key belongs to another strategy, kind or engine than the one chosen. It is harmless, \
     but whoever wrote it expected something of it."
    "[project]\nname = \"shop\"\n\n[rollout]\nstrategy = \"rolling\"\nsteps = [\"5%\"]\n"

    UnknownInOverlay "unknown-in-overlay"
    "An environment changes something that is not there."
    "An environment is an overlay: it changes values of services, resources and drills that the \
     blueprint has. A misspelt name would otherwise quietly add a second one. To have a service \
     in one environment only, write it at the top with `replicas = 0` and more in the environment."
    "[project]\nname = \"shop\"\n\n[environments.local]\nprovider = \"process\"\n\
     services.web.replicas = 2\n"

    LiteralSecret "literal-secret"
    "A secret is written in the blueprint."
    "The name or the value of a variable looks like a password, token or key. A blueprint is \
     committed and printed, so nothing in it is secret. Store the value with `platform secrets \
     set NAME` and write `{ secret = \"name\" }`. If it is not a secret, write \
     `{ plain = \"text\" }`."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\n\
     env = { STRIPE_KEY = \"changeme\" }\n"

    UnknownReference "unknown-reference"
    "A `${…}` reference stands for nothing."
    "In commands, arguments and variables, `${…}` is replaced by PORT, HOST, the PLATFORM_… \
     variables, the address of a need, such as `${ORDERS_DB_URL}` for `orders-db`, or the folder \
     of a volume, such as `${UPLOADS_DIR}` for `uploads`; in commands and arguments also by the \
     service's own variables. To leave it for the program or its shell, write `$${…}`."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\", \"--port=${PROT}\"]\nport = 8081\n"

    SecretInCommand "secret-in-command"
    "A command or an argument names a secret."
    "Whoever may list processes reads their arguments, so on Docker, Kubernetes and clouds no secret is put there: neither one \
     of `env`, nor the address of a resource, which holds its password. All of them are variables of the program. A shell that \
     is to read one is told with `$${…}`; a secret with `as = \"file\"` may be named, as its variable holds the file's path."
    "[project]\nname = \"shop\"\n\n[services.web]\nimage = \"web:1\"\nargs = [\"--token=${TOKEN}\"]\n\
     env = { TOKEN = { secret = \"token\" } }\n\n[environments.live]\nprovider = \"docker\"\n"

    NothingToRun "nothing-to-run"
    "A service does not say what to run."
    "A service has a `build`, an `image`, or a `command` that is installed where it runs."
    "[project]\nname = \"shop\"\n\n[services.web]\nport = 8081\n"

    EngineMisfit "engine-misfit"
    "The engine cannot stand behind the resource, or not here."
    "Each kind of resource has its engines. The embedded ones run with local processes only: \
     Docker, Kubernetes and clouds always run the real server. Embedded ones have no standbys. \
     Leave `engine` out to have the one that fits, or write it in the environment."
    "[project]\nname = \"shop\"\n\n[resources.db]\nkind = \"postgres\"\nengine = \"redis\"\n"

    UnknownProvider "unknown-provider"
    "An environment names a provider that is not known."
    "The providers are `process`, `docker`, `kubernetes` and `terraform`."
    "[project]\nname = \"shop\"\n\n[environments.staging]\nprovider = \"dokcer\"\n"

    UnknownTarget "unknown-target"
    "A drill has a target or route that is not in the blueprint."
    "The target of a drill is a service or a resource, and its steady state is seen through one \
     of the routes. The help names the nearest."
    "[project]\nname = \"shop\"\n\n[drills.failover]\ntarget = \"db\"\nfault = \"kill-primary\"\n"

    FaultMisfit "fault-misfit"
    "A fault cannot befall the target."
    "`kill-primary`, `kill-standby` and `lose-data` are for resources, `kill-instance` and \
     `kill-all` for services. Data can only be restored where backups are made."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\n\n\
     [drills.failover]\ntarget = \"web\"\nfault = \"kill-primary\"\n"

    MissingSetting "missing-setting"
    "A setting needs another one that is not there."
    "For instance, a route asks for a token and the gateway is not told who issues them. The help \
     says what to add."
    "[project]\nname = \"shop\"\n\n[services.web]\ncommand = [\"web\"]\nport = 8081\n\n\
     [[routes]]\nservice = \"web\"\nauth = { scopes = [\"read\"] }\n"

    Contradiction "contradiction"
    "Two settings exclude each other."
    "Both cannot be at once; the help says which to keep."
    "[project]\nname = \"shop\"\n\n[services.web]\nimage = \"nginx\"\nbuild = { cargo = \"web\" }\n"

    UnknownEnvironment "unknown-environment"
    "The environment asked for is not in the blueprint."
    "`-e NAME` names one of the `[environments]`. A blueprint without any has one, `local`, on \
     local processes."
    "-e staging"

    AmbiguousEnvironment "ambiguous-environment"
    "It is not clear which environment is meant."
    "Without `-e NAME`, the environment is `local`, or the only one there is. Name one with `-e` \
     or in the variable PLATFORM_ENVIRONMENT."
    "platform plan"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blueprint;

    #[test]
    fn each_code_has_an_example_that_has_the_problem() {
        for doc in codes() {
            if doc.code.ends_with("-environment") {
                continue; // These are about the command line.
            }
            let (problems, expected) = match Blueprint::parse(doc.example, "platform.toml") {
                Ok(parsed) => (parsed.warnings, doc.code),
                Err(problems) => (problems, doc.code),
            };
            let seen: Vec<_> = problems
                .iter()
                .map(|problem| problem.code.as_str())
                .collect();
            assert!(seen.contains(&expected), "{expected}: {seen:?}");
        }
    }
}
