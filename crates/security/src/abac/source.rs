//! The texts of a schema and of policies, and what is wrong with them.

use miette::Diagnostic;
use thiserror::Error;

/// A text and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The name of the file, for messages.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl SourceText {
    /// The text of the file of this name.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned() }
    }

    /// The number of the line that a message is about; the first, if it does not say.
    pub(super) fn line_of(&self, diagnostic: &dyn Diagnostic) -> usize {
        let offset =
            diagnostic.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }
}

/// Why a schema or a set of policies was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The schema cannot be read.
    #[error("{file}:{line}: the schema is not valid: {message}")]
    Schema {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The schema has no such entity type.
    #[error("{file}: the schema has no entity type {kind}: declare it, as that is what a principal is")]
    NoEntityType {
        /// The file.
        file: String,
        /// The type.
        kind: String,
    },
    /// A policy cannot be read.
    #[error("{file}:{line}: the policy is not valid: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A policy does not fit the schema.
    #[error("{file}:{line}: the policy {policy:?} does not fit the schema: {message}")]
    Validation {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// The policy.
        policy: String,
        /// What does not fit.
        message: String,
    },
    /// Two policies have the same `@id`.
    #[error("{file}: the policy {policy:?} is there twice: give each its own @id")]
    Repeated {
        /// The file of the second.
        file: String,
        /// The policy.
        policy: String,
    },
    /// A policy template, which nothing links.
    #[error("{file}: templates are not supported: write the policy out")]
    Template {
        /// The file.
        file: String,
    },
}
