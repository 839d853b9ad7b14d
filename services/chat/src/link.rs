//! The way back to one caller's stream.

use std::sync::atomic::{AtomicU64, Ordering};

use switchboard_proto::chat::v1::{Answer, ConverseResponse, converse_response::Event};
use tokio::sync::mpsc;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::Status;

/// Frames that wait for a caller that does not read. One that lets so many wait has stopped reading: its stream ends.
pub(crate) const LINK_FRAMES_MAX: usize = 16_384;

pub(crate) type Frame = Result<ConverseResponse, Status>;

/// Cheap to clone; all clones are the same link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    id: u64,
    frames: mpsc::Sender<Frame>,
    overflown: CancellationToken,
    asked: TaskTracker,
}

/// One action that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) link: Link,
    pub(crate) session: u64,
    /// 0 wants no answer.
    request: u64,
    _asked: TaskTrackerToken,
}

impl Link {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Frame>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (frames, receiver) = mpsc::channel(LINK_FRAMES_MAX);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        (Self { id, frames, overflown: CancellationToken::new(), asked: TaskTracker::new() }, receiver)
    }

    /// Never waits.
    pub(crate) fn push(&self, frame: ConverseResponse) {
        if self.frames.try_send(Ok(frame)).is_err() {
            self.overflown.cancel();
        }
    }

    /// An action of one of its sessions.
    pub(crate) fn asker(&self, session: u64, request: u64) -> Asker {
        Asker { link: self.clone(), session, request, _asked: self.asked.token() }
    }

    /// Completes when every action was answered; no more may come.
    pub(crate) async fn all_answered(&self) {
        self.asked.close();
        self.asked.wait().await;
    }

    /// Completes when the caller stopped reading, or went away.
    pub(crate) async fn overflown(&self) {
        self.overflown.cancelled().await;
    }
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Asker {
    pub(crate) fn answer(&self) -> Option<Answer> {
        (self.request != 0).then_some(Answer { session: self.session, request: self.request })
    }

    /// Tells this session alone.
    pub(crate) fn tell(&self, event: impl Into<Event>) {
        let event = Some(event.into());
        self.link.push(ConverseResponse { sessions: vec![self.session], event, answer: self.answer() });
    }
}
