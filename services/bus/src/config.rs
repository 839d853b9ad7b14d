//! The configuration of the bus.

use std::path::{Path, PathBuf};

use async_nats::ServerAddr;
use serde::{Deserialize, Serialize};
use switchboard_chassis::Secret;

const LOCAL: &str = "local";

/// `[bus]`: how the instances of a deployment hear of each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// `local` inside one process; else NATS servers of one cluster, separated by commas: `nats://host:4222`, or with
    /// TLS `tls://host:4222`.
    pub url: String,
    /// What the subjects begin with. Deployments that share a NATS server must differ in it.
    pub subject_prefix: String,
    /// A NATS credentials file (`.creds`); none when empty.
    pub credentials_file: PathBuf,
    /// A NATS user, instead.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// A NATS token, instead.
    pub token: Secret,
    /// With TLS: the authorities (PEM) that are believed, instead of the system's; none when empty.
    pub tls_ca_file: PathBuf,
    /// With TLS: the certificate (PEM) that this process shows; none when empty.
    pub tls_cert_file: PathBuf,
    /// With TLS: the key (PEM) of that certificate.
    pub tls_key_file: PathBuf,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            url: LOCAL.to_owned(),
            subject_prefix: "switchboard".to_owned(),
            credentials_file: PathBuf::new(),
            user: String::new(),
            password: Secret::default(),
            token: Secret::default(),
            tls_ca_file: PathBuf::new(),
            tls_cert_file: PathBuf::new(),
            tls_key_file: PathBuf::new(),
        }
    }
}

impl BusConfig {
    /// Whether the bus stays inside the process.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.url == LOCAL
    }

    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let servers = if self.is_local() { Ok(Vec::new()) } else { self.servers() };
        let is_tls = servers.as_ref().map_or(true, |servers| is_tls(servers));
        if let Err(mistake) = servers {
            mistakes.push(mistake);
        }
        if !is_prefix(&self.subject_prefix) {
            mistakes
                .push("bus.subject_prefix: letters, digits, `-` and `_` are wanted, in parts joined by `.`".to_owned());
        }
        let credentials = [given(&self.credentials_file), !self.user.is_empty(), !self.token.is_empty()];
        if credentials.into_iter().filter(|given| *given).count() > 1 {
            mistakes.push("bus.credentials_file, bus.user, bus.token: only one of them can be used".to_owned());
        }
        if self.user.is_empty() != self.password.is_empty() {
            mistakes.push("bus.user, bus.password: one needs the other".to_owned());
        }
        if given(&self.tls_cert_file) != given(&self.tls_key_file) {
            mistakes.push("bus.tls_cert_file, bus.tls_key_file: one needs the other".to_owned());
        }
        let has_tls_files =
            [&self.tls_ca_file, &self.tls_cert_file, &self.tls_key_file].into_iter().any(|file| given(file));
        if self.is_local() && (credentials.contains(&true) || has_tls_files) {
            mistakes.push("bus.url: `local` has no use for credentials and TLS files".to_owned());
        } else if has_tls_files && !is_tls {
            mistakes.push(
                "bus.tls_ca_file, bus.tls_cert_file, bus.tls_key_file: bus.url must begin with tls://".to_owned(),
            );
        }
        mistakes
    }

    /// The NATS servers.
    pub(crate) fn servers(&self) -> Result<Vec<ServerAddr>, String> {
        let servers = self.url.split(',').map(|url| server(url.trim())).collect::<Result<Vec<_>, _>>();
        let servers = servers.map_err(|wrong| format!("bus.url: {wrong}"))?;
        let tls = servers.iter().filter(|server| server.tls_required()).count();
        if tls > 0 && tls < servers.len() {
            return Err("bus.url: all must begin with tls://, or none".to_owned());
        }
        Ok(servers)
    }
}

