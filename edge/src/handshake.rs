//! From a visitor's credential to a seat, or the documented goodbye.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, header::ORIGIN};
use switchboard_chassis::traces;
use switchboard_proto::{
    chat::v1::{
        Conversation, ConversationKind, ConversationNumber, Join, Joined, OpenConversationRequest, Participant,
        RefusalReason, converse_response::Event, join,
    },
    identity::v1::{
        AuthenticateRequest, BatchGetUsersRequest, Principal, User, authenticate_request::Credential,
        principal::Subject,
    },
    location::v1 as location,
    notification::v1 as notification,
    part::{self, Part},
    presence::v1 as presence,
    wire,
};
use tokio::time::{Duration, Instant, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tonic::{Code, Status};

use crate::{
    Audience, Edge,
    connections::{Connection, Endpoint},
    credential,
    dialect::{self, Dialect, Ends, Viewer},
    goodbye::{self, Goodbye},
    handlers::{
        chat::{ChatHandler, Entered},
        location::LocationHandler,
        notifications::NotificationsHandler,
        presence::{Contacts, PresenceHandler},
    },
    link::{Carried, Delivery, Inbox, Link, SessionHandle, Told},
    metrics::Who,
    rate::Limit,
    room::{self, Place},
    routes::Target,
    session::{Asking, Handler, Seat},
    standing::Proof,
};

/// How long a visitor waits for a link that is down.
const LINK_WAIT: Duration = Duration::from_secs(3);
/// How long a visitor waits for the answer to its join.
const JOIN_WAIT: Duration = Duration::from_secs(10);

/// Why a visitor was not let in.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) goodbye: Goodbye,
    /// What is said before it.
    pub(crate) last_words: Option<Utf8Bytes>,
    /// A page of a foreign origin, which gets no socket at all.
    pub(crate) is_foreign: bool,
}

impl Turned {
    fn by_origin() -> Self {
        Self { is_foreign: true, ..goodbye::FORBIDDEN.into() }
    }
}

impl From<Goodbye> for Turned {
    fn from(goodbye: Goodbye) -> Self {
        Self { goodbye, last_words: None, is_foreign: false }
    }
}

/// Who came, and on what.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) user: User,
    proof: Proof,
}

impl Visitor {
    fn is(&self, role: &str) -> bool {
        has_role(&self.user, role)
    }
}

/// What a visitor brings.
pub(crate) struct Visit<'a> {
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) token: Option<&'a str>,
    pub(crate) address: IpAddr,
    /// The user, as soon as that is known.
    pub(crate) who: OnceLock<String>,
}

impl Visit<'_> {
    /// It is this one.
    fn is_by(&self, visitor: &Visitor) {
        let _ = self.who.set(visitor.user.id.clone());
    }
}

impl Edge {
    /// Lets a visitor in.
    pub(crate) async fn admit(&self, target: &Target, visit: &Visit<'_>) -> Result<Admission, Turned> {
        if self.lifecycle.is_draining() || self.gate.is_closed() {
            return Err(goodbye::RESTARTING.into());
        }
        let after = credential::parameter(visit.query, "after").filter(|after| !after.is_empty());
        let (room, proof) = match target {
            Target::Mobile(number) => self.admit_to_mobile(visit, number).await?,
            Target::MyConversation | Target::Mentoring(_) => {
                let visitor = self.by_cookie(visit.headers).await?.ok_or(goodbye::UNAUTHENTICATED)?;
                visit.is_by(&visitor);
                let room = match target {
                    Target::Mentoring(number) => self.admit_to_mentoring(&visitor, number).await?,
                    _ => self.admit_to_my_conversation(&visitor).await?,
                };
                (room, visitor.proof)
            }
            Target::Number(number) => {
                let visitor = self.by_token_or_cookie(visit).await?.ok_or(goodbye::UNAUTHENTICATED)?;
                visit.is_by(&visitor);
                if !visitor.is("staff") {
                    return Err(goodbye::MALFORMED.into());
                }
                (self.admit_staff_to_mobile(&visitor, *number).await?, visitor.proof)
            }
            _ => {
                let visitor = self.by_token(visit.token.ok_or(goodbye::UNAUTHENTICATED)?).await?;
                visit.is_by(&visitor);
                let room = match target {
                    Target::Therapy { customer_id, therapist_id } => {
                        self.admit_to_therapy(&visitor, customer_id, therapist_id).await?
                    }
                    Target::Conversation(id) => self.admit_by_id(&visitor, &id.to_string()).await?,
                    Target::Location { customer_id, therapist_id } => {
                        return self.admit_to_location(&visitor, (customer_id, therapist_id), visit.address).await;
                    }
                    Target::Notifications => return self.admit_to_notifications(&visitor, visit.address).await,
                    Target::Presence => return self.admit_to_presence(&visitor, visit.address).await,
                    _ => return Err(goodbye::MALFORMED.into()),
                };
                (room, visitor.proof)
            }
        };
        let Room { entered, conversation, way } = room;
        let (limit, counted) = (entered.dialect.limit(), counted(&entered.viewer.user_id, &entered.viewer.role));
        let who = Who {
            user_id: (entered.viewer.role != "device").then(|| entered.viewer.user_id.as_str().into()),
            conversation: Some(conversation.id.as_str().into()),
        };
        let endpoint = endpoint(target, limit);
        let session = way.handle.number();
        let connection = Connection::new(endpoint, &entered.viewer.role, &conversation.id, visit.address, session);
        let handler = ChatHandler::new(entered, &conversation, after);
        Ok(Admission::Chat(Box::new(self.seat(handler, way, (limit, &counted, who), proof, connection))))
    }

