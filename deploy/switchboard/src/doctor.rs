//! `switchboard doctor`: looks at everything that a process needs, and says what to do about what is wrong. It changes
//! nothing, names no secret, and may be run beside a server.

use std::{
    fmt, fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, UNIX_EPOCH},
};

use rustix::{
    fs::statvfs,
    process::{Resource, geteuid, getrlimit},
};
use serde::Serialize;
use switchboard_bus::{Bus, Heard};
use switchboard_chassis::{
    Clock, Directory, Lifecycle, Micros, Secret, db,
    grpc::{Access, Peer, VERSION_HEADER, remote_peer},
    tls::ClientTls,
    traces::check as check_collector,
};
use switchboard_identity::{check_django, jwt::reach_jwks};
use switchboard_proto::{
    chat::v1::{ListContactsRequest, chat_service_client::ChatServiceClient},
    identity::v1::{BatchGetUsersRequest, identity_service_client::IdentityServiceClient},
    location::v1::{GetLastPositionRequest, location_service_client::LocationServiceClient},
    notification::v1::{GetInboxRequest, notification_service_client::NotificationServiceClient},
    presence::v1::{GetPresenceRequest, presence_service_client::PresenceServiceClient},
};
use tonic::{Code, Response, Status, metadata::MetadataMap};
use x509_parser::{parse_x509_certificate, pem::Pem};

use crate::{
    Trust,
    config::{Config, Role},
};

/// Less free space than this is worth a warning, or keeps a database from working.
const DISK_WARN_BYTES: u64 = 2 << 30;
const DISK_FAIL_BYTES: u64 = 128 << 20;
/// A commit that takes longer than this is slow, or spoils every send.
const COMMIT_WARN: Duration = Duration::from_millis(50);
const COMMIT_FAIL: Duration = Duration::from_secs(1);
/// Clocks that differ by more spoil the order of times, or leases and tokens.
const CLOCK_WARN_MICROS: u64 = 2_000_000;
const CLOCK_FAIL_MICROS: u64 = 30_000_000;
/// A certificate that ends sooner should have been replaced.
const CERTIFICATE_WARN_S: i64 = 21 * 24 * 3600;
/// What a process opens besides sockets.
const FILES_BESIDES: u64 = 512;
/// As long as the backlog that we ask for.
const BACKLOG: u64 = 4_096;
const WITHIN: Duration = Duration::from_secs(5);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, for now or for a few.
    Warn,
    /// It does not work.
    Fail,
}

/// One line of the diagnosis.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub what: String,
    /// What it is like.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        write!(f, "{level:<5} {}: {}", self.what, self.found)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n      {}", self.advice) }
    }
}

fn ok(what: &str, found: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.to_owned(), found: found.into(), advice: String::new() }
}

fn bad(level: Level, what: &str, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level, what: what.to_owned(), found: found.into(), advice: advice.into() }
}

/// What is wrong with a configuration that cannot be used.
#[must_use]
pub fn mistakes(mistakes: &[String]) -> Vec<Finding> {
    mistakes
        .iter()
        .map(|mistake| bad(Level::Fail, "configuration", mistake, "correct it; the rest is looked at then"))
        .collect()
}