/// With TLS to one of them is with TLS to all of them.
pub(crate) fn is_tls(servers: &[ServerAddr]) -> bool {
    servers.iter().any(ServerAddr::tls_required)
}

pub(crate) fn given(file: &Path) -> bool {
    !file.as_os_str().is_empty()
}

fn server(url: &str) -> Result<ServerAddr, String> {
    if !url.starts_with("nats://") && !url.starts_with("tls://") {
        // It may be a URL with a password: it is not repeated.
        return Err("`local`, nats://host:4222 or tls://host:4222 is wanted".to_owned());
    }
    let server: ServerAddr = url.parse().map_err(|error: std::io::Error| error.to_string())?;
    if server.has_user_pass() || server.password().is_some() {
        return Err("credentials belong in bus.user and bus.password, or bus.token, which are not printed".to_owned());
    }
    if server.host().is_empty() {
        return Err(format!("{url} has no host"));
    }
    Ok(server)
}

fn is_prefix(prefix: &str) -> bool {
    let is_token = |token: &str| {
        !token.is_empty() && token.chars().all(|char| char.is_ascii_alphanumeric() || char == '-' || char == '_')
    };
    prefix.split('.').all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> BusConfig {
        toml::from_str(text).expect("the settings are known")
    }

    #[test]
    fn what_is_right_has_no_mistakes() {
        for right in [
            "",
            "url = 'nats://one'",
            "url = 'nats://one:4222, nats://two:4223'\nsubject_prefix = 'Prod_1.eu-west'",
            "url = 'nats://[::1]:4222'\nuser = 'u'\npassword = 'p'",
            "url = 'nats://one'\ncredentials_file = '/a.creds'",
            "url = 'tls://one,tls://two'\ntoken = 't'\ntls_ca_file = '/ca'\ntls_cert_file = '/c'\ntls_key_file = '/k'",
        ] {
            assert_eq!(read(right).mistakes(), Vec::<String>::new(), "{right}");
        }
    }

    #[test]
    fn each_mistake_names_its_setting() {
        for (wrong, parts) in [
            ("url = ''", vec!["bus.url: `local`, nats"]),
            ("url = 'localhost:4222'", vec!["bus.url: `local`, nats"]),
            ("url = 'ws://one'", vec!["bus.url: `local`, nats"]),
            ("url = 'nats://'", vec!["bus.url"]),
            ("url = 'nats://one,'", vec!["bus.url"]),
            ("url = 'nats://one:port'", vec!["bus.url"]),
            ("url = 'nats://one,tls://two'", vec!["bus.url: all must"]),
            ("url = 'nats://u:hunter2@one'", vec!["bus.url: credentials belong"]),
            ("subject_prefix = 'a..b'", vec!["bus.subject_prefix"]),
            ("subject_prefix = 'a.*'", vec!["bus.subject_prefix"]),
            ("subject_prefix = ''", vec!["bus.subject_prefix"]),
            ("url = 'nats://one'\nuser = 'u'\npassword = 'p'\ntoken = 't'", vec!["only one"]),
            ("url = 'nats://one'\nuser = 'u'", vec!["bus.user, bus.password"]),
            ("url = 'tls://one'\ntls_key_file = '/k'", vec!["bus.tls_cert_file, bus.tls_key_file: one"]),
            ("url = 'nats://one'\ntls_ca_file = '/ca'", vec!["bus.tls_ca_file"]),
            ("token = 't'", vec!["`local` has no use"]),
            ("url = 'http://one'\nsubject_prefix = ' '\npassword = 'p'", vec!["bus.url", "prefix", "bus.user"]),
        ] {
            let mistakes = read(wrong).mistakes();
            assert_eq!(mistakes.len(), parts.len(), "{wrong}: {mistakes:?}");
            assert!(mistakes.iter().zip(parts).all(|(mistake, part)| mistake.contains(part)), "{wrong}: {mistakes:?}");
            assert!(!mistakes.concat().contains("hunter2"));
        }
    }
}
