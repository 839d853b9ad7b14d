//! Who may do what, as tables that are played: each line is a case, and every line that differs is told at once.
//!
//! `enter.txt` has who may open which socket, `say.txt` what each may do inside, `rest.txt` and `rpc.txt` the calls,
//! `scopes.txt` what a caller of the gRPC services may. A route, a method or a documented frame without a line fails.

mod apart;
mod complete;
mod erased;
mod grpc;
mod played;
mod room;
mod table;
mod world;

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

use grpc::Grpc;
use room::Room;
use table::{Line, Pattern, Seats};
use world::{Actor, Entered, World};

/// A whole table; reached only when a socket waits for what never comes.
const TABLE_TIMEOUT: Duration = Duration::from_secs(300);

/// What was played, and what of it came out otherwise.
#[derive(Default)]
struct Played {
    cases: usize,
    differences: Vec<String>,
}

impl Played {
    fn case(&mut self, differs: Option<String>) {
        self.cases += 1;
        self.differences.extend(differs);
    }

    /// Fails with all that differed.
    #[expect(clippy::print_stdout, reason = "how many cases there are is for whoever runs the test")]
    fn told(self, table: &str) {
        println!("{table}: {} cases", self.cases);
        let Self { cases, differences } = self;
        assert!(differences.is_empty(), "{} of {cases} differ:\n{}", differences.len(), differences.join("\n"));
    }
}

async fn in_time(table: &str, playing: impl Future<Output = anyhow::Result<Played>>) -> anyhow::Result<()> {
    tokio::time::timeout(TABLE_TIMEOUT, playing).await.with_context(|| format!("{table}: not in time"))??.told(table);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_open_which_socket() -> anyhow::Result<()> {
    in_time("enter", played::enter(&table::enter()?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_may_do_inside() -> anyhow::Result<()> {
    in_time("say", played::say(&table::say()?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_is_told_after_a_message_of_elsewhere() -> anyhow::Result<()> {
    in_time("after", played::after(&table::after()?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_call_what_of_rest() -> anyhow::Result<()> {
    in_time("rest", played::rest(&table::rest()?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn which_caller_may_call_what_over_grpc() -> anyhow::Result<()> {
    in_time("scopes", played::scopes(&table::scopes())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_whose_name_a_service_does_what() -> anyhow::Result<()> {
    in_time("rpc", played::rpc(&table::rpc()?)).await
}
