//! The RPCs of presence.

use std::sync::Arc;

use switchboard_chassis::{Clock, Error, Lifecycle, audit::Asked, clock};
use switchboard_proto::{
    presence::v1::{
        EraseUserRequest, EraseUserResponse, GetPresenceRequest, GetPresenceResponse, ListOnlineRequest,
        ListOnlineResponse, Presence as UserPresence, TrackRequest, presence_service_server::PresenceService,
    },
    wire,
};
use switchboard_sessions::{Stream, check_user_id};
use tonic::{Request, Response, Status, Streaming};

use crate::{hub::Hub, last_seen::LastSeen, listeners::online_user, track::Track};

/// The most users that one call asks for.
const USERS_MAX: usize = 500;
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

/// The presence service.
pub struct Presence {
    pub(crate) hub: Arc<Hub>,
    pub(crate) last_seen: Arc<LastSeen>,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
}

#[tonic::async_trait]
impl PresenceService for Presence {
    type TrackStream = Stream<wire::Presence>;

    async fn track(&self, request: Request<Streaming<TrackRequest>>) -> Result<Response<Self::TrackStream>, Status> {
        let rooms = Track { hub: self.hub.clone() };
        Ok(Response::new(switchboard_sessions::open(rooms, request.into_inner(), self.lifecycle.clone())))
    }

    async fn get_presence(
        &self,
        request: Request<GetPresenceRequest>,
    ) -> Result<Response<GetPresenceResponse>, Status> {
        let user_ids = request.into_inner().user_ids;
        if user_ids.len() > USERS_MAX {
            return Err(Error::invalid("user_ids", format!("at most {USERS_MAX}")).into());
        }
        for user_id in &user_ids {
            check_user_id("user_ids", user_id)?;
        }
        let is_online: Vec<bool> = {
            let state = self.hub.state();
            user_ids.iter().map(|user_id| state.roster.name(user_id).is_some()).collect()
        };
        let users = || user_ids.iter().zip(is_online.iter().copied());
        let offline: Vec<&str> = users().filter(|(_, is_online)| !is_online).map(|(id, _)| id.as_str()).collect();
        let seen = self.last_seen.get(&offline).await?;
        let now = self.clock.now();
        let presences = users().map(|(user_id, is_online)| {
            let last_seen_at = if is_online { Some(now) } else { seen.get(user_id).copied() };
            UserPresence { user_id: user_id.clone(), is_online, last_seen_at: last_seen_at.map(clock::timestamp) }
        });
        Ok(Response::new(GetPresenceResponse { presences: presences.collect() }))
    }

    async fn list_online(&self, request: Request<ListOnlineRequest>) -> Result<Response<ListOnlineResponse>, Status> {
        let ListOnlineRequest { page_size, page_token } = request.into_inner();
        let size = match usize::try_from(page_size) {
            Ok(0) => PAGE_DEFAULT,
            Ok(size @ 1..=PAGE_MAX) => size,
            _ => return Err(Error::invalid("page_size", format!("0 to {PAGE_MAX}")).into()),
        };
        let (mut page, total) = {
            let state = self.hub.state();
            (state.roster.page(&page_token, size + 1), state.roster.count())
        };
        let is_more = page.len() > size;
        page.truncate(size);
        let next_page_token = page.last().filter(|_| is_more).map(|(id, _)| id.as_ref().to_owned());
        Ok(Response::new(ListOnlineResponse {
            users: page.iter().map(|(user_id, name)| online_user(user_id, name)).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            total_size: i64::try_from(total).unwrap_or(i64::MAX),
        }))
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Result<Response<EraseUserResponse>, Status> {
        let user_id = request.get_ref().user_id.clone();
        check_user_id("user_id", &user_id)?;
        let asked = Asked::of(&request, &user_id, self.clock.now());
        let erased = self.hub.forget(&user_id, &asked).await?;
        asked.done("presence.EraseUser", erased.into());
        Ok(Response::new(EraseUserResponse { erased }))
    }
}
