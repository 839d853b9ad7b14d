//! What operators do with an edge (`edge.v1.EdgeService`): look at its sockets, end them, look at a conversation, and
//! send everybody elsewhere.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use ipnet::IpNet;
use prost_types::Duration as WireDuration;
use switchboard_chassis::{
    Error, Kind, Lifecycle,
    clock::{micros, timestamp},
    grpc::Caller,
    lifecycle::Readiness,
    secret::sha256_hex,
};
use switchboard_proto::edge::v1::{
    Connection as WireConnection, DisconnectConnectionsRequest, DisconnectConnectionsResponse, DrainRequest,
    DrainResponse, GetConnectionRequest, GetConnectionResponse, ListConnectionsRequest, ListConnectionsResponse,
    Protocol, ResumeRequest, ResumeResponse, TailConversationRequest, TailConversationResponse,
    connection::Who,
    edge_service_server::{EdgeService, EdgeServiceServer},
};
use tokio::{sync::watch, time::sleep};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    Edge, Links,
    connections::{Connection, Endpoint, Passed},
    goodbye,
    standing::{Farewell, Seen, Whose},
    tail,
};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;
const IDS_MAX: usize = 1_000;
/// What a close frame has room for (RFC 6455, 5.5).
const REASON_BYTES_MAX: usize = 123;
const CODE_DEFAULT: u16 = 1008;
const REASON_DEFAULT: &str = "closed by an operator";
const SPREAD_MAX: Duration = Duration::from_secs(3_600);
/// Between two looks for visitors who came in while an edge was beginning to drain.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The service, for an edge that is still to come: see [`serve`](crate::serve). Cheap to clone.
#[derive(Clone, Default)]
pub struct Steering {
    // Weak, as the edge calls the services among which this is.
    edge: Arc<OnceLock<Weak<Edge>>>,
}

impl Steering {
    /// The gRPC service.
    #[must_use]
    pub fn service(&self) -> EdgeServiceServer<Self> {
        EdgeServiceServer::new(self.clone())
    }

    pub(crate) fn take(&self, edge: &Arc<Edge>) {
        // It is given to one edge.
        let _ = self.edge.set(Arc::downgrade(edge));
    }

    fn edge(&self) -> Result<Arc<Edge>, Error> {
        let edge = self.edge.get().and_then(Weak::upgrade);
        edge.ok_or_else(|| Error::new(Kind::Unavailable, "UNAVAILABLE", "the edge does not serve yet, or no more"))
    }
}

