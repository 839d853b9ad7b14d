//! The people of a room, who hear what happens in it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use switchboard_proto::notification::v1::NotifyRequest;
use switchboard_tests::Client;
use tokio::time::timeout;

use super::{Actor, Entered, Seats, World};

/// Until a frame that shall come counts as missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// What no socket takes for a frame.
const NONSENSE: &str = "?";

/// Some people's sockets in one place.
pub(super) struct Room {
    name: String,
    is_closed: bool,
    sockets: Vec<(Actor, Client)>,
    marked: u64,
    /// Who came to be seen.
    came: Vec<Client>,
}

impl Room {
    /// Everybody comes in, and hears what there is to hear at first.
    pub(super) async fn open(world: &World, seats: &Seats) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for person in &seats.people {
            let actor = Actor::read(person);
            let path = if person.starts_with("student") { "/ws/chat/my-conversation/" } else { &seats.path };
            match world.enter(&actor, path).await? {
                Entered::In(client) => sockets.push((actor, *client)),
                Entered::Refused(status) => bail!("{person} was refused: HTTP {status}"),
            }
        }
        let (name, is_closed) = (seats.name.clone(), seats.is_closed);
        let mut room = Self { name, is_closed, sockets, marked: 0, came: Vec::new() };
        for index in 0..room.sockets.len() {
            room.settle(index).await.with_context(|| format!("the sockets of {}", room.name))?;
        }
        room.mark(world).await.with_context(|| format!("the people of {}", room.name))?;
        Ok(room)
    }

    pub(super) fn index(&self, who: &str) -> Option<usize> {
        self.sockets.iter().position(|(actor, _)| actor.name == who)
    }

    pub(super) fn people(&self) -> impl Iterator<Item = (usize, &str)> {
        self.sockets.iter().enumerate().map(|(index, (actor, _))| (index, actor.name.as_str()))
    }

    pub(super) async fn send(&mut self, index: usize, text: String) -> anyhow::Result<()> {
        self.sockets[index].1.send(text).await
    }

    /// The next frame; none when nothing comes.
    pub(super) async fn next(&mut self, index: usize) -> anyhow::Result<Option<Value>> {
        match timeout(PATIENCE, self.sockets[index].1.next()).await {
            Ok(frame) => Ok(Some(frame?)),
            Err(_) => Ok(None),
        }
    }

    /// What a socket hears until it answers nonsense: all that it sent before has been taken then.
    pub(super) async fn settle(&mut self, index: usize) -> anyhow::Result<Vec<Value>> {
        self.send(index, NONSENSE.to_owned()).await?;
        let mut heard = Vec::new();
        loop {
            let frame = self.next(index).await?.context("an answer to nonsense")?;
            if is_answer_to_nonsense(&frame) {
                return Ok(heard);
            }
            heard.push(frame);
        }
    }

    /// Something happens that everybody is told of: who heard what before it.
    pub(super) async fn mark(&mut self, world: &World) -> anyhow::Result<Vec<String>> {
        let mut heard = Vec::new();
        if self.is_closed && self.name.starts_with("mobile") {
            // Who came and went is told in a closed conversation, too; and so is who types.
            self.send(0, json!({ "type": "typing_indicator", "is_typing": true }).to_string()).await?;
            for index in 0..self.sockets.len() {
                loop {
                    let frame = self.next(index).await?.context("the typing was not heard")?;
                    if frame["type"] == "typing_indicator" {
                        break;
                    }
                    heard.push(format!("{} heard {frame}", self.sockets[index].0.name));
                }
            }
            return Ok(heard);
        }
        if self.is_closed {
            // The other protocols tell nothing of a closed conversation that anybody could wait for.
            for index in 0..self.sockets.len() {
                let frames = self.settle(index).await?;
                heard.extend(frames.into_iter().map(|frame| format!("{} heard {frame}", self.sockets[index].0.name)));
            }
            return Ok(heard);
        }
        self.marked += 1;
        let marker = format!("marker-{}", self.marked);
        // A place that nobody can have reported by another line.
        let latitude = 10.0 + f64::from(u32::try_from(self.marked)?) / 1_000.0;
        match self.name.as_str() {
            "presence" | "anybody" => {
                let came = world.enter(&Actor::read(&format!("{marker}-{}", self.name)), "/ws/presence/").await?;
                if let Entered::In(client) = came {
                    self.came.push(*client);
                }
            }
            "notifications" => {
                for (actor, _) in &self.sockets {
                    let request = NotifyRequest {
                        user_id: actor.name.clone(),
                        title: marker.clone(),
                        ..NotifyRequest::default()
                    };
                    world.sandbox.notifications()?.notify(request).await?;
                }
            }
            name => {
                let frame = match name.split('-').next().unwrap_or_default() {
                    "location" => json!({ "latitude": latitude, "longitude": 0 }),
                    "clinic" => json!({ "content": marker }),
                    "mobile" => json!({ "type": "chat_message", "content": marker }),
                    "consultation" => json!({ "type": "chat_message", "message": marker }),
                    _ => json!({ "message": marker }),
                };
                self.send(0, frame.to_string()).await?;
            }
        }
        for index in 0..self.sockets.len() {
            loop {
                let frame = self.next(index).await?.with_context(|| format!("{marker} was not heard"))?;
                if frame["latitude"] == latitude || is_marked(&frame, &marker) {
                    break;
                }
                heard.push(format!("{} heard {frame}", self.sockets[index].0.name));
            }
            if self.name == "notifications" {
                self.next(index).await?.context("a count after each notification")?;
            }
        }
        Ok(heard)
    }
}

