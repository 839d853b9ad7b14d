//! `admin.v1.AdminService`: what every process does for whoever operates it.

use std::time::Duration;

use switchboard_chassis::{
    Clock, Error,
    clock::timestamp,
    grpc::Caller,
    telemetry::{self, LogFilter},
};
use switchboard_proto::admin::v1::{
    GetLogFilterRequest, GetLogFilterResponse, LogFilter as WireLogFilter, SetLogFilterRequest, SetLogFilterResponse,
    admin_service_server::{AdminService, AdminServiceServer},
};
use tonic::{Request, Response, Status};

/// See the module.
pub(crate) struct Admin {
    clock: Clock,
}

impl Admin {
    pub(crate) fn service(clock: Clock) -> AdminServiceServer<Self> {
        AdminServiceServer::new(Self { clock })
    }
}

fn wire(LogFilter { filter, configured, until }: LogFilter) -> Option<WireLogFilter> {
    Some(WireLogFilter { filter, configured, until: until.map(timestamp) })
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_log_filter(&self, _: Request<GetLogFilterRequest>) -> Result<Response<GetLogFilterResponse>, Status> {
        Ok(Response::new(GetLogFilterResponse { log_filter: wire(telemetry::logs()?.now()) }))
    }

    async fn set_log_filter(
        &self,
        request: Request<SetLogFilterRequest>,
    ) -> Result<Response<SetLogFilterResponse>, Status> {
        let caller = request.extensions().get::<Caller>().map_or("unknown", Caller::name).to_owned();
        let SetLogFilterRequest { filter, duration } = request.into_inner();
        let duration = duration.map(Duration::try_from).transpose();
        let duration = duration.map_err(|_| Error::invalid("duration", "is at least a second and at most a week"))?;
        let set = telemetry::logs()?.set(&filter, duration, &self.clock, &caller)?;
        Ok(Response::new(SetLogFilterResponse { log_filter: wire(set) }))
    }
}
