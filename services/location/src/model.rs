//! The words of this service.

use switchboard_chassis::{Micros, clock};
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
pub(crate) type Refusal = switchboard_sessions::Refusal<RefusalReason>;
