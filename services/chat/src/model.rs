//! The words of this service.

use switchboard_bus::Part;
use switchboard_chassis::Micros;
use switchboard_proto::chat::v1::RefusalReason;
use uuid::Uuid;

pub(crate) use switchboard_proto::chat::v1::{
    ConversationKind as Kind, ConversationStatus as Openness, MessageStatus as Status, MessageType,
};

/// All kinds of conversation.
pub(crate) const KINDS: [Kind; 5] = [Kind::Therapy, Kind::Clinic, Kind::Mobile, Kind::Mentoring, Kind::Consultation];

/// `clinic`
pub(crate) fn kind_name(kind: Kind) -> String {
    kind.as_str_name().trim_start_matches("CONVERSATION_KIND_").to_lowercase()
}

/// What a person is in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    Customer,
    Therapist,
    Patient,
    Professional,
    Device,
    Student,
    Teacher,
    Trainer,
    Client,
    Expert,
    Staff,
}

impl Role {
    const ALL: [Self; 11] = [
        Self::Customer,
        Self::Therapist,
        Self::Patient,
        Self::Professional,
        Self::Device,
        Self::Student,
        Self::Teacher,
        Self::Trainer,
        Self::Client,
        Self::Expert,
        Self::Staff,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Therapist => "therapist",
            Self::Patient => "patient",
            Self::Professional => "professional",
            Self::Device => "device",
            Self::Student => "student",
            Self::Teacher => "teacher",
            Self::Trainer => "trainer",
            Self::Client => "client",
            Self::Expert => "expert",
            Self::Staff => "staff",
        }
    }

    /// By its name in any case; `admin` and `provider` are other names of staff and professional.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "admin" => Some(Self::Staff),
            "provider" => Some(Self::Professional),
            name => Self::ALL.into_iter().find(|role| role.as_str() == name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seat {
    pub(crate) role: Role,
    pub(crate) user_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) id: Uuid,
    pub(crate) number: i64,
    pub(crate) kind: Kind,
    /// Sorted.
    pub(crate) seats: Vec<Seat>,
    pub(crate) subject: String,
    pub(crate) openness: Openness,
    pub(crate) last_seq: u64,
    /// How many of its messages were erased.
    pub(crate) erased: u64,
    pub(crate) created_at: Micros,
    pub(crate) updated_at: Micros,
}

/// A conversation that shall exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) kind: Kind,
    /// Sorted.
    pub(crate) seats: Vec<Seat>,
    pub(crate) subject: String,
    pub(crate) id: Option<Uuid>,
    pub(crate) number: Option<i64>,
}

/// A message that passed the rules and is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) conversation_id: Uuid,
    /// Where it is told.
    pub(crate) part: Part,
    pub(crate) kind: Kind,
    pub(crate) id: Uuid,
    /// The id may be stored already.
    pub(crate) retry: bool,
    pub(crate) sender_id: String,
    pub(crate) sender_role: Role,
    pub(crate) body: Body,
    pub(crate) client_message_id: Option<String>,
    /// Whom it shall be noted that they were not there.
    pub(crate) absent: Vec<String>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) content: String,
    pub(crate) message_type: MessageType,
    pub(crate) media_url: String,
    pub(crate) is_urgent: bool,
    pub(crate) metadata_json: String,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: Uuid,
    pub(crate) conversation_id: Uuid,
    pub(crate) number: i64,
    pub(crate) seq: u64,
    pub(crate) sender_id: String,
    pub(crate) sender_role: Role,
    pub(crate) body: Body,
    pub(crate) client_message_id: Option<String>,
    pub(crate) created_at: Micros,
    pub(crate) status: Status,
}

/// A message as clients name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MessageName {
    Id(Uuid),
    Number(i64),
}

impl MessageName {
    /// A UUID in any spelling, or a number in decimal.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        name.parse().map(Self::Number).or_else(|_| Uuid::try_parse(name).map(Self::Id)).ok()
    }

    pub(crate) fn id(&self) -> Option<Uuid> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Number(_) => None,
        }
    }

    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Id(_) => None,
            Self::Number(number) => Some(*number),
        }
    }
}

/// A stored message by all of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) id: Uuid,
    pub(crate) number: i64,
    pub(crate) seq: u64,
}

/// Which messages a receipt is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    These(Vec<MessageName>),
    UpTo(MessageName),
    All,
}

/// A receipt that passed the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) status: Status,
    pub(crate) which: Which,
    pub(crate) strict: bool,
    /// Only passed on.
    pub(crate) is_status_update: bool,
}

/// Why something was not done.
pub(crate) type Refusal = switchboard_sessions::Refusal<RefusalReason>;

pub(crate) fn no_conversation() -> Refusal {
    Refusal::new(RefusalReason::ConversationNotFound, "there is no such conversation")
}

pub(crate) fn no_message() -> Refusal {
    Refusal::new(RefusalReason::MessageNotFound, "there is no such message in this conversation")
}
