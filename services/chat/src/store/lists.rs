//! Pages of conversations and messages.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use sqlx::QueryBuilder;
use switchboard_chassis::{Micros, db::Result, on_pool};
use uuid::Uuid;

use super::{
    Store,
    opening::seats,
    rows::{CONVERSATION_COLUMNS, ConversationRow, MESSAGE_COLUMNS, MessageRow, bigint},
};
use crate::model::{Conversation, Kind, Message, Openness};

/// A page ends early after so many bytes of text: gRPC callers refuse answers of more than 4 MiB by default, and one
/// message more always fits.
const PAGE_BYTES: usize = 2 << 20;

/// A conversation as one of its people sees it in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) conversation: Conversation,
    pub(crate) last_message: Option<Message>,
    pub(crate) unread: i64,
}

/// Whose conversations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    pub(crate) user_id: &'a str,
    /// Only those in which the user sits in one of these; none is all.
    pub(crate) roles: &'a [&'a str],
    pub(crate) kind: Kind,
}

/// Where a page of conversations ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConversationKey {
    pub(crate) rank: i32,
    pub(crate) updated_at: Micros,
    pub(crate) id: Uuid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConversationsPage {
    pub(crate) summaries: Vec<Summary>,
    pub(crate) next: Option<ConversationKey>,
    pub(crate) total: i64,
}

/// Where a page of messages begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessagesFrom {
    /// Above this, or below it when the newest come first; 0 begins at the end that comes first.
    pub(crate) seq: u64,
    pub(crate) skip: u32,
    pub(crate) newest_first: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessagesPage {
    pub(crate) messages: Vec<Message>,
    /// Whether there are more behind these.
    pub(crate) more: bool,
}

/// Narrows a query over seats to some roles; none narrows nothing.
macro_rules! in_roles {
    ($query:expr, $roles:expr) => {
        if !$roles.is_empty() {
            $query.push(" AND role IN (");
            let mut list = $query.separated(", ");
            for role in $roles {
                list.push_bind(*role);
            }
            $query.push(")");
        }
    };
}

