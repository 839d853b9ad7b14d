//! An afternoon: the chat of a Django Channels project (`tests/bench/django`, with the app of `examples/django-export`) moves
//! in while it runs, and goes back.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use switchboard_chassis::{Secret, testing::new_postgres_database};
use switchboard_tests::{
    Backend, Client, Sandbox,
    process::{self, Process},
};
use tempfile::TempDir;

const SECRET_KEY: &str = "the SECRET_KEY of a site with more than fifty characters in it";
const ROOM: &str = "/ws/chat/100/200/";
const OTHER_ROOM: &str = "/ws/chat/101/201/";

/// A team's project.
struct Site {
    python: PathBuf,
    database_url: String,
    directory: TempDir,
}

impl Site {
    async fn new() -> anyhow::Result<Self> {
        let python = root().join("../target/test-tools/bench/bin/python3");
        ensure!(python.is_file(), "no {}: run ./tests/run", python.display());
        let site = Self { python, database_url: new_postgres_database().await?, directory: tempfile::tempdir()? };
        site.django(&["migrate", "--verbosity", "0"], "")?;
        site.django(&["people", "100", "200", "2"], "")?;
        Ok(site)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        let path =
            ["bench/django", "moving", "../examples/django-export"].map(|part| root().join(part).display().to_string());
        command
            .args(arguments)
            .env("PYTHONPATH", path.join(":"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONIOENCODING", "utf-8")
            .env("DJANGO_SETTINGS_MODULE", "moving_settings")
            .env("DATABASE_URL", &self.database_url)
            .env("SECRET_KEY", SECRET_KEY)
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .stderr(Stdio::piped());
        command
    }

    /// `manage.py` with these arguments: what it wrote.
    fn django(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let given = self.directory.path().join("input");
        std::fs::write(&given, input)?;
        let arguments = [&["-m", "django"], arguments].concat();
        let output = self.command(&arguments).stdin(std::fs::File::open(&given)?).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A user's token, made as Django makes it.
    fn token(&self, user: &str) -> anyhow::Result<String> {
        let code = format!(
            "from rest_framework_simplejwt.tokens import AccessToken; from django.contrib.auth.models import User; \
             print('token', AccessToken.for_user(User.objects.get(pk={user})))"
        );
        let said = self.django(&["shell", "-c", &code], "")?;
        let token = said.lines().find_map(|line| line.strip_prefix("token ")).context("a token")?;
        Ok(token.to_owned())
    }

    /// What is stored: keys, senders and words in the order of the keys.
    fn messages(&self) -> anyhow::Result<Vec<(i64, i64, String)>> {
        let code = "import json; from chat.models import Message; \
                    print('all', json.dumps(list(Message.objects.order_by('pk').values_list('pk', 'sender_id', 'content'))))";
        let said = self.django(&["shell", "-c", code], "")?;
        let all = said.lines().find_map(|line| line.strip_prefix("all ")).context("messages")?;
        Ok(serde_json::from_str(all)?)
    }

    /// Its server.
    async fn serve(&self) -> anyhow::Result<(Process, SocketAddr)> {
        let address = process::free_address()?;
        let port = address.port().to_string();
        let arguments = ["-m", "daphne", "-b", "127.0.0.1", "-p", &port, "chat.asgi:application"];
        let log = std::fs::File::create(self.directory.path().join("daphne"))?;
        let mut server =
            Process::spawn(self.command(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))?;
        server.listens(address).await?;
        Ok((server, address))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn dial(address: SocketAddr, path: &str, token: &str) -> anyhow::Result<Client> {
    let mark = if path.contains('?') { '&' } else { '?' };
    Client::connect(&format!("ws://{address}{path}{mark}token={token}"), &[]).await
}

/// Says something; the frame that everybody gets of it.
async fn say(socket: &mut Client, words: &str) -> anyhow::Result<Value> {
    socket.send(json!({ "message": words }).to_string()).await?;
    socket.next().await
}

/// A frame, with the spelling of its time and of its end put into one: Django writes `+00:00`.
fn told(mut frame: Value) -> Value {
    let at = frame["timestamp"].as_str().unwrap_or_default().replace("+00:00", "Z");
    frame["timestamp"] = Value::from(at);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn an_afternoon() -> anyhow::Result<()> {
    // Morning: people chat in Django.
    let site = Site::new().await?;
    let (_daphne, django) = site.serve().await?;
    let (customer, therapist) = (site.token("100")?, site.token("200")?);
    let mut before = Vec::new();
    let mut one = dial(django, ROOM, &customer).await?;
    for words in ["Guten Tag", "is it \"you\"? \u{1F600}"] {
        before.push(told(say(&mut one, words).await?));
    }
    let mut other = dial(django, ROOM, &therapist).await?;
    before.push(told(say(&mut other, "It is.").await?));
    drop((one, other));

    // It moves in, while Django runs.
    let sandbox =
        Sandbox::start_with(Backend::Sqlite, |config| config.auth.jwt.secret = Secret::new(SECRET_KEY)).await?;
    let url = format!("http://{}", sandbox.grpc);
    let settings = [
        ("SWITCHBOARD_DATA_DIR", site.directory.path().join("data").display().to_string()),
        ("SWITCHBOARD_GRPC__TOKEN", sandbox.secrets.grpc_token.expose().to_owned()),
        ("SWITCHBOARD_SERVICES__IDENTITY", url.clone()),
        ("SWITCHBOARD_SERVICES__CHAT", url),
    ];
    let switchboard = |arguments: &[&str]| -> anyhow::Result<String> {
        let (code, out, err) = process::run(arguments, &settings)?;
        ensure!(code == 0, "{arguments:?}: {out}{err}");
        Ok(out)
    };
    let file = site.directory.path().join("chat.jsonl");
    let name = file.display().to_string();
    std::fs::write(&file, site.django(&["switchboard_export"], "")?)?;
    switchboard(&["import", &name])?;
    let verified = switchboard(&["import", "--verify", &name])?;
    assert!(verified.contains("users                    4") && verified.contains("the same"), "{verified}");

    // The same token, the same path, the same frames: what came after the first message.
    let after = format!("{ROOM}?after={}", before[0]["message_id"].as_str().context("an id")?);
    let mut one = dial(sandbox.edge, &after, &customer).await?;
    assert_eq!([told(one.next().await?), told(one.next().await?)], [before[1].clone(), before[2].clone()]);

    // Side by side: the other pair is still at Django, and moves later.
    let noon = "2020-01-01T00:00:00Z";
    let mut late = dial(django, OTHER_ROOM, &site.token("101")?).await?;
    let late = told(say(&mut late, "I am late").await?);
    std::fs::write(&file, site.django(&["switchboard_export", "--since", noon], "")?)?;
    let imported = switchboard(&["import", &name])?;
    assert!(imported.contains("messages: 1 new, 0 changed, 3 there already"), "{imported}");

    // Evening: they chat here.
    let here = told(say(&mut one, "Here we are").await?);
    assert!(here["message_id"].as_str() > late["message_id"].as_str(), "{here}");
    let mut other = dial(sandbox.edge, &after, &therapist).await?;
    for frame in [&before[1], &before[2], &here] {
        assert_eq!(told(other.next().await?), *frame);
    }

    // And back: Django has all of it, by the ids that clients know.
    let lines = switchboard(&["export", "-", "--since", noon])?;
    assert_eq!(site.django(&["switchboard_import"], &lines)?.trim(), "1 new messages, 4 were here already");
    assert_eq!(site.django(&["switchboard_import"], &lines)?.trim(), "0 new messages, 5 were here already");
    // What is of somebody whom Django does not know is told, and does not stop the rest.
    let stranger = lines.replace(r#""sender_id":"100""#, r#""sender_id":"999""#).replace("Here we are", "Who are we?");
    let wrong = site.django(&["switchboard_import"], &stranger).expect_err("a stranger").to_string();
    assert!(wrong.contains("1 messages are of people who are not here"), "{wrong}");
    let stored = site.messages()?;
    let expected: Vec<(i64, i64, String)> = [&before[0], &before[1], &before[2], &late, &here]
        .into_iter()
        .map(|frame| {
            let number = |name: &str| frame[name].as_str().and_then(|text| text.parse().ok()).context("a number");
            Ok((number("message_id")?, number("sender_id")?, frame["message"].as_str().context("words")?.to_owned()))
        })
        .collect::<anyhow::Result<_>>()?;
    assert_eq!(stored, expected);
    let mut again = dial(django, ROOM, &customer).await?;
    let last = say(&mut again, "back").await?;
    assert!(
        site.messages()?
            .last()
            .is_some_and(|(pk, _, words)| words == "back" && last["message_id"].as_str() == Some(&pk.to_string()))
    );
    Ok(())
}
