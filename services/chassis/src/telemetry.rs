//! Logs: for people in a terminal, as JSON elsewhere.

use std::{
    io::{IsTerminal as _, stderr},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

use crate::{Clock, Error, Kind, Micros, clock::micros};

const FILTER_BYTES_MAX: usize = 1_024;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The place of `info` among the levels.
const INFO: usize = 3;
/// Libraries that log what they carry, below `info`: words, tokens, rows. Nobody turns that on while others talk.
const CARRIERS: [&str; 19] = [
    "async_nats",
    "h2",
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "mio",
    "rustls",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "sqlx_sqlite",
    "tokio",
    "tokio_rustls",
    "tokio_tungstenite",
    "tonic",
    "tower",
    "tower_http",
    "tungstenite",
    "warp",
];
/// What was done that cannot be undone, and by whom, is logged whatever is asked for.
const ALWAYS: &str = "audit=info";
/// How long a change may last.
const FOR_MIN: Duration = Duration::from_secs(1);
const FOR_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

static LOGS: OnceLock<Logs> = OnceLock::new();

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
    let (layer, handle) = reload::Layer::new(EnvFilter::try_new(filter).map_err(|error| error.to_string())?);
    let (registry, logs) = (tracing_subscriber::registry().with(layer), fmt::layer().with_writer(stderr));
    let is_terminal = stderr().is_terminal();
    let begun = match format {
        Format::Human => registry.with(logs.with_ansi(is_terminal)).try_init(),
        Format::Auto if is_terminal => registry.with(logs).try_init(),
        Format::Auto | Format::Json => registry.with(logs.json().flatten_event(true)).try_init(),
    };
    if begun.is_ok() {
        let configured = filter.to_owned();
        let state = LogFilter { filter: configured.clone(), configured, until: None };
        // Nobody else has begun.
        let _ = LOGS.set(Logs { handle, state: Mutex::new((state, 0)) });
    }
    Ok(())
}

/// The logs of this process, if it has any of its own: see [`init`].
///
/// # Errors
/// When it has none.
pub fn logs() -> Result<&'static Logs, Error> {
    LOGS.get().ok_or_else(|| Error::new(Kind::Precondition, "NO_LOGS", "this process keeps no logs"))
}

/// What a process logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// The directives in force.
    pub filter: String,
    /// Those that it began with.
    pub configured: String,
    /// When it goes back to them.
    pub until: Option<Micros>,
}

/// Logs whose filter can be changed.
#[derive(Debug)]
pub struct Logs {
    handle: reload::Handle<EnvFilter, Registry>,
    /// And how often it was changed.
    state: Mutex<(LogFilter, u64)>,
}

impl Logs {
    /// What is logged now.
    pub fn now(&self) -> LogFilter {
        self.state().0.clone()
    }

    /// Logs something else, for a time or until it is changed again; an empty filter goes back to what was configured.
    /// `caller` is who wants it, for the log.
    ///
    /// # Errors
    /// When the filter is not one that may be set, or the time is out of bounds.
    pub fn set(
        &'static self,
        filter: &str,
        lasting: Option<Duration>,
        clock: &Clock,
        caller: &str,
    ) -> Result<LogFilter, Error> {
        if lasting.is_some_and(|lasting| !(FOR_MIN..=FOR_MAX).contains(&lasting)) {
            return Err(Error::invalid("duration", "is at least a second and at most a week"));
        }
        if filter.is_empty() {
            if lasting.is_some() {
                return Err(Error::invalid("duration", "goes with a filter: what was configured has no end"));
            }
            self.go_back(None, caller)?;
            return Ok(self.now());
        }
        let directives = directives(filter).map_err(|wrong| Error::invalid("filter", wrong))?;
        let parsed = EnvFilter::try_new(directives).map_err(|error| Error::invalid("filter", error.to_string()))?;
        let version = {
            let (state, version) = &mut *self.state();
            self.reload(parsed)?;
            state.filter = filter.to_owned();
            state.until = lasting.map(|lasting| clock.now().saturating_add(micros(lasting)));
            *version += 1;
            *version
        };
        let for_s = lasting.map(|lasting| lasting.as_secs());
        tracing::info!(target: "audit", caller, action = "SetLogFilter", filter, for_s, "an operator changed the log");
        if let Some(lasting) = lasting {
            let caller = caller.to_owned();
            tokio::spawn(async move {
                tokio::time::sleep(lasting).await;
                // It was read before: that it cannot be read now is no reason to end.
                let _ = self.go_back(Some(version), &caller);
            });
        }
        Ok(self.now())
    }

