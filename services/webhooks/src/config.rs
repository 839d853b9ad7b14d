//! `[webhooks]`: its settings, and what can be wrong with them.

use std::{collections::HashSet, fs, path::PathBuf, time::Duration};

use http::Uri;
use serde::{Deserialize, Serialize};
use switchboard_chassis::{Secret, web::check_url};
use switchboard_proto::chat::v1::ConversationKind;

use crate::sign::Key;

const TRIES_MAX: usize = 50;
const PAUSE_S_MAX: u64 = 7 * 24 * 3600;

/// `[webhooks]`: who is told what over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// The one endpoint, named `default`; empty is none. More are in `endpoints`.
    pub url: String,
    /// What its requests are signed with: `whsec_` and the base64 of 24 to 64 bytes.
    pub secret: Secret,
    /// Signed with, too, while receivers change from one secret to another.
    pub previous_secret: Secret,
    /// What it is told.
    pub events: Vec<EventType>,
    /// Whether it is told what people said.
    pub include_text: bool,
    /// The kinds of conversation of whose messages `message.offline` tells.
    pub offline_kinds: Vec<OfflineKind>,
    /// How long a receiver may take, in milliseconds.
    pub timeout_ms: u64,
    /// Pauses between tries, in seconds, with commas; after the last one a delivery is given up.
    pub retry_after_s: String,
    /// Deliveries to one endpoint at a time, by each instance.
    pub concurrency: u32,
    /// Deliveries that were given up are kept for so long.
    pub dead_letter_days: u32,
    /// `[[webhooks.endpoints]]`: others.
    pub endpoints: Vec<EndpointConfig>,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: Secret::default(),
            previous_secret: Secret::default(),
            events: EventType::ALL.to_vec(),
            include_text: false,
            offline_kinds: OfflineKind::ALL.to_vec(),
            timeout_ms: 10_000,
            // 24 hours.
            retry_after_s: "5,30,120,600,1800,3600,7200,14400,28800,28800".to_owned(),
            concurrency: 8,
            dead_letter_days: 30,
            endpoints: Vec::new(),
        }
    }
}

/// One of several endpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// In logs and dead letters; unique, and not `default`. Deliveries that wait belong to the name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// As `webhooks.secret`.
    #[serde(default)]
    pub secret: Secret,
    /// A file that holds it.
    #[serde(default)]
    pub secret_file: PathBuf,
    /// As `webhooks.previous_secret`.
    #[serde(default)]
    pub previous_secret: Secret,
    /// A file that holds it.
    #[serde(default)]
    pub previous_secret_file: PathBuf,
    /// As `webhooks.events`.
    #[serde(default = "EventType::all")]
    pub events: Vec<EventType>,
    /// As `webhooks.include_text`.
    #[serde(default)]
    pub include_text: bool,
}

/// What receivers are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// A message came, and somebody of its conversation was not there.
    #[serde(rename = "message.offline")]
    MessageOffline,
    /// A conversation was opened.
    #[serde(rename = "conversation.opened")]
    ConversationOpened,
    /// A device was registered for the first time.
    #[serde(rename = "device.registered")]
    DeviceRegistered,
}

impl EventType {
    pub(crate) const ALL: [Self; 3] = [Self::MessageOffline, Self::ConversationOpened, Self::DeviceRegistered];

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// As receivers know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageOffline => "message.offline",
            Self::ConversationOpened => "conversation.opened",
            Self::DeviceRegistered => "device.registered",
        }
    }
}

/// A kind of conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OfflineKind {
    /// therapy.md
    Therapy,
    /// clinic.md
    Clinic,
    /// mobile.md
    Mobile,
    /// mentoring.md
    Mentoring,
    /// consultation.md
    Consultation,
}

impl OfflineKind {
    const ALL: [Self; 5] = [Self::Therapy, Self::Clinic, Self::Mobile, Self::Mentoring, Self::Consultation];
}

impl From<OfflineKind> for ConversationKind {
    fn from(kind: OfflineKind) -> Self {
        match kind {
            OfflineKind::Therapy => Self::Therapy,
            OfflineKind::Clinic => Self::Clinic,
            OfflineKind::Mobile => Self::Mobile,
            OfflineKind::Mentoring => Self::Mentoring,
            OfflineKind::Consultation => Self::Consultation,
        }
    }
}

/// An endpoint whose settings were checked.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) url: Uri,
    pub(crate) keys: Vec<Key>,
    pub(crate) events: Vec<EventType>,
    pub(crate) include_text: bool,
}