/// Looks at everything that a process of these roles needs.
pub async fn examine(config: &Config, roles: &[Role], clock: &Clock) -> Vec<Finding> {
    let lifecycle = Lifecycle::new();
    let mut findings = vec![ok("configuration", "it can be read, and its values are possible")];
    let is_service = roles.iter().any(|role| *role != Role::Edge);
    findings.extend(data_dir(config));
    match Trust::of(config, roles, &lifecycle) {
        Ok(_) => findings.push(ok(
            "certificates and callers",
            "what is configured can be read, and keys belong to their certificates",
        )),
        Err(mistakes) => findings.extend(mistakes.list().iter().map(|mistake| {
            bad(Level::Fail, "certificates and callers", mistake, "put a PEM file of the right kind there")
        })),
    }
    findings.extend(certificates(config, clock));
    for role in roles.iter().filter(|role| **role != Role::Edge) {
        findings.extend(database(config, *role, clock).await);
    }
    findings.extend(kept(config, roles));
    if is_service {
        findings.push(bus(config, clock).await);
    }
    findings.extend(services(config, roles, clock, &lifecycle).await);
    findings.push(traces(config, &lifecycle).await);
    if roles.contains(&Role::Edge) {
        findings.push(files(config));
        findings.push(backlog());
    }
    if roles.contains(&Role::Identity) {
        if config.auth.django.is_configured() {
            findings.push(match tokio::time::timeout(WITHIN, check_django(&config.auth.django)).await {
                Ok(Ok(())) => ok("Django", "its tables of sessions and users can be read"),
                Ok(Err(wrong)) => bad(Level::Fail, "Django", wrong, "check auth.django.database_url and the names of its tables and columns; a role that may SELECT from both is enough"),
                Err(_) => bad(Level::Fail, "Django", "its database does not answer", "check auth.django.database_url and the network between"),
            });
        }
        if !config.auth.jwt.jwks_url.is_empty() {
            findings.push(match reach_jwks(&config.auth.jwt.jwks_url).await {
                Ok(0) => bad(Level::Fail, "JWKS", "it has no keys", "ask the issuer; until it has, no token is good"),
                Ok(keys) => ok("JWKS", format!("reached, {keys} keys")),
                Err(wrong) => bad(
                    Level::Fail,
                    "JWKS",
                    wrong,
                    "check auth.jwt.jwks_url, the network, and the certificates that this machine trusts",
                ),
            });
        }
    }
    lifecycle.stop();
    findings
}

fn data_dir(config: &Config) -> Vec<Finding> {
    const WHAT: &str = "data directory";
    let directory = &config.data_dir;
    let shown = directory.display();
    let Ok(metadata) = fs::metadata(directory) else {
        return vec![bad(
            Level::Warn,
            WHAT,
            format!("{shown} does not exist"),
            "the first start makes it; if there should be one, check data_dir and the working directory",
        )];
    };
    if !metadata.is_dir() {
        return vec![bad(Level::Fail, WHAT, format!("{shown} is no directory"), "give data_dir a directory")];
    }
    let mut findings = Vec::new();
    let probe = directory.join(format!("doctor.{}.probe", std::process::id()));
    let written = fs::File::create_new(&probe);
    let _ = fs::remove_file(&probe);
    match written {
        Err(error) => findings.push(bad(
            Level::Fail,
            WHAT,
            format!("{shown}: {error}"),
            "it must be writable by the user that the server runs as",
        )),
        Ok(_) if metadata.mode() & 0o077 != 0 => findings.push(bad(
            Level::Warn,
            WHAT,
            format!("{shown} is open to others (mode {:o})", metadata.mode() & 0o777),
            format!("chmod 700 {shown}: what people wrote is in it"),
        )),
        Ok(_) if metadata.uid() != geteuid().as_raw() => findings.push(bad(
            Level::Warn,
            WHAT,
            format!("{shown} belongs to another user"),
            "run the doctor and the server as the same user",
        )),
        Ok(_) => findings.push(ok(WHAT, format!("{shown}, writable, closed to others"))),
    }
    for name in ["grpc-token", "jwt-secret"] {
        let file = directory.join(name);
        let Ok(metadata) = fs::metadata(&file) else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            let shown = file.display();
            findings.push(bad(
                Level::Fail,
                "secrets",
                format!("{shown} is readable by others"),
                format!("chmod 600 {shown}, and make a new one if somebody may have read it"),
            ));
        } else if metadata.len() == 0 {
            findings.push(bad(
                Level::Fail,
                "secrets",
                format!("{} is empty", file.display()),
                "remove it: the next start makes a new one",
            ));
        }
    }
    findings.push(disk(directory));
    findings
}

fn disk(directory: &Path) -> Finding {
    const ADVICE: &str = "free some, or give it a larger disk: a full one stores nothing, and tells every sender so";
    match statvfs(directory) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} MiB are free for {}", free >> 20, directory.display());
            match free {
                ..DISK_FAIL_BYTES => bad(Level::Fail, "disk", found, ADVICE),
                DISK_FAIL_BYTES..DISK_WARN_BYTES => bad(Level::Warn, "disk", found, ADVICE),
                _ => ok("disk", found),
            }
        }
        Err(error) => bad(Level::Warn, "disk", format!("cannot be asked: {error}"), ""),
    }
}