    fn seat<H: Handler>(
        &self,
        handler: H,
        way: Way<H::Wire>,
        (limit, counted, who): (Limit, &str, Who),
        proof: Proof,
        connection: Connection,
    ) -> Seat<H> {
        let meter = self.rates.meter(limit, counted, Instant::now());
        let connection = Arc::new(connection);
        let credential = self.credentials.hold(proof, connection.clone());
        let Way { handle, inbox, place } = way;
        let open = self.counts.socket(limit, <H::Wire as wire::Wire>::NAME, who);
        let (asking, clock, traces) = (Asking::new(handle), self.clock.clone(), self.lifecycle.traces());
        Seat { handler, asking, inbox, credential, meter, place, open, clock, connection, traces }
    }

    /// The user that a token stands for.
    pub(crate) async fn by_token(&self, token: &str) -> Result<Visitor, Goodbye> {
        self.by_credential(Credential::Token(token.to_owned())).await
    }

    /// The user of a session cookie; `None` without one.
    pub(crate) async fn by_cookie(&self, headers: &HeaderMap) -> Result<Option<Visitor>, Turned> {
        let Some(key) = credential::session_cookie(headers) else { return Ok(None) };
        // A request without an origin is not a browser's.
        if let Some(origin) = headers.get(ORIGIN)
            && !origin
                .to_str()
                .is_ok_and(|origin| credential::is_allowed_origin(origin, headers, &self.config.allowed_origins))
        {
            return Err(Turned::by_origin());
        }
        Ok(Some(self.by_credential(Credential::SessionKey(key)).await?))
    }

    async fn by_token_or_cookie(&self, visit: &Visit<'_>) -> Result<Option<Visitor>, Turned> {
        match visit.token {
            Some(token) => Ok(Some(self.by_token(token).await?)),
            None => self.by_cookie(visit.headers).await,
        }
    }

    async fn by_credential(&self, credential: Credential) -> Result<Visitor, Goodbye> {
        let is_token = matches!(credential, Credential::Token(_));
        let before = self.credentials.before();
        let principal = self.principal(credential).await?;
        let proof = Proof::of(&principal, before, is_token);
        match principal.subject {
            Some(Subject::User(user)) => Ok(Visitor { user, proof }),
            _ => Err(goodbye::UNAUTHENTICATED),
        }
    }

    async fn principal(&self, credential: Credential) -> Result<Principal, Goodbye> {
        let request = AuthenticateRequest { credential: Some(credential) };
        match self.identity.clone().authenticate(request).await {
            Ok(response) => response.into_inner().principal.ok_or(goodbye::INTERNAL),
            Err(status) if status.code() == Code::Unauthenticated && !is_ours(&status) => Err(goodbye::UNAUTHENTICATED),
            Err(status) => Err(failed(&status)),
        }
    }

    /// Whether a device is registered and active.
    pub(crate) async fn is_device(&self, device_id: &str) -> Result<bool, Goodbye> {
        Ok(self.by_device(device_id).await?.is_some())
    }

