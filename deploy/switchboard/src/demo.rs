//! The demonstration: some people, their conversations, how to reach them, and some life.

mod life;

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, path::Path};

use serde_json::json;
use switchboard_chassis::{Micros, Secret, grpc::Peer};
use switchboard_identity::jwt;
use switchboard_proto::identity::v1::{CreateSessionRequest, User, identity_service_client::IdentityServiceClient};

pub use life::live;

/// Who is there, for [`provision`](crate::provision::provision).
pub const PEOPLE: &str = include_str!("../demo/people.jsonl");
/// The clinic chat, with the id that clinic.md prints.
const CHAT_ID: &str = "550e8400-e29b-41d4-a716-446655440000";
/// The device, with the id that mobile.md prints.
const DEVICE_ID: &str = "abc123xyz";
/// Long enough for a day of trying things out.
const TOKEN_TTL_S: i64 = 24 * 3600;

/// The consultation.
const CONSULTATION_ID: &str = "c0500000-0000-4000-8000-000000000000";

/// Somebody of the demonstration, and where that person's client connects.
struct Person {
    protocol: &'static str,
    who: &'static str,
    /// Path and query, with the credential.
    target: String,
}

/// Who may be chosen on the page: the protocol, the id, the name and the role.
const CAST: [(&str, &str, &str, &str); 12] = [
    ("consultation", "801", "Clara Client", "client"),
    ("consultation", "802", "Ed Expert", "expert"),
    ("consultation", "900", "Sam Staff", "staff"),
    ("therapy", "123", "Cleo Customer", "customer"),
    ("therapy", "456", "Theo Therapist", "therapist"),
    ("therapy", "900", "Sam Staff", "staff"),
    ("clinic", "701", "Pat Patient", "patient"),
    ("clinic", "702", "Dora Doctor", "professional"),
    ("mobile", DEVICE_ID, "the device abc123xyz", "device"),
    ("mobile", "900", "Sam Staff", "staff"),
    ("mentoring", "5", "John Student", "student"),
    ("mentoring", "6", "Tess Teacher", "teacher"),
];

/// Session cookies of the people of mentoring.
pub struct Sessions {
    /// John's.
    pub student: String,
    /// Tess's.
    pub teacher: String,
}

impl Sessions {
    /// Opens them.
    ///
    /// # Errors
    /// When the identity service refuses.
    pub async fn open(identity: Peer) -> anyhow::Result<Self> {
        let mut identity = IdentityServiceClient::new(identity);
        let mut open = async |user_id: &str| {
            let request = CreateSessionRequest { user_id: user_id.to_owned(), ttl_seconds: TOKEN_TTL_S };
            anyhow::Ok(identity.create_session(request).await?.into_inner().session_key)
        };
        Ok(Self { student: open("5").await?, teacher: open("6").await? })
    }
}

/// The people with fresh tokens.
pub struct Demo {
    /// By id.
    tokens: BTreeMap<&'static str, String>,
    people: Vec<Person>,
    /// Their other sockets; the protocol is the socket's name.
    live: Vec<Person>,
}

impl Demo {
    /// Makes tokens for everybody.
    ///
    /// # Errors
    /// When a token cannot be made.
    pub fn new(jwt_secret: &Secret, now: Micros) -> anyhow::Result<Self> {
        let therapy = "/ws/chat/123/456/";
        let clinic = format!("/ws/chat/{CHAT_ID}/");
        let mobile = "/ws/mobile/chat/123/";
        let consultation = format!("/ws/chat/{CONSULTATION_ID}/");
        let people = [
            ("therapy", "Cleo, customer 123", "123", therapy),
            ("therapy", "Theo, therapist 456", "456", therapy),
            ("clinic", "Pat, patient 701", "701", clinic.as_str()),
            ("clinic", "Dora, professional 702", "702", clinic.as_str()),
            ("mobile", "the device abc123xyz", DEVICE_ID, mobile),
            ("mobile", "Sam, staff 900", "900", mobile),
            ("consultation", "Clara, client 801", "801", consultation.as_str()),
            ("consultation", "Ed, expert 802", "802", consultation.as_str()),
        ];
        let live = [
            ("location", "Cleo, customer 123", "123", "/ws/location/123/456/"),
            ("notifications", "Clara, client 801", "801", "/ws/notifications/"),
            ("presence", "Clara, client 801", "801", "/ws/presence/"),
            ("presence", "Ed, expert 802", "802", "/ws/presence/"),
        ];
        let tokens = CAST
            .iter()
            .filter(|(protocol, id, ..)| *protocol != "mentoring" && *id != DEVICE_ID)
            .map(|(_, id, ..)| {
                let user = User { id: (*id).to_owned(), ..User::default() };
                Ok((*id, jwt::sign(jwt_secret, &user, now, TOKEN_TTL_S)?))
            })
            .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let person = |(protocol, who, id, path): (&'static str, &'static str, &'static str, &str)| {
            let credential = match tokens.get(id) {
                Some(token) => format!("token={token}"),
                None => format!("device_id={id}"),
            };
            Person { protocol, who, target: format!("{path}?{credential}") }
        };
        let (people, live) = (people.map(person).into(), live.map(person).into());
        Ok(Self { tokens, people, live })
    }

