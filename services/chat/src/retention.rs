//! Removes messages that are old, if that is wanted: how long they are kept is a matter of their conversation's kind.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use switchboard_chassis::{Clock, Lifecycle, Micros, db::Result};

use crate::{ChatConfig, model::Kind, store::Store};

/// The longest pause between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Between two parts of a sweep, so that others come to write.
const PAUSE: Duration = Duration::from_millis(10);
const DAY: Micros = 24 * 3600 * 1_000_000;

/// `[chat.retention]`: how long messages are kept by the kind of their conversation, where that is not for
/// [`ChatConfig::retention_days`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// therapy.md
    pub therapy: Kept,
    /// clinic.md
    pub clinic: Kept,
    /// mobile.md
    pub mobile: Kept,
    /// mentoring.md
    pub mentoring: Kept,
    /// consultation.md
    pub consultation: Kept,
}

/// How long the messages of a kind are kept: `3650d`; `0` keeps them for ever; nothing is as all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kept(Option<u32>);

impl Kept {
    /// For so many days; 0 is for ever.
    #[must_use]
    pub const fn days(days: u32) -> Self {
        Self(Some(days))
    }
}

impl TryFrom<String> for Kept {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let days = match text.trim() {
            "" => return Ok(Self(None)),
            "0" => Some(0),
            text => text.strip_suffix('d').and_then(|days| days.parse().ok()),
        };
        days.map(Self::days)
            .ok_or_else(|| format!("days such as \"3650d\" are wanted, or \"0\" for ever, not {text:?}"))
    }
}

impl From<Kept> for String {
    fn from(kept: Kept) -> Self {
        kept.to_string()
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(0) => f.write_str("0"),
            Some(days) => write!(f, "{days}d"),
        }
    }
}

impl ChatConfig {
    /// For how many days messages of each kind are kept; 0 is for ever.
    #[must_use]
    pub fn kept_days(&self) -> [(&'static str, u32); 5] {
        self.kept().map(|(_, name, days)| (name, days))
    }

    fn kept(&self) -> [(Kind, &'static str, u32); 5] {
        let Retention { therapy, clinic, mobile, mentoring, consultation } = self.retention;
        [
            (Kind::Therapy, "therapy", therapy),
            (Kind::Clinic, "clinic", clinic),
            (Kind::Mobile, "mobile", mobile),
            (Kind::Mentoring, "mentoring", mentoring),
            (Kind::Consultation, "consultation", consultation),
        ]
        .map(|(kind, name, kept)| (kind, name, kept.0.unwrap_or(self.retention_days)))
    }
}

/// Before which time messages of a kind are old; kinds that are kept for ever have none.
pub(crate) type Before = (Kind, Micros);

fn befores(config: &ChatConfig, now: Micros) -> Vec<Before> {
    let before = |days: u32| now.saturating_sub(DAY.saturating_mul(i64::from(days)));
    config.kept().into_iter().filter(|(.., days)| *days > 0).map(|(kind, _, days)| (kind, before(days))).collect()
}

/// Sweeps now and then until the end begins; never when messages are kept for ever.
pub(crate) fn start(store: Arc<Store>, config: &ChatConfig, clock: Clock, lifecycle: &Lifecycle) {
    if config.kept_days().iter().all(|(_, days)| *days == 0) {
        return;
    }
    let (config, ending) = (config.clone(), lifecycle.clone());
    lifecycle.spawn(async move {
        while !ending.is_draining() {
            match sweep(&store, &befores(&config, clock.now()), &ending).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "old messages were removed"),
                // The database said why in the log.
                Err(_) => tracing::warn!("old messages were not all removed; the next sweep tries again"),
            }
            ending.rest(clock.jittered(SWEEP_INTERVAL)).await;
        }
    });
}

/// Removes what was written before its kind's time, part by part; says how much went. Ends early when the process does.
async fn sweep(store: &Store, befores: &[Before], ending: &Lifecycle) -> Result<u64> {
    let (mut removed, mut after) = (0, None);
    while !ending.is_draining() {
        let page = store.with_messages_before(befores, after).await?;
        for (conversation_id, before) in page.old {
            loop {
                let part = store.forget_before(conversation_id, before).await?;
                removed += part.removed;
                if !part.more || ending.is_draining() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        after = page.last;
        if after.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if removed > 0 {
        store.scrub().await?;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_messages_are_kept_is_read_and_shown_alike() {
        for text in ["", "0", "1d", "3650d", "4294967295d"] {
            assert_eq!(Kept::try_from(text.to_owned()).map(String::from), Ok(text.to_owned()));
        }
        assert_eq!(Kept::try_from(" 0d ".to_owned()), Ok(Kept::days(0)));
        for text in ["3650", "10y", "-1d", "d", "1.5d", "4294967296d", "1 d", "ever"] {
            assert!(Kept::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_kind_is_kept_as_all_are_or_as_it_is_told() {
        let retention = Retention { therapy: Kept::days(3_650), mobile: Kept::days(0), ..Retention::default() };
        let config = ChatConfig { retention_days: 7, retention, ..ChatConfig::default() };
        let week = |kind| (kind, -7 * DAY);
        let expected =
            vec![(Kind::Therapy, -3_650 * DAY), week(Kind::Clinic), week(Kind::Mentoring), week(Kind::Consultation)];
        assert_eq!(befores(&config, 0), expected);
        assert_eq!(befores(&ChatConfig { retention_days: u32::MAX, ..config }, Micros::MIN)[1].1, Micros::MIN);
        assert!(befores(&ChatConfig::default(), 0).is_empty());
    }
}