fn certificates(config: &Config, clock: &Clock) -> Vec<Finding> {
    let files: [(&str, &PathBuf); 5] = [
        ("edge.tls.certificate_file", &config.edge.tls.certificate_file),
        ("grpc.tls.certificate_file", &config.grpc.tls.certificate_file),
        ("grpc.tls.client_ca_file", &config.grpc.tls.client_ca_file),
        ("services.tls.certificate_file", &config.services.tls.certificate_file),
        ("services.tls.ca_file", &config.services.tls.ca_file),
    ];
    let given = files.into_iter().filter(|(_, file)| !file.as_os_str().is_empty());
    // What cannot be read is told by `Trust`.
    given.filter_map(|(setting, file)| Some(certificate(setting, &fs::read(file).ok()?, clock))).collect()
}

/// The one of a file that ends first.
fn certificate(setting: &str, bytes: &[u8], clock: &Clock) -> Finding {
    const REPLACE: &str = "replace the file: it is read again at once, without a restart";
    let now = clock.now() / 1_000_000;
    let pems = Pem::iter_from_buffer(bytes).filter_map(Result::ok).filter(|pem| pem.label == "CERTIFICATE");
    let validity = pems.filter_map(|pem| {
        let (_, certificate) = parse_x509_certificate(&pem.contents).ok()?;
        let validity = certificate.validity();
        Some((validity.not_after.timestamp(), validity.not_before.timestamp()))
    });
    match validity.min() {
        None => bad(Level::Fail, setting, "no certificate can be read in it", REPLACE),
        Some((ends, _)) if ends <= now => bad(Level::Fail, setting, "a certificate of it has ended", REPLACE),
        Some((_, begins)) if begins > now => {
            bad(Level::Fail, setting, "a certificate of it is not good yet", "check this machine's clock, or wait")
        }
        Some((ends, _)) if ends - now < CERTIFICATE_WARN_S => {
            bad(Level::Warn, setting, format!("good for {} days", (ends - now) / 86_400), REPLACE)
        }
        Some((ends, _)) => ok(setting, format!("good for {} days", (ends - now) / 86_400)),
    }
}

/// What the services keep, and for how long.
fn kept(config: &Config, roles: &[Role]) -> Vec<Finding> {
    let age = |days: u32| if days == 0 { "for ever".to_owned() } else { format!("{days} days") };
    let mut findings = Vec::new();
    if roles.contains(&Role::Chat) {
        let kinds = config.chat.kept_days().map(|(kind, days)| format!("{kind} {}", age(days)));
        findings.push(ok("messages are kept", kinds.join(", ")));
    }
    if roles.contains(&Role::Notification) {
        findings.push(ok("notifications are kept", age(config.notification.retention_days)));
    }
    if roles.contains(&Role::Location) {
        findings.push(ok("positions are kept", format!("{} seconds", config.location.expire_after_s)));
    }
    findings
}

