//! The RPCs of identity.

use std::{collections::HashSet, pin::Pin, time::Instant};

use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use prost_types::Timestamp;
use switchboard_chassis::{
    Clock, Error, Kind, Lifecycle, Micros,
    audit::Asked,
    clock,
    metrics::{CounterSeries, Counters, HistogramSeries, Histograms, SECONDS},
    paging::page_size,
    secret,
    secret::sha256_hex,
};
use switchboard_proto::identity::v1::{
    AuthenticateRequest, AuthenticateResponse, BatchGetUsersRequest, BatchGetUsersResponse, CreateSessionRequest,
    CreateSessionResponse, DeactivateDeviceRequest, DeactivateDeviceResponse, DeleteSessionRequest,
    DeleteSessionResponse, DeleteUserRequest, DeleteUserResponse, Device, GetUserRequest, GetUserResponse,
    ListDevicesRequest, ListDevicesResponse, ListUsersRequest, ListUsersResponse, Principal, RecheckRequest,
    RecheckResponse, RegisterDeviceRequest, RegisterDeviceResponse, RevokeRequest, RevokeResponse, UpsertUserRequest,
    UpsertUserResponse, User, WatchRevocationsRequest, WatchRevocationsResponse, authenticate_request::Credential,
    get_user_request::Key, identity_service_server::IdentityService, principal::Subject, revoke_request,
    watch_revocations_response as watch,
};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use crate::{
    AuthConfig,
    django::Django,
    jwt::{Claims, Verifier},
    news::{self, News},
    person,
    standing::Standing,
    store::{DeviceRow, Revocation, SessionRow, Store},
    ticket::{Of, Ticket, Token},
};

/// The most users that one call fetches.
const USERS_MAX: usize = 500;
/// Users or devices on a page, unless told, and the most.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 2_000;
/// The most tickets that one call checks.
const TICKETS_MAX: usize = 1_000;
/// No token lives longer.
const REVOKED_FOR_S: i64 = 10 * 365 * 24 * 3600;
const SESSION_TTL_S: i64 = 14 * 24 * 3600;
const SESSION_TTL_MAX_S: i64 = 365 * 24 * 3600;
const MICROS: i64 = 1_000_000;

/// The identity service.
pub struct Identity {
    store: Store,
    verifier: Verifier,
    create_users: bool,
    django: Option<Django>,
    news: News,
    checks: CounterSeries<2>,
    check_seconds: HistogramSeries<1>,
    clock: Clock,
    lifecycle: Lifecycle,
}

const CHECKS: Counters<2> = Counters::new(
    "switchboard_identity_authentications_total",
    "Credentials that were checked: token, session or device, and ok or why not",
    &["credential", "result"],
);
const CHECK_SECONDS: Histograms<1> = Histograms::new(
    "switchboard_identity_authentication_duration_seconds",
    "How long it took to check a credential",
    &["credential"],
    SECONDS,
);

impl Identity {
    pub(crate) fn new(
        store: Store,
        news: News,
        django: Option<Django>,
        config: &AuthConfig,
        clock: Clock,
        lifecycle: Lifecycle,
    ) -> std::io::Result<Self> {
        Ok(Self {
            store,
            verifier: Verifier::start(&config.jwt, &lifecycle)?,
            create_users: config.jwt.create_users,
            django,
            news,
            checks: lifecycle.metrics().counters(&CHECKS),
            check_seconds: lifecycle.metrics().histograms(&CHECK_SECONDS),
            clock,
            lifecycle,
        })
    }

    /// Of what was issued up to now.
    fn revocation(&self) -> Revocation {
        let now = self.clock.now();
        Revocation { issued_until: now, expires_at: now.saturating_add(REVOKED_FOR_S * MICROS) }
    }

    async fn by_token(&self, token: &str) -> Result<Principal, Error> {
        let claims = self.verifier.verify(token, self.clock.now()).await?;
        let Claims { user: claimed, expires_at, token_id, issued_at } = claims;
        let token = Token { id: token_id.unwrap_or_default(), issued_at: issued_at.unwrap_or(0) };
        // First: whom a revoked token names is not made.
        if self.store.is_revoked(&claimed.id, &token).await? {
            return Err(refused("TOKEN_REVOKED", "the token was revoked"));
        }
        let user = self.acquainted(claimed, self.create_users).await.map_err(|error| match error.kind {
            Kind::Invalid => refused("TOKEN_INVALID", "the token's claims do not describe a user"),
            _ => error,
        })?;
        let user = user.ok_or_else(|| refused("USER_UNKNOWN", "the token's user is not known here"))?;
        principal(user, expires_at, Of::Token(token))
    }

