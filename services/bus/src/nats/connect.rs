//! Connects to NATS.

use std::{path::PathBuf, time::Duration};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use switchboard_chassis::Clock;
use tokio::time::timeout;

use crate::{
    BusConfig,
    config::{given, is_tls},
};

/// How long the first connection may take in all, and how long each try of one address.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const CONNECT_TRY_MAX: Duration = Duration::from_secs(2);
/// A server that does not answer three of them is taken for lost.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Between two tries to connect again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What NATS' client queues by itself, towards the server and for each subscription. Both are drained at once.
const CLIENT_PAYLOADS_MAX: usize = 256;
const SUBSCRIPTION_PAYLOADS_MAX: usize = 4096;

/// Why there is no connection to the bus.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// A file of the configuration cannot be used.
    #[error("cannot use {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The server does not know these credentials, or wants some.
    #[error("the NATS server at {0} refuses the credentials in [bus]")]
    Refused(String),
    /// No server answers in time.
    #[error("no NATS server answers at {0} within {CONNECT_MAX:?}")]
    Silent(String),
    /// The server cannot be reached, or TLS with it fails.
    #[error("cannot connect to the NATS server at {0}: {1}")]
    Failed(String, async_nats::ConnectError),
}

/// Connects; `heed` is told what becomes of the connection.
pub(crate) async fn connect(
    config: &BusConfig,
    clock: &Clock,
    heed: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let mistakes = config.mistakes();
    if !mistakes.is_empty() {
        return Err(ConnectError::Config(mistakes.join("; ")));
    }
    let servers = config.servers().map_err(ConnectError::Config)?;
    let clock = clock.clone();
    let mut options = ConnectOptions::new()
        .name("switchboard")
        .require_tls(is_tls(&servers))
        .connection_timeout(CONNECT_TRY_MAX)
        .ping_interval(PING_EVERY)
        .client_capacity(CLIENT_PAYLOADS_MAX)
        .subscription_capacity(SUBSCRIPTION_PAYLOADS_MAX)
        .reconnect_delay_callback(move |tries| clock.jittered(pause(tries)))
        .event_callback(move |event| {
            heed(event);
            std::future::ready(())
        });
    if given(&config.credentials_file) {
        let file = &config.credentials_file;
        options = options.credentials_file(file).await.map_err(|error| ConnectError::File(file.clone(), error))?;
    } else if !config.user.is_empty() {
        options = options.user_and_password(config.user.clone(), config.password.expose().to_owned());
    } else if !config.token.is_empty() {
        options = options.token(config.token.expose().to_owned());
    }
    for file in
        [&config.tls_ca_file, &config.tls_cert_file, &config.tls_key_file].into_iter().filter(|file| given(file))
    {
        // The client reads them at each try; a mistake shall show now, and with its name.
        std::fs::File::open(file).map_err(|error| ConnectError::File(file.clone(), error))?;
    }
    if given(&config.tls_ca_file) {
        options = options.add_root_certificates(config.tls_ca_file.clone());
    }
    if given(&config.tls_cert_file) {
        options = options.add_client_certificate(config.tls_cert_file.clone(), config.tls_key_file.clone());
    }
    let url = || config.url.clone();
    match timeout(CONNECT_MAX, options.connect(servers)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => ConnectError::Refused(url()),
            ConnectErrorKind::TimedOut => ConnectError::Silent(url()),
            _ => ConnectError::Failed(url(), error),
        }),
        Err(_) => Err(ConnectError::Silent(url())),
    }
}

fn pause(tries: usize) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    PAUSE_MIN.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let pauses = [0, 1, 2, 3, 7, 8, 1_000_000].map(|tries| pause(tries).as_millis());
        assert_eq!(pauses, [20, 20, 40, 80, 1280, 2000, 2000]);
    }
}
