//! The words of this service.

use switchboard_chassis::{Error, Kind, Micros, clock};
use switchboard_proto::location::v1 as wire;

pub(crate) use switchboard_proto::location::v1::{Pair, RefusalReason};

/// What somebody is in a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Customer,
    Therapist,
    /// Looks on.
    Staff,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Therapist => "therapist",
            Self::Staff => "staff",
        }
    }
}

/// Where a therapist is, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Position {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) accuracy_m: Option<f64>,
    pub(crate) heading_deg: Option<f64>,
    pub(crate) at: Micros,
}

impl From<Position> for wire::Position {
    fn from(position: Position) -> Self {
        let Position { latitude, longitude, accuracy_m, heading_deg, at } = position;
        Self { latitude, longitude, accuracy_m, heading_deg, at: Some(clock::timestamp(at)) }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: RefusalReason,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(reason: RefusalReason, message: &str) -> Self {
        Self { reason, message: message.to_owned() }
    }

    pub(crate) fn invalid(field: &str, description: &str) -> Self {
        Self { reason: RefusalReason::InvalidArgument, message: format!("{field}: {description}") }
    }
}

impl From<Refusal> for wire::Refused {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason.into(), message: refusal.message }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { reason: RefusalReason::Unavailable, message: error.message }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        use RefusalReason as R;
        let reason = refusal.reason.as_str_name().trim_start_matches("REFUSAL_REASON_");
        let kind = match refusal.reason {
            R::NoPosition => Kind::NotFound,
            R::NotAParticipant | R::NotTheTherapist => Kind::Forbidden,
            R::InvalidArgument => {
                let (field, description) = refusal.message.split_once(": ").unwrap_or(("", &refusal.message));
                return Self { reason, ..Self::invalid(field, description) };
            }
            R::NotJoined => Kind::Precondition,
            R::AlreadyJoined => Kind::Exists,
            R::Overloaded => Kind::Overloaded,
            R::Unavailable => Kind::Unavailable,
            R::Unspecified => Kind::Internal,
        };
        Self::new(kind, reason, refusal.message)
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}
