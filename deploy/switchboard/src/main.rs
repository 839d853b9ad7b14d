//! `switchboard`: serve, demo, token, provision, config.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use switchboard::{
    Listeners, Plan, Secrets, Trust,
    config::{Config, Role},
    demo::{self, Demo, Sessions},
    provision::provision,
    start,
};
use switchboard_bus::Bus;
use switchboard_chassis::{
    Clock, Directory, Lifecycle,
    config::environment,
    grpc::{Access, Peer, any_peer, remote_peer},
    telemetry,
    tls::ClientTls,
};
use switchboard_edge::Playground;
use switchboard_identity::jwt;
use switchboard_proto::identity::v1::User;

/// The real-time backend for chat front ends that exist already, driven over gRPC by other services.
///
/// A first look:   switchboard demo
/// For real:       switchboard serve, with SWITCHBOARD_AUTH__JWT__SECRET set to the key that signs your users' tokens
///
/// Every setting has a default; `switchboard config` prints all of them as they are in force. Set one in a TOML file
/// (--config), by a variable SWITCHBOARD_<SECTION>__<KEY>, or, for a secret, by SWITCHBOARD_<SECTION>__<KEY>_FILE.
#[derive(Parser)]
#[command(version, verbatim_doc_comment, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// A TOML file with settings.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where generated secrets and SQLite files are [default: switchboard-data].
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data_dir: Option<String>,
    /// Another setting, as `edge.listen=127.0.0.1:9000`; may be repeated.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    settings: Vec<(String, String)>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients and services until told to stop (SIGTERM or Ctrl-C; twice stops at once).
    Serve {
        /// What this process is; everything by default.
        #[arg(long = "role", value_delimiter = ',')]
        roles: Vec<Role>,
    },
    /// Serve with some people in it, a page to chat on, and ready-made commands. Not for production: the page gives
    /// out tokens.
    Demo,
    /// Print a token (JWT) for a user.
    Token {
        /// The user's id.
        #[arg(long)]
        user: String,
        /// customer, therapist, patient, professional, staff, student, teacher, trainer, client or expert; may be repeated.
        #[arg(long = "role")]
        roles: Vec<String>,
        /// The name shown to others.
        #[arg(long, default_value = "")]
        name: String,
        /// How long it is good: 30s, 15m, 1h, 7d.
        #[arg(long, default_value = "1h", value_parser = seconds)]
        ttl: i64,
    },
    /// Load people and conversations from a file of JSON lines ("-" for standard input) through gRPC.
    ///
    /// One object a line, fields named as in the protos:
    ///   {"user": {"id": "123", "full_name": "Ada", "roles": ["customer"]}}
    ///   {"device": {"device_id": "abc123xyz"}}
    ///   {"conversation": {"kind": "CONVERSATION_KIND_THERAPY", "participants": [...]}}
    #[command(verbatim_doc_comment)]
    Provision {
        /// The file.
        file: PathBuf,
    },
    /// Print the settings in force as TOML, secrets hidden.
    Config,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn seconds(text: &str) -> Result<i64, String> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..unit].parse().map_err(|_| "a number with s, m, h or d is wanted, as 90m")?;
    let scale = match &text[unit..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err("the unit is s, m, h or d".to_owned()),
    };
    number.checked_mul(scale).filter(|seconds| *seconds > 0).ok_or_else(|| "too long, or nothing".to_owned())
}

fn main() -> anyhow::Result<()> {
    let Cli { global, command } = Cli::parse();
    let mut flags: Vec<(&str, String)> =
        global.settings.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    flags.extend(global.data_dir.map(|directory| ("data_dir", directory)));
    let environment = environment();
    let has_data_dir = flags.iter().any(|(key, _)| *key == "data_dir")
        || environment.iter().any(|(name, _)| name == "SWITCHBOARD_DATA_DIR")
        || global.config.is_some();
    if matches!(command, Command::Demo) && !has_data_dir {
        flags.push(("data_dir", "switchboard-demo".to_owned()));
    }
    let config = Config::load(global.config.as_deref(), &environment, &flags)?;
    telemetry::init(&config.log.filter).map_err(|wrong| anyhow::anyhow!("log.filter: {wrong}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve { roles } => {
                let roles = if roles.is_empty() { Role::ALL.to_vec() } else { roles };
                serve(config, roles, false).await
            }
            Command::Demo => serve(config, Role::ALL.to_vec(), true).await,
            Command::Token { user, roles, name, ttl } => {
                let algorithm = config.auth.jwt.signing_algorithm().map_err(anyhow::Error::msg)?;
                let secrets = Secrets::of(&config)?;
                let user = User { id: user, roles, full_name: name, ..User::default() };
                say(&jwt::sign_with(algorithm, &secrets.jwt_secret, &user, Clock::System.now(), ttl)?);
                Ok(())
            }
            Command::Provision { file } => {
                let lines = if file.as_os_str() == "-" {
                    std::io::read_to_string(std::io::stdin())?
                } else {
                    std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?
                };
                let (services, lifecycle) = (&config.services, Lifecycle::new());
                let identity = peer(&config, &services.identity, &lifecycle)?;
                let chat = peer(&config, &services.chat, &lifecycle)?;
                say(&provision(&lines, identity, chat).await?.to_string());
                Ok(())
            }
            Command::Config => {
                say(toml::to_string(&config)?.trim_end());
                Ok(())
            }
        }
    })
}

