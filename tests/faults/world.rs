//! The cluster with everybody who uses it.

use std::{
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use switchboard::provision::provision;
use switchboard_chassis::grpc::Peer;
use switchboard_proto::chat::v1::{Send, SendMessageRequest, chat_service_client::ChatServiceClient};
use tokio::task::JoinSet;

use crate::{
    LIVENESS,
    calls::Caller,
    cluster::{Cluster, peer},
    inbox::{self, Inbox},
    presence::{People, View, Watcher},
    scene::{Dice, Scene, lock},
    socket::{Dialer, run},
    traffic::{self, Side},
};

const CONVERSATIONS: usize = 6;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Two who talk with each other.
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) sides: [Of<traffic::Record>; 2],
    /// It writes, too, as one of the two.
    pub(crate) service: Of<traffic::Record>,
}

impl Conversation {
    /// Everybody who writes into it.
    pub(crate) fn speakers(&self) -> impl Iterator<Item = &Of<traffic::Record>> {
        self.sides.iter().chain([&self.service])
    }
}

/// A user, and what is known of the user.
pub(crate) struct Of<T> {
    pub(crate) user: String,
    pub(crate) record: Arc<Mutex<T>>,
}

pub(crate) struct World {
    pub(crate) scene: Arc<Scene>,
    pub(crate) cluster: Cluster,
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) inboxes: Vec<Of<inbox::Record>>,
    pub(crate) views: Vec<Of<View>>,
    pub(crate) people: Arc<People>,
    /// The way to each service.
    pub(crate) services: [Peer; 2],
    /// Front ends and the services that notify. They end with the world.
    tasks: JoinSet<()>,
}

impl World {
    /// Starts the cluster, lets everybody come, and begins each conversation.
    pub(crate) async fn begin(directory: &Path, seed: u64) -> anyhow::Result<Self> {
        let scene = Arc::new(Scene::new(directory)?);
        let cluster = Cluster::start(directory).await?;
        let services = [peer(cluster.services[0].address)?, peer(cluster.services[1].address)?];
        provision(&everybody(), services[0].clone(), services[0].clone()).await?;
        let mut world = Self {
            scene,
            cluster,
            conversations: Vec::new(),
            inboxes: Vec::new(),
            views: Vec::new(),
            people: Arc::default(),
            services,
            tasks: JoinSet::new(),
        };
        for n in 0..CONVERSATIONS {
            let client = world.come(&client(n), n, n % 2, seed)?;
            let expert = world.come(&expert(n), n, (n + 1) % 2, seed)?;
            let service = world.write(n, seed);
            world.conversations.push(Conversation { id: conversation(n), sides: [client, expert], service });
        }
        for home in 0..2 {
            world.watch(&format!("watcher-{home}"), home, true)?;
        }
        world.until("everybody is connected", World::is_everybody_here).await?;
        let mut chat = ChatServiceClient::new(world.services[0].clone());
        for (n, Conversation { id, .. }) in world.conversations.iter().enumerate() {
            let send = Some(Send { content: "the first message".to_owned(), ..Send::default() });
            let request = SendMessageRequest { conversation_id: id.clone(), user_id: client(n), send };
            chat.send_message(request).await?;
        }
        world
            .until("everybody sees the first message", |world| {
                let mut sides = world.conversations.iter().flat_map(|conversation| &conversation.sides);
                sides.find(|side| lock(&side.record).shown.is_empty()).map_or(Ok(()), |side| Err(side.user.clone()))
            })
            .await?;
        Ok(world)
    }

    /// A user comes, with three sockets, and a service begins to notify the user.
    fn come(&mut self, user: &str, n: usize, home: usize, seed: u64) -> anyhow::Result<Of<traffic::Record>> {
        let purpose = (n * 2 + home) as u64;
        let edges = [self.cluster.edges[0].address, self.cluster.edges[1].address];
        let dialer = || Dialer::new(edges, home, user);
        let (side, record) = Side::new(user, &conversation(n), self.scene.clone(), Dice::new(seed, purpose));
        self.tasks.spawn(run(side, dialer()?, self.scene.clone()));
        let (front_end, notified) = Inbox::new(user, self.scene.clone());
        self.tasks.spawn(run(front_end, dialer()?, self.scene.clone()));
        self.tasks.spawn(self.caller(seed, 1000 + purpose).notify(user.to_owned(), notified.clone()));
        self.inboxes.push(Of { user: user.to_owned(), record: notified });
        self.watch(user, home, false)?;
        Ok(Of { user: user.to_owned(), record })
    }