async fn database(config: &Config, role: Role, clock: &Clock) -> Vec<Finding> {
    let what = format!("database of {}", role.name());
    let Some(migrations) = migrations(role) else { return Vec::new() };
    let before = clock.now();
    let looked = db::examine(&config.store, &config.data_dir, role.name(), migrations);
    let examined = match tokio::time::timeout(WITHIN, looked).await {
        Err(_) => {
            return vec![bad(Level::Fail, &what, "it does not answer", "check store.url and the network between")];
        }
        Ok(Err(error)) => {
            let advice = if config.store.is_shareable() {
                "check store.url: the server's address, the database's name, the user and the password"
            } else {
                "check that the file is a database of ours, and that this user may write it; else restore a backup"
            };
            return vec![bad(Level::Fail, &what, error.to_string(), advice)];
        }
        Ok(Ok(None)) => {
            return vec![bad(
                Level::Warn,
                &what,
                "there is none yet",
                "the first start makes it; if there should be one, check store.url and data_dir",
            )];
        }
        Ok(Ok(Some(examined))) => examined,
    };
    let found = format!("{}, {} migrations applied", examined.server, examined.applied);
    let mut findings = vec![if examined.wrong > 0 {
        bad(
            Level::Fail,
            &what,
            format!("{found}, {} other than they were", examined.wrong),
            "it was written by another build: restore a backup, or run the build that wrote it",
        )
    } else if examined.unknown > 0 {
        bad(
            Level::Fail,
            &what,
            format!("{found}, {} that this version does not know", examined.unknown),
            "a later version has been here: run that one, or restore the backup of before",
        )
    } else if examined.pending > 0 {
        bad(
            Level::Warn,
            &what,
            format!("{found}, {} to come", examined.pending),
            "the next start of this version applies them; take a backup before",
        )
    } else {
        ok(&what, found)
    }];
    let took = format!("{} ms until a commit is on the disk", examined.commit.as_micros().div_ceil(1_000));
    let advice = "look for a slow or busy disk, or a synchronous replica: each send waits for it; store.durability=relaxed does not, and may lose the last ones at power loss";
    findings.push(match examined.commit {
        commit if commit < COMMIT_WARN => ok(&what, took),
        commit if commit < COMMIT_FAIL => bad(Level::Warn, &what, took, advice),
        _ => bad(Level::Fail, &what, took, advice),
    });
    if let Some(theirs) = examined.now {
        findings.push(clocks(&format!("clock of the {what}"), theirs, before, clock.now(), 0));
    }
    findings
}

/// The tables of a service, as this version has them.
fn migrations(role: Role) -> Option<&'static switchboard_chassis::db::Migrator> {
    match role {
        Role::Edge => None,
        Role::Identity => Some(&switchboard_identity::MIGRATIONS),
        Role::Chat => Some(&switchboard_chat::MIGRATIONS),
        Role::Location => Some(&switchboard_location::MIGRATIONS),
        Role::Notification => Some(&switchboard_notification::MIGRATIONS),
        Role::Presence => Some(&switchboard_presence::MIGRATIONS),
    }
}

/// Compares a clock that was read between two moments, and shows its time in steps.
fn clocks(what: &str, theirs: Micros, before: Micros, after: Micros, step: Micros) -> Finding {
    let behind = before.saturating_sub(theirs.saturating_add(step)).max(0);
    let ahead = theirs.saturating_sub(after).max(0);
    let apart = behind.max(ahead).unsigned_abs();
    let found =
        if apart == 0 { "like this machine's".to_owned() } else { format!("{} ms from this machine's", apart / 1_000) };
    let advice =
        "let both machines follow NTP (timedatectl status): times, leases and tokens are compared between them";
    match apart {
        ..CLOCK_WARN_MICROS => ok(what, found),
        CLOCK_WARN_MICROS..CLOCK_FAIL_MICROS => bad(Level::Warn, what, found, advice),
        _ => bad(Level::Fail, what, found, advice),
    }
}

async fn bus(config: &Config, clock: &Clock) -> Finding {
    const WHAT: &str = "bus";
    const SUBJECT: &str = "doctor.ping";
    if config.bus.is_local() {
        return if config.store.is_shareable() {
            bad(
                Level::Warn,
                WHAT,
                "local, while the database can be shared",
                "with several instances of a service, set bus.url to a NATS server: else they do not hear each other",
            )
        } else {
            ok(WHAT, "local: one process serves all")
        };
    }
    let advice = "check bus.url, its credentials and its certificates, and that the server allows what is below bus.subject_prefix";
    let round_trip = async {
        let ours = Bus::connect(&config.bus, clock).await.map_err(|error| error.to_string())?;
        let mut heard = ours.another().subscribe(SUBJECT).await.map_err(|error| error.to_string())?;
        let ping = clock.new_id().to_string().into_bytes();
        let begun = Instant::now();
        ours.publish(SUBJECT, || ping.clone().into());
        loop {
            match heard.next().await {
                Some(Heard::Payload(payload)) if payload.as_ref() == ping => break,
                Some(_) => {}
                None => return Err("the connection ended".to_owned()),
            }
        }
        let took = begun.elapsed();
        ours.finish().await;
        Ok(took)
    };
    match tokio::time::timeout(WITHIN * 2, round_trip).await {
        Ok(Ok(took)) => ok(WHAT, format!("{} ms there and back", took.as_micros().div_ceil(1_000))),
        Ok(Err(wrong)) => bad(Level::Fail, WHAT, wrong, advice),
        Err(_) => bad(Level::Fail, WHAT, "what is said is not heard", advice),
    }
}

