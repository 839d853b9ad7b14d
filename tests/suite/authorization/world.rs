//! The people of the tables, what they show, and what is stored when they come.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use serde_json::Value;
use switchboard::config::Config;
use switchboard_chassis::Secret;
use switchboard_identity::jwt;
use switchboard_proto::{
    chat::v1::{CloseConversationRequest, MessageStatus, Receipt, Send, SendMessageRequest, UpdateReceiptsRequest},
    identity::v1::{CreateSessionRequest, DeactivateDeviceRequest, DeleteSessionRequest, User},
    notification::v1::NotifyRequest,
};
use switchboard_tests::{Backend, Client, Sandbox, client};

const PEOPLE: &str = include_str!("people.jsonl");

/// Who says `of a` and who `of b`, and in which role.
type Sides = [(&'static str, &'static str); 2];

/// The conversations: a name, the id, the sides; whether it is closed then.
const CONVERSATIONS: [(&str, &str, Sides, bool); 17] = [
    ("therapy", "11111111-0000-4000-8000-000000000011", [("customer", ""), ("therapist", "")], false),
    ("therapy-2", "11111111-0000-4000-8000-000000000012", [("customer-2", ""), ("therapist-2", "")], false),
    ("therapy-closed", "11111111-0000-4000-8000-000000000013", [("customer-2", ""), ("therapist", "")], true),
    ("clinic", "22222222-0000-4000-8000-000000000021", [("patient", ""), ("professional", "")], false),
    ("clinic-2", "22222222-0000-4000-8000-000000000022", [("patient-2", ""), ("professional-2", "")], false),
    ("clinic-closed", "22222222-0000-4000-8000-000000000023", [("patient-2", ""), ("professional", "")], true),
    ("clinic-as-patient", "22222222-0000-4000-8000-000000000024", [("both", ""), ("professional-2", "")], false),
    ("clinic-as-professional", "22222222-0000-4000-8000-000000000025", [("patient-2", ""), ("both", "")], false),
    ("clinic-of-oneself", "22222222-0000-4000-8000-000000000026", [("both", ""), ("both", "professional")], false),
    ("mobile", "33333333-0000-4000-8000-000000000031", [("phone", ""), ("staff", "staff")], false),
    ("mobile-2", "33333333-0000-4000-8000-000000000032", [("phone-2", ""), ("staff", "staff")], false),
    ("mobile-closed", "33333333-0000-4000-8000-000000000033", [("phone", ""), ("staff", "staff")], true),
    ("mentoring", "44444444-0000-4000-8000-000000000041", [("student", ""), ("teacher", "")], false),
    ("mentoring-2", "44444444-0000-4000-8000-000000000042", [("student-2", ""), ("trainer-2", "")], false),
    ("mentoring-closed", "44444444-0000-4000-8000-000000000043", [("student-4", ""), ("teacher", "")], true),
    ("consultation", "55555555-0000-4000-8000-000000000051", [("client", ""), ("expert", "")], false),
    ("consultation-2", "55555555-0000-4000-8000-000000000052", [("client-2", ""), ("expert-2", "")], false),
];
const CONSULTATION_CLOSED: &str = "55555555-0000-4000-8000-000000000053";

/// Somebody of a table, and by what: `student by cookie from https://evil.example`, `customer claiming staff`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor {
    pub(super) name: String,
    /// `jwt`, `cookie`, `device`, ...; empty for what the person usually shows.
    by: String,
    from: String,
    claiming: String,
}

impl Actor {
    pub(super) fn read(text: &str) -> Self {
        let (text, claiming) = text.split_once(" claiming ").unwrap_or((text, ""));
        let (text, from) = text.split_once(" from ").unwrap_or((text, ""));
        let (name, by) = text.split_once(" by ").unwrap_or((text, ""));
        Self { name: name.to_owned(), by: by.to_owned(), from: from.to_owned(), claiming: claiming.to_owned() }
    }

    fn credential(&self) -> &str {
        let is_of_mentoring = ["student", "teacher", "trainer"].iter().any(|role| self.name.starts_with(role));
        match self.by.as_str() {
            "" if self.name == "nobody" => "nothing",
            "" if self.name.starts_with("phone") => "device",
            "" if is_of_mentoring && self.claiming.is_empty() => "cookie",
            "" => "jwt",
            by => by,
        }
    }
}

