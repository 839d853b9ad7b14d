//! The shape that all streams of sessions share: any number of sessions on one stream, each request of one session, each
//! response to some of them.

use tonic::{Code, Request, Response, Status, Streaming};

/// The action of a session that a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The session.
    pub session: u64,
    /// The number that the action carried.
    pub request: u64,
}

/// What a service answers to an action that it cannot even look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// The request carries no action.
    NoAction,
    /// Session 0.
    NoSession,
    /// The session number is taken on this stream.
    AlreadyJoined,
    /// The session has not joined, or has left.
    NotJoined,
    /// Too much of this stream waits already.
    Overloaded,
}

impl Misuse {
    /// For people.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::NoAction => "action: is required",
            Self::NoSession => "session: must not be 0",
            Self::AlreadyJoined => "this session number is taken on this stream",
            Self::NotJoined => "this session has not joined: join first",
            Self::Overloaded => "too much waits already; nothing was done, try again later",
        }
    }
}

/// Why a service refused something, as that service defines it.
pub trait Reason: Copy + std::fmt::Debug + PartialEq + Into<i32> + Send + Sync + 'static {
    /// A field is wrong.
    const INVALID_ARGUMENT: Self;
    /// Too much waits already.
    const OVERLOADED: Self;
    /// The database did not answer.
    const UNAVAILABLE: Self;

    /// The gRPC code of a unary call that is refused so.
    fn code(self) -> Code;
    /// The name without its prefix, as `google.rpc.ErrorInfo` carries it.
    fn name(self) -> &'static str;
}

macro_rules! reason {
    ($package:ident { $($name:ident => $code:ident,)* }) => {
        impl Reason for crate::$package::v1::RefusalReason {
            const INVALID_ARGUMENT: Self = Self::InvalidArgument;
            const OVERLOADED: Self = Self::Overloaded;
            const UNAVAILABLE: Self = Self::Unavailable;

            fn code(self) -> Code {
                match self {
                    Self::InvalidArgument => Code::InvalidArgument,
                    Self::NotJoined => Code::FailedPrecondition,
                    Self::AlreadyJoined => Code::AlreadyExists,
                    Self::Overloaded => Code::ResourceExhausted,
                    Self::Unavailable => Code::Unavailable,
                    Self::Unspecified => Code::Internal,
                    $(Self::$name => Code::$code,)*
                }
            }

            fn name(self) -> &'static str {
                self.as_str_name().trim_start_matches("REFUSAL_REASON_")
            }
        }
    };
}

reason!(chat {
    ConversationNotFound => NotFound,
    MessageNotFound => NotFound,
    NotAParticipant => PermissionDenied,
    WrongRole => PermissionDenied,
    EmptyContent => InvalidArgument,
    ConversationClosed => FailedPrecondition,
    OwnMessage => FailedPrecondition,
    AlreadyExists => AlreadyExists,
});
reason!(location {
    NotAParticipant => PermissionDenied,
    NotTheTherapist => PermissionDenied,
    NoPosition => NotFound,
});
reason!(notification {
    NotificationNotFound => NotFound,
});

