//! Whether credentials that were good still are.

use std::collections::{HashMap, HashSet};

use switchboard_chassis::{Micros, db::Result};

use crate::{
    store::Store,
    ticket::{Of, Ticket, Token},
};

/// What the database says about what some tickets stand for.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    active_users: HashSet<String>,
    active_devices: HashSet<String>,
    sessions: HashSet<String>,
    revoked_tokens: HashSet<String>,
    /// Tokens of these users that were issued up to then are revoked.
    revoked_users: HashMap<String, Micros>,
}

impl Standing {
    /// Reads it: a statement for each kind of thing.
    pub(crate) async fn read(store: &Store, tickets: &[Ticket], now: Micros) -> Result<Self> {
        let of = |pick: fn(&Of) -> Option<&str>| -> Vec<&str> {
            tickets.iter().filter_map(|ticket| pick(ticket.of.as_ref()?)).collect()
        };
        let devices = of(|of| match of {
            Of::Device(id) => Some(id),
            _ => None,
        });
        let sessions = of(|of| match of {
            Of::Session(hash) => Some(hash),
            _ => None,
        });
        let tokens = of(|of| match of {
            Of::Token(token) => (!token.id.is_empty()).then_some(token.id.as_str()),
            _ => None,
        });
        let users: Vec<&str> =
            tickets.iter().map(|ticket| ticket.user_id.as_str()).filter(|user_id| !user_id.is_empty()).collect();
        Ok(Self {
            active_users: store.active_users(&users).await?,
            active_devices: store.active_devices(&devices).await?,
            sessions: store.sessions_that_last(&sessions, now).await?,
            revoked_tokens: store.revoked_tokens(&tokens).await?,
            revoked_users: store.revoked_users(&users).await?,
        })
    }

    /// Whether a credential is good, as far as this database knows.
    pub(crate) fn is_good(&self, ticket: &Ticket) -> bool {
        let is_active = self.active_users.contains(&ticket.user_id);
        match &ticket.of {
            Some(Of::Device(id)) => self.active_devices.contains(id),
            Some(Of::Token(_)) => is_active && !self.is_revoked(ticket),
            Some(Of::Session(hash)) => is_active && self.sessions.contains(hash),
            Some(Of::Django(_)) => is_active,
            // A later version's.
            None => true,
        }
    }

    fn is_revoked(&self, ticket: &Ticket) -> bool {
        let Some(Of::Token(Token { id, issued_at })) = &ticket.of else { return false };
        let until = self.revoked_users.get(&ticket.user_id);
        self.revoked_tokens.contains(id) || until.is_some_and(|until| issued_at <= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_credential_needs() {
        let set = |id: &str| HashSet::from([id.to_owned()]);
        let standing = Standing {
            active_users: HashSet::from(["ann".to_owned(), "ben".to_owned()]),
            active_devices: set("phone"),
            sessions: set("hash"),
            revoked_tokens: set("stolen"),
            revoked_users: HashMap::from([("ben".to_owned(), 1_000)]),
        };
        let token = |id: &str, issued_at| Of::Token(Token { id: id.to_owned(), issued_at });
        for (user, of, is_good) in [
            ("ann", token("one", 5), true),
            ("ann", token("", 0), true),
            ("ann", token("stolen", 5), false),
            ("ben", token("one", 1_000), false),
            ("ben", token("one", 1_001), true),
            ("gone", token("one", 5), false),
            ("ann", Of::Session("hash".to_owned()), true),
            ("gone", Of::Session("hash".to_owned()), false),
            ("ann", Of::Session("other".to_owned()), false),
            ("", Of::Device("phone".to_owned()), true),
            ("", Of::Device("ann".to_owned()), false),
            ("ann", Of::Django("key".to_owned()), true),
            ("gone", Of::Django("key".to_owned()), false),
        ] {
            let ticket = Ticket::of(user, of);
            assert_eq!(standing.is_good(&ticket), is_good, "{ticket:?}");
        }
    }
}