/// A visitor who was let in, or not.
pub(super) enum Entered {
    In(Box<Client>),
    /// The upgrade was refused, with this status.
    Refused(u16),
}

/// A system with everybody in it.
pub(super) struct World {
    pub(super) sandbox: Sandbox,
    names: HashMap<String, String>,
    cookies: HashMap<String, String>,
    _callers: tempfile::TempDir,
}

impl World {
    pub(super) async fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// The same with other settings.
    pub(super) async fn start_with(change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let callers = directory.path().join("callers.toml");
        let caller = |scope: &str| {
            format!("[[callers]]\nname = '{scope}'\nscopes = ['{scope}']\ntoken = 'the-token-of-{scope}'\n")
        };
        std::fs::write(&callers, ["read", "write", "admin"].map(caller).concat())?;
        let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
            config.grpc.callers_file = callers;
            config.edge.rate_limits.consultation = 0;
            config.edge.sockets_per_user_max = 0;
            config.chat.notify_kinds = Vec::new();
            change(config);
        })
        .await?;
        sandbox.provision(PEOPLE).await?;
        sandbox.identity()?.deactivate_device(DeactivateDeviceRequest { device_id: "phone-off".into() }).await?;
        let mut world = Self { sandbox, names: HashMap::new(), cookies: HashMap::new(), _callers: directory };
        world.fill().await?;
        Ok(world)
    }

    /// Stores what the tables name, and opens everybody's session.
    async fn fill(&mut self) -> anyhow::Result<()> {
        let closed = ("consultation-closed", CONSULTATION_CLOSED, [("client", ""), ("expert", "")], true);
        for (name, id, people, is_closed) in CONVERSATIONS.into_iter().chain([closed]) {
            self.names.insert(name.to_owned(), id.to_owned());
            let mut chat = self.sandbox.chat()?;
            for ((user_id, role), side) in people.into_iter().zip(["a", "b"]) {
                let send = Send { content: format!("of {side}"), role: role.to_owned(), ..Send::default() };
                let (conversation_id, user_id) = (id.to_owned(), user_id.to_owned());
                let request = SendMessageRequest { conversation_id, user_id, send: Some(send) };
                let message = chat.send_message(request).await?.into_inner().message.context("a message")?;
                self.names.insert(format!("{name}.{side}.id"), message.id);
                self.names.insert(format!("{name}.{side}.number"), message.number.to_string());
            }
            if is_closed {
                // Who comes in has read before, so that nobody is told of it.
                for (user_id, role) in people {
                    let receipt = Receipt { status: MessageStatus::Read.into(), all: true, ..Receipt::default() };
                    let (conversation_id, receipt) = (id.to_owned(), Some(receipt));
                    let (user_id, role) = (user_id.to_owned(), role.to_owned());
                    chat.update_receipts(UpdateReceiptsRequest { conversation_id, user_id, role, receipt }).await?;
                }
                chat.close_conversation(CloseConversationRequest { conversation_id: id.to_owned() }).await?;
            }
        }
        for user_id in ["client", "expert"] {
            let request =
                NotifyRequest { user_id: user_id.to_owned(), title: "noted".to_owned(), ..NotifyRequest::default() };
            let noted = self.sandbox.notifications()?.notify(request).await?.into_inner().notification;
            self.names.insert(format!("note.{user_id}"), noted.unwrap_or_default().id);
        }
        for line in PEOPLE.lines().filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_str(line)?;
            if let Some(user_id) = line["user"]["id"].as_str() {
                self.names.insert(format!("token:{user_id}"), self.sandbox.token(user_id)?);
                let key = self.session(user_id).await?;
                self.cookies.insert(user_id.to_owned(), key);
            }
        }
        Ok(())
    }

    pub(super) async fn session(&self, user_id: &str) -> anyhow::Result<String> {
        let request = CreateSessionRequest { user_id: user_id.to_owned(), ttl_seconds: 0 };
        Ok(self.sandbox.identity()?.create_session(request).await?.into_inner().session_key)
    }

    /// Gives a name to something that came.
    pub(super) fn name(&mut self, name: &str, value: String) {
        self.names.insert(name.to_owned(), value);
    }

    /// Puts values in the place of their `{names}`. JSON has other braces: what is not a name stays.
    pub(super) fn filled(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            let inside = &rest[at + 1..];
            let name = inside.find('}').map(|end| &inside[..end]);
            match name.and_then(|name| self.names.get(name).map(|value| (name, value))) {
                Some((name, value)) => {
                    filled.push_str(value);
                    rest = &inside[name.len() + 1..];
                }
                None => {
                    filled.push('{');
                    rest = inside;
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    /// The path with what the actor shows in it, and the headers.
    async fn shown(&self, actor: &Actor, path: &str) -> anyhow::Result<(String, Vec<(&'static str, String)>)> {
        let mut path = self.filled(path);
        let mut headers = Vec::new();
        let mut ask = |parameter: String| {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&parameter);
        };
        let name = actor.name.as_str();
        let user = |roles: &str| User {
            id: name.to_owned(),
            roles: roles.split(' ').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
            ..User::default()
        };
        match actor.credential() {
            "nothing" => {}
            "jwt" | "query" => {
                ask(format!("token={}", self.sandbox.token_for(&user(&actor.claiming), 3600)?));
            }
            "header" => headers.push(("authorization", format!("Bearer {}", self.sandbox.token(name)?))),
            "subprotocol" => {
                headers.push(("sec-websocket-protocol", format!("bearer, {}", self.sandbox.token(name)?)));
            }
            "expired jwt" => ask(format!("token={}", self.sandbox.token_for(&user(""), -10)?)),
            "forged jwt" => ask(format!("token={}", self.forged(&user("staff"))?)),
            "unsigned jwt" => ask(format!("token={}", self.unsigned(name)?)),
            "cookie" => headers.push(("cookie", format!("sessionid={}", self.cookies.get(name).context("a user")?))),
            "ended cookie" => {
                let key = self.session(name).await?;
                let ended = DeleteSessionRequest { session_key: key.clone() };
                self.sandbox.identity()?.delete_session(ended).await?;
                headers.push(("cookie", format!("sessionid={key}")));
            }
            "device" => ask(format!("device_id={name}")),
            "blank device" => ask("device_id=%20".to_owned()),
            other => bail!("`{other}` is no credential"),
        }
        match actor.from.as_str() {
            "" => {}
            "own page" => headers.push(("origin", format!("http://{}", self.sandbox.edge))),
            origin => headers.push(("origin", origin.to_owned())),
        }
        Ok((path, headers))
    }

    /// Signed by somebody else.
    fn forged(&self, user: &User) -> anyhow::Result<String> {
        let now = switchboard_chassis::Clock::System.now();
        Ok(jwt::sign(&Secret::new("another-secret-of-32-bytes-or-more"), user, now, 3600)?)
    }

    /// By the algorithm `none`.
    fn unsigned(&self, user_id: &str) -> anyhow::Result<String> {
        const HEADER: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        let token = self.sandbox.token(user_id)?;
        let claims = token.split('.').nth(1).context("claims")?;
        Ok(format!("{HEADER}.{claims}."))
    }

    /// Opens a socket.
    pub(super) async fn enter(&self, actor: &Actor, path: &str) -> anyhow::Result<Entered> {
        use tokio_tungstenite::tungstenite::Error;
        let (path, headers) = self.shown(actor, path).await?;
        match Client::connect(&format!("ws://{}{path}", self.sandbox.edge), &headers).await {
            Ok(client) => Ok(Entered::In(Box::new(client))),
            Err(error) => match error.downcast_ref::<Error>() {
                Some(Error::Http(response)) => Ok(Entered::Refused(response.status().as_u16())),
                _ => Err(error),
            },
        }
    }

    /// Calls REST: `GET /path` or `POST /path {body}`. A token goes into the header.
    pub(super) async fn call(&self, actor: &Actor, call: &str) -> anyhow::Result<(u16, Value)> {
        let (method, rest) = call.split_once(' ').context("a method")?;
        let (path, body) = rest.split_once(" {").map_or((rest, None), |(path, body)| (path, Some(format!("{{{body}"))));
        let (mut shown, mut headers) = self.shown(actor, path).await?;
        if let (Some(at), false) = (shown.find("token="), actor.by == "query") {
            let token = shown.split_off(at + "token=".len());
            shown.truncate(at - 1);
            headers.push(("authorization", format!("Bearer {token}")));
        }
        let body = body.map(|body| self.filled(&body));
        client::call_with(self.sandbox.edge, method, &shown, &headers, body).await
    }
}