impl Store {
    /// A user's conversations of a kind, the latest activity first; with `open_first`, open ones before closed ones.
    pub(crate) async fn conversations(
        &self,
        of: Whose<'_>,
        open_first: bool,
        after: Option<ConversationKey>,
        skip: u32,
        size: u32,
    ) -> Result<ConversationsPage> {
        let Whose { user_id, roles, kind } = of;
        let closed = i32::from(Openness::Closed);
        let (mut rows, total): (Vec<ConversationRow>, i64) = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!(
                "SELECT {CONVERSATION_COLUMNS} FROM conversations
                 WHERE id IN (SELECT conversation_id FROM seats WHERE user_id = "
            ));
            query.push_bind(user_id).push(" AND kind = ").push_bind(i32::from(kind));
            in_roles!(query, roles);
            query.push(")");
            let rank = if open_first { format!("CASE WHEN status = {closed} THEN 1 ELSE 0 END") } else { "0".to_owned() };
            if let Some(key) = after {
                query.push(format!(" AND ({rank} > ")).push_bind(key.rank);
                query.push(format!(" OR {rank} = ")).push_bind(key.rank);
                query.push(" AND (updated_at, id) < (").push_bind(key.updated_at).push(", ").push_bind(key.id).push("))");
            }
            query.push(format!(" ORDER BY {rank} + 0, updated_at DESC, id DESC LIMIT "));
            query.push_bind(i64::from(size) + 1).push(" OFFSET ").push_bind(i64::from(skip));
            let rows = query.build_query_as().fetch_all(pool).await?;
            let mut query =
                QueryBuilder::new("SELECT COUNT(DISTINCT conversation_id) FROM seats WHERE user_id = ");
            query.push_bind(user_id).push(" AND kind = ").push_bind(i32::from(kind));
            in_roles!(query, roles);
            let total = query.build_query_scalar().fetch_one(pool).await?;
            (rows, total)
        });
        let mut more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut seats = seats(&self.db.read, &ids).await?;
        let conversations = rows.into_iter().map(|row| {
            let seats = seats.remove(&row.id).unwrap_or_default();
            row.with_seats(seats)
        });
        let mut summaries = self.summaries(conversations.collect(), user_id).await?;
        let mut bytes = 0;
        let fitting = summaries.iter().take_while(|summary| {
            let fits = bytes < PAGE_BYTES;
            bytes += summary.last_message.as_ref().map_or(0, weight);
            fits
        });
        let fitting = fitting.count();
        more |= fitting < summaries.len();
        summaries.truncate(fitting);
        let next = summaries.last().filter(|_| more).map(|Summary { conversation, .. }| ConversationKey {
            rank: i32::from(open_first && conversation.openness == Openness::Closed),
            updated_at: conversation.updated_at,
            id: conversation.id,
        });
        Ok(ConversationsPage { summaries, next, total })
    }

    /// Adds the last message and the user's unread count, in two statements for all of them.
    pub(crate) async fn summaries(&self, conversations: Vec<Conversation>, user_id: &str) -> Result<Vec<Summary>> {
        if conversations.is_empty() {
            return Ok(Vec::new());
        }
        let (last, unread): (Vec<MessageRow>, Vec<(Uuid, i64)>) = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!("SELECT {MESSAGE_COLUMNS} FROM messages JOIN conversations ON conversations.id = conversation_id
                 WHERE seq = (SELECT MAX(seq) FROM messages AS other WHERE other.conversation_id = conversations.id) AND conversations.id IN ("));
            let mut list = query.separated(", ");
            for conversation in &conversations {
                list.push_bind(conversation.id);
            }
            query.push(")");
            let last = query.build_query_as().persistent(false).fetch_all(pool).await?;

            let mut query = QueryBuilder::new(
                "SELECT conversation_id, COUNT(*) FROM conversations
                 JOIN messages ON messages.conversation_id = conversations.id AND messages.seq >= conversations.unread_from
                 WHERE messages.status < 3 AND sender_id <> ",
            );
            query.push_bind(user_id).push(" AND conversations.id IN (");
            let mut list = query.separated(", ");
            for conversation in &conversations {
                list.push_bind(conversation.id);
            }
            query.push(") GROUP BY conversation_id");
            let unread = query.build_query_as().persistent(false).fetch_all(pool).await?;
            (last, unread)
        });
        let mut last: HashMap<Uuid, Message> = last.into_iter().map(|row| (row.conversation_id, row.into())).collect();
        let unread: HashMap<Uuid, i64> = unread.into_iter().collect();
        Ok(conversations
            .into_iter()
            .map(|conversation| Summary {
                last_message: last.remove(&conversation.id),
                unread: unread.get(&conversation.id).copied().unwrap_or(0),
                conversation,
            })
            .collect())
    }

    /// Those who share a conversation with a user, above `after` in the order of the ids.
    pub(crate) async fn contacts(&self, user_id: &str, after: &str, size: u32) -> Result<Vec<String>> {
        Ok(on_pool!(&self.db.read, pool => {
            sqlx::query_scalar(
                "SELECT DISTINCT theirs.user_id FROM seats AS own
                 JOIN seats AS theirs ON theirs.conversation_id = own.conversation_id
                 WHERE own.user_id = $1 AND theirs.user_id <> $1 AND theirs.user_id > $2
                 ORDER BY theirs.user_id LIMIT $3",
            )
            .bind(user_id)
            .bind(after)
            .bind(i64::from(size))
            .fetch_all(pool)
            .await?
        }))
    }

    /// A page of messages of `conversation`.
    pub(crate) async fn messages(
        &self,
        conversation: &Conversation,
        from: MessagesFrom,
        size: u32,
    ) -> Result<MessagesPage> {
        let MessagesFrom { mut seq, mut skip, newest_first } = from;
        if conversation.erased == 0 && skip > 0 {
            // Without holes, a place in the list is a place in the index.
            let skipped = u64::from(std::mem::take(&mut skip));
            seq = match (newest_first, seq) {
                (false, seq) => seq + skipped,
                (true, 0) => (conversation.last_seq + 1).saturating_sub(skipped),
                (true, seq) => seq.saturating_sub(skipped),
            };
            if newest_first && seq <= 1 {
                return Ok(MessagesPage { messages: Vec::new(), more: false });
            }
        }
        let mut messages: Vec<Message> = Vec::new();
        let (mut bytes, mut more) = (0, false);
        on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!("SELECT {MESSAGE_COLUMNS} FROM messages WHERE conversation_id = "));
            query.push_bind(conversation.id);
            if newest_first {
                if seq > 0 {
                    query.push(" AND seq < ").push_bind(bigint(seq));
                }
                query.push(" ORDER BY seq DESC LIMIT ");
            } else {
                query.push(" AND seq > ").push_bind(bigint(seq)).push(" ORDER BY seq LIMIT ");
            }
            query.push_bind(i64::from(size) + 1).push(" OFFSET ").push_bind(i64::from(skip));
            let mut rows = query.build_query_as::<MessageRow>().fetch(pool);
            while let Some(row) = rows.try_next().await? {
                more = messages.len() >= size as usize || bytes >= PAGE_BYTES;
                if more {
                    break;
                }
                let message = Message::from(row);
                bytes += weight(&message);
                messages.push(message);
            }
        });
        Ok(MessagesPage { messages, more })
    }
}

/// About how many bytes a message takes in an answer.
fn weight(message: &Message) -> usize {
    message.body.content.len() + message.body.metadata_json.len() + message.body.media_url.len()
}
