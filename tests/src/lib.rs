//! The whole system from the outside: a sandbox on free ports, transcripts played over real sockets, real processes.

pub mod client;
pub mod process;
pub mod sandbox;
pub mod transcript;

pub use client::Client;
pub use sandbox::Sandbox;
pub use switchboard_chassis::testing::Backend;

use std::time::Duration;

/// How long anything may take before a test calls it lost. Generous, because machines are noisy; reached only by
/// failures.
pub const PATIENCE: Duration = Duration::from_secs(30);
