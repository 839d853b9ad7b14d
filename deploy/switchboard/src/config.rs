//! The configuration of a process.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use switchboard_bus::BusConfig;
use switchboard_chassis::{
    admin::AdminConfig,
    config::{self, Mistakes},
    db::{self, StoreConfig},
    directory,
    grpc::GrpcConfig,
    telemetry,
    tls::ClientTlsConfig,
    traces::TracesConfig,
};
use switchboard_chat::ChatConfig;
use switchboard_edge::EdgeConfig;
use switchboard_identity::AuthConfig;
use switchboard_location::LocationConfig;
use switchboard_notification::NotificationConfig;
use switchboard_presence::PresenceConfig;
use switchboard_webhooks::WebhooksConfig;

/// Settings that may be given as `..._FILE`.
const SECRETS: [&str; 11] = [
    "grpc.token",
    "auth.jwt.secret",
    "auth.django.secret_key",
    "auth.django.secret_key_fallbacks",
    "auth.django.database_url",
    "store.url",
    "bus.password",
    "bus.token",
    "webhooks.secret",
    "webhooks.previous_secret",
    "traces.otlp_headers",
];

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where generated secrets and SQLite files are; made when it does not exist.
    pub data_dir: PathBuf,
    /// How long a process that was told to end may take to finish, in seconds.
    pub drain_timeout_s: u64,
    /// `[log]`
    pub log: LogConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[edge]`
    pub edge: EdgeConfig,
    /// `[grpc]`
    pub grpc: GrpcConfig,
    /// `[auth]`
    pub auth: AuthConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[services]`
    pub services: ServicesConfig,
    /// `[bus]`
    pub bus: BusConfig,
    /// `[chat]`
    pub chat: ChatConfig,
    /// `[location]`
    pub location: LocationConfig,
    /// `[notification]`
    pub notification: NotificationConfig,
    /// `[presence]`
    pub presence: PresenceConfig,
    /// `[webhooks]`
    pub webhooks: WebhooksConfig,
    /// `[traces]`
    pub traces: TracesConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("switchboard-data"),
            drain_timeout_s: 20,
            log: LogConfig::default(),
            admin: AdminConfig::default(),
            edge: EdgeConfig::default(),
            grpc: GrpcConfig::default(),
            auth: AuthConfig::default(),
            store: StoreConfig::default(),
            services: ServicesConfig::default(),
            bus: BusConfig::default(),
            chat: ChatConfig::default(),
            location: LocationConfig::default(),
            notification: NotificationConfig::default(),
            presence: PresenceConfig::default(),
            webhooks: WebhooksConfig::default(),
            traces: TracesConfig::default(),
        }
    }
}

/// `[log]`: what is logged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A level, or directives such as `info,switchboard_edge=debug`.
    pub filter: String,
    /// `auto`: for people in a terminal, as JSON elsewhere; or always `human` or `json`.
    pub format: telemetry::Format,
}

impl Default for LogConfig {
    fn default() -> Self {
        // The NATS client logs each of its events; what matters of them is logged by us.
        Self { filter: "info,async_nats=error".to_owned(), format: telemetry::Format::Auto }
    }
}

/// `[services]`: where services are found that do not run in the own process: comma-separated URLs of instances, or of
/// names that stand for several, such as `http://chat.internal:50051`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServicesConfig {
    /// The identity service's gRPC URL.
    pub identity: String,
    /// The chat service's gRPC URL.
    pub chat: String,
    /// The location service's gRPC URL.
    pub location: String,
    /// The notification service's gRPC URL.
    pub notification: String,
    /// The presence service's gRPC URL.
    pub presence: String,
    /// `[services.tls]`
    pub tls: ClientTlsConfig,
}

impl Default for ServicesConfig {
    fn default() -> Self {
        let url = "http://127.0.0.1:50051".to_owned();
        Self {
            identity: url.clone(),
            chat: url.clone(),
            location: url.clone(),
            notification: url.clone(),
            presence: url,
            tls: ClientTlsConfig::default(),
        }
    }
}