    /// Back to what was configured, unless something else was asked for since.
    fn go_back(&self, version: Option<u64>, caller: &str) -> Result<(), Error> {
        let (state, now) = &mut *self.state();
        if version.is_some_and(|version| version != *now) {
            return Ok(());
        }
        let configured = EnvFilter::try_new(&state.configured).map_err(|_| internal())?;
        let is_by_time = version.is_some();
        tracing::info!(target: "audit", caller, action = "SetLogFilter", is_by_time, "the log is as it was configured");
        self.reload(configured)?;
        state.filter.clone_from(&state.configured);
        state.until = None;
        *now += 1;
        Ok(())
    }

    fn reload(&self, filter: EnvFilter) -> Result<(), Error> {
        self.handle.reload(filter).map_err(|_| internal())
    }

    fn state(&self) -> MutexGuard<'_, (LogFilter, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn internal() -> Error {
    Error::new(Kind::Internal, "INTERNAL", "internal error")
}

/// The directives that a filter comes to which is set while the process runs; or what is wrong with it. It is stricter
/// than a configured one, where a misspelt level is the name of a target.
fn directives(filter: &str) -> Result<String, String> {
    if filter.len() > FILTER_BYTES_MAX {
        return Err(format!("at most {FILTER_BYTES_MAX} bytes"));
    }
    let level = |text: &str| {
        let found = LEVELS.iter().position(|level| text.eq_ignore_ascii_case(level));
        found.ok_or_else(|| format!("{text:?} is not a level: off, error, warn, info, debug, trace; or target=level"))
    };
    let mut everything = None;
    for part in filter.split(',').map(str::trim) {
        let Some((target, named)) = part.split_once('=') else {
            if everything.replace(level(part)?).is_some() {
                return Err("one level is for everything: which?".to_owned());
            }
            continue;
        };
        let is_target = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte);
        if target.is_empty() || !target.bytes().all(is_target) {
            return Err(format!("{target:?} is not a target, such as switchboard_edge"));
        }
        let root = target.split("::").next().unwrap_or_default();
        if level(named)? > INFO && CARRIERS.contains(&root) {
            return Err(format!("{root} would log what people say and show: no more of it than info"));
        }
    }
    let mut all = vec![ALWAYS.to_owned()];
    if everything.is_some_and(|everything| everything > INFO) {
        all.extend(CARRIERS.iter().map(|carrier| format!("{carrier}=info")));
    }
    // Of two that are for the same target, the later one counts.
    all.extend(filter.split(',').map(|part| part.trim().to_owned()));
    Ok(all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_and_levels_of_targets_are_taken() {
        for right in ["info", "WARN", "off", "debug,h2=info", "info,switchboard_edge=debug", "a::b=trace , error"] {
            let directives = directives(right).expect(right);
            EnvFilter::try_new(&directives).expect(&directives);
        }
        for (wrong, told) in [
            ("inof", "\"inof\" is not a level"),
            ("switchboard_edge", "is not a level"),
            ("switchboard_edge=loud", "\"loud\" is not a level"),
            ("=debug", "is not a target"),
            ("a b=debug", "is not a target"),
            ("[span{field=1}]=debug", "is not a target"),
            ("info,,debug", "is not a level"),
            ("info,debug", "which?"),
            ("info,h2=trace", "h2 would log"),
            ("tungstenite::protocol=debug", "tungstenite would log"),
        ] {
            let said = directives(wrong).expect_err(wrong);
            assert!(said.contains(told), "{wrong}: {said}");
        }
        assert!(directives(&"a=info,".repeat(200)).expect_err("long").contains("1024"));
    }

    #[test]
    fn those_that_carry_say_no_more_when_all_say_more() {
        let all = directives("trace").expect("right");
        assert!(CARRIERS.iter().all(|carrier| all.contains(&format!("{carrier}=info"))), "{all}");
        assert!(all.starts_with("audit=info,") && all.ends_with(",trace"), "{all}");
        // And are not made louder by it.
        assert_eq!(directives("error").expect("right"), "audit=info,error");
    }
}
