//! Who asked for what cannot be undone.

use crate::{Micros, grpc::Caller, secret::sha256_hex};

/// Somebody asked that something goes. A service stores it with what it did, in the same transaction, and logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who, by the name in the file of callers.
    pub caller: String,
    /// When, by the service's clock.
    pub at: Micros,
    /// Of whom: the SHA-256 of the user's id in hex, as the id is a person's, or a device's credential.
    pub subject_sha256: String,
}

impl Asked {
    /// What a call asks for a user.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>, user_id: &str, at: Micros) -> Self {
        let caller = request.extensions().get::<Caller>().map_or("unknown", Caller::name);
        Self { caller: caller.to_owned(), at, subject_sha256: sha256_hex(user_id) }
    }

    /// Says in the log that it was done, and how many rows went.
    pub fn done(&self, action: &'static str, erased: u64) {
        let Self { caller, subject_sha256, .. } = self;
        tracing::info!(target: "audit", caller, action, subject_sha256, erased, "a user was erased");
    }
}

/// Stores in the table `audit` of a service who asked ([`Asked`](crate::audit::Asked)), for which action, and how many rows
/// went; to be given the transaction in which they do. Like [`on_pool!`](crate::on_pool), one text for both databases.
#[macro_export]
macro_rules! record_erasure {
    ($tx:expr, $asked:expr, $action:expr, $erased:expr) => {
        sqlx::query("INSERT INTO audit (at, caller, action, subject_sha256, erased) VALUES ($1, $2, $3, $4, $5)")
            .bind($asked.at)
            .bind(&$asked.caller)
            .bind($action)
            .bind(&$asked.subject_sha256)
            .bind(i64::try_from($erased).unwrap_or(i64::MAX))
            .execute(&mut *$tx)
            .await?
    };
}
