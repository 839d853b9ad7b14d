//! Who people are, for frames that show names: fetched from identity, kept for a moment.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use switchboard_chassis::grpc::Peer;
use switchboard_proto::{
    chat::v1::converse_response::Event,
    identity::v1::{BatchGetUsersRequest, User, identity_service_client::IdentityServiceClient},
};
use tokio::time::timeout;
use tonic::Status;

use crate::dialect::Dialect;

/// How long a changed name may show as it was.
const KEPT: Duration = Duration::from_secs(30);
/// How long identity is not asked again for somebody of whom it did not tell.
const ASKED_AGAIN: Duration = Duration::from_secs(2);
/// How long a frame waits for a name.
const PATIENCE: Duration = Duration::from_millis(500);
const PEOPLE_MAX: u64 = 50_000;
/// The most that one call fetches.
const FETCHED_MAX: usize = 500;

/// Cheap to clone; all clones share what they know.
#[derive(Clone)]
pub(crate) struct People {
    identity: IdentityServiceClient<Peer>,
    known: Cache<String, Arc<User>>,
    /// Those of whom identity did not tell just now.
    nameless: Cache<String, Arc<User>>,
}

impl People {
    pub(crate) fn new(identity: IdentityServiceClient<Peer>) -> Self {
        let cache = |kept| Cache::builder().max_capacity(PEOPLE_MAX).time_to_live(kept).build();
        Self { identity, known: cache(KEPT), nameless: cache(ASKED_AGAIN) }
    }

    /// The person whom a dialect's encoding of an event describes.
    pub(crate) async fn of(&self, dialect: &dyn Dialect, event: &Event) -> Arc<User> {
        match dialect.person(event) {
            // Boxed: the cache's future is large, and each idle socket would hold room for it.
            Some(id) => Box::pin(self.one(id)).await,
            None => Arc::default(),
        }
    }

    /// One person, fetched once however many ask. Somebody unknown has an id and no name; so has for a moment somebody
    /// of whom identity does not tell in time: a name must not hold up a conversation.
    pub(crate) async fn one(&self, id: &str) -> Arc<User> {
        if let Some(nameless) = self.nameless.get(id).await {
            return nameless;
        }
        let fetched = self.known.try_get_with_by_ref(id, async {
            match timeout(PATIENCE, self.fetch(vec![id.to_owned()])).await {
                Ok(found) => Ok(found?.pop().unwrap_or_else(|| Arc::new(nameless(id)))),
                Err(_) => Err(Status::deadline_exceeded("identity is slow")),
            }
        });
        match fetched.await {
            Ok(person) => person,
            Err(status) => {
                tracing::warn!(code = ?status.code(), "a name is missing");
                let person = Arc::new(nameless(id));
                self.nameless.insert(id.to_owned(), person.clone()).await;
                person
            }
        }
    }

    async fn fetch(&self, user_ids: Vec<String>) -> Result<Vec<Arc<User>>, Status> {
        let request = BatchGetUsersRequest { user_ids };
        let found = self.identity.clone().batch_get_users(request).await?.into_inner();
        Ok(found.users.into_iter().map(Arc::new).collect())
    }

    /// Several people, in the order of their ids, with one call for those that are not known.
    pub(crate) async fn several(&self, ids: &[&str]) -> Result<Vec<Arc<User>>, Status> {
        let mut people = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            let known = self.known.get(*id).await;
            if known.is_none() {
                missing.push((*id).to_owned());
            }
            people.push(known);
        }
        missing.sort();
        missing.dedup();
        let mut found = Vec::new();
        for user_ids in missing.chunks(FETCHED_MAX) {
            for user in self.fetch(user_ids.to_vec()).await? {
                self.known.insert(user.id.clone(), user.clone()).await;
                found.push(user);
            }
        }
        let fetched = |id: &str| found.iter().find(|user| user.id == id).cloned();
        Ok(people
            .into_iter()
            .zip(ids)
            .map(|(known, id)| known.or_else(|| fetched(id)).unwrap_or_else(|| Arc::new(nameless(id))))
            .collect())
    }
}

fn nameless(id: &str) -> User {
    User { id: id.to_owned(), ..User::default() }
}
