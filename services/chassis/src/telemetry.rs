//! Logs: for people in a terminal, as JSON elsewhere.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{EnvFilter, fmt};

/// Sends this process's logs to standard error, once; later calls do nothing.
///
/// `filter` is a level (`info`) or a list of directives (`info,switchboard_edge=debug`).
///
/// # Errors
/// When the filter cannot be read.
pub fn init(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let logs = fmt().with_env_filter(filter).with_writer(stderr);
    let _ = if stderr().is_terminal() { logs.try_init() } else { logs.json().flatten_event(true).try_init() };
    Ok(())
}
