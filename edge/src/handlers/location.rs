//! A socket in a share: where a therapist is, for one customer.

use switchboard_proto::{
    location::v1::{Join, Joined, Moved, RefusalReason, Refused, share_request::Action, share_response::Event},
    wire,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    dialect::{
        Decoded, Ends,
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
    /// Where the therapist was when the viewer came.
    last: Option<Utf8Bytes>,
}

impl LocationHandler {
    /// For somebody who entered a share.
    pub(crate) fn new(join: Join, joined: &Joined) -> Self {
        Self { join, is_therapist: joined.role == "therapist", last: last(joined) }
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
            Some(last) => out.feed(last).await,
            None => Ok(()),
        }
    }

    fn decode(&mut self, text: &str) -> Decoded<Action> {
        location::decode(text, self.is_therapist)
    }

    fn binary(&self) -> Utf8Bytes {
        therapy::BINARY.into()
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        therapy::rate_limited(retry_after_s)
    }

    fn overloaded(&self, _: &Action) -> Utf8Bytes {
        location::refused("temporarily unavailable, send it again")
    }

    fn care(_: &Action) -> Care {
        Care::Newest
    }

    async fn hear<S: Io>(
        &mut self,
        told: &Told<wire::Location>,
        answered: Option<Pending<wire::Location>>,
        out: &mut Out<'_, S>,
    ) -> Result<Heard, End> {
        match (&told.event, answered) {
            (Event::Moved(moved), _) => {
                out.feed(told.encode(0, || location::encode(moved))).await?;
            }
            // It came back: what it missed is what is last.
            (Event::Joined(joined), _) => {
                if let Some(last) = last(joined) {
                    out.feed(last).await?;
                }
            }
            (Event::Refused(refused), Some(Pending { action: Action::Join(_), .. })) => return self.unseated(refused),
            (Event::Refused(refused), Some(_)) => out.feed(location::refused(&refused.message)).await?,
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
    fn unseated(&self, refused: &Refused) -> Result<Heard, End> {
        match refused.reason() {
            RefusalReason::NotAParticipant => Err(End::Goodbye(self.ends().forbidden)),
            RefusalReason::AlreadyJoined => Ok(Heard::Fine),
            _ => Ok(Heard::JoinLater),
        }
    }
}

fn last(joined: &Joined) -> Option<Utf8Bytes> {
    let moved = Moved { pair: joined.pair.clone(), position: Some(joined.last?) };
    Some(location::encode(&moved))
}