/// Whether an edge takes visitors, besides what the end of the process says.
#[derive(Debug)]
pub(crate) struct Gate(watch::Sender<Option<Duration>>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Gate {
    pub(crate) fn is_closed(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Whether the edge should get visitors, as far as this decides it.
    pub(crate) fn readiness(&self) -> impl Fn() -> Readiness + Send + Sync + 'static {
        let told = self.0.subscribe();
        move || if told.borrow().is_some() { Readiness::NotReady("draining".to_owned()) } else { Readiness::Ready }
    }

    /// Sends away those who are there, while it is closed, until the process ends by itself.
    pub(crate) async fn keep(&self, links: &Links, lifecycle: &Lifecycle) {
        let mut told = self.0.subscribe();
        loop {
            let closed = *told.borrow_and_update();
            let sending_away = async {
                let Some(mut over) = closed else { return std::future::pending().await };
                loop {
                    links.end_all(goodbye::RESTARTING, over).await;
                    over = Duration::ZERO;
                    sleep(LOOK_AGAIN).await;
                }
            };
            tokio::select! {
                () = sending_away => {}
                _ = told.changed() => {}
                () = lifecycle.drained() => return,
            }
        }
    }
}

/// Which sockets are meant: all that is there must hold.
#[derive(Debug, Default)]
struct Filter {
    user_id: String,
    device_id: String,
    conversation: Option<Uuid>,
    network: Option<IpNet>,
    protocol: Option<Protocol>,
}

impl Filter {
    fn read(
        user_id: String,
        device_id: String,
        (conversation_id, address, protocol): (&str, &str, i32),
    ) -> Result<Self, Error> {
        let conversation = match conversation_id {
            "" => None,
            id => Some(Uuid::try_parse(id).map_err(|_| Error::invalid("conversation_id", "is not a UUID"))?),
        };
        let network = match address {
            "" => None,
            text => Some(network(text)?),
        };
        let protocol = match Protocol::try_from(protocol) {
            Ok(Protocol::Unspecified) => None,
            Ok(protocol) => Some(protocol),
            Err(_) => return Err(Error::invalid("protocol", "is not a protocol of ours")),
        };
        Ok(Self { user_id, device_id, conversation, network, protocol })
    }

    fn is_anybody(&self) -> bool {
        self.user_id.is_empty() && self.device_id.is_empty() && self.conversation.is_none() && self.network.is_none()
    }

    fn matches(&self, whose: &Whose, connection: &Connection) -> bool {
        let (user_id, device_id) = match whose {
            Whose::User(id) => (id.as_str(), ""),
            Whose::Device(id) => ("", id.as_str()),
        };
        (self.user_id.is_empty() || self.user_id == user_id)
            && (self.device_id.is_empty() || self.device_id == device_id)
            && (self.conversation.is_none() || self.conversation == connection.conversation())
            && self.network.is_none_or(|network| network.contains(&connection.address))
            && self.protocol.is_none_or(|protocol| protocol == connection.endpoint.protocol())
    }
}

fn network(text: &str) -> Result<IpNet, Error> {
    let read = text.parse::<IpNet>().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
    read.map_err(|_| Error::invalid("address", "is an address, or a network as 10.0.0.0/8"))
}

/// Looks at all sockets after one, in their order, without keeping others from coming and going.
async fn look(edge: &Edge, mut after: u64, mut look: impl FnMut(Seen<'_>)) {
    while let Some(last) = edge.credentials.look(after, &mut look) {
        after = last;
        tokio::task::yield_now().await;
    }
}

fn described(edge: &Edge, Seen { id, whose, connection, .. }: &Seen<'_>) -> WireConnection {
    let ago = |instant: tokio::time::Instant| micros(instant.elapsed());
    let opened_at = edge.clock.now().saturating_sub(ago(connection.opened));
    let heard_at = opened_at.saturating_add(micros(connection.heard_after()));
    let Passed { frames_in, frames_out, bytes_in, bytes_out } = connection.passed();
    WireConnection {
        id: id.to_string(),
        protocol: connection.endpoint.protocol().into(),
        endpoint: connection.endpoint.pattern().to_owned(),
        who: Some(match whose {
            Whose::User(id) => Who::UserId(id.clone()),
            Whose::Device(id) => Who::DeviceId(id.clone()),
        }),
        role: connection.role().to_owned(),
        conversation_id: connection.conversation().map(|id| id.to_string()).unwrap_or_default(),
        address: connection.address.to_string(),
        opened_at: Some(timestamp(opened_at)),
        last_heard_at: Some(timestamp(heard_at)),
        frames_in,
        frames_out,
        bytes_in,
        bytes_out,
        events_queued: 0,
    }
}

/// How many events wait for a socket. Asked of the link, and not while the sockets are locked.
fn queued(edge: &Edge, endpoint: Endpoint, session: u64) -> u32 {
    let queued = match endpoint {
        Endpoint::Location => edge.links.location.queued(session),
        Endpoint::Notifications => edge.links.notification.queued(session),
        Endpoint::Presence => edge.links.presence.queued(session),
        _ => edge.links.chat.queued(session),
    };
    u32::try_from(queued).unwrap_or(u32::MAX)
}

/// A code and a reason that may be sent.
fn farewell(code: i32, reason: String) -> Result<Farewell, Error> {
    let code = match code {
        0 => CODE_DEFAULT,
        1000 | 1001 | 1008 | 1011..=1013 | 3000..=4999 => u16::try_from(code).unwrap_or(CODE_DEFAULT),
        _ => {
            let allowed = "is 1000, 1001, 1008, 1011, 1012, 1013, or 3000 to 4999; 0 takes 1008";
            return Err(Error::invalid("close_code", allowed));
        }
    };
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(Error::invalid("close_reason", "has at most 123 bytes, and no control characters"));
    }
    let reason = if reason.is_empty() { REASON_DEFAULT.into() } else { reason.into() };
    Ok(Farewell { code, reason })
}

/// Who calls, as the log names them.
pub(crate) fn caller<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map_or("unknown", Caller::name).to_owned()
}

