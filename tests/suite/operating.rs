//! The README's recipes for operators, played as they stand by a shell, with the real grpcurl; the completions in a real
//! bash, and the manual pages as `man` shows them.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, bail, ensure};
use prost_reflect::DescriptorPool;
use switchboard_tests::{
    Client, PATIENCE,
    process::{self, Process},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

const README: &str = include_str!("../../README.md");
const PEOPLE: &str = include_str!("../../deploy/switchboard/demo/people.jsonl");
const CHAT: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A section's fences.
fn fences(heading: &str) -> anyhow::Result<Vec<&'static str>> {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).context("the section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    Ok(section.split("```").skip(1).step_by(2).collect())
}

/// The lines that are commands.
fn recipes() -> anyhow::Result<Vec<&'static str>> {
    let fence = fences("Operating")?.into_iter().find(|fence| fence.contains("switchboard ctl")).context("recipes")?;
    Ok(fence.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect())
}

#[test]
fn there_is_a_recipe_for_every_method() -> anyhow::Result<()> {
    let recipes = recipes()?.join("\n");
    let pool = DescriptorPool::decode(switchboard_proto::FILE_DESCRIPTOR_SET)?;
    for service in ["switchboard.edge.v1.EdgeService", "switchboard.admin.v1.AdminService"] {
        for method in pool.get_service_by_name(service).context(service)?.methods() {
            let call = format!("127.0.0.1:50051 {service}/{}", method.name());
            ensure!(recipes.contains(&call), "the README has no recipe for {call}");
        }
    }
    let commands = ["connections list", "connections describe", "connections disconnect", "tail", "online", "drain"];
    for command in commands.into_iter().chain(["resume", "log get", "log set", "log reset"]) {
        ensure!(recipes.contains(&format!("switchboard ctl {command}")), "the README has no recipe for {command}");
    }
    Ok(())
}

/// A server, and a shell beside it.
struct Stage {
    directory: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
    edge: std::net::SocketAddr,
    grpc: std::net::SocketAddr,
    _server: Process,
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (edge, grpc) = (process::free_address()?, process::free_address()?);
        let mut settings = vec![
            ("SWITCHBOARD_DATA_DIR", directory.path().join("switchboard-data").display().to_string()),
            ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
        ];
        for service in
            ["SWITCHBOARD_SERVICES__IDENTITY", "SWITCHBOARD_SERVICES__CHAT", "SWITCHBOARD_SERVICES__PRESENCE"]
        {
            settings.push((service, format!("http://{grpc}")));
        }
        let mut server = Process::start_logging(&["serve"], &settings, &directory.path().join("log"))?;
        server.listens(edge).await?;
        let people = directory.path().join("people.jsonl");
        std::fs::write(&people, PEOPLE)?;
        let (code, _, err) = process::run(&["provision", &people.display().to_string()], &settings)?;
        ensure!(code == 0, "{err}");
        Ok(Self { directory, settings, edge, grpc, _server: server })
    }

    async fn connect(&self, path: &str, user: &str) -> anyhow::Result<Client> {
        let (code, token, err) = process::run(&["token", "--user", user], &self.settings)?;
        ensure!(code == 0, "{err}");
        Client::connect(&format!("ws://{}{path}?token={}", self.edge, token.trim()), &[]).await
    }

    /// A line of the README in a shell, where nothing is different but the port.
    fn shell(&self, line: &str, id: &str) -> anyhow::Result<Command> {
        let grpc = fences("gRPC")?.concat();
        let defined = |begin: &str| grpc.lines().find(|line| line.starts_with(begin)).context("the README's `call`");
        let script = format!("PATH=$BESIDE:$PATH\n{}\n{}\nID={id}\n{line}", defined("TOKEN=")?, defined("call() ")?);
        let beside = process::binary()?.parent().map(Path::to_owned).unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-euc", &script.replace("127.0.0.1:50051", &self.grpc.to_string())])
            .current_dir(self.directory.path())
            .envs(self.settings.iter().map(|(name, value)| (*name, value)))
            .env("BESIDE", beside)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    async fn run(&self, line: &str, id: &str) -> anyhow::Result<String> {
        let output =
            tokio::time::timeout(PATIENCE, self.shell(line, id)?.output()).await.context(line.to_owned())??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{line}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }
}

