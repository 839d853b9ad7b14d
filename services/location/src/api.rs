//! The RPCs of location.

use switchboard_chassis::{Lifecycle, audit::Asked};
use switchboard_proto::{
    location::v1::{
        EraseUserRequest, EraseUserResponse, GetLastPositionRequest, GetLastPositionResponse, ReportPositionRequest,
        ReportPositionResponse, ShareRequest, location_service_server::LocationService,
    },
    wire::Location,
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    model::{Refusal, RefusalReason},
    rooms::Rooms,
    rules,
};

/// The location service.
pub struct Locations {
    pub(crate) rooms: Rooms,
    pub(crate) lifecycle: Lifecycle,
}

#[tonic::async_trait]
impl LocationService for Locations {
    type ShareStream = switchboard_sessions::Stream<Location>;

    async fn share(&self, request: Request<Streaming<ShareRequest>>) -> Result<Response<Self::ShareStream>, Status> {
        let stream = switchboard_sessions::open(self.rooms.clone(), request.into_inner(), self.lifecycle.clone());
        Ok(Response::new(stream))
    }

    async fn report_position(
        &self,
        request: Request<ReportPositionRequest>,
    ) -> Result<Response<ReportPositionResponse>, Status> {
        let ReportPositionRequest { pair, position } = request.into_inner();
        let pair = rules::pair(pair)?;
        let reported = position.ok_or_else(|| Refusal::invalid("position", "is required"))?;
        let position = rules::position(reported, self.rooms.hub.now())?;
        self.rooms.hub.moved(&pair, position, None);
        Ok(Response::new(ReportPositionResponse { position: Some(position.into()) }))
    }

    async fn get_last_position(
        &self,
        request: Request<GetLastPositionRequest>,
    ) -> Result<Response<GetLastPositionResponse>, Status> {
        let pair = rules::pair(request.into_inner().pair)?;
        let horizon = self.rooms.hub.horizon();
        let stored = self.rooms.store.last(&pair, horizon).await?;
        let remembered = self.rooms.hub.last(&pair).filter(|last| last.at >= horizon);
        let newest = remembered.into_iter().chain(stored).max_by_key(|position| position.at);
        let position = newest.ok_or_else(|| {
            Refusal::new(RefusalReason::NoPosition, "no position of this share, or none that is recent enough")
        })?;
        Ok(Response::new(GetLastPositionResponse { position: Some(position.into()) }))
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Result<Response<EraseUserResponse>, Status> {
        let user_id = request.get_ref().user_id.clone();
        switchboard_sessions::check_user_id("user_id", &user_id)?;
        let _turn = self.rooms.store.turn().await;
        let asked = Asked::of(&request, &user_id, self.rooms.hub.now());
        let erased = self.rooms.store.erase(&user_id, &asked).await?;
        self.rooms.hub.forget(&user_id, asked.at);
        asked.done("location.EraseUser", erased);
        Ok(Response::new(EraseUserResponse { positions_erased: i64::try_from(erased).unwrap_or(i64::MAX) }))
    }
}
