//! A socket in a share: where a therapist is, for one customer.

use switchboard_chassis::{Micros, clock};
use switchboard_proto::{
    location::v1::{Join, Joined, Moved, RefusalReason, Refused, share_request::Action, share_response::Event},
    wire,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    dialect::{
        self, Decoded, Ends,
        therapy::{self, location},
    },
    link::{Carried, Told},
    session::{Asking, Care, End, Handler, Heard, Io, Out, Pending},
};

impl Carried for wire::Location {
    const CONFLATES: bool = true;

    /// Who reads slowly gets the newest position, and never a backlog.
    fn is_conflated(event: &Event) -> bool {
        matches!(event, Event::Moved(_))
    }
}

/// See the module.
pub(crate) struct LocationHandler {
    join: Join,
    /// Whether the viewer is the share's therapist.
    is_therapist: bool,
    /// Where the therapist was when the viewer came, until that is told.
    last: Option<Moved>,
    /// When the position was reported that was told last.
    told_at: Micros,
}

impl LocationHandler {
    /// For somebody who entered a share.
    pub(crate) fn new(join: Join, joined: &Joined) -> Self {
        Self { join, is_therapist: joined.role == "therapist", last: last(joined), told_at: Micros::MIN }
    }
}

impl Handler for LocationHandler {
    type Wire = wire::Location;
    type Own = std::convert::Infallible;

    fn ends(&self) -> Ends {
        therapy::ENDS
    }

    fn join_again(&self) -> Join {
        self.join.clone()
    }

    async fn begin<S: Io>(&mut self, _: &mut Asking<wire::Location>, out: &mut Out<'_, S>) -> Result<(), End> {
        match self.last.take() {
            Some(last) => self.catch_up(&last, out).await,
            None => Ok(()),
        }
    }

    fn decode(&mut self, text: &str) -> Decoded<Action> {
        location::decode(text, self.is_therapist)
    }

    fn binary(&self) -> Utf8Bytes {
        dialect::BINARY.into()
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        dialect::limited_error(retry_after_s)
    }

    fn overloaded(&self, _: &Action) -> Utf8Bytes {
        dialect::typed_error("temporarily unavailable, send it again")
    }

    fn care(_: &Action) -> Care {
        Care::Newest
    }

    async fn hear<S: Io>(
        &mut self,
        told: &Told<wire::Location>,
        answered: Option<&Pending<wire::Location>>,
        out: &mut Out<'_, S>,
    ) -> Result<Heard, End> {
        match (&told.event, answered) {
            (Event::Moved(moved), _) => {
                self.told_at = at(moved);
                out.feed(told.encode(0, || location::encode(moved))).await?;
            }
            // It came back: what it missed is what is last.
            (Event::Joined(joined), _) => {
                if let Some(last) = last(joined) {
                    self.catch_up(&last, out).await?;
                }
            }
            (Event::Refused(refused), Some(Pending { action: Action::Join(_), .. })) => return self.unseated(refused),
            (Event::Refused(refused), Some(_)) => out.feed(dialect::typed_error(&refused.message)).await?,
            (Event::Refused(_) | Event::GoAway(_), _) => {}
        }
        Ok(Heard::Fine)
    }

    async fn own(&mut self) -> Self::Own {
        std::future::pending().await
    }

    async fn owned<S: Io>(&mut self, own: Self::Own, _: &mut Out<'_, S>) -> Result<(), End> {
        match own {}
    }
}

impl LocationHandler {
    /// Tells a position of before, unless a newer one was told: what is stored may lag behind what was live.
    async fn catch_up<S: Io>(&mut self, last: &Moved, out: &mut Out<'_, S>) -> Result<(), End> {
        if at(last) <= self.told_at {
            return Ok(());
        }
        self.told_at = at(last);
        out.feed(location::encode(last)).await
    }

    fn unseated(&self, refused: &Refused) -> Result<Heard, End> {
        match refused.reason() {
            RefusalReason::NotAParticipant => Err(End::Goodbye(self.ends().forbidden)),
            RefusalReason::AlreadyJoined => Ok(Heard::Fine),
            _ => Ok(Heard::JoinLater),
        }
    }
}

fn last(joined: &Joined) -> Option<Moved> {
    Some(Moved { pair: joined.pair.clone(), position: Some(joined.last?) })
}

fn at(moved: &Moved) -> Micros {
    let at = moved.position.and_then(|position| position.at).unwrap_or_default();
    clock::join(at.seconds, at.nanos)
}
