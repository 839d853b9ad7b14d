//! A service's side of a stream of sessions: the way back to a caller ([`Link`]), one action that waits for its answer
//! ([`Asker`]), the sessions that hear of the same thing ([`Audience`]), and the loop that serves a stream
//! ([`open`]). What the sessions do is the service's own: see [`Rooms`].

mod audience;
mod check;
mod link;
mod metrics;
mod refusal;
mod serve;

pub use audience::Audience;
pub use check::check_user_id;
pub use link::{Asker, Frame, Link};
pub use refusal::Refusal;
pub use serve::{PENDING_MAX, Rooms, Stream, open};