/// A stream of sessions, as one of the services defines it.
pub trait Wire: Sized + Send + Sync + 'static {
    /// The service, as logs name it.
    const NAME: &'static str;
    /// The gRPC method that opens it, with its service.
    const METHOD: &'static str;
    /// What the caller sends.
    type Request: prost::Message + 'static;
    /// What the service sends.
    type Response: prost::Message + Clone + 'static;
    /// What a session does.
    type Action: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static;
    /// What happens.
    type Event: Clone + std::fmt::Debug + Send + Sync + 'static;
    /// What brings a session in.
    type Join: Clone + Default + std::fmt::Debug + Send + Sync + 'static;

    /// A session does something; `request` 0 wants no answer.
    fn request(session: u64, request: u64, action: Self::Action) -> Self::Request;
    /// Where a request says of which trace it is.
    fn traceparent(request: &mut Self::Request) -> &mut String;
    /// The inverse: session, request, action.
    fn split_request(request: Self::Request) -> (u64, u64, Option<Self::Action>);
    /// Something happened.
    fn response(sessions: Vec<u64>, event: Self::Event, answer: Option<Answer>) -> Self::Response;
    /// The inverse: sessions, event (none when it is one of a later version), answer.
    fn split_response(response: Self::Response) -> (Vec<u64>, Option<Self::Event>, Option<Answer>);
    /// The action that brings a session in.
    fn join(join: Self::Join) -> Self::Action;
    /// The action that takes it out; when it `moves`, it goes on at another instance.
    fn leave(moves: bool) -> Self::Action;
    /// Which of the two an action is, if one of them.
    fn kind(action: Self::Action) -> Kind<Self>;
    /// What an action is called.
    fn name(action: &Self::Action) -> &'static str;
    /// Whether an action brings a session in.
    fn is_join(action: &Self::Action) -> bool;
    /// A refusal.
    fn refused(reason: i32, message: String) -> Self::Event;
    /// A refusal of something that cannot be looked at.
    fn misused(misuse: Misuse) -> Self::Event;
    /// Whether an event refuses something because its session is not in.
    fn is_not_joined(event: &Self::Event) -> bool;
    /// Why an event refuses something, if it does: the reason's name in small letters.
    fn refusal(event: &Self::Event) -> Option<String>;
    /// This instance is leaving.
    fn go_away() -> Self::Event;
    /// Whether an event says that.
    fn is_go_away(event: &Self::Event) -> bool;
}

/// An action by what it does to its session.
#[derive(Debug)]
pub enum Kind<W: Wire> {
    /// It comes in.
    Join(W::Join),
    /// It goes out.
    Leave {
        /// It goes on at another instance.
        moves: bool,
    },
    /// It does something while it is in.
    Other(W::Action),
}

/// Opens a stream of sessions. One for each service's client, so that a caller can keep any of them.
pub trait Open<W: Wire>: Clone + Send + Sync + 'static {
    /// Opens it.
    fn open(
        &mut self,
        requests: impl tokio_stream::Stream<Item = W::Request> + Send + 'static,
    ) -> impl Future<Output = Result<Response<Streaming<W::Response>>, Status>> + Send;
}

