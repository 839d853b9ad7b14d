//! The RPCs of identity.

use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};
use switchboard_chassis::{Clock, Error, Kind, Micros, clock, secret};
use switchboard_proto::identity::v1::{
    AuthenticateRequest, AuthenticateResponse, BatchGetUsersRequest, BatchGetUsersResponse, CreateSessionRequest,
    CreateSessionResponse, DeactivateDeviceRequest, DeactivateDeviceResponse, DeleteSessionRequest,
    DeleteSessionResponse, DeleteUserRequest, DeleteUserResponse, Device, GetUserRequest, GetUserResponse, Principal,
    RegisterDeviceRequest, RegisterDeviceResponse, UpsertUserRequest, UpsertUserResponse,
    authenticate_request::Credential, get_user_request::Key, identity_service_server::IdentityService,
    principal::Subject,
};
use tonic::{Request, Response, Status};

use crate::{
    AuthConfig,
    jwt::{Claims, Verifier},
    person,
    store::{DeviceRow, SessionRow, Store},
};

/// The most users that one call fetches.
const USERS_MAX: usize = 500;
const SESSION_TTL_S: i64 = 14 * 24 * 3600;
const SESSION_TTL_MAX_S: i64 = 365 * 24 * 3600;
const MICROS: i64 = 1_000_000;

/// The identity service.
pub struct Identity {
    store: Store,
    verifier: Verifier,
    create_users: bool,
    clock: Clock,
}

impl Identity {
    pub(crate) fn new(store: Store, config: &AuthConfig, clock: Clock) -> Self {
        Self {
            store,
            verifier: Verifier::hs256(&config.jwt.secret, config.jwt.leeway_s),
            create_users: config.jwt.create_users,
            clock,
        }
    }

    async fn by_token(&self, token: &str) -> Result<Principal, Error> {
        let Claims { user: claimed, expires_at } = self.verifier.verify(token, self.clock.now())?;
        let user = match self.store.user(&claimed.id).await? {
            // What the issuer signed fills in what nobody has told us yet, and changes nothing that we were told.
            Some(mut known) if known.roles.is_empty() && !claimed.roles.is_empty() && self.create_users => {
                known.roles = claimed.roles;
                let known = person::checked(known).map_err(|_| claims_invalid())?;
                self.store.upsert_user(&known, self.clock.now()).await?;
                known
            }
            Some(known) => known,
            None if self.create_users => {
                let claimed = person::checked(claimed).map_err(|_| claims_invalid())?;
                self.store.create_user(claimed, self.clock.now()).await?
            }
            None => return Err(refused("USER_UNKNOWN", "the token's user is not known here")),
        };
        Ok(Principal { subject: Some(Subject::User(user)), expires_at: Some(timestamp(expires_at)) })
    }

    async fn by_session(&self, key: &str) -> Result<Principal, Error> {
        let bad = || refused("SESSION_INVALID", "the session does not exist or has ended");
        let session = self.store.session(&sha256(key)).await?.ok_or_else(bad)?;
        if session.expires_at <= self.clock.now() {
            return Err(bad());
        }
        let user = self.store.user(&session.user_id).await?.ok_or_else(bad)?;
        Ok(Principal { subject: Some(Subject::User(user)), expires_at: Some(timestamp(session.expires_at)) })
    }

    async fn by_device(&self, device_id: &str) -> Result<Principal, Error> {
        let known = match person::check_device_id(device_id) {
            Ok(()) => self.store.device(device_id).await?,
            Err(_) => None,
        };
        match known {
            Some(row) if row.active => Ok(Principal { subject: Some(Subject::Device(device(row))), expires_at: None }),
            _ => Err(refused("DEVICE_INVALID", "the device is not registered or not active")),
        }
    }
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let principal = match request.into_inner().credential {
            Some(Credential::Token(token)) => self.by_token(&token).await?,
            Some(Credential::SessionKey(key)) => self.by_session(&key).await?,
            Some(Credential::DeviceId(device_id)) => self.by_device(&device_id).await?,
            None => return Err(refused("CREDENTIAL_MISSING", "give a token, a session_key or a device_id").into()),
        };
        Ok(Response::new(AuthenticateResponse { principal: Some(principal) }))
    }

    async fn upsert_user(&self, request: Request<UpsertUserRequest>) -> Result<Response<UpsertUserResponse>, Status> {
        let user = request.into_inner().user.ok_or_else(|| Error::invalid("user", "is required"))?;
        let user = person::checked(user)?;
        let created = self.store.upsert_user(&user, self.clock.now()).await?;
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

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<DeleteUserResponse>, Status> {
        let deleted = self.store.delete_user(&request.into_inner().user_id).await?;
        Ok(Response::new(DeleteUserResponse { deleted }))
    }

    async fn register_device(
        &self,
        request: Request<RegisterDeviceRequest>,
    ) -> Result<Response<RegisterDeviceResponse>, Status> {
        let RegisterDeviceRequest { device_id, keep_inactive } = request.into_inner();
        person::check_device_id(&device_id)?;
        let (row, created) = self.store.register_device(&device_id, keep_inactive, self.clock.now()).await?;
        Ok(Response::new(RegisterDeviceResponse { device: Some(device(row)), created }))
    }

    async fn deactivate_device(
        &self,
        request: Request<DeactivateDeviceRequest>,
    ) -> Result<Response<DeactivateDeviceResponse>, Status> {
        match self.store.deactivate_device(&request.into_inner().device_id).await? {
            Some(row) => Ok(Response::new(DeactivateDeviceResponse { device: Some(device(row)) })),
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
        self.store.create_session(&sha256(&session_key), &SessionRow { user_id, expires_at }, now).await?;
        Ok(Response::new(CreateSessionResponse { session_key, expires_at: Some(timestamp(expires_at)) }))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let deleted = self.store.delete_session(&sha256(&request.into_inner().session_key)).await?;
        Ok(Response::new(DeleteSessionResponse { deleted }))
    }
}

fn refused(reason: &'static str, message: &str) -> Error {
    Error::new(Kind::Unauthenticated, reason, message)
}

fn claims_invalid() -> Error {
    refused("TOKEN_INVALID", "the token's claims do not describe a user")
}

fn device(row: DeviceRow) -> Device {
    Device { device_id: row.device_id, active: row.active, created_at: Some(timestamp(row.created_at)) }
}

fn timestamp(at: Micros) -> Timestamp {
    let (seconds, nanos) = clock::split(at);
    Timestamp { seconds, nanos }
}

/// What is stored of a session's key: it is random, so a plain hash is enough.
fn sha256(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