fn peer(config: &Config, list: &str, lifecycle: &Lifecycle) -> anyhow::Result<Peer> {
    let directory = Directory::new(list, lifecycle).map_err(anyhow::Error::msg)?;
    let tls = ClientTls::new(&config.services.tls, lifecycle).map_err(anyhow::Error::msg)?;
    Ok(any_peer(directory, Access::new(Secrets::of(config)?.grpc_token, tls)))
}

async fn serve(config: Config, roles: Vec<Role>, is_demo: bool) -> anyhow::Result<()> {
    if is_demo && !(config.edge.tls.is_empty() && config.grpc.tls.is_empty()) {
        anyhow::bail!(
            "edge.tls, grpc.tls: the demonstration's guide is for plain connections; use `switchboard serve`"
        );
    }
    let lifecycle = Lifecycle::new();
    let trust = Trust::of(&config, &roles, &lifecycle)?;
    let listeners = Listeners::bind(&config, &roles)?;
    let addresses = (
        listeners.edge.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
        listeners.grpc.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?,
    );
    let secrets = Secrets::of(&config)?;
    lifecycle.obey_signals()?;

    anyhow::ensure!(
        !is_demo || config.auth.jwt.signing_algorithm() == Ok(jwt::Algorithm::Hs256),
        "the demo's people have HS256 tokens: leave auth.jwt.algorithm, .public_key_file and .jwks_url out"
    );
    let demo = is_demo.then(|| Demo::new(&secrets.jwt_secret, Clock::System.now())).transpose()?;
    let playground = is_demo.then(Playground::default);
    let bus = if roles.iter().any(|role| role.is_on_the_bus()) {
        if config.bus.is_local() && config.store.is_shareable() {
            tracing::warn!("bus.url is local: other instances on this database would not be heard, nor hear this one");
        }
        Bus::connect(&config.bus, &Clock::System).await?
    } else {
        Bus::local()
    };
    start(
        &config,
        &secrets,
        Plan { roles, listeners, bus: bus.clone(), trust, playground: playground.clone() },
        &lifecycle,
    )
    .await?;
    let shown = |address: Option<SocketAddr>| address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    tracing::info!(edge = shown(addresses.0), grpc = shown(addresses.1), data_dir = %config.data_dir.display(), "serving");

    if let (Some(demo), (Some(edge), Some(grpc))) = (demo, addresses) {
        let itself = remote_peer(&format!("http://{grpc}"), &secrets.grpc_token)?;
        provision(demo::PEOPLE, itself.clone(), itself.clone()).await.context("cannot load the demo's people")?;
        let sessions = Sessions::open(itself.clone()).await?;
        if let Some(playground) = playground {
            playground.fill(demo.playground(&sessions));
        }
        demo::live(itself, &lifecycle);
        say(&demo.guide(edge, grpc, &config.data_dir, &secrets.grpc_token, &sessions));
    }
    let finished = lifecycle.finish(Duration::from_secs(config.drain_timeout_s)).await;
    // The last rings go out, and the others know that this instance is not only silent.
    bus.finish().await;
    finished.map_err(anyhow::Error::msg)?;
    tracing::info!("stopped");
    Ok(())
}

/// To standard output, which is for what was asked for; logs go to standard error.
fn say(text: &str) {
    // Nobody may be reading; a server goes on all the same.
    let _ = writeln!(std::io::stdout(), "{text}");
}
