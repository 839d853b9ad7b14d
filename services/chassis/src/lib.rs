//! What every Switchboard process needs, and nothing else: configuration, telemetry, lifecycle, gRPC assembly,
//! databases, error kinds and the clock.
//!
//! This is the only crate that reads the environment, the clock and signals. It knows no service and no protocol.

pub mod admin;
pub mod audit;
pub mod batch;
mod callers;
pub mod clock;
pub mod config;
pub mod db;
pub mod directory;
pub mod error;
pub mod grpc;
pub mod health;
pub mod lifecycle;
pub mod metrics;
pub mod net;
pub mod paging;
mod preface;
pub mod reload;
pub mod secret;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
pub mod traces;
pub mod web;

pub use clock::{Clock, Micros};
pub use directory::Directory;
pub use error::{Error, Kind, Violation};
pub use lifecycle::Lifecycle;
pub use secret::Secret;