    /// What a device that is registered and active lives on.
    async fn by_device(&self, device_id: &str) -> Result<Option<Proof>, Goodbye> {
        let before = self.credentials.before();
        match self.principal(Credential::DeviceId(device_id.to_owned())).await {
            Ok(principal) => Ok(Some(Proof::of(&principal, before, false))),
            Err(goodbye::UNAUTHENTICATED) => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn admit_to_therapy(&self, visitor: &Visitor, customer_id: &str, therapist_id: &str) -> Result<Room, Turned> {
        let role = self.role_in_pair(visitor, customer_id, therapist_id).await?;
        let people = [(customer_id, "customer"), (therapist_id, "therapist")];
        let conversation = self.open(ConversationKind::Therapy, &people).await?;
        self.join(by_id(&conversation.id, &visitor.user.id, role), Some(visitor), Rooms::of(dialect::THERAPY)).await
    }

    /// What a visitor is to a customer and a therapist, who must exist.
    async fn role_in_pair(
        &self,
        visitor: &Visitor,
        customer_id: &str,
        therapist_id: &str,
    ) -> Result<&'static str, Goodbye> {
        let role = if visitor.user.id == customer_id && visitor.is("customer") {
            "customer"
        } else if visitor.user.id == therapist_id && visitor.is("therapist") {
            "therapist"
        } else if visitor.is("staff") {
            "staff"
        } else {
            return Err(goodbye::FORBIDDEN);
        };
        let request = BatchGetUsersRequest { user_ids: vec![customer_id.to_owned(), therapist_id.to_owned()] };
        let found =
            self.identity.clone().batch_get_users(request).await.map_err(|status| failed(&status))?.into_inner();
        let exists = |id: &str, role: &str| found.users.iter().any(|user| user.id == id && has_role(user, role));
        // Nobody is one's own therapist.
        if customer_id != therapist_id && exists(customer_id, "customer") && exists(therapist_id, "therapist") {
            Ok(role)
        } else {
            Err(goodbye::FORBIDDEN)
        }
    }

    async fn admit_to_location(
        &self,
        visitor: &Visitor,
        (customer_id, therapist_id): (&str, &str),
        address: IpAddr,
    ) -> Result<Admission, Turned> {
        use location::{Join, RefusalReason as Reason, share_response::Event};
        let role = self.role_in_pair(visitor, customer_id, therapist_id).await?;
        let pair = location::Pair { customer_id: customer_id.to_owned(), therapist_id: therapist_id.to_owned() };
        let part = part::of_pair(&pair);
        let join = Join { pair: Some(pair), user_id: visitor.user.id.clone(), role: role.to_owned() };
        let (told, way) = enter(&self.room, &join.user_id, &self.links.location, part, join.clone()).await?;
        match &told.event {
            Event::Joined(joined) => {
                let connection = Connection::new(Endpoint::Location, role, "", address, way.handle.number());
                let handler = LocationHandler::new(join, joined);
                let (user_id, proof) = (visitor.user.id.as_str(), visitor.proof.clone());
                let pair = format!("{customer_id}/{therapist_id}").into();
                let counted = (Limit::Therapy, user_id, Who { conversation: Some(pair), ..who(user_id) });
                Ok(Admission::Location(Box::new(self.seat(handler, way, counted, proof, connection))))
            }
            Event::Refused(refused) => Err(match refused.reason() {
                Reason::NotAParticipant => goodbye::FORBIDDEN.into(),
                Reason::Overloaded | Reason::Unavailable => goodbye::OVERLOADED.into(),
                _ => goodbye::INTERNAL.into(),
            }),
            _ => Err(goodbye::INTERNAL.into()),
        }
    }

    async fn admit_to_notifications(&self, visitor: &Visitor, address: IpAddr) -> Result<Admission, Turned> {
        use notification::{Join, RefusalReason as Reason, subscribe_response::Event};
        let user_id = &visitor.user.id;
        let join = Join { user_id: user_id.clone() };
        let link = &self.links.notification;
        let (told, way) = enter(&self.room, user_id, link, part::of_user(user_id), join.clone()).await?;
        match &told.event {
            Event::Joined(joined) => {
                let state = joined.inbox.unwrap_or_default();
                let handler = NotificationsHandler::new(join, state, self.notification.clone());
                let connection = Connection::new(Endpoint::Notifications, "", "", address, way.handle.number());
                let counted = (Limit::Consultation, user_id.as_str(), who(user_id));
                let seat = self.seat(handler, way, counted, visitor.proof.clone(), connection);
                Ok(Admission::Notifications(Box::new(seat)))
            }
            Event::Refused(refused) => Err(match refused.reason() {
                Reason::Overloaded | Reason::Unavailable => goodbye::OVERLOADED.into(),
                _ => goodbye::INTERNAL.into(),
            }),
            _ => Err(goodbye::INTERNAL.into()),
        }
    }

    async fn admit_to_presence(&self, visitor: &Visitor, address: IpAddr) -> Result<Admission, Turned> {
        use presence::{Join, RefusalReason as Reason, track_response::Event};
        let User { id, .. } = &visitor.user;
        let contacts = match self.config.presence_audience {
            Audience::Everyone => None,
            Audience::Contacts => {
                let fetching = Contacts::of(id, self.chat.clone(), self.clock.clone());
                let contacts = timeout(LINK_WAIT, fetching).await.map_err(|_| goodbye::OVERLOADED)?;
                Some(contacts.map_err(|status| failed(&status))?)
            }
        };
        let user_name = dialect::consultation::name(&visitor.user, id).to_owned();
        let join = Join { user_id: id.clone(), user_name };
        let (told, way) = enter(&self.room, id, &self.links.presence, self.roster.home(), join.clone()).await?;
        match &told.event {
            Event::Joined(_) => {
                let handler = PresenceHandler::new(join, self.roster.clone(), contacts);
                let connection = Connection::new(Endpoint::Presence, "", "", address, way.handle.number());
                let counted = (Limit::Consultation, id.as_str(), who(id));
                let seat = self.seat(handler, way, counted, visitor.proof.clone(), connection);
                Ok(Admission::Presence(Box::new(seat)))
            }
            Event::Refused(refused) if refused.reason() == Reason::Overloaded => Err(goodbye::OVERLOADED.into()),
            _ => Err(goodbye::INTERNAL.into()),
        }
    }

    /// clinic or consultation, by the conversation's kind.
    async fn admit_by_id(&self, visitor: &Visitor, id: &str) -> Result<Room, Turned> {
        let rooms =
            Rooms { ends: dialect::CLINIC.ends(), last_words: dialect::CLINIC.last_words(), dialect: dialect::of_uuid };
        // A conversation of another kind must not see somebody come whom this URL does not lead to.
        let as_role = |role: &str| Join {
            kinds: vec![ConversationKind::Clinic.into(), ConversationKind::Consultation.into()],
            ..by_id(id, &visitor.user.id, role)
        };
        match self.join(as_role(""), Some(visitor), rooms.clone()).await {
            // Where the kind admits staff without a seat.
            Err(turned) if turned.goodbye == goodbye::FORBIDDEN && visitor.is("staff") => {
                self.join(as_role("staff"), Some(visitor), rooms).await
            }
            other => other,
        }
    }

    async fn admit_to_mobile(&self, visit: &Visit<'_>, number: &str) -> Result<(Room, Proof), Turned> {
        let device_id =
            credential::parameter(visit.query, "device_id").filter(|device_id| !device_id.trim().is_empty());
        let Some(device_id) = device_id else {
            let mobile = |turned: Turned| match turned.goodbye {
                goodbye::UNAUTHENTICATED => goodbye::MOBILE_DEVICE_INVALID.into(),
                _ => turned,
            };
            let visitor = self.by_token_or_cookie(visit).await.map_err(mobile)?;
            let visitor = visitor.ok_or(goodbye::MOBILE_DEVICE_MISSING)?;
            visit.is_by(&visitor);
            if !visitor.is("staff") {
                return Err(goodbye::MOBILE_FORBIDDEN.into());
            }
            let number = number.parse().map_err(|_| goodbye::MOBILE_NOT_FOUND)?;
            return Ok((self.admit_staff_to_mobile(&visitor, number).await?, visitor.proof));
        };
        let proof = self.by_device(&device_id).await?.ok_or(goodbye::MOBILE_DEVICE_INVALID)?;
        let number = number.parse().map_err(|_| goodbye::MOBILE_NOT_FOUND)?;
        let join = by_number(ConversationKind::Mobile, number, &device_id, "device");
        Ok((self.join(join, None, Rooms::of(dialect::MOBILE)).await?, proof))
    }

    async fn admit_staff_to_mobile(&self, visitor: &Visitor, number: i64) -> Result<Room, Turned> {
        let join = by_number(ConversationKind::Mobile, number, &visitor.user.id, "staff");
        self.join(join, Some(visitor), Rooms::of(dialect::MOBILE)).await
    }

    async fn admit_to_my_conversation(&self, visitor: &Visitor) -> Result<Room, Turned> {
        let conversation = self.my_conversation(&visitor.user).await?;
        let join = by_number(ConversationKind::Mentoring, conversation.number, &visitor.user.id, "student");
        self.join(join, Some(visitor), Rooms::of(dialect::MENTORING)).await
    }

    async fn admit_to_mentoring(&self, visitor: &Visitor, number: &str) -> Result<Room, Turned> {
        if !visitor.is("teacher") && !visitor.is("trainer") {
            return Err(goodbye::FORBIDDEN.into());
        }
        let number = number.parse().map_err(|_| goodbye::NOT_FOUND)?;
        let join = by_number(ConversationKind::Mentoring, number, &visitor.user.id, "");
        let room = self.join(join, Some(visitor), Rooms::of(dialect::MENTORING)).await?;
        if room.entered.viewer.role == "student" { Err(goodbye::FORBIDDEN.into()) } else { Ok(room) }
    }

    /// A student's conversation with the assigned mentor, which is made when it is first asked for.
    pub(crate) async fn my_conversation(&self, student: &User) -> Result<Conversation, Goodbye> {
        if !has_role(student, "student") {
            return Err(goodbye::FORBIDDEN);
        }
        if student.assigned_mentor_id.is_empty() {
            return Err(goodbye::NOT_FOUND);
        }
        let request = BatchGetUsersRequest { user_ids: vec![student.assigned_mentor_id.clone()] };
        let found =
            self.identity.clone().batch_get_users(request).await.map_err(|status| failed(&status))?.into_inner();
        let mentor = found.users.first().ok_or(goodbye::NOT_FOUND)?;
        let role = ["teacher", "trainer"].into_iter().find(|role| has_role(mentor, role)).ok_or(goodbye::NOT_FOUND)?;
        self.open(ConversationKind::Mentoring, &[(&student.id, "student"), (&mentor.id, role)]).await
    }

    async fn open(&self, kind: ConversationKind, people: &[(&str, &str)]) -> Result<Conversation, Goodbye> {
        let seat =
            |(user_id, role): &(&str, &str)| Participant { user_id: (*user_id).to_owned(), role: (*role).to_owned() };
        let request = OpenConversationRequest {
            kind: kind.into(),
            participants: people.iter().map(seat).collect(),
            ..OpenConversationRequest::default()
        };
        let opened = self.chat.clone().open_conversation(request).await.map_err(|status| failed(&status))?;
        opened.into_inner().conversation.ok_or(goodbye::INTERNAL)
    }

    async fn join(&self, join: Join, visitor: Option<&Visitor>, rooms: Rooms) -> Result<Room, Turned> {
        let Rooms { ends, last_words, dialect } = rooms;
        let not_found = || Turned { last_words, ..ends.not_found.into() };
        let link = &self.links.chat;
        let counted = counted(&join.user_id, &join.role);
        let (told, way) = enter(&self.room, &counted, link, part::of_join(&join), join.clone()).await?;
        match &told.event {
            Event::Joined(Joined { conversation: Some(conversation), role }) => {
                let Some(dialect) = dialect(conversation.kind()) else { return Err(not_found()) };
                let viewer = Viewer {
                    user_id: join.user_id.clone(),
                    role: role.clone(),
                    has_both_profiles: visitor.is_some_and(|visitor| has_both_profiles(&visitor.user)),
                };
                let entered = Entered { dialect, viewer, join, backstage: self.backstage.clone() };
                Ok(Room { entered, conversation: conversation.clone(), way })
            }
            Event::Refused(refused) => Err(match refused.reason() {
                RefusalReason::ConversationNotFound => not_found(),
                RefusalReason::NotAParticipant | RefusalReason::WrongRole => ends.forbidden.into(),
                RefusalReason::Overloaded | RefusalReason::Unavailable => goodbye::OVERLOADED.into(),
                _ => goodbye::INTERNAL.into(),
            }),
            _ => Err(goodbye::INTERNAL.into()),
        }
    }
}

/// A visitor who was let in, by what for.
pub(crate) enum Admission {
    Chat(Box<Seat<ChatHandler>>),
    Location(Box<Seat<LocationHandler>>),
    Notifications(Box<Seat<NotificationsHandler>>),
    Presence(Box<Seat<PresenceHandler>>),
}

/// A conversation that a visitor entered.
struct Room {
    entered: Entered,
    conversation: Conversation,
    way: Way<wire::Chat>,
}

/// A session on a link, and its user's place for it.
struct Way<W: Carried> {
    handle: SessionHandle<W>,
    inbox: Inbox<W>,
    place: Place<String>,
}

/// Brings a session in, at the instance that the part belongs to: what the service answers, and the session. Its place is
/// one of those of `counted`.
async fn enter<W: Carried>(
    room: &room::Room,
    counted: &str,
    link: &Link<W>,
    part: Part,
    join: W::Join,
) -> Result<(Arc<Told<W>>, Way<W>), Goodbye> {
    const REQUEST: u64 = u64::MAX;
    let place = room.of_user(counted).ok_or(goodbye::TOO_MANY)?;
    timeout(LINK_WAIT, link.up()).await.map_err(|_| goodbye::OVERLOADED)?;
    let (handle, mut inbox) = link.session(part);
    let ask = || handle.ask(REQUEST, W::join(join.clone()), traces::traceparent_here());
    ask().map_err(|_| goodbye::OVERLOADED)?;
    let entering = async {
        loop {
            match inbox.recv().await {
                Some(Delivery::Event(told)) => return Some(told),
                // Its instance went away meanwhile, and there is another.
                Some(Delivery::Up) => ask().ok()?,
                Some(Delivery::Down) => {}
                _ => return None,
            }
        }
    };
    let told = timeout(JOIN_WAIT, entering).await.ok().flatten().ok_or(goodbye::OVERLOADED)?;
    Ok((told, Way { handle, inbox, place }))
}

/// What a URL leads to: the dialect by the kind of the conversation, and how refusals are said.
#[derive(Clone)]
struct Rooms {
    ends: Ends,
    last_words: Option<Utf8Bytes>,
    dialect: fn(ConversationKind) -> Option<&'static dyn Dialect>,
}

impl Rooms {
    /// One protocol's own conversations.
    fn of(dialect: &'static dyn Dialect) -> Self {
        Self { ends: dialect.ends(), last_words: dialect.last_words(), dialect: dialect::of_kind }
    }
}

/// Which kind of chat socket it is, when the dialect with this limit is spoken at a URL.
fn endpoint(target: &Target, limit: Limit) -> Endpoint {
    match (target, limit) {
        (Target::MyConversation, _) => Endpoint::MyConversation,
        (Target::Number(_), _) => Endpoint::MobileOfStaff,
        (_, Limit::Therapy) => Endpoint::Therapy,
        (_, Limit::Clinic) => Endpoint::Clinic,
        (_, Limit::Mobile) => Endpoint::Mobile,
        (_, Limit::Mentoring) => Endpoint::Mentoring,
        (_, Limit::Consultation) => Endpoint::Consultation,
    }
}

/// By what the sockets and the frames of somebody are counted. Anybody registers a device by any name, so it must not
/// count as the user of that name; ids of users have no control characters.
fn counted(id: &str, role: &str) -> String {
    if role == "device" { format!("\n{id}") } else { id.to_owned() }
}

/// A user, for logs.
fn who(user_id: &str) -> Who {
    Who { user_id: Some(user_id.into()), conversation: None }
}

/// Whether a user has a role.
pub(crate) fn has_role(user: &User, role: &str) -> bool {
    user.roles.iter().any(|theirs| theirs == role)
}

/// Whether a user is both a patient and a professional.
pub(crate) fn has_both_profiles(user: &User) -> bool {
    ["patient", "professional"].iter().all(|role| has_role(user, role) || user.profiles.contains_key(*role))
}

fn by_id(id: &str, user_id: &str, role: &str) -> Join {
    Join {
        conversation: Some(join::Conversation::ConversationId(id.to_owned())),
        user_id: user_id.to_owned(),
        role: role.to_owned(),
        ..Join::default()
    }
}

fn by_number(kind: ConversationKind, number: i64, user_id: &str, role: &str) -> Join {
    let number = ConversationNumber { kind: kind.into(), number };
    Join {
        conversation: Some(join::Conversation::ConversationNumber(number)),
        user_id: user_id.to_owned(),
        role: role.to_owned(),
        ..Join::default()
    }
}

/// Whether it is this edge that was not authenticated, and not its visitor.
fn is_ours(status: &Status) -> bool {
    switchboard_chassis::error::reason(status) == "SERVICE_TOKEN_REQUIRED"
}

/// A service did not do what it should.
fn failed(status: &Status) -> Goodbye {
    tracing::error!(code = ?status.code(), message = status.message(), "a handshake failed");
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            goodbye::OVERLOADED
        }
        _ => goodbye::INTERNAL,
    }
}
