//! What the sessions of a stream do.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use switchboard_proto::{
    location::v1::{Join, Position as WirePosition, share_request::Action},
    wire::Location,
};
use switchboard_sessions::{Asker, Link};

use crate::{
    hub::Hub,
    model::{Pair, Refusal, RefusalReason, Role},
    rules,
    store::Store,
};

/// What a stream needs of the service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms {
    pub(crate) hub: Arc<Hub>,
    pub(crate) store: Arc<Store>,
}

/// A session that is in.
pub(crate) struct Admitted {
    pair: Pair,
    role: Role,
}

impl Rooms {
    async fn enter(&self, asker: &Asker<Location>, join: Join) -> Result<Admitted, Refusal> {
        let pair = rules::pair(join.pair)?;
        switchboard_sessions::check_user_id("user_id", &join.user_id)?;
        let role = rules::enter(&pair, &join.user_id, &join.role)?;
        let mut wanted = self.hub.want(&pair);
        wanted.heard().await;
        let stored = self.store.last(&pair, self.hub.horizon()).await?;
        self.hub.join(asker, (&pair, wanted), role, stored);
        Ok(Admitted { pair, role })
    }

    fn report(&self, asker: &Asker<Location>, admitted: &Admitted, reported: WirePosition) -> Result<(), Refusal> {
        if admitted.role != Role::Therapist {
            let message = "only the therapist of the share reports positions";
            return Err(Refusal::new(RefusalReason::NotTheTherapist, message));
        }
        let position = rules::position(reported, self.hub.now())?;
        self.hub.moved(&admitted.pair, position, Some(asker));
        Ok(())
    }
}

impl switchboard_sessions::Rooms for Rooms {
    type Wire = Location;
    type Admitted = Admitted;

    async fn join(&self, asker: Asker<Location>, join: Join) -> Option<Admitted> {
        self.enter(&asker, join).await.map_err(|refusal| asker.refuse(refusal)).ok()
    }

    fn act(
        &self,
        asker: Asker<Location>,
        admitted: &Admitted,
        action: Action,
        _pending: usize,
    ) -> Option<BoxFuture<'static, ()>> {
        if let Action::Report(reported) = action
            && let Err(refusal) = self.report(&asker, admitted, reported)
        {
            asker.refuse(refusal);
        }
        None
    }

    fn leave(&self, link: &Link<Location>, session: u64, admitted: &Admitted, _: bool) {
        self.hub.leave(link, session, &admitted.pair);
    }
}