impl WebhooksConfig {
    /// What is wrong with it. Reads the files of secrets.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.endpoints().err().unwrap_or_default();
        mistakes.extend(self.pauses().err());
        if !(100..=60_000).contains(&self.timeout_ms) {
            mistakes.push("webhooks.timeout_ms: 100 to 60000".to_owned());
        }
        if !(1..=256).contains(&self.concurrency) {
            mistakes.push("webhooks.concurrency: 1 to 256".to_owned());
        }
        mistakes
    }

    /// Whether a conversation's messages are told of to those who are not there.
    #[must_use]
    pub fn tells_offline(&self, kind: ConversationKind) -> bool {
        let is_told = !self.url.is_empty() && self.events.contains(&EventType::MessageOffline)
            || self.endpoints.iter().any(|endpoint| endpoint.events.contains(&EventType::MessageOffline));
        is_told && self.offline_kinds.iter().any(|theirs| ConversationKind::from(*theirs) == kind)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn pauses(&self) -> Result<Vec<Duration>, String> {
        let pauses: Option<Vec<u64>> = self
            .retry_after_s
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().ok().filter(|seconds| *seconds <= PAUSE_S_MAX))
            .collect();
        pauses
            .filter(|pauses| pauses.len() < TRIES_MAX)
            .map(|pauses| pauses.into_iter().map(Duration::from_secs).collect())
            .ok_or_else(|| {
                format!(
                    "webhooks.retry_after_s: seconds with commas, fewer than {TRIES_MAX}, each at most {PAUSE_S_MAX}"
                )
            })
    }

    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut endpoints = Vec::new();
        let mut names = HashSet::from(["default"]);
        let mut add =
            |setting: &str, name: &str, url: &str, secrets: [Result<Secret, String>; 2], events: &[_], text| {
                let (secret, previous) = match secrets {
                    [Ok(secret), Ok(previous)] => (secret, previous),
                    [secret, previous] => {
                        mistakes.extend([secret, previous].into_iter().filter_map(Result::err));
                        return;
                    }
                };
                let url = check_url(url).map_err(|wrong| mistakes.push(format!("{setting}.url: {wrong}")));
                let key = Key::read(&secret).map_err(|wrong| mistakes.push(format!("{setting}.secret: {wrong}")));
                let mut keys: Vec<Key> = key.into_iter().collect();
                if !previous.is_empty() {
                    let key = Key::read(&previous);
                    keys.extend(key.map_err(|wrong| mistakes.push(format!("{setting}.previous_secret: {wrong}"))));
                }
                if let Ok(url) = url {
                    endpoints.push(Endpoint {
                        name: name.to_owned(),
                        url,
                        keys,
                        events: events.to_vec(),
                        include_text: text,
                    });
                }
            };
        if !self.url.is_empty() {
            let secrets = [Ok(self.secret.clone()), Ok(self.previous_secret.clone())];
            add("webhooks", "default", &self.url, secrets, &self.events, self.include_text);
        }
        for endpoint in &self.endpoints {
            let setting = format!("webhooks.endpoints: {}", endpoint.name);
            let secrets = [
                from_file(&endpoint.secret, &endpoint.secret_file),
                from_file(&endpoint.previous_secret, &endpoint.previous_secret_file),
            ];
            add(&setting, &endpoint.name, &endpoint.url, secrets, &endpoint.events, endpoint.include_text);
        }
        for endpoint in &self.endpoints {
            let name = endpoint.name.as_str();
            if name.is_empty() || name.len() > 64 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                mistakes
                    .push(format!("webhooks.endpoints: {name:?}: a name has 1 to 64 printable characters, no blanks"));
            } else if !names.insert(name) {
                mistakes.push(format!("webhooks.endpoints: {name}: there are two of this name"));
            }
        }
        if mistakes.is_empty() { Ok(endpoints) } else { Err(mistakes) }
    }
}

fn from_file(secret: &Secret, file: &PathBuf) -> Result<Secret, String> {
    if file.as_os_str().is_empty() {
        return Ok(secret.clone());
    }
    fs::read_to_string(file)
        .map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])))
        .map_err(|error| format!("webhooks.endpoints: {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn without_endpoints_nothing_is_wrong_or_told() {
        let config = WebhooksConfig::default();
        assert!(config.mistakes().is_empty());
        assert!(!config.tells_offline(ConversationKind::Clinic));
        let day: Duration = config.pauses().expect("pauses").iter().sum();
        assert!(day > Duration::from_secs(23 * 3600) && day < Duration::from_secs(25 * 3600));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let endpoint = |name: &str| EndpointConfig {
            name: name.to_owned(),
            url: "ftp://x/".to_owned(),
            secret: Secret::new(SECRET),
            secret_file: PathBuf::new(),
            previous_secret: Secret::default(),
            previous_secret_file: "/does/not/exist".into(),
            events: EventType::all(),
            include_text: false,
        };
        let config = WebhooksConfig {
            url: "https://user:secret@host/".to_owned(),
            secret: Secret::new("short"),
            retry_after_s: "soon".to_owned(),
            timeout_ms: 1,
            concurrency: 0,
            endpoints: vec![
                endpoint("default"),
                EndpointConfig { previous_secret_file: PathBuf::new(), ..endpoint("b c") },
            ],
            ..WebhooksConfig::default()
        };
        let mistakes = config.mistakes().join("\n");
        for part in [
            "webhooks.url: a user",
            "webhooks.secret",
            "retry_after_s",
            "timeout_ms",
            "concurrency",
            "/does/not/exist",
            "default: there are two",
            "b c.url: https",
            "no blanks",
        ] {
            assert!(mistakes.contains(part), "{part} is not in {mistakes}");
        }
        assert!(!mistakes.contains("short"));
    }

    #[test]
    fn a_secret_is_rotated_by_two() {
        let config = WebhooksConfig {
            url: "https://app.example.org/hooks".to_owned(),
            secret: Secret::new(SECRET),
            previous_secret: Secret::new(SECRET),
            ..WebhooksConfig::default()
        };
        assert_eq!(config.endpoints().ok().map(|endpoints| endpoints[0].keys.len()), Some(2));
        assert!(config.tells_offline(ConversationKind::Mobile));
    }
}