    /// What the page needs to know.
    #[must_use]
    pub fn playground(&self, sessions: &Sessions) -> String {
        let people = CAST.map(|(protocol, id, name, role)| {
            let (kind, credential) = match (self.tokens.get(id), id) {
                (Some(token), _) => ("token", token.as_str()),
                (None, "5") => ("session", sessions.student.as_str()),
                (None, "6") => ("session", sessions.teacher.as_str()),
                (None, _) => ("device_id", id),
            };
            json!({ "protocol": protocol, "id": id, "name": name, "role": role, kind: credential })
        });
        let conversations = json!({
            "consultation": [CONSULTATION_ID],
            "therapy": ["123", "456"],
            "clinic": [CHAT_ID],
            "mobile": ["123"],
            "mentoring": ["123"],
        });
        json!({ "people": people, "conversations": conversations, "calls": true }).to_string()
    }

    /// What a person at a terminal needs to know.
    #[must_use]
    pub fn guide(
        &self,
        (edge, grpc, admin): (SocketAddr, SocketAddr, SocketAddr),
        data_dir: &Path,
        grpc_token: &Secret,
        sessions: &Sessions,
    ) -> String {
        let mut text = format!(
            "\nSwitchboard demo: everything in one process, stored in {}\n\n  open  http://{edge}/  and chat as two people, in five protocols;\n        see a therapist move, notifications arrive, people come and go\n  see   http://{edge}/#live/{}\n        for connections, rates and latency as they move (that token may do everything over gRPC);\n        http://{admin}/metrics  has all that is counted\n",
            data_dir.display(),
            grpc_token.expose()
        );
        let mut protocol = "";
        for person in self.people.iter().chain(&self.live) {
            if person.protocol != protocol {
                protocol = person.protocol;
                let _ = write!(text, "\n{protocol}\n");
            }
            let _ = write!(text, "  {}\n    ws://{edge}{}\n", person.who, person.target);
        }
        let _ = write!(
            text,
            "\nmentoring (by session cookie)\n  \
             John, student 5\n    \
             wscat -H 'Cookie: sessionid={}' -c ws://{edge}/ws/chat/my-conversation/\n  \
             Tess, teacher 6\n    \
             wscat -H 'Cookie: sessionid={}' -c ws://{edge}/ws/chat/conversations/123/\n",
            sessions.student, sessions.teacher
        );
        let person = |protocol: &str| self.people.iter().find(|person| person.protocol == protocol);
        if let (Some(cleo), Some(pat)) = (person("therapy"), person("clinic")) {
            let _ = write!(
                text,
                "\nwith wscat (npm install -g wscat)\n  \
                 wscat -c 'ws://{edge}{}' -x '{{\"message\": \"Hello\"}}' -w 2\n  \
                 wscat -c 'ws://{edge}{}' -x '{{\"content\": \"Hello, doctor!\"}}' -w 2\n",
                cleo.target, pat.target
            );
        }
        let grpcurl = format!("grpcurl -plaintext -H 'authorization: Bearer {}'", grpc_token.expose());
        let _ = write!(
            text,
            "\nwith grpcurl\n  \
             {grpcurl} {grpc} list\n  \
             {grpcurl} -d '{{\"user_id\": \"701\"}}' {grpc} switchboard.identity.v1.IdentityService/GetUser\n  \
             {grpcurl} -d '{{\"conversation_id\": \"{CHAT_ID}\"}}' {grpc} switchboard.chat.v1.ChatService/ListMessages\n  \
             {grpcurl} -d '{{\"user_id\": \"801\", \"title\": \"Hello from grpcurl\"}}' {grpc} switchboard.notification.v1.NotificationService/Notify\n  \
             {grpcurl} {grpc} switchboard.presence.v1.PresenceService/ListOnline\n  \
             {grpcurl} -d '{{\"pair\": {{\"customer_id\": \"123\", \"therapist_id\": \"456\"}}}}' {grpc} switchboard.location.v1.LocationService/GetLastPosition\n  \
             {grpcurl} -d @ {grpc} switchboard.chat.v1.ChatService/Converse <<EOF\n  \
             {{\"session\": 1, \"join\": {{\"conversation_id\": \"{CHAT_ID}\", \"user_id\": \"702\"}}}}\n  \
             {{\"session\": 1, \"send\": {{\"content\": \"Hello from grpcurl\"}}}}\n  \
             EOF\n\nStop with Ctrl-C. Everything is still there at the next start; remove {} to begin anew.\n",
            data_dir.display()
        );
        text
    }
}
