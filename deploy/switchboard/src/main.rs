//! `switchboard`: serve, demo, token, provision, export, import, backup, restore, doctor, health, config, ctl; and completions and
//! man pages of all that.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use switchboard::{
    Addresses, Listeners, Plan, Secrets, Trust, backup,
    config::{Config, Role},
    ctl::{self, seconds},
    demo::{self, Demo, Sessions},
    doctor, moving,
    provision::provision,
    start,
};
use switchboard_bus::Bus;
use switchboard_chassis::{
    Clock, Directory, Lifecycle,
    config::environment,
    grpc::{Access, Peer, any_peer, remote_peer},
    health::{Health, Target},
    telemetry,
    tls::ClientTls,
};
use switchboard_edge::Playground;
use switchboard_identity::jwt;
use switchboard_proto::identity::v1::User;

/// The version, and of which commit of which day it is.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SWITCHBOARD_BUILD"), ")");

/// The real-time backend for chat front ends that exist already, driven over gRPC by other services.
///
/// A first look:   switchboard demo
/// For real:       switchboard serve, with SWITCHBOARD_AUTH__JWT__SECRET set to the key that signs your users' tokens
///
/// Every setting has a default; `switchboard config` prints all of them as they are in force. Set one in a TOML file
/// (--config), by a variable SWITCHBOARD_<SECTION>__<KEY>, or, for a secret, by SWITCHBOARD_<SECTION>__<KEY>_FILE.
#[derive(Parser)]
#[command(version = VERSION, verbatim_doc_comment, arg_required_else_help = true)]
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
    /// Say whether this machine's process serves, by exit code: 0 when it does, 1 when it does not.
    ///
    /// Asks the listeners of the configuration: `edge.listen` by `/readyz`, `grpc.listen` by gRPC's health service. One at
    /// which nobody listens belongs to another role, but there must be another. Certificates are not checked.
    Health {
        /// Whom to ask instead: http://host:port/readyz, https://..., grpc://host:port or grpcs://...; may be repeated.
        #[arg(long = "url", value_name = "URL", value_parser = Target::read)]
        urls: Vec<Target>,
    },
    /// Write users, devices, conversations and messages as JSON lines, with their ids and times, through gRPC.
    ///
    /// Counts and hashes of what was written are told at the end; `switchboard import` tells the same of the file.
    Export(moving::command::Export),
    /// Store what such lines say and what is not there yet, through gRPC. It may be run again at any time.
    ///
    /// A line is an object with one key, `user`, `device`, `conversation` or `message`: see docs/MOVING.md. Files for
    /// `provision` are good, too.
    Import(moving::command::Import),
    /// Copy the SQLite files and the secrets of the data directory into a directory, while a server may use them.
    ///
    /// Whatever was acknowledged before is in the copy. Postgres has tools of its own: see docs/OPERATIONS.md.
    Backup {
        /// The directory, which must not exist or be empty.
        directory: PathBuf,
    },
    /// Put a backup into the data directory, where nothing may be in its way.
    Restore {
        /// What `switchboard backup` made.
        directory: PathBuf,
    },
    /// Look at everything that a process needs, and say what to do about what is wrong; fails when something does.
    Doctor {
        /// What the process is; everything by default.
        #[arg(long = "role", value_delimiter = ',')]
        roles: Vec<Role>,
        /// Print JSON: a list of objects with `level` (ok, warn, fail), `what`, `found`, `advice`.
        #[arg(long)]
        json: bool,
    },
    /// Print the settings in force as TOML, secrets hidden.
    Config,
    /// Steer processes that run: sockets, live conversations, who is online, draining, logs.
    ///
    /// Exit codes: 0 when it was done; 1 when a process did not answer or refused (the others did it all the same); 2 when
    /// the command line is wrong; 3 when nothing was found that was named.
    Ctl(ctl::Ctl),
    /// Print what makes a shell complete the command line: `source <(switchboard completions bash)`.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands into a directory.
    Man {
        /// Where to write them; made when it does not exist.
        directory: Option<PathBuf>,
    },
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> anyhow::Result<ExitCode> {
    let Cli { global, command } = Cli::parse();
    match run(global, command) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<ctl::NothingFound>() {
            Some(nothing) => {
                complain(&nothing.to_string());
                Ok(ExitCode::from(ctl::NOTHING_FOUND))
            }
            None => Err(error),
        },
    }
}

fn run(global: Global, command: Command) -> anyhow::Result<()> {
    match &command {
        Command::Completions { shell } => return completions(*shell),
        Command::Man { directory } => return manual(directory.as_deref()),
        _ => {}
    }
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
    let config = match Config::load(global.config.as_deref(), &environment, &flags) {
        Err(wrong) if let Command::Doctor { json, .. } = command => {
            return diagnosis(&doctor::mistakes(wrong.list()), json);
        }
        loaded => loaded?,
    };
    telemetry::init(&config.log.filter, config.log.format).map_err(|wrong| anyhow::anyhow!("log.filter: {wrong}"))?;
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
            Command::Health { urls } => health(&config, urls).await,
            Command::Export(command) => {
                let (services, lifecycle) = (&config.services, Lifecycle::new());
                let identity = peer(&config, &services.identity, &lifecycle)?;
                command.run(identity, peer(&config, &services.chat, &lifecycle)?).await
            }
            Command::Import(command) => {
                let (services, lifecycle) = (&config.services, Lifecycle::new());
                let identity = peer(&config, &services.identity, &lifecycle)?;
                command.run(identity, peer(&config, &services.chat, &lifecycle)?).await
            }
            Command::Backup { directory } => {
                let manifest = backup::back_up(&config, &directory).await?;
                say(&format!("{} files are in {}", manifest.files.len(), directory.display()));
                Ok(())
            }
            Command::Restore { directory } => {
                let manifest = backup::restore(&config, &directory)?;
                say(&format!("{} files are in their places; start the server", manifest.files.len()));
                Ok(())
            }
            Command::Doctor { roles, json } => {
                let roles = if roles.is_empty() { Role::ALL.to_vec() } else { roles };
                diagnosis(&doctor::examine(&config, &roles, &Clock::System).await, json)
            }
            Command::Config => {
                say(toml::to_string(&config)?.trim_end());
                Ok(())
            }
            Command::Ctl(asked) => ctl::run(asked, &config).await,
            // They need no settings, and were answered before.
            Command::Completions { .. } | Command::Man { .. } => Ok(()),
        }
    })
}

