//! The way back to one caller's stream.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use switchboard_chassis::traces::{Context, Span};
use switchboard_proto::wire::{Answer, Reason, Wire};
use tokio::sync::mpsc;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::Status;

use crate::{Refusal, metrics::StreamCounts};

/// Frames that wait for a caller that does not read. One that lets so many wait has stopped reading: its stream ends.
pub(crate) const LINK_FRAMES_MAX: usize = 16_384;

/// What a stream's response side yields.
pub type Frame<W> = Result<<W as Wire>::Response, Status>;

/// Cheap to clone; all clones are the same link.
#[derive(Debug)]
pub struct Link<W: Wire> {
    id: u64,
    frames: mpsc::Sender<Frame<W>>,
    overflown: CancellationToken,
    asked: TaskTracker,
    counts: Arc<StreamCounts>,
}

/// One action that waits for its answer.
#[derive(Debug)]
pub struct Asker<W: Wire> {
    /// Where the answer goes.
    pub link: Link<W>,
    /// Who asks.
    pub session: u64,
    /// 0 wants no answer.
    request: u64,
    asked: TaskTrackerToken,
    traced: Traced,
}

/// What an action causes here, until it was answered, if that is traced.
pub(crate) type Traced = Option<Arc<Span>>;

impl<W: Wire> Link<W> {
    pub(crate) fn new(counts: Arc<StreamCounts>) -> (Self, mpsc::Receiver<Frame<W>>) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (frames, receiver) = mpsc::channel(LINK_FRAMES_MAX);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (overflown, asked) = (CancellationToken::new(), TaskTracker::new());
        (Self { id, frames, overflown, asked, counts }, receiver)
    }

    /// Tells some sessions of this link. Never waits.
    pub fn tell(&self, sessions: Vec<u64>, event: W::Event, answer: Option<Answer>) {
        self.counts.sent.inc();
        if let Some(reason) = W::refusal(&event) {
            self.counts.refused(&reason);
        }
        if self.frames.try_send(Ok(W::response(sessions, event, answer))).is_err() {
            self.overflown.cancel();
        }
    }

    /// How many frames wait, while the stream is there.
    pub(crate) fn depth(&self) -> impl Fn() -> Option<usize> + Send + Sync + 'static {
        let frames = self.frames.downgrade();
        move || frames.upgrade().map(|frames| frames.max_capacity() - frames.capacity())
    }

    /// An action of one of its sessions.
    pub(crate) fn asker(&self, session: u64, request: u64, traced: Traced) -> Asker<W> {
        Asker { link: self.clone(), session, request, asked: self.asked.token(), traced }
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

impl<W: Wire> Clone for Link<W> {
    fn clone(&self) -> Self {
        let Self { id, frames, overflown, asked, counts } = self;
        let (frames, overflown) = (frames.clone(), overflown.clone());
        Self { id: *id, frames, overflown, asked: asked.clone(), counts: counts.clone() }
    }
}

impl<W: Wire> PartialEq for Link<W> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<W: Wire> Clone for Asker<W> {
    fn clone(&self) -> Self {
        let Self { link, session, request, asked, traced } = self;
        let (asked, traced) = (asked.clone(), traced.clone());
        Self { link: link.clone(), session: *session, request: *request, asked, traced }
    }
}

impl<W: Wire> Asker<W> {
    /// What marks a frame as the answer, if one is wanted.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        (self.request != 0).then_some(Answer { session: self.session, request: self.request })
    }

    /// Where in a trace the action is, if it is in one.
    pub(crate) fn context(&self) -> Option<Context> {
        self.traced.as_ref()?.context()
    }

    /// Refuses: the answer.
    pub fn refuse<R: Reason>(&self, Refusal { reason, message }: Refusal<R>) {
        self.tell(W::refused(reason.into(), message));
    }

    /// Tells this session alone: the answer.
    pub fn tell(&self, event: W::Event) {
        self.link.tell(vec![self.session], event, self.answer());
    }
}