impl ServicesConfig {
    /// The settings that say where services are.
    pub(crate) fn lists(&self) -> [(&'static str, &str); 5] {
        [
            ("services.identity", &self.identity),
            ("services.chat", &self.chat),
            ("services.location", &self.location),
            ("services.notification", &self.notification),
            ("services.presence", &self.presence),
        ]
    }
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// What clients connect to.
    Edge,
    /// Who people and devices are.
    Identity,
    /// Conversations.
    Chat,
    /// Where therapists are.
    Location,
    /// Inboxes.
    Notification,
    /// Who is online.
    Presence,
}

impl Role {
    /// One process that is everything.
    pub const ALL: [Self; 6] =
        [Self::Edge, Self::Identity, Self::Chat, Self::Location, Self::Notification, Self::Presence];

    /// Whether its instances ring each other.
    #[must_use]
    pub fn is_on_the_bus(self) -> bool {
        self != Self::Edge
    }

    /// As it is written on the command line, and in the name of its database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Identity => "identity",
            Self::Chat => "chat",
            Self::Location => "location",
            Self::Notification => "notification",
            Self::Presence => "presence",
        }
    }
}

impl Config {
    /// Reads defaults, a file, variables and flags, and checks the whole.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(
        file: Option<&Path>,
        environment: &[(String, String)],
        flags: &[(&str, String)],
    ) -> Result<Self, Mistakes> {
        let config: Self = config::load(file, environment, flags, &SECRETS)?;
        let mut mistakes = config.edge.mistakes();
        mistakes.extend(config.auth.jwt.mistakes());
        mistakes.extend(config.auth.django.mistakes());
        mistakes.extend(config.bus.mistakes());
        mistakes.extend(config.chat.mistakes());
        mistakes.extend(config.location.mistakes());
        mistakes.extend(config.presence.mistakes());
        mistakes.extend(config.webhooks.mistakes());
        if let Err(wrong) = db::check_url(config.store.url.expose()) {
            mistakes.push(format!("store.url: {wrong}"));
        }
        mistakes.extend(config.grpc.mistakes());
        mistakes.extend(config.traces.mistakes());
        mistakes.extend(config.services.tls.mistakes("services.tls"));
        for (setting, list) in config.services.lists() {
            mistakes.extend(directory::mistake(list).map(|wrong| format!("{setting}: {wrong}")));
        }
        Mistakes::check(mistakes)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right() {
        Config::load(None, &[], &[]).expect("right");
    }

    #[test]
    fn weak_secrets_and_wrong_urls_are_told_together() {
        let flags = [
            ("auth.jwt.secret", "short".to_owned()),
            ("auth.django.database_url", "mysql://root:hunter2@x".to_owned()),
            ("auth.django.user_table", "auth_user; DROP".to_owned()),
            ("store.url", "mysql://x".to_owned()),
            ("services.chat", "chat:50051".to_owned()),
            ("edge.idle_timeout_s", "5".to_owned()),
            ("traces.otlp_endpoint", "http://me:hunter2@collector:4317".to_owned()),
            ("traces.sample_ratio", "1.5".to_owned()),
            ("traces.otlp_headers", "hunter2".to_owned()),
        ];
        let mistakes = Config::load(None, &[], &flags).expect_err("wrong").to_string();
        for part in [
            "auth.jwt.secret",
            "auth.django.secret_key: is required",
            "auth.django.database_url",
            "auth.django.user_table",
            "store.url",
            "services.chat",
            "edge.idle_timeout_s",
            "traces.otlp_endpoint",
            "traces.sample_ratio",
            "traces.otlp_headers",
        ] {
            assert!(mistakes.contains(part), "{part} is not in {mistakes}");
        }
        assert!(!mistakes.contains("short") && !mistakes.contains("hunter2"));
    }
}
