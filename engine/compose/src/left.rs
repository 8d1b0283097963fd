//! What of a Compose file was not carried, or not as it was.

use std::fmt;

use crate::node::Node;

/// Which kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The text is no YAML, or no Compose file.
    Syntax,
    /// A value has a form that Compose does not know.
    BadValue,
    /// A blueprint has no word for it.
    NotCarried,
    /// It is carried, and works otherwise than it did.
    Otherwise,
    /// A secret's value is to be set by hand.
    SecretToSet,
    /// A variable has no value.
    UnsetVariable,
    /// A file that it names cannot be read.
    FileMissing,
    /// A service is started only when somebody asks for its profile.
    Profile,
    /// What `platform export compose` wrote was changed by hand.
    Edited,
}

impl Code {
    /// The stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "compose::syntax",
            Self::BadValue => "compose::bad-value",
            Self::NotCarried => "compose::not-carried",
            Self::Otherwise => "compose::otherwise",
            Self::SecretToSet => "compose::secret-to-set",
            Self::UnsetVariable => "compose::unset-variable",
            Self::FileMissing => "compose::file-missing",
            Self::Profile => "compose::profile",
            Self::Edited => "compose::edited",
        }
    }
}

/// Something that was not carried, or not as it was: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Which kind of thing it is.
    pub code: Code,
    /// The place, such as `services.web.networks`.
    pub place: String,
    /// Which of [`Imported::files`](crate::Imported) it is in.
    pub file: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its column, from 1.
    pub column: usize,
    /// Why; lower case, no period.
    pub why: String,
    /// What to do.
    pub help: Option<String>,
}

impl Left {
    /// Something at a node.
    pub(crate) fn at(
        node: &Node,
        code: Code,
        place: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            code,
            place: place.into(),
            file: node.file,
            line: node.line,
            column: node.column,
            why: why.into(),
            help: None,
        }
    }

    /// The same with what to do.
    pub(crate) fn helped(self, help: &str) -> Self {
        Self {
            help: Some(help.to_owned()),
            ..self
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, why, .. } = self;
        if place.is_empty() {
            formatter.write_str(why)
        } else {
            write!(formatter, "{place}: {why}")
        }
    }
}
