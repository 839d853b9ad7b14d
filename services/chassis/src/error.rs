//! One small set of error kinds, mapped once to gRPC here and once to HTTP and frames at the edge.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `google.rpc.ErrorInfo` that we send.
pub const DOMAIN: &str = "switchboard";

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong and will be wrong again; the violations say where.
    Invalid,
    /// The credential is missing or not good: get another.
    Unauthenticated,
    /// The credential is good, but not for this.
    Forbidden,
    /// What the request names does not exist.
    NotFound,
    /// What the request wants to create exists and differs.
    Exists,
    /// Not in this state: change the state first.
    Precondition,
    /// Too much waits already: try again later.
    Overloaded,
    /// Something we depend on does not answer: try again.
    Unavailable,
    /// Our fault.
    Internal,
}

impl Kind {
    /// The gRPC code of this kind.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::NotFound => Code::NotFound,
            Self::Exists => Code::AlreadyExists,
            Self::Precondition => Code::FailedPrecondition,
            Self::Overloaded => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }
}

impl From<Code> for Kind {
    fn from(code: Code) -> Self {
        let kinds = [
            Self::Invalid,
            Self::Unauthenticated,
            Self::Forbidden,
            Self::NotFound,
            Self::Exists,
            Self::Precondition,
            Self::Overloaded,
            Self::Unavailable,
        ];
        kinds.into_iter().find(|kind| kind.code() == code).unwrap_or(Self::Internal)
    }
}

/// A wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as it is named in the proto.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub description: String,
}

/// A refusal or a failure, for programs (`kind`, `reason`) and for people (`message`).
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller can do.
    pub kind: Kind,
    /// `UPPER_SNAKE_CASE`; stable.
    pub reason: &'static str,
    /// Lowercase, short, without content or credentials.
    pub message: String,
    /// Wrong fields; only with [`Kind::Invalid`].
    pub violations: Vec<Violation>,
}

impl Error {
    /// An error without violations.
    pub fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), violations: Vec::new() }
    }

    /// One wrong field.
    pub fn invalid(field: &str, description: impl Into<String>) -> Self {
        let description = description.into();
        Self {
            kind: Kind::Invalid,
            reason: "INVALID_ARGUMENT",
            message: format!("{field}: {description}"),
            violations: vec![Violation { field: field.to_owned(), description }],
        }
    }
}

/// How long a refused caller should wait before it tries again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(error.reason, DOMAIN, []);
        for violation in error.violations {
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if matches!(error.kind, Kind::Overloaded | Kind::Unavailable) {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Self::with_error_details(error.kind.code(), error.message, details)
    }
}

/// The `reason` of a status that one of our services sent; empty when it carries none.
#[must_use]
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        // Postgres stores no NUL in a text, and does not compare with one either.
        if error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("22021")) {
            return Self::new(Kind::Invalid, "INVALID_ARGUMENT", "text must not contain NUL");
        }
        let transient = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Tls(_) => true,
            sqlx::Error::Database(inner) => inner.code().is_some_and(|code| is_transient(&code)),
            _ => false,
        };
        // The text of a database error may quote a row: it goes to the log, never to a caller.
        tracing::error!(error = %describe(&error), transient, "database");
        if transient {
            Self::new(Kind::Unavailable, "UNAVAILABLE", "the database does not answer; try again")
        } else {
            Self::new(Kind::Internal, "INTERNAL", "internal error")
        }
    }
}

/// Postgres: connection exceptions, resources, operator intervention, rolled back. SQLite (the low byte of its extended
/// codes): busy, locked, input and output, full, cannot open.
fn is_transient(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(sqlite) if code.len() < 5 => matches!(sqlite & 0xff, 5 | 6 | 10 | 13 | 14),
        _ => ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class)),
    }
}

/// A database error without the values of a row.
fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(inner) => format!(
            "{} (code {}, constraint {})",
            inner.message().lines().next().unwrap_or_default(),
            inner.code().unwrap_or_default(),
            inner.constraint().unwrap_or("none")
        ),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_to_programs() {
        let status = Status::from(Error::invalid("subject", "at most 255 characters"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let request = status.get_details_bad_request().expect("details");
        assert_eq!(request.field_violations[0].field, "subject");
        assert_eq!(reason(&status), "INVALID_ARGUMENT");
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for code in ["08006", "53100", "57P01", "40P01", "5", "13", "778", "517"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["23505", "42601", "22021", "1", "19", "2067", "1555"] {
            assert!(!is_transient(code), "{code}");
        }
    }

    #[test]
    fn a_busy_service_says_when_to_come_back() {
        let status = Status::from(Error::new(Kind::Overloaded, "OVERLOADED", "too much waits"));
        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(retry, Some(RETRY_AFTER));
    }
}