    /// The user whom an issuer describes. What it says fills in what nobody has told us yet, and changes nothing that we
    /// were told; unless it `may_tell` us anything, then `None` for somebody unknown.
    async fn acquainted(&self, described: User, may_tell: bool) -> Result<Option<User>, Error> {
        match self.store.user(&described.id).await? {
            Some(known) if may_tell && known.roles.is_empty() && !described.roles.is_empty() => {
                let known = person::checked(User { roles: described.roles, ..known })?;
                self.store.upsert_user(&known, self.clock.now()).await?;
                Ok(Some(known))
            }
            None if may_tell => {
                let described = person::checked(described)?;
                Ok(Some(self.store.create_user(described, self.clock.now()).await?))
            }
            known => Ok(known),
        }
    }

    async fn by_session(&self, key: &str) -> Result<Principal, Error> {
        let bad = || refused("SESSION_INVALID", "the session does not exist or has ended");
        let Some(session) = self.store.session(&sha256_hex(key)).await? else {
            return self.by_django(key).await?.ok_or_else(bad);
        };
        if session.expires_at <= self.clock.now() {
            return Err(bad());
        }
        let user = self.store.user(&session.user_id).await?.ok_or_else(bad)?;
        principal(user, session.expires_at, Of::Session(sha256_hex(key)))
    }

    /// A session of Django's; `None` when it is not good, or there is no Django.
    async fn by_django(&self, key: &str) -> Result<Option<Principal>, Error> {
        let Some(django) = &self.django else { return Ok(None) };
        let Some(session) = django.session(key, self.clock.now()).await? else { return Ok(None) };
        let theirs = User {
            id: session.user_id,
            username: session.username,
            full_name: session.full_name,
            email: session.email,
            roles: if session.is_staff { vec!["staff".to_owned()] } else { Vec::new() },
            ..User::default()
        };
        let theirs = person::checked(theirs).map_err(|_| refused("SESSION_INVALID", "its user cannot be one here"))?;
        match self.acquainted(theirs, true).await? {
            Some(user) => principal(user, session.expires_at, Of::Django(key.to_owned())).map(Some),
            None => Ok(None),
        }
    }

    /// Those of these sessions of Django's that are good no more. While it cannot be asked, all are.
    async fn ended_in_django(&self, tickets: &[Ticket]) -> HashSet<String> {
        let Some(django) = &self.django else { return HashSet::new() };
        let theirs = tickets.iter().filter_map(|ticket| match &ticket.of {
            Some(Of::Django(key)) => Some((key.clone(), ticket.user_id.clone())),
            _ => None,
        });
        let theirs: Vec<(String, String)> = theirs.collect();
        if theirs.is_empty() {
            return HashSet::new();
        }
        match django.ended(&theirs, self.clock.now()).await {
            Ok(ended) => ended.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "Django's sessions cannot be checked");
                HashSet::new()
            }
        }
    }

    async fn by_device(&self, device_id: &str) -> Result<Principal, Error> {
        let known = match person::check_device_id(device_id) {
            Ok(()) => self.store.device(device_id).await?,
            Err(_) => None,
        };
        match known {
            Some(row) if row.active => {
                let ticket = Ticket::of("", Of::Device(row.device_id.clone())).encode_to_vec();
                let subject = Some(Subject::Device(device(row)));
                Ok(Principal { subject, ticket, ..Principal::default() })
            }
            _ => Err(refused("DEVICE_INVALID", "the device is not registered or not active")),
        }
    }
}

