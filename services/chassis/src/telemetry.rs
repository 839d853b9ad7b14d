//! Logs: for people in a terminal, as JSON elsewhere.

use std::io::{IsTerminal as _, stderr};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt};

/// `log.format`: how lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people in a terminal, as JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Sends this process's logs to standard error, once; later calls do nothing.
///
/// `filter` is a level (`info`) or a list of directives (`info,switchboard_edge=debug`).
///
/// # Errors
/// When the filter cannot be read.
pub fn init(filter: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let logs = fmt().with_env_filter(filter).with_writer(stderr);
    let is_terminal = stderr().is_terminal();
    let _ = match format {
        Format::Human => logs.with_ansi(is_terminal).try_init(),
        Format::Auto if is_terminal => logs.try_init(),
        Format::Auto | Format::Json => logs.json().flatten_event(true).try_init(),
    };
    Ok(())
}
