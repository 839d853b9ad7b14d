//! What the command line says of the system.

use clap::Args;

use crate::{system::Layout, usage::Watched};

/// Where and what the server is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The server")]
pub(crate) struct Options {
    /// What is started for this run.
    #[arg(long, value_enum, global = true, default_value = "one-process", conflicts_with = "url")]
    layout: Layout,
    /// The same as `--layout apart`.
    #[arg(long, global = true, conflicts_with = "url")]
    apart: bool,
    /// Keep what is started to this core (taskset). Start `load` itself by `taskset -c` with another.
    #[arg(long, global = true, value_name = "N", conflicts_with = "url")]
    pub(crate) server_core: Option<usize>,
    /// A server that runs already, `ws://host:port`, instead of a fresh one. People who are unknown to it must become
    /// known by a good token, or by `--grpc-url`.
    #[arg(long, global = true, requires = "jwt_secret")]
    pub(crate) url: Option<String>,
    /// The HS256 key with which that server's tokens are signed.
    #[arg(long, global = true, value_name = "SECRET")]
    pub(crate) jwt_secret: Option<String>,
    /// The gRPC of that server, `http://host:port`, if it is a Switchboard.
    #[arg(long, global = true, value_name = "URL", requires = "grpc_token")]
    pub(crate) grpc_url: Option<String>,
    /// What opens it.
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) grpc_token: Option<String>,
    /// A process of that server, `name=pid`, whose CPU time and memory count, with its children; may be repeated.
    #[arg(long, global = true, value_name = "NAME=PID", value_parser = process)]
    pub(crate) process: Vec<Watched>,
    /// When that server's messages survive what, for the record.
    #[arg(long, global = true, value_name = "WORDS")]
    pub(crate) durability: Option<String>,
}

impl Options {
    pub(crate) fn layout(&self) -> Layout {
        if self.apart { Layout::Apart } else { self.layout }
    }
}

fn process(text: &str) -> Result<Watched, String> {
    let (name, process) = text.split_once('=').ok_or("not name=pid")?;
    let process = process.parse().map_err(|_| format!("`{process}` is not a process id"))?;
    Ok(Watched { name: name.to_owned(), process })
}