/// News of credentials, for one watcher.
type NewsStream = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl IdentityService for Identity {
    type WatchRevocationsStream = NewsStream;

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let began = Instant::now();
        let (shown, found) = match request.into_inner().credential {
            Some(Credential::Token(token)) => ("token", self.by_token(&token).await),
            Some(Credential::SessionKey(key)) => ("session", self.by_session(&key).await),
            Some(Credential::DeviceId(device_id)) => ("device", self.by_device(&device_id).await),
            None => return Err(refused("CREDENTIAL_MISSING", "give a token, a session_key or a device_id").into()),
        };
        let result = found.as_ref().map_or_else(|error| error.reason.to_ascii_lowercase(), |_| "ok".to_owned());
        self.checks.of([shown, &result]).inc();
        self.check_seconds.of([shown]).observe(began.elapsed().as_secs_f64());
        let principal = Some(found?);
        Ok(Response::new(AuthenticateResponse { principal }))
    }

    async fn recheck(&self, request: Request<RecheckRequest>) -> Result<Response<RecheckResponse>, Status> {
        let tickets = request.into_inner().tickets;
        if tickets.len() > TICKETS_MAX {
            return Err(Error::invalid("tickets", format!("at most {TICKETS_MAX}")).into());
        }
        let tickets = tickets.iter().map(|ticket| Ticket::read(ticket)).collect::<Result<Vec<_>, _>>()?;
        let standing = Standing::read(&self.store, &tickets, self.clock.now()).await?;
        let elsewhere = self.ended_in_django(&tickets).await;
        let is_good = |ticket: &Ticket| {
            standing.is_good(ticket) && !matches!(&ticket.of, Some(Of::Django(key)) if elsewhere.contains(key))
        };
        let ended = (0..).zip(&tickets).filter(|(_, ticket)| !is_good(ticket)).map(|(place, _)| place);
        Ok(Response::new(RecheckResponse { ended: ended.collect() }))
    }

    async fn watch_revocations(
        &self,
        _: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let drained = self.lifecycle.clone();
        let news = BroadcastStream::new(self.news.watch())
            // Who is too slow checks everybody.
            .map(|news| Ok(WatchRevocationsResponse { subject: Some(news.unwrap_or_else(|_| news::everybody())) }))
            .take_until(async move { drained.drained().await });
        Ok(Response::new(Box::pin(news)))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let revocation = self.revocation();
        match request.into_inner().credential {
            Some(revoke_request::Credential::UserId(id)) => {
                person::check_id("user_id", &id)?;
                self.store.revoke_user(&id, revocation).await?;
                self.news.tell(watch::Subject::UserId(id));
            }
            Some(revoke_request::Credential::TokenId(id)) => {
                person::check_id("token_id", &id)?;
                self.store.revoke_token(&id, revocation).await?;
                self.news.tell(news::everybody());
            }
            Some(revoke_request::Credential::Token(token)) => {
                let claims = self.verifier.verify(&token, self.clock.now()).await?;
                let id = claims.token_id.ok_or_else(|| {
                    Error::invalid("token", "has no jti: revoke the user's tokens, or wait until it has ended")
                })?;
                let revocation = Revocation { expires_at: claims.expires_at, ..revocation };
                self.store.revoke_token(&id, revocation).await?;
                self.news.tell(watch::Subject::UserId(claims.user.id));
            }
            None => return Err(Error::invalid("credential", "give a user_id, a token_id or a token").into()),
        }
        Ok(Response::new(RevokeResponse {}))
    }

    async fn upsert_user(&self, request: Request<UpsertUserRequest>) -> Result<Response<UpsertUserResponse>, Status> {
        let user = request.into_inner().user.ok_or_else(|| Error::invalid("user", "is required"))?;
        let user = person::checked(user)?;
        let created = self.store.upsert_user(&user, self.clock.now()).await?;
        if user.inactive {
            self.news.tell(watch::Subject::UserId(user.id.clone()));
        }
        Ok(Response::new(UpsertUserResponse { user: Some(user), created }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let user = match request.into_inner().key {
            Some(Key::UserId(id)) => self.store.user(&id).await?,
            Some(Key::Profile(key)) => {
                self.store.user_by_profile(&person::canonical_role(&key.role), &key.profile_id).await?
            }
            None => return Err(Error::invalid("key", "give a user_id or a profile").into()),
        };
        match user {
            Some(user) => Ok(Response::new(GetUserResponse { user: Some(user) })),
            None => Err(Error::new(Kind::NotFound, "USER_NOT_FOUND", "there is no such user").into()),
        }
    }

    async fn batch_get_users(
        &self,
        request: Request<BatchGetUsersRequest>,
    ) -> Result<Response<BatchGetUsersResponse>, Status> {
        let ids = request.into_inner().user_ids;
        if ids.len() > USERS_MAX {
            return Err(Error::invalid("user_ids", format!("at most {USERS_MAX}")).into());
        }
        Ok(Response::new(BatchGetUsersResponse { users: self.store.users(&ids).await? }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let ListUsersRequest { page_size, page_token } = request.into_inner();
        let size = list_size(page_size, &page_token)?;
        let users = self.store.users_after(&page_token, size).await?;
        let next_page_token = users.last().filter(|_| is_full(&users, size)).map(|user| user.id.clone());
        Ok(Response::new(ListUsersResponse { next_page_token: next_page_token.unwrap_or_default(), users }))
    }

    async fn list_devices(
        &self,
        request: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        let ListDevicesRequest { page_size, page_token, mut device_ids } = request.into_inner();
        let size = list_size(page_size, &page_token)?;
        if device_ids.len() > USERS_MAX {
            return Err(Error::invalid("device_ids", format!("at most {USERS_MAX}")).into());
        }
        let is_narrow = !device_ids.is_empty();
        // Nothing has such an id, and Postgres cannot even ask for it.
        device_ids.retain(|id| !id.contains('\0'));
        if is_narrow && device_ids.is_empty() {
            return Ok(Response::new(Default::default()));
        }
        let devices = self.store.devices_after(&page_token, &device_ids, size).await?;
        let next_page_token = devices.last().filter(|_| is_full(&devices, size)).map(|row| row.device_id.clone());
        Ok(Response::new(ListDevicesResponse {
            next_page_token: next_page_token.unwrap_or_default(),
            devices: devices.into_iter().map(device).collect(),
        }))
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<DeleteUserResponse>, Status> {
        let user_id = request.get_ref().user_id.clone();
        person::check_id("user_id", &user_id)?;
        let asked = Asked::of(&request, &user_id, self.clock.now());
        let deleted = self.store.delete_user(&user_id, self.revocation(), &asked).await?;
        asked.done("identity.DeleteUser", deleted.into());
        self.news.tell(watch::Subject::UserId(user_id));
        Ok(Response::new(DeleteUserResponse { deleted }))
    }

    async fn register_device(
        &self,
        request: Request<RegisterDeviceRequest>,
    ) -> Result<Response<RegisterDeviceResponse>, Status> {
        let RegisterDeviceRequest { device_id, keep_inactive, created_at, inactive } = request.into_inner();
        person::check_device_id(&device_id)?;
        let registered_at = created_at.map(|at| clock::join(at.seconds, at.nanos));
        let shall_be = (!inactive, keep_inactive);
        let (row, created) = self.store.register_device(&device_id, shall_be, registered_at, self.clock.now()).await?;
        if inactive && !created {
            self.news.tell(watch::Subject::DeviceId(device_id));
        }
        Ok(Response::new(RegisterDeviceResponse { device: Some(device(row)), created }))
    }

    async fn deactivate_device(
        &self,
        request: Request<DeactivateDeviceRequest>,
    ) -> Result<Response<DeactivateDeviceResponse>, Status> {
        match self.store.deactivate_device(&request.into_inner().device_id).await? {
            Some(row) => {
                self.news.tell(watch::Subject::DeviceId(row.device_id.clone()));
                Ok(Response::new(DeactivateDeviceResponse { device: Some(device(row)) }))
            }
            None => Err(Error::new(Kind::NotFound, "DEVICE_NOT_FOUND", "the device was never registered").into()),
        }
    }

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let CreateSessionRequest { user_id, ttl_seconds } = request.into_inner();
        if !(0..=SESSION_TTL_MAX_S).contains(&ttl_seconds) {
            return Err(Error::invalid("ttl_seconds", format!("0 to {SESSION_TTL_MAX_S}")).into());
        }
        if self.store.user(&user_id).await?.is_none() {
            return Err(Error::new(Kind::NotFound, "USER_NOT_FOUND", "there is no such user").into());
        }
        let session_key = secret::random_hex().map_err(|error| {
            tracing::error!(%error, "no random bytes");
            Error::new(Kind::Internal, "INTERNAL", "internal error")
        })?;
        let ttl = if ttl_seconds == 0 { SESSION_TTL_S } else { ttl_seconds };
        let now = self.clock.now();
        let expires_at = now.saturating_add(ttl * MICROS);
        self.store.create_session(&sha256_hex(&session_key), &SessionRow { user_id, expires_at }, now).await?;
        Ok(Response::new(CreateSessionResponse { session_key, expires_at: Some(timestamp(expires_at)) }))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let user_id = self.store.delete_session(&sha256_hex(&request.into_inner().session_key)).await?;
        let deleted = user_id.is_some();
        user_id.into_iter().for_each(|user_id| self.news.tell(watch::Subject::UserId(user_id)));
        Ok(Response::new(DeleteSessionResponse { deleted }))
    }
}

/// Somebody whose credential is good, if any credential of theirs is.
fn principal(user: User, expires_at: Micros, of: Of) -> Result<Principal, Error> {
    if user.inactive {
        return Err(refused("USER_INACTIVE", "the user is not active"));
    }
    let ends_elsewhere = matches!(of, Of::Django(_));
    let ticket = Ticket::of(&user.id, of).encode_to_vec();
    Ok(Principal {
        subject: Some(Subject::User(user)),
        expires_at: Some(timestamp(expires_at)),
        ticket,
        ends_elsewhere,
    })
}

/// How many a page has.
fn list_size(asked: i32, page_token: &str) -> Result<u32, Error> {
    if page_token.contains('\0') {
        return Err(Error::invalid("page_token", "is not one that we gave"));
    }
    page_size(asked, LIST_DEFAULT, LIST_MAX)
}

fn is_full<T>(page: &[T], size: u32) -> bool {
    page.len() == usize::try_from(size).unwrap_or(usize::MAX)
}

fn refused(reason: &'static str, message: &str) -> Error {
    Error::new(Kind::Unauthenticated, reason, message)
}

fn device(row: DeviceRow) -> Device {
    Device { device_id: row.device_id, active: row.active, created_at: Some(timestamp(row.created_at)) }
}

fn timestamp(at: Micros) -> Timestamp {
    let (seconds, nanos) = clock::split(at);
    Timestamp { seconds, nanos }
}