fn seconds(duration: Duration) -> WireDuration {
    WireDuration { seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

#[tonic::async_trait]
impl EdgeService for Steering {
    type TailConversationStream = Pin<Box<dyn Stream<Item = Result<TailConversationResponse, Status>> + Send>>;

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let edge = self.edge()?;
        let ListConnectionsRequest { user_id, device_id, conversation_id, address, protocol, page_size, page_token } =
            request.into_inner();
        let filter = Filter::read(user_id, device_id, (&conversation_id, &address, protocol))?;
        let size = match usize::try_from(page_size) {
            Ok(0) => PAGE_DEFAULT,
            Ok(size) if size <= PAGE_MAX => size,
            _ => return Err(Error::invalid("page_size", format!("0 to {PAGE_MAX}")).into()),
        };
        let after = match page_token.as_str() {
            "" => 0,
            token => {
                let key = Uuid::try_parse(token).ok().and_then(|id| edge.credentials.key(id));
                key.ok_or_else(|| Error::invalid("page_token", "is not one of this edge's"))?
            }
        };
        let (mut page, mut places, mut last, mut total, mut is_more) = (Vec::new(), Vec::new(), None, 0, false);
        look(&edge, 0, |seen| {
            if !filter.matches(seen.whose, seen.connection) {
                return;
            }
            total += 1;
            if seen.key <= after {
                return;
            }
            if page.len() < size {
                page.push(described(&edge, &seen));
                places.push((seen.connection.endpoint, seen.connection.session));
                last = Some(seen.id);
            } else {
                is_more = true;
            }
        })
        .await;
        for (connection, (endpoint, session)) in page.iter_mut().zip(places) {
            connection.events_queued = queued(&edge, endpoint, session);
        }
        Ok(Response::new(ListConnectionsResponse {
            connections: page,
            next_page_token: last.filter(|_| is_more).map(|id| id.to_string()).unwrap_or_default(),
            total_size: total,
            is_draining: edge.gate.is_closed() || edge.lifecycle.is_draining(),
        }))
    }

    async fn get_connection(
        &self,
        request: Request<GetConnectionRequest>,
    ) -> Result<Response<GetConnectionResponse>, Status> {
        let edge = self.edge()?;
        let id = Uuid::try_parse(&request.into_inner().id).map_err(|_| Error::invalid("id", "is not a UUID"))?;
        let found = edge.credentials.key(id).and_then(|key| {
            edge.credentials
                .look_at(key, |seen| (described(&edge, &seen), seen.connection.endpoint, seen.connection.session))
        });
        let Some((mut connection, endpoint, session)) = found else {
            let message = "no such connection here: it has ended, or is another edge's";
            return Err(Error::new(Kind::NotFound, "CONNECTION_NOT_FOUND", message).into());
        };
        connection.events_queued = queued(&edge, endpoint, session);
        Ok(Response::new(GetConnectionResponse { connection: Some(connection) }))
    }

    async fn disconnect_connections(
        &self,
        request: Request<DisconnectConnectionsRequest>,
    ) -> Result<Response<DisconnectConnectionsResponse>, Status> {
        let edge = self.edge()?;
        let caller = caller(&request);
        let DisconnectConnectionsRequest {
            ids,
            user_id,
            device_id,
            conversation_id,
            address,
            protocol,
            close_code,
            close_reason,
        } = request.into_inner();
        let farewell = Arc::new(farewell(close_code, close_reason)?);
        let subject = format!("{user_id}{device_id}");
        let filter = Filter::read(user_id, device_id, (&conversation_id, &address, protocol))?;
        if ids.len() > IDS_MAX {
            return Err(Error::invalid("ids", format!("at most {IDS_MAX}")).into());
        }
        if ids.is_empty() && filter.is_anybody() {
            let message = "one of ids, user_id, device_id, conversation_id, address is required";
            return Err(Error::invalid("ids", message).into());
        }
        let mut keys = Vec::new();
        for id in &ids {
            let id = Uuid::try_parse(id).map_err(|_| Error::invalid("ids", "are UUIDs"))?;
            let key = edge.credentials.key(id).filter(|key| {
                edge.credentials.look_at(*key, |seen| filter.matches(seen.whose, seen.connection)) == Some(true)
            });
            keys.extend(key);
        }
        if ids.is_empty() {
            look(&edge, 0, |seen| {
                if filter.matches(seen.whose, seen.connection) {
                    keys.push(seen.key);
                }
            })
            .await;
        }
        let disconnected = keys.into_iter().filter(|key| edge.credentials.dismiss(*key, &farewell)).count();
        // Ids of people are not logged; who knows one can tell whether it was meant.
        let subject_sha256 = (!subject.is_empty()).then(|| sha256_hex(&subject));
        tracing::info!(
            target: "audit", caller, action = "DisconnectConnections", ids = ids.len(), subject_sha256, conversation_id,
            address, code = farewell.code, disconnected, "an operator closed sockets"
        );
        let disconnected = i64::try_from(disconnected).unwrap_or(i64::MAX);
        Ok(Response::new(DisconnectConnectionsResponse { disconnected }))
    }

    async fn tail_conversation(
        &self,
        request: Request<TailConversationRequest>,
    ) -> Result<Response<Self::TailConversationStream>, Status> {
        let edge = self.edge()?;
        let caller = caller(&request);
        let TailConversationRequest { conversation_id, include_text } = request.into_inner();
        let id = Uuid::try_parse(&conversation_id)
            .map_err(|_| Error::invalid("conversation_id", "is not a conversation's UUID"))?;
        Ok(Response::new(Box::pin(tail::tail(edge, id, include_text, caller).await?)))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let edge = self.edge()?;
        let caller = caller(&request);
        let spread = match request.into_inner().spread {
            None => Duration::from_secs(edge.config.drain_spread_s),
            Some(spread) => match Duration::try_from(spread) {
                Ok(spread) if spread <= SPREAD_MAX => spread,
                _ => return Err(Error::invalid("spread", "is at least 0s and at most 3600s").into()),
            },
        };
        edge.gate.0.send_replace(Some(spread));
        let connections = edge.credentials.count();
        tracing::info!(
            target: "audit", caller, action = "Drain", connections, spread_s = spread.as_secs(),
            "an operator drains the edge"
        );
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        Ok(Response::new(DrainResponse { connections, spread: Some(seconds(spread)) }))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        let edge = self.edge()?;
        let caller = caller(&request);
        let was_closed = edge.gate.0.send_replace(None).is_some();
        let connections = edge.credentials.count();
        tracing::info!(
            target: "audit", caller, action = "Resume", connections, was_draining = was_closed,
            "an operator lets the edge take sockets"
        );
        Ok(Response::new(ResumeResponse { connections: i64::try_from(connections).unwrap_or(i64::MAX) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::tests::any;

    #[test]
    fn what_a_filter_means() {
        let read = |user: &str, device: &str, conversation: &str, address: &str, protocol| {
            Filter::read(user.into(), device.into(), (conversation, address, protocol))
        };
        let (user, device) = (Whose::User("a".into()), Whose::Device("a".into()));
        for (filter, expected) in [
            (read("", "", "", "", 0), [true, true]),
            (read("a", "", "", "", 0), [true, false]),
            (read("", "a", "", "", 0), [false, true]),
            (read("a", "a", "", "", 0), [false, false]),
            (read("", "", "", "127.0.0.1", 0), [true, true]),
            (read("", "", "", "127.0.0.0/8", Protocol::Therapy.into()), [true, true]),
            (read("", "", "", "127.0.0.2", 0), [false, false]),
            (read("", "", "", "::1", 0), [false, false]),
            (read("", "", "", "", Protocol::Clinic.into()), [false, false]),
            (read("", "", "aaaaaaaa-0000-4000-8000-000000000000", "", 0), [false, false]),
        ] {
            let filter = filter.expect("a filter");
            assert_eq!([&user, &device].map(|whose| filter.matches(whose, &any())), expected, "{filter:?}");
        }
        for (filter, field) in [
            (read("", "", "x", "", 0), "conversation_id"),
            (read("", "", "", "10.0.0.0/33", 0), "address"),
            (read("", "", "", "example.com", 0), "address"),
            (read("", "", "", "", 99), "protocol"),
        ] {
            assert_eq!(filter.expect_err("wrong").violations[0].field, field);
        }
    }

    #[test]
    fn codes_and_reasons_have_bounds() {
        let long = "x".repeat(REASON_BYTES_MAX);
        let default = Farewell { code: 1008, reason: REASON_DEFAULT.into() };
        assert_eq!(farewell(0, String::new()).expect("the default"), default);
        for code in [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999] {
            assert_eq!(i32::from(farewell(code, long.clone()).expect("right").code), code);
        }
        // Those that RFC 6455 keeps for libraries, and those that are nobody's.
        for code in [-1, 1, 999, 1002, 1004, 1005, 1006, 1007, 1009, 1010, 1014, 1015, 2999, 5000, 65536 + 1000] {
            assert_eq!(farewell(code, String::new()).expect_err("wrong").violations[0].field, "close_code", "{code}");
        }
        for reason in [long + "x", "two\nlines".to_owned(), "nul\0".to_owned()] {
            assert_eq!(farewell(0, reason).expect_err("wrong").violations[0].field, "close_reason");
        }
    }
}