macro_rules! wire {
    (
        $(#[$doc:meta])* $wire:ident($name:literal, $method:literal) = $package:ident, $rpc:ident: $request:ident, $actions:ident -> $response:ident, $events:ident,
        $service:ident::$client:ident { $($action:ident => $action_name:literal),* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $wire;

        impl Wire for $wire {
            const NAME: &'static str = $name;
            const METHOD: &'static str = concat!("switchboard.", stringify!($package), ".v1.", $method);
            type Request = crate::$package::v1::$request;
            type Response = crate::$package::v1::$response;
            type Action = crate::$package::v1::$actions::Action;
            type Event = crate::$package::v1::$events::Event;
            type Join = crate::$package::v1::Join;

            fn request(session: u64, request: u64, action: Self::Action) -> Self::Request {
                Self::Request { session, request, action: Some(action), traceparent: String::new() }
            }

            fn traceparent(request: &mut Self::Request) -> &mut String {
                &mut request.traceparent
            }

            fn split_request(request: Self::Request) -> (u64, u64, Option<Self::Action>) {
                (request.session, request.request, request.action)
            }

            fn response(sessions: Vec<u64>, event: Self::Event, answer: Option<Answer>) -> Self::Response {
                let answer = answer
                    .map(|Answer { session, request }| crate::$package::v1::Answer { session, request });
                Self::Response { sessions, event: Some(event), answer }
            }

            fn split_response(response: Self::Response) -> (Vec<u64>, Option<Self::Event>, Option<Answer>) {
                let answer = response.answer.map(|answer| Answer { session: answer.session, request: answer.request });
                (response.sessions, response.event, answer)
            }

            fn join(join: Self::Join) -> Self::Action {
                Self::Action::Join(join)
            }

            fn leave(moves: bool) -> Self::Action {
                Self::Action::Leave(crate::$package::v1::Leave { moves })
            }

            // A stream whose sessions only come and go has no other action.
            #[allow(unreachable_patterns)]
            fn kind(action: Self::Action) -> Kind<Self> {
                match action {
                    Self::Action::Join(join) => Kind::Join(join),
                    Self::Action::Leave(leave) => Kind::Leave { moves: leave.moves },
                    other => Kind::Other(other),
                }
            }

            fn name(action: &Self::Action) -> &'static str {
                match action {
                    Self::Action::Join(_) => "join",
                    Self::Action::Leave(_) => "leave",
                    $(Self::Action::$action(_) => $action_name,)*
                }
            }

            fn is_join(action: &Self::Action) -> bool {
                matches!(action, Self::Action::Join(_))
            }

            fn misused(misuse: Misuse) -> Self::Event {
                use crate::$package::v1::RefusalReason;
                let reason = match misuse {
                    Misuse::NoAction | Misuse::NoSession => RefusalReason::InvalidArgument,
                    Misuse::AlreadyJoined => RefusalReason::AlreadyJoined,
                    Misuse::NotJoined => RefusalReason::NotJoined,
                    Misuse::Overloaded => RefusalReason::Overloaded,
                };
                Self::refused(reason.into(), misuse.message().to_owned())
            }

            fn refused(reason: i32, message: String) -> Self::Event {
                Self::Event::Refused(crate::$package::v1::Refused { reason, message })
            }

            fn is_not_joined(event: &Self::Event) -> bool {
                use crate::$package::v1::RefusalReason;
                matches!(event, Self::Event::Refused(refused) if refused.reason() == RefusalReason::NotJoined)
            }

            fn refusal(event: &Self::Event) -> Option<String> {
                match event {
                    Self::Event::Refused(refused) => {
                        let name = refused.reason().as_str_name();
                        Some(name.trim_start_matches("REFUSAL_REASON_").to_ascii_lowercase())
                    }
                    _ => None,
                }
            }

            fn go_away() -> Self::Event {
                Self::Event::GoAway(crate::$package::v1::GoAway {})
            }

            fn is_go_away(event: &Self::Event) -> bool {
                matches!(event, Self::Event::GoAway(_))
            }
        }

        impl<S> Open<$wire> for crate::$package::v1::$service::$client<S>
        where
            S: tonic::client::GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
            S::Error: Into<tonic::codegen::StdError>,
            S::Future: Send,
            S::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
            <S::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
        {
            async fn open(
                &mut self,
                requests: impl tokio_stream::Stream<Item = crate::$package::v1::$request> + Send + 'static,
            ) -> Result<Response<Streaming<crate::$package::v1::$response>>, Status> {
                self.$rpc(Request::new(requests)).await
            }
        }
    };
}

wire!(
    /// `ChatService.Converse`.
    Chat("chat", "ChatService/Converse") = chat, converse: ConverseRequest, converse_request -> ConverseResponse, converse_response,
    chat_service_client::ChatServiceClient { Send => "send", Typing => "typing", Receipt => "receipt" }
);
wire!(
    /// `LocationService.Share`.
    Location("location", "LocationService/Share") = location, share: ShareRequest, share_request -> ShareResponse, share_response,
    location_service_client::LocationServiceClient { Report => "report" }
);
wire!(
    /// `NotificationService.Subscribe`.
    Notification("notification", "NotificationService/Subscribe") = notification,
    subscribe: SubscribeRequest, subscribe_request -> SubscribeResponse, subscribe_response,
    notification_service_client::NotificationServiceClient { Read => "read" }
);
wire!(
    /// `PresenceService.Track`.
    Presence("presence", "PresenceService/Track") = presence, track: TrackRequest, track_request -> TrackResponse, track_response,
    presence_service_client::PresenceServiceClient {}
);
