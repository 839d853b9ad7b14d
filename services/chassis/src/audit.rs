//! Who asked for what cannot be undone.

use sha2::{Digest as _, Sha256};

use crate::{Micros, grpc::Caller};

/// What stands for a user who is not to be named any more: the SHA-256 of the id, in hex.
#[must_use]
pub fn sha256(user_id: &str) -> String {
    Sha256::digest(user_id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

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
        Self { caller: caller.to_owned(), at, subject_sha256: sha256(user_id) }
    }

    /// Says in the log that it was done, and how many rows went.
    pub fn done(&self, action: &'static str, erased: u64) {
        let Self { caller, subject_sha256, .. } = self;
        tracing::info!(target: "audit", caller, action, subject_sha256, erased, "a user was erased");
    }
}