async fn services(config: &Config, roles: &[Role], clock: &Clock, lifecycle: &Lifecycle) -> Vec<Finding> {
    let Ok(token) = token(config) else {
        return vec![bad(
            Level::Warn,
            "services",
            "there is no token for them yet",
            "the first start of a service makes it in the data directory; to call others, give theirs as grpc.token",
        )];
    };
    let tls = ClientTls::new(&config.services.tls, lifecycle).unwrap_or_default();
    let access = Access::new(token, tls);
    let mut findings = Vec::new();
    for (role, list) in Role::ALL.into_iter().filter(|role| *role != Role::Edge).zip(config.services.lists()) {
        let is_ours = roles.contains(&role);
        let is_needed = roles.contains(&Role::Edge) || role == Role::Notification && roles.contains(&Role::Chat);
        if !is_ours && !is_needed {
            continue;
        }
        let (setting, list) = list;
        let Ok(mut directory) = Directory::new(list, lifecycle) else { continue };
        if directory.now().is_empty() {
            // Its names are being looked up.
            let _ = tokio::time::timeout(WITHIN, directory.changed()).await;
        }
        let instances = directory.now();
        if instances.is_empty() {
            findings.push(bad(
                Level::Fail,
                setting,
                "no instance is known by this name",
                "check the name, and this machine's DNS",
            ));
        }
        for url in instances {
            findings.push(service(setting, &url, role, is_ours, &access, clock).await);
        }
    }
    findings
}

/// The token, if there is one; none is made.
fn token(config: &Config) -> std::io::Result<Secret> {
    if !config.grpc.token.is_empty() {
        return Ok(config.grpc.token.clone());
    }
    Ok(Secret::new(fs::read_to_string(config.data_dir.join("grpc-token"))?.trim()))
}

async fn service(setting: &str, url: &str, role: Role, is_ours: bool, access: &Access, clock: &Clock) -> Finding {
    let what = format!("{setting} at {url}");
    let peer = match remote_peer(url, access) {
        Ok(peer) => peer,
        Err(error) => return bad(Level::Fail, &what, error.to_string(), format!("correct {setting}")),
    };
    let before = clock.now();
    let (code, message, metadata) = match tokio::time::timeout(WITHIN, call(role, peer)).await {
        Err(_) => (Code::Unavailable, "no answer".to_owned(), MetadataMap::new()),
        Ok(Ok(metadata)) => (Code::Ok, String::new(), metadata),
        Ok(Err(status)) => (status.code(), status.message().to_owned(), status.metadata().clone()),
    };
    match code {
        Code::Unavailable | Code::Unknown if is_ours => {
            return bad(
                Level::Warn,
                &what,
                "nothing answers",
                format!("switchboard serve starts it; if it runs, check {setting} and services.tls"),
            );
        }
        Code::Unavailable | Code::Unknown => {
            return bad(
                Level::Fail,
                &what,
                format!("nothing answers ({message})"),
                format!("start it there, or correct {setting}; with https, check services.tls"),
            );
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            return bad(
                Level::Fail,
                &what,
                message,
                "give all processes the same grpc.token, or this one a token of grpc.callers_file there",
            );
        }
        Code::Unimplemented => {
            return bad(
                Level::Fail,
                &what,
                "another service answers there",
                format!("correct {setting}, or the roles of the process there"),
            );
        }
        _ => {}
    }
    let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
    let date = text("date").and_then(|date| httpdate::parse_http_date(date).ok());
    let theirs = date.and_then(|date| Micros::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok());
    if let Some(theirs) = theirs {
        // Its time is in whole seconds.
        let clock = clocks(&what, theirs, before, clock.now(), 1_000_000);
        if clock.level > Level::Ok {
            return Finding { found: format!("its clock is {}", clock.found), ..clock };
        }
    }
    match text(VERSION_HEADER) {
        Some(env!("CARGO_PKG_VERSION")) => ok(&what, "it answers, in this version"),
        version => bad(
            Level::Warn,
            &what,
            format!("it answers, in version {}; this is {}", version.unwrap_or("unknown"), env!("CARGO_PKG_VERSION")),
            "neighbouring versions work together; finish the upgrade before the next one",
        ),
    }
}

