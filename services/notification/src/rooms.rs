//! What the sessions of a stream do: each looks at one user's inbox.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use switchboard_chassis::db::Result;
use switchboard_proto::notification::v1::{Accepted, Join, Read, subscribe_request::Action, subscribe_response::Event};
use switchboard_sessions::{PENDING_MAX, Rooms, check_user_id};

use crate::{
    hub::Hub,
    model::{self, Asker, Link, Marked, Refusal, Which, Wire},
    rules,
    store::Store,
};

/// The users' inboxes, and who looks at them.
#[derive(Clone)]
pub(crate) struct Inboxes {
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Arc<Hub>,
}

impl Inboxes {
    /// Marks notifications as read and tells everybody, if that changed anything; `None` when one of them is not this
    /// user's.
    pub(crate) async fn mark_read(
        &self,
        user_id: &str,
        which: &Which,
        asker: Option<&Asker>,
    ) -> Result<Option<Marked>> {
        let marked = self.store.mark_read(user_id, which).await?;
        match marked {
            Some(Marked { changed: 0, inbox }) => self.hub.found(user_id, inbox),
            Some(Marked { inbox, .. }) => self.hub.changed(user_id, inbox, asker),
            None => {}
        }
        Ok(marked)
    }

    async fn enter(&self, asker: &Asker, user_id: &str) -> Result<(), Refusal> {
        check_user_id("user_id", user_id)?;
        Ok(self.hub.join(asker, user_id).await?)
    }

    /// Reads; the answer rides on what everybody is told.
    async fn read(&self, asker: &Asker, user_id: &str, read: &Read) -> Result<(), Refusal> {
        let which = rules::which(read)?;
        let marked = self.mark_read(user_id, &which, Some(asker)).await?;
        if marked.ok_or_else(model::no_notification)?.changed == 0 {
            asker.tell(Event::Accepted(Accepted {}));
        }
        Ok(())
    }
}

impl Rooms for Inboxes {
    type Wire = Wire;
    /// The user's id.
    type Admitted = String;

    async fn join(&self, asker: Asker, join: Join) -> Option<String> {
        match self.enter(&asker, &join.user_id).await {
            Ok(()) => Some(join.user_id),
            Err(refusal) => {
                asker.refuse(refusal);
                None
            }
        }
    }

    fn act(&self, asker: Asker, user_id: &String, action: Action, pending: usize) -> Option<BoxFuture<'static, ()>> {
        match action {
            Action::Read(_) if pending >= PENDING_MAX => {
                asker.refuse(Refusal::overloaded());
                None
            }
            Action::Read(read) => {
                let (inboxes, user_id) = (self.clone(), user_id.clone());
                let reading = async move {
                    if let Err(refusal) = inboxes.read(&asker, &user_id, &read).await {
                        asker.refuse(refusal);
                    }
                };
                Some(reading.boxed())
            }
            Action::Join(_) | Action::Leave(_) => None,
        }
    }

    fn leave(&self, link: &Link, session: u64, user_id: &String, _: bool) {
        self.hub.leave(link, session, user_id);
    }
}