impl Room {
    /// Somebody who is out says this, and then somebody else says something: what came of it that should not. Takes the
    /// socket out of the room.
    pub(super) async fn says_in_vain(
        &mut self,
        gone: usize,
        frames: &[&str],
        world: &World,
    ) -> anyhow::Result<Vec<String>> {
        let (who, name) = (self.sockets[gone].0.name.clone(), self.name.clone());
        let (_, mut client) = self.sockets.remove(gone);
        let mut wrong = Vec::new();
        for frame in frames {
            let frame = world.filled(frame);
            client.send(frame.clone()).await?;
            loop {
                let told =
                    timeout(PATIENCE, client.next()).await.with_context(|| format!("no refusal of {frame}"))??;
                if told["error"].is_string() || told["type"] == "error" {
                    break;
                }
                // What others say is heard until the credential ends.
                if !told.to_string().contains("marker-") {
                    wrong.push(format!("{name}: {who} said {frame} and was told {told}"));
                }
            }
            let heard = self.mark(world).await?;
            wrong.extend(heard.into_iter().map(|heard| format!("{name}: {who} said {frame}: {heard}")));
        }
        Ok(wrong)
    }
}

/// Whether a frame is made by a marker, and not by one whose number only begins alike.
fn is_marked(frame: &Value, marker: &str) -> bool {
    let text = frame.to_string();
    text.contains(&format!("\"{marker}\"")) || text.contains(&format!("\"{marker}-"))
}

/// Whether a frame is what a socket says to what is no JSON.
pub(super) fn is_answer_to_nonsense(frame: &Value) -> bool {
    const ANSWERS: [&str; 4] =
        ["the frame must be a JSON object", "Invalid JSON", "Invalid JSON format", "Invalid JSON."];
    [&frame["error"], &frame["message"]].iter().any(|said| said.as_str().is_some_and(|said| ANSWERS.contains(&said)))
}

/// What becomes of a visitor: `in`, or what is said before the end and the end.
pub(super) async fn fate(entered: Entered) -> anyhow::Result<String> {
    let mut client = match entered {
        Entered::In(client) => client,
        Entered::Refused(status) => return Ok(format!("HTTP {status}")),
    };
    // Whoever was refused may be gone already.
    let _ = client.send(NONSENSE).await;
    let mut heard = Vec::new();
    loop {
        match timeout(PATIENCE, client.next_or_close()).await.context("neither in nor out")?? {
            Ok(frame) if is_answer_to_nonsense(&frame) => return Ok("in".to_owned()),
            Ok(frame) => heard.push(frame.to_string()),
            Err((code, reason)) => {
                heard.push(format!("{code} {reason}"));
                return Ok(heard.join(" "));
            }
        }
    }
}