/// Plays a line that shows what happens, while something is said: what it shows until these words.
async fn watch(stage: &Stage, line: &str, speaker: &mut Client) -> anyhow::Result<String> {
    let mut child = stage.shell(line, "")?.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut shown = String::new();
    let mut has_spoken = false;
    let watching = async {
        loop {
            shown += &lines.next_line().await?.with_context(|| format!("{line} ended"))?;
            shown.push('\n');
            if !has_spoken && shown.contains("702") {
                has_spoken = true;
                speaker.send(r#"{"content": "words that nobody asked for"}"#).await?;
            }
            if shown.contains("#") || shown.contains("\"seq\"") {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, watching).await.context(line.to_owned())??;
    child.kill().await?;
    Ok(shown)
}

async fn closes(socket: &mut Client) -> anyhow::Result<(u16, String)> {
    loop {
        if let Err(close) = socket.next_or_close().await? {
            return Ok(close);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipes_do_what_they_say() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let path = format!("/ws/chat/{CHAT}/");
    let mut pat = stage.connect(&path, "701").await?;
    let mut clara = stage.connect("/ws/presence/", "801").await?;
    for line in recipes()? {
        let listed = stage.run("switchboard ctl connections list --user 701 --json", "").await?;
        let first: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap_or("{}"))?;
        let id = first["id"].as_str().unwrap_or("none");
        let shows = |said: &str, words: &[&str]| {
            let missing = words.iter().find(|word| !said.contains(**word));
            missing.map_or(Ok(()), |word| Err(anyhow::anyhow!("{line} does not say {word}:\n{said}")))
        };
        if line.contains(" tail ") || line.contains("/TailConversation") {
            let mut dora = stage.connect(&path, "702").await?;
            let shown = watch(&stage, line, &mut dora).await?;
            assert!(!shown.contains("words that nobody asked for"), "{shown}");
            dora.close().await?;
            continue;
        }
        let said = stage.run(line, id).await?;
        match line {
            _ if line.contains("connections list") => shows(&said, &[id, "clinic chat", "patient", CHAT, "127.0.0.1"])?,
            _ if line.contains("/ListConnections") => {
                shows(&said, &[id, "/ws/chat/{chat_id}/", "\"totalSize\": \"1\""])?
            }
            _ if line.contains("connections describe") => shows(&said, &[id, "/ws/chat/{chat_id}/", "127.0.0.1"])?,
            _ if line.contains("/GetConnection") => shows(&said, &[id, "PROTOCOL_CLINIC", "lastHeardAt"])?,
            _ if line.contains("disconnect") || line.contains("/DisconnectConnections") => {
                let (code, reason) = closes(&mut pat).await?;
                assert!(line.contains(&code.to_string()), "{line}: {code} {reason}");
                pat = stage.connect(&path, "701").await?;
            }
            _ if line.contains("online") || line.contains("/ListOnline") => shows(&said, &["801", "Clara"])?,
            _ if line.contains("drain") || line.contains("/Drain") => {
                for socket in [&mut pat, &mut clara] {
                    assert_eq!(closes(socket).await?.0, 1012, "{line}");
                }
            }
            _ if line.contains("resume") || line.contains("/Resume") => {
                pat = stage.connect(&path, "701").await?;
                clara = stage.connect("/ws/presence/", "801").await?;
            }
            _ if line.contains("log set") || line.contains("/SetLogFilter") => {
                shows(&said, &["switchboard_edge=debug", "ntil"])?;
            }
            _ if line.contains("log get") || line.contains("/GetLogFilter") => {
                shows(&said, &["switchboard_edge=debug"])?
            }
            _ if line.contains("log reset") => assert!(!said.contains("debug"), "{said}"),
            _ => bail!("nothing is expected of {line}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn bash_completes_the_command_line() -> anyhow::Result<()> {
    let binary = process::binary()?.display().to_string();
    // What bash does at a tab: the registered function is given the words, and leaves its proposals.
    let script = r#"
        source <("$0" completions bash)
        complete -p switchboard >&2
        propose() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _switchboard switchboard "${@: -1}" "${@: -2:1}"
            echo "${COMPREPLY[*]}"
        }
        propose switchboard c
        propose switchboard ctl connections d
        propose switchboard ctl log set --f
    "#;
    let output = Command::new("bash").args(["--norc", "-c", script, &binary]).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let proposals: Vec<&str> = said.lines().collect();
    ensure!(proposals.len() == 3, "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(proposals[0], "config ctl completions");
    assert_eq!(proposals[1], "describe disconnect");
    assert!(proposals[2].contains("--for"), "{said}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = process::run(&["completions", shell], &[])?;
        assert!(code == 0 && script.contains("disconnect"), "{shell}");
    }
    Ok(())
}

#[tokio::test]
async fn manual_pages_are_read_with_man() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let pages = directory.path().join("man1");
    let (code, _, err) = process::run(&["man", &pages.display().to_string()], &[])?;
    assert_eq!(code, 0, "{err}");
    for (page, sections) in [
        ("switchboard.1", &["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SUBCOMMANDS", "VERSION"][..]),
        ("switchboard-ctl-connections-disconnect.1", &["NAME", "SYNOPSIS", "--conversation", "close code"]),
        ("switchboard-ctl.1", &["Exit codes", "3 when nothing was found"]),
    ] {
        let source = std::fs::read_to_string(pages.join(page)).with_context(|| page.to_owned())?;
        assert!(source.contains(".TH "), "{page} is a manual page");
        // As a reader has it, where there is groff; else as it is written.
        let plain = ["-man", "-Tutf8", "-P-c", "-P-b", "-P-o", "-P-u"];
        let shown = match Command::new("groff").args(plain).arg(pages.join(page)).output().await {
            Ok(output) => {
                assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            Err(_) => source.replace("\\-", "-"),
        };
        let shown = shown.replace(['\u{2010}', '\u{2212}'], "-");
        let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for section in sections {
            assert!(words.contains(section), "{page} has no {section}: {words}");
        }
    }
    let (code, page, _) = process::run(&["man"], &[])?;
    assert!(code == 0 && page.contains(".TH switchboard 1"), "{page}");
    Ok(())
}
