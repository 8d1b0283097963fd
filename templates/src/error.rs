//! Why nothing was written.

use std::io;
use std::path::PathBuf;

/// Why a project or a service was not written. What had been written of it has been taken back.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Files are where others are to be written.
    #[error(
        "`{}` has {} already",
        folder.display(),
        listed(files)
    )]
    InTheWay {
        /// The folder that was to be filled.
        folder: PathBuf,
        /// The files, relative to it.
        files: Vec<String>,
    },
    /// The folder is a project already.
    #[error("`{}` is a project already", folder.display())]
    ProjectExists {
        /// The folder.
        folder: PathBuf,
    },
    /// A name is not one.
    #[error("the name cannot be used")]
    BadName(#[from] platform_blueprint::BadName),
    /// The blueprint has a service of this name.
    #[error("the blueprint has a service `{0}` already")]
    ServiceExists(String),
    /// The blueprint would not be valid with the new part.
    #[error("with the service `{service}` the blueprint would not be valid: {problem}")]
    Unfit {
        /// The service.
        service: String,
        /// What would be wrong.
        problem: String,
    },
    /// The blueprint cannot be edited.
    #[error("cannot edit `{}`", path.display())]
    BadBlueprint {
        /// The blueprint.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A template does not render, which is our fault.
    #[error("cannot render `{file}`")]
    BadTemplate {
        /// The template's file.
        file: String,
        /// What is wrong with it.
        source: Box<tera::Error>,
    },
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// Verb, such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The git repository could not be made.
    #[error("cannot make a git repository in `{}`", folder.display())]
    Git {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: git2::Error,
    },
}

impl TemplateError {
    /// The stable code, such as `template::in-the-way`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InTheWay { .. } => "template::in-the-way",
            Self::ProjectExists { .. } => "template::project-exists",
            Self::BadName(_) => "template::bad-name",
            Self::ServiceExists(_) => "template::service-exists",
            Self::Unfit { .. } => "template::unfit",
            Self::BadBlueprint { .. } => "template::bad-blueprint",
            Self::BadTemplate { .. } => "template::bad-template",
            Self::File { .. } => "template::file",
            Self::Git { .. } => "template::git",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::InTheWay { .. } => {
                "nothing was written; move them away, choose another folder, or keep them with `--keep`"
            }
            Self::ProjectExists { .. } => {
                "add a service with `platform new service NAME --template axum`, or choose another folder"
            }
            Self::BadName(_) => "give one with `--name`",
            Self::ServiceExists(_) => "choose another name",
            Self::Unfit { .. } => {
                "nothing was written; choose another name, or another path with `--route`"
            }
            Self::BadBlueprint { .. } => "run `platform validate`",
            Self::Git { .. } => "run `git init` yourself and `platform init` with `--no-git`",
            Self::BadTemplate { .. } | Self::File { .. } => return None,
        })
    }

    pub(crate) fn file(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}

fn listed(files: &[String]) -> String {
    let shown: Vec<_> = files
        .iter()
        .take(8)
        .map(|file| format!("`{file}`"))
        .collect();
    let rest = files.len() - shown.len();
    match rest {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}
