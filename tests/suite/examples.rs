//! The example clients, against the protos as they are published.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use switchboard_chassis::Secret;
use switchboard_tests::{Backend, PATIENCE, Sandbox};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What an example needs to know.
struct Examples {
    address: String,
    directory: tempfile::TempDir,
}

impl Examples {
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let examples = repository().join("examples");
        let directory = if program == "node" { examples.join("node") } else { examples.join("python") };
        command
            .args(arguments)
            .current_dir(directory)
            .env("SWITCHBOARD_ADDRESS", &self.address)
            .env("SWITCHBOARD_TOKEN_FILE", self.directory.path().join("token"))
            .env("SWITCHBOARD_GENERATED", self.directory.path().join("generated"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("WEBHOOK_SECRET", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs one to its end: what it said.
    async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let output = self.command(program, arguments).output();
        let output =
            tokio::time::timeout(PATIENCE, output).await.with_context(|| format!("{arguments:?} does not end"))?;
        let output = output.with_context(|| format!("{program} is missing: run ./tests/run"))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("{program} {arguments:?} failed (packages are missing? run ./tests/run): {out}{err}");
        }
        Ok(out.lines().map(str::to_owned).collect())
    }
}

/// One that goes on.
struct Running {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stderr(Stdio::inherit()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        Ok(Self { _child: child, lines })
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.context("nothing is said")??;
        line.context("it ended")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_in_python_and_node() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut examples = Examples { address: String::new(), directory };
    let mut receiver = Running::start(examples.command("python3", &["webhook.py", "0"]))?;
    let port = receiver.line().await?.rsplit(' ').next().context("a port")?.to_owned();
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        config.webhooks.url = format!("http://127.0.0.1:{port}/");
        config.webhooks.secret = Secret::new(SECRET);
        config.chat.notify_delay_ms = 50;
    })
    .await?;
    examples.address = sandbox.grpc.to_string();
    std::fs::write(examples.directory.path().join("token"), sandbox.secrets.grpc_token.expose())?;
    let (protos, generated) = (repository().join("proto"), examples.directory.path().join("generated"));
    examples.run("./generate", &[&protos.display().to_string(), &generated.display().to_string()]).await?;

    let (python, node) = (examples.directory.path().join("python"), examples.directory.path().join("node"));
    let (python, node) = (python.display().to_string(), node.display().to_string());
    let said = examples.run("python3", &["chat.py", "say", "pat", "dora", "from Python"]).await?;
    assert_eq!(said, ["sent 1 from Python"]);
    // Each is told what there is, then goes on from its cursor as another process.
    let told = examples.run("python3", &["chat.py", "watch", "--cursor-file", &python, "--count", "2"]).await?;
    assert_eq!(told[0], "conversation_opened");
    assert!(told[1].starts_with("message ") && told[1].ends_with(" 1 from Python"), "{told:?}");
    let theirs = examples.run("node", &["chat.mjs", "watch", "--cursor-file", &node, "--count", "2"]).await?;
    assert_eq!(theirs, told);
    let said = examples.run("node", &["chat.mjs", "say", "pat", "dora", "from Node"]).await?;
    assert_eq!(said, ["sent 2 from Node"]);
    let watch = ["chat.py", "watch", "--cursor-file", &python, "--count", "1", "--kind", "clinic"];
    let told = examples.run("python3", &watch).await?;
    assert!(told.len() == 1 && told[0].ends_with(" 2 from Node"), "{told:?}");
    assert_eq!(examples.run("node", &["chat.mjs", "watch", "--cursor-file", &node, "--count", "1"]).await?, told);

    // Dora was never there.
    let opened = receiver.line().await?;
    assert!(opened.starts_with("conversation.opened {"), "{opened}");
    let missed = receiver.line().await?;
    assert!(missed.starts_with("message.offline {") && missed.contains(r#""user_id": "dora""#), "{missed}");
    Ok(())
}
