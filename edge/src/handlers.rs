//! What each kind of socket does, between the one loop of [`session`](crate::session) and its service.

pub(crate) mod chat;
pub(crate) mod location;
pub(crate) mod notifications;
pub(crate) mod presence;

use std::time::Duration;

use tonic::{Code, Status};

/// Before a service is asked again that did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Asks a service until it answers.
pub(crate) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if is_transient(&status) => tokio::time::sleep(ASK_AGAIN).await,
            Err(status) => return Err(status),
        }
    }
}

fn is_transient(status: &Status) -> bool {
    // A connection that breaks shows as Unknown: tonic has no other code for it.
    matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    )
}