/// A call that only looks; that it is refused for what it asks is an answer, too.
async fn call(role: Role, peer: Peer) -> Result<MetadataMap, Status> {
    fn metadata<T>(response: Response<T>) -> MetadataMap {
        response.metadata().clone()
    }
    match role {
        Role::Edge => Err(Status::unimplemented("")),
        Role::Identity => {
            IdentityServiceClient::new(peer).batch_get_users(BatchGetUsersRequest::default()).await.map(metadata)
        }
        Role::Chat => ChatServiceClient::new(peer).list_contacts(ListContactsRequest::default()).await.map(metadata),
        Role::Location => {
            LocationServiceClient::new(peer).get_last_position(GetLastPositionRequest::default()).await.map(metadata)
        }
        Role::Notification => {
            NotificationServiceClient::new(peer).get_inbox(GetInboxRequest::default()).await.map(metadata)
        }
        Role::Presence => {
            PresenceServiceClient::new(peer).get_presence(GetPresenceRequest::default()).await.map(metadata)
        }
    }
}

async fn traces(config: &Config, lifecycle: &Lifecycle) -> Finding {
    const WHAT: &str = "traces";
    if config.traces.is_off() {
        return ok(WHAT, "off: traces.otlp_endpoint is not set");
    }
    // What is wrong with the file was told with the certificates.
    let tls = ClientTls::trusting("traces.otlp_ca_file", &config.traces.otlp_ca_file, lifecycle).unwrap_or_default();
    match check_collector(&config.traces, &tls).await {
        Ok(()) => ok(WHAT, "the collector takes them"),
        Err(wrong) => bad(
            Level::Warn,
            WHAT,
            format!("the collector does not take them ({wrong})"),
            "check traces.otlp_endpoint: OTLP over gRPC, mostly port 4317; and traces.otlp_headers and traces.otlp_ca_file, if it wants them. Everything else works without it",
        ),
    }
}

fn files(config: &Config) -> Finding {
    const WHAT: &str = "open files";
    let wanted = u64::try_from(config.edge.sockets_max).unwrap_or(u64::MAX).saturating_add(FILES_BESIDES);
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < wanted => bad(
            Level::Warn,
            WHAT,
            format!("{limit} are allowed, and edge.sockets_max asks for {wanted}"),
            format!(
                "raise it (LimitNOFILE={wanted} for systemd, --ulimit nofile={wanted} for docker, ulimit -n in a shell), or lower edge.sockets_max: beyond it, nobody more is let in"
            ),
        ),
        limit => ok(WHAT, limit.map_or("without limit".to_owned(), |limit| format!("{limit} are allowed"))),
    }
}

fn backlog() -> Finding {
    const WHAT: &str = "listen backlog";
    let read = fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse::<u64>().ok());
    match read {
        Some(max) if max < BACKLOG => bad(
            Level::Warn,
            WHAT,
            format!("net.core.somaxconn is {max}"),
            format!(
                "sysctl -w net.core.somaxconn={BACKLOG}: with a short one, some wait for a minute when all come back at once"
            ),
        ),
        Some(max) => ok(WHAT, format!("net.core.somaxconn is {max}")),
        None => ok(WHAT, "this system does not tell"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_with_what_is_known_of_them() {
        const S: Micros = 1_000_000;
        for (theirs, step, level) in [
            (100 * S, 0, Level::Ok),
            (100 * S + S / 2, 0, Level::Ok),
            // Shown in whole seconds: it may be almost one more.
            (97 * S + S / 2, S, Level::Ok),
            (96 * S, S, Level::Warn),
            (105 * S, 0, Level::Warn),
            (200 * S, 0, Level::Fail),
            (1, 0, Level::Fail),
        ] {
            assert_eq!(clocks("", theirs, 100 * S, 101 * S, step).level, level, "{theirs}");
        }
    }
}