    /// A service writes into a conversation as its expert.
    fn write(&mut self, n: usize, seed: u64) -> Of<traffic::Record> {
        let (speaker, record) = (format!("service-{n}"), Arc::<Mutex<traffic::Record>>::default());
        let caller = self.caller(seed, 2000 + n as u64);
        self.tasks.spawn(caller.write(conversation(n), expert(n), speaker.clone(), record.clone()));
        Of { user: speaker, record }
    }

    fn caller(&self, seed: u64, purpose: u64) -> Caller {
        Caller { instances: self.services.clone(), scene: self.scene.clone(), dice: Dice::new(seed, purpose) }
    }

    fn watch(&mut self, user: &str, home: usize, stays_home: bool) -> anyhow::Result<()> {
        let edges = [self.cluster.edges[0].address, self.cluster.edges[1].address];
        let dialer = Dialer { stays_home, ..Dialer::new(edges, home, user)? };
        let (watcher, view) = Watcher::new(user, self.people.clone(), self.scene.clone());
        self.tasks.spawn(run(watcher, dialer, self.scene.clone()));
        self.views.push(Of { user: user.to_owned(), record: view });
        Ok(())
    }

    /// That nothing was seen so far that must not be, and every process runs.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let violations = self.scene.violations();
        ensure!(violations.is_empty(), "{}", violations.join("\n"));
        for node in self.cluster.nodes() {
            node.check()?;
        }
        if let Some(ended) = self.tasks.try_join_next() {
            bail!("a checker ended: {ended:?}");
        }
        Ok(())
    }

    /// Waits until something is so; it says why it is not yet.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&Self) -> Result<(), String>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            self.check()?;
            match is_so(self) {
                Ok(()) => return Ok(()),
                Err(why) => ensure!(begun.elapsed() < LIVENESS, "after {LIVENESS:?}, not yet: {what}: {why}"),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until everybody was answered whatever they said after a moment.
    pub(crate) async fn flows(&mut self) -> anyhow::Result<()> {
        let since = Instant::now();
        self.until("everybody is answered again", |world| {
            for speaker in world.conversations.iter().flat_map(Conversation::speakers) {
                let record = lock(&speaker.record);
                let mut sent = record.sent.iter().rev().take_while(|sent| sent.at >= since);
                if !sent.any(|sent| sent.echo.is_some()) {
                    return Err(format!("nothing that {} said came back", speaker.user));
                }
            }
            for Of { user, record } in &world.inboxes {
                let record = lock(record);
                let mut asked = record.asked.iter().rev().take_while(|asked| asked.at >= since);
                if !asked.any(|asked| asked.answer.is_some()) {
                    return Err(format!("no call to notify {user} was answered"));
                }
            }
            world.is_everybody_here()
        })
        .await
    }

    /// Whether everything that was said came back, or was answered.
    pub(crate) fn is_all_answered(&self) -> bool {
        let mut speakers = self.conversations.iter().flat_map(Conversation::speakers);
        speakers.all(|speaker| lock(&speaker.record).sent.iter().all(|sent| sent.echo.is_some()))
            && self.inboxes.iter().all(|inbox| lock(&inbox.record).asked.iter().all(|asked| asked.answer.is_some()))
    }

    fn is_everybody_here(&self) -> Result<(), String> {
        let sides = self.conversations.iter().flat_map(|conversation| &conversation.sides);
        let away = |what: &str, user: &str| Err(format!("the {what} socket of {user} is not open"));
        for side in sides {
            if !lock(&side.record).is_open {
                return away("chat", &side.user);
            }
        }
        for Of { user, record } in &self.inboxes {
            if !lock(record).is_open {
                return away("notifications", user);
            }
        }
        for Of { user, record } in &self.views {
            if !lock(record).is_open {
                return away("presence", user);
            }
        }
        Ok(())
    }
}

fn client(n: usize) -> String {
    format!("client-{n}")
}

fn expert(n: usize) -> String {
    format!("expert-{n}")
}

fn conversation(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

fn everybody() -> String {
    let mut lines = String::new();
    for n in 0..CONVERSATIONS {
        let (id, client, expert) = (conversation(n), client(n), expert(n));
        let _ = writeln!(lines, r#"{{"user": {{"id": "{client}", "roles": ["client"]}}}}"#);
        let _ = writeln!(lines, r#"{{"user": {{"id": "{expert}", "roles": ["expert"]}}}}"#);
        let _ = writeln!(
            lines,
            r#"{{"conversation": {{"kind": "CONVERSATION_KIND_CONSULTATION", "id": "{id}", "participants": [{{"user_id": "{client}", "role": "client"}}, {{"user_id": "{expert}", "role": "expert"}}]}}}}"#
        );
    }
    lines
}
