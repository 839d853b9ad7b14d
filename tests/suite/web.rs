//! The client library and the playground: TypeScript, with tests of its own that run here against the real binary, in
//! Node and in Chromium.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, ensure};
use switchboard_tests::process;

/// Runs the tests in a folder of `edge/web`. Each of them has a time limit, and so have all together.
async fn vitest(folder: &str) -> anyhow::Result<()> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/web");
    let vitest = web.join("node_modules/vitest/vitest.mjs");
    ensure!(vitest.is_file(), "the packages of edge/web are missing: run ./tests/run");
    let mut command = tokio::process::Command::new("node");
    command.arg(vitest).args(["run", folder]).current_dir(&web).stdin(Stdio::null()).kill_on_drop(true);
    command.env("SWITCHBOARD_BINARY", process::binary()?).env("NO_COLOR", "1");
    let output = command.output().await.context("node is missing: run ./tests/run")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{out}{err}");
    // A folder without tests would be a success, too.
    ensure!(out.contains(" passed "), "no test ran: {out}{err}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn web_types_are_sound() -> anyhow::Result<()> {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/web");
    let mut command = tokio::process::Command::new("node");
    command.args(["node_modules/typescript/bin/tsc", "--noEmit"]).current_dir(&web).kill_on_drop(true);
    let output = command.output().await.context("node is missing: run ./tests/run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn web_client_library() -> anyhow::Result<()> {
    vitest("client/test").await
}

#[tokio::test(flavor = "multi_thread")]
async fn web_playground() -> anyhow::Result<()> {
    vitest("playground/test").await
}