/// Says what was found; an error when something does not work.
fn diagnosis(findings: &[doctor::Finding], json: bool) -> anyhow::Result<()> {
    if json {
        say(&serde_json::to_string_pretty(findings)?);
    } else {
        findings.iter().for_each(|finding| say(&finding.to_string()));
    }
    let failing = findings.iter().filter(|finding| finding.level == doctor::Level::Fail).count();
    anyhow::ensure!(failing == 0, "{failing} of {} do not work", findings.len());
    Ok(())
}

fn peer(config: &Config, list: &str, lifecycle: &Lifecycle) -> anyhow::Result<Peer> {
    let directory = Directory::new(list, lifecycle).map_err(anyhow::Error::msg)?;
    let tls = ClientTls::new(&config.services.tls, lifecycle).map_err(anyhow::Error::msg)?;
    Ok(any_peer(directory, Access::new(Secrets::of(config)?.grpc_token, tls)))
}

async fn health(config: &Config, urls: Vec<Target>) -> anyhow::Result<()> {
    let (must_listen, targets) = if urls.is_empty() { (false, own_listeners(config)?) } else { (true, urls) };
    let mut well = 0;
    for target in &targets {
        match target.ask(&config.services.tls).await {
            Health::Well(said) => {
                well += 1;
                say(&format!("{target}: {said}"));
            }
            Health::Unwell(reason) => anyhow::bail!("{target}: {reason}"),
            Health::Absent if must_listen => anyhow::bail!("{target}: nobody listens"),
            Health::Absent => {}
        }
    }
    let asked: Vec<String> = targets.iter().map(ToString::to_string).collect();
    anyhow::ensure!(well > 0, "nobody listens at {}", asked.join(" or "));
    Ok(())
}

/// Where a process with this configuration can be asked how it is.
fn own_listeners(config: &Config) -> anyhow::Result<Vec<Target>> {
    let here = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    };
    let scheme = |plain: &'static str, tls: &'static str, is_plain: bool| if is_plain { plain } else { tls };
    let (edge, grpc) = (here(config.edge.listen), here(config.grpc.listen));
    let targets = [
        format!("{}://{edge}/readyz", scheme("http", "https", config.edge.tls.is_empty())),
        format!("{}://{grpc}", scheme("grpc", "grpcs", config.grpc.tls.is_empty())),
    ];
    targets.iter().map(|url| Target::read(url).map_err(anyhow::Error::msg)).collect()
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
    let addresses = listeners.addresses()?;
    let secrets = Secrets::of(&config)?;
    lifecycle.obey_signals()?;

    anyhow::ensure!(
        !is_demo || config.auth.jwt.signing_algorithm() == Ok(jwt::Algorithm::Hs256),
        "the demo's people have HS256 tokens: leave auth.jwt.algorithm, .public_key_file and .jwks_url out"
    );
    let demo = is_demo.then(|| Demo::new(&secrets.jwt_secret, Clock::System.now())).transpose()?;
    let playground = is_demo.then(Playground::of_demo);
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
    let Addresses { edge, grpc, admin } = addresses;
    let data_dir = config.data_dir.display();
    tracing::info!(edge = shown(edge), grpc = shown(grpc), admin = shown(admin), %data_dir, "serving");

    lifecycle.tell_service_manager();

    if let (Some(demo), Some(edge), Some(grpc), Some(admin)) = (demo, edge, grpc, admin) {
        let itself = remote_peer(&format!("http://{grpc}"), &secrets.grpc_token)?;
        provision(demo::PEOPLE, itself.clone(), itself.clone()).await.context("cannot load the demo's people")?;
        let sessions = Sessions::open(itself.clone()).await?;
        if let Some(playground) = playground {
            playground.fill(demo.playground(&sessions));
        }
        demo::live(itself, &lifecycle);
        say(&demo.guide((edge, grpc, admin), &config.data_dir, &secrets.grpc_token, &sessions));
    }
    let finished = lifecycle.finish(Duration::from_secs(config.drain_timeout_s)).await;
    // The last rings go out, and the others know that this instance is not only silent.
    bus.finish().await;
    finished.map_err(anyhow::Error::msg)?;
    tracing::info!("stopped");
    Ok(())
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "switchboard", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}

fn manual(directory: Option<&std::path::Path>) -> anyhow::Result<()> {
    let Some(directory) = directory else {
        return Ok(clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?);
    };
    let failed = || format!("cannot write to {}", directory.display());
    std::fs::create_dir_all(directory).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).with_context(failed)
}

/// To standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// To standard output, which is for what was asked for; logs go to standard error.
fn say(text: &str) {
    // Nobody may be reading; a server goes on all the same.
    let _ = writeln!(std::io::stdout(), "{text}");
}
