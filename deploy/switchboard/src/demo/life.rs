//! Something to see in the demonstration: a therapist on the way, news for somebody, a visitor who comes and goes. All
//! by gRPC, as any internal service would do it.

use std::{f64::consts::TAU, time::Duration};

use switchboard_chassis::{Lifecycle, grpc::Peer};
use switchboard_proto::{
    location::v1::{Pair, Position, ReportPositionRequest, location_service_client::LocationServiceClient},
    notification::v1::{NotifyRequest, notification_service_client::NotificationServiceClient},
    presence::v1::{Join, TrackRequest, presence_service_client::PresenceServiceClient, track_request::Action},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

const STEP: Duration = Duration::from_secs(1);
/// Steps of a walk around the park.
const WALK_STEPS: u32 = 60;
/// The middle of the park, and how far the way around it is from there, in degrees.
const PARK: (f64, f64) = (52.5145, 13.3501);
const WAY: f64 = 0.004;
const NEWS_STEPS: u32 = 20;
const VISIT_STEPS: u32 = 8;

/// Lives until the process ends.
pub fn live(services: Peer, lifecycle: &Lifecycle) {
    let ending = lifecycle.clone();
    lifecycle.spawn(async move {
        let mut life = Life { services, visit: None };
        let mut step = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(STEP) => {}
                () = ending.drained() => return,
            }
            if let Err(status) = life.step(step).await {
                tracing::warn!(code = ?status.code(), message = status.message(), "the demonstration stumbled");
            }
            step += 1;
        }
    });
}

struct Life {
    services: Peer,
    /// The stream of a visitor who is here.
    visit: Option<mpsc::UnboundedSender<TrackRequest>>,
}

impl Life {
    async fn step(&mut self, step: u32) -> Result<(), Status> {
        let turn = f64::from(step % WALK_STEPS) / f64::from(WALK_STEPS) * TAU;
        let position = Position {
            latitude: PARK.0 + WAY * turn.sin(),
            longitude: PARK.1 + WAY * turn.cos(),
            ..Position::default()
        };
        let pair = Some(Pair { customer_id: "123".to_owned(), therapist_id: "456".to_owned() });
        LocationServiceClient::new(self.services.clone())
            .report_position(ReportPositionRequest { pair, position: Some(position) })
            .await?;
        if step % NEWS_STEPS == 2 {
            let news = NotifyRequest {
                user_id: "801".to_owned(),
                title: "Daily Reading Ready".to_owned(),
                message: "Your daily reading is available".to_owned(),
                notification_type: "daily_reading".to_owned(),
                ..NotifyRequest::default()
            };
            NotificationServiceClient::new(self.services.clone()).notify(news).await?;
        }
        if step % VISIT_STEPS == 4 {
            self.visit = match self.visit.take() {
                Some(_) => None,
                None => Some(self.visit().await?),
            };
        }
        Ok(())
    }

    /// Somebody comes, and stays as long as the stream does.
    async fn visit(&self) -> Result<mpsc::UnboundedSender<TrackRequest>, Status> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let join = Join { user_id: "810".to_owned(), user_name: "Vera Visitor".to_owned() };
        let join = TrackRequest { session: 1, action: Some(Action::Join(join)), request: 1, ..TrackRequest::default() };
        let _ = requests.send(join);
        let stream =
            PresenceServiceClient::new(self.services.clone()).track(UnboundedReceiverStream::new(outgoing)).await?;
        // A stream that is not read would be cut.
        tokio::spawn(async move {
            let mut frames = stream.into_inner();
            while let Ok(Some(_)) = frames.message().await {}
        });
        Ok(requests)
    }
}
