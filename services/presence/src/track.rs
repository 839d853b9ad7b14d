//! What the sessions of a stream do: they come, and they go.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use switchboard_chassis::Error;
use switchboard_proto::{
    presence::v1::{Join, Joined, RefusalReason, Refused, track_request::Action, track_response::Event},
    wire::{Misuse, Presence as Wire, Wire as _},
};
use switchboard_sessions::{Asker, Link, Rooms, check_user_id};

use crate::{hub::Hub, roster::UserId};

const USER_NAME_CHARS_MAX: usize = 255;

#[derive(Clone)]
pub(crate) struct Track {
    pub(crate) hub: Arc<Hub>,
}

impl Rooms for Track {
    type Wire = Wire;
    type Admitted = UserId;

    async fn join(&self, asker: Asker<Wire>, join: Join) -> Option<UserId> {
        if let Err(error) = check(&join) {
            let reason = RefusalReason::InvalidArgument.into();
            asker.tell(Event::Refused(Refused { reason, message: error.message }));
            return None;
        }
        let name = if join.user_name.is_empty() { &join.user_id } else { &join.user_name };
        let user_id = self.hub.enter(&asker.link, &join.user_id, name).await;
        asker.tell(Event::Joined(Joined {}));
        Some(user_id)
    }

    /// A session that is in can only leave; so nothing comes here.
    fn act(&self, asker: Asker<Wire>, _: &UserId, _: Action, _: usize) -> Option<BoxFuture<'static, ()>> {
        asker.tell(Wire::misused(Misuse::NoAction));
        None
    }

    fn leave(&self, link: &Link<Wire>, _: u64, user_id: &UserId, _: bool) {
        self.hub.leave(link, user_id);
    }
}

fn check(join: &Join) -> Result<(), Error> {
    check_user_id("user_id", &join.user_id)?;
    if join.user_name.chars().nth(USER_NAME_CHARS_MAX).is_some() {
        return Err(Error::invalid("user_name", format!("at most {USER_NAME_CHARS_MAX} characters")));
    }
    Ok(())
}
