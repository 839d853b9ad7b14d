//! Conversations, found and made. Handshakes come many at a time, so both happen for many together.

use std::collections::{HashMap, HashSet};

use sqlx::QueryBuilder;
use switchboard_chassis::{
    Micros,
    db::{Pool, Result, padded},
    on_pool,
};
use switchboard_proto::chat::v1::RefusalReason;
use switchboard_webhooks::{Outbox, enqueue};
use uuid::Uuid;

use super::feed::{Happening, record_event};
use super::{
    Store,
    rows::{CONVERSATION_COLUMNS, ConversationRow, SeatRow, TAKE_NUMBERS},
};
use crate::{
    hooks,
    model::{Conversation, Kind, Opening, Openness, Refusal, Seat},
    rules,
};

/// Tries of an opening that raced with others for the same number or people.
const OPEN_TRIES_MAX: u32 = 16;
/// Numbers that were minted elsewhere above this do not move ours, which stay exact in JavaScript.
pub(super) const COUNTED_NUMBERS_END: i64 = 1 << 52;

/// What a conversation is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Id(Uuid),
    Number(Kind, i64),
    /// The people of the one conversation that they have of this kind.
    People(Kind, String),
}

impl Known {
    fn is(&self, row: &ConversationRow) -> bool {
        match self {
            Self::Id(id) => row.id == *id,
            Self::Number(kind, number) => row.number == *number && row.kind == i32::from(*kind),
            Self::People(kind, people) => row.people.as_ref() == Some(people) && row.kind == i32::from(*kind),
        }
    }
}

/// A conversation to be made.
#[derive(Clone, Debug)]
pub(super) struct New {
    opening: Opening,
    id: Uuid,
    people: Option<String>,
    now: Micros,
}

impl Store {
    /// Gets or creates; true when it was created.
    pub(crate) async fn open(
        &self,
        opening: &Opening,
        new_id: Uuid,
        now: Micros,
    ) -> Result<Result<(Conversation, bool), Refusal>> {
        let people = rules::people(opening.kind, &opening.seats);
        let minted_elsewhere = opening.id.is_some() || opening.number.is_some();
        for _ in 0..OPEN_TRIES_MAX {
            let mut known = match opening.id {
                Some(id) => self.conversation(id).await?,
                None => None,
            };
            if let (None, Some(number)) = (&known, opening.number) {
                known = self.conversation_by_number(opening.kind, number).await?;
            }
            if let Some(known) = known {
                let same = known.kind == opening.kind
                    && known.seats == opening.seats
                    && opening.id.is_none_or(|id| id == known.id)
                    && opening.number.is_none_or(|number| number == known.number);
                return Ok(if same {
                    Ok((known, false))
                } else {
                    Err(Refusal::new(RefusalReason::AlreadyExists, "another conversation has this id or number"))
                });
            }
            let same_people = match &people {
                Some(people) => self.found.get(Known::People(opening.kind, people.clone())).await?,
                None => None,
            };
            if let (Some(known), false) = (&same_people, minted_elsewhere) {
                return Ok(Ok((known.clone(), false)));
            }
            // A further conversation of the same people can only be reached by the id or number minted for it.
            let people = people.clone().filter(|_| same_people.is_none());
            let id = opening.id.unwrap_or(new_id);
            if self.made.get(New { opening: opening.clone(), id, people, now }).await? {
                self.outbox.ring();
                // Read back: the number may have been chosen by the database.
                if let Some(made) = self.conversation(id).await? {
                    return Ok(Ok((made, true)));
                }
            }
        }
        Ok(Err(Refusal::overloaded()))
    }

    pub(crate) async fn conversation(&self, id: Uuid) -> Result<Option<Conversation>> {
        self.found.get(Known::Id(id)).await
    }

    pub(crate) async fn conversation_by_number(&self, kind: Kind, number: i64) -> Result<Option<Conversation>> {
        self.found.get(Known::Number(kind, number)).await
    }
}

/// The conversation of each.
pub(super) async fn find(read: &Pool, asked: &[Known]) -> Result<Vec<Option<Conversation>>> {
    let (mut ids, mut numbers, mut people) = (Vec::new(), Vec::new(), Vec::new());
    for known in asked {
        match known {
            Known::Id(id) => ids.push(*id),
            Known::Number(kind, number) => numbers.push((i32::from(*kind), *number)),
            Known::People(kind, names) => people.push((i32::from(*kind), names)),
        }
    }
    let select = format!("SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE ");
    let mut rows: Vec<ConversationRow> = Vec::new();
    on_pool!(read, pool => {
        if !ids.is_empty() {
            let mut query = QueryBuilder::new(&select);
            query.push("id IN (");
            let mut list = query.separated(", ");
            for id in padded(&ids) {
                list.push_bind(*id);
            }
            query.push(")");
            rows.extend(query.build_query_as::<ConversationRow>().fetch_all(pool).await?);
        }
        if !numbers.is_empty() {
            let mut query = QueryBuilder::new(&select);
            let mut list = query.separated(" OR ");
            for (kind, number) in padded(&numbers) {
                list.push("kind = ").push_bind_unseparated(*kind);
                list.push_unseparated(" AND number = ").push_bind_unseparated(*number);
            }
            rows.extend(query.build_query_as::<ConversationRow>().fetch_all(pool).await?);
        }
        if !people.is_empty() {
            let mut query = QueryBuilder::new(&select);
            let mut list = query.separated(" OR ");
            for (kind, names) in padded(&people) {
                list.push("kind = ").push_bind_unseparated(*kind);
                list.push_unseparated(" AND people = ").push_bind_unseparated(*names);
            }
            rows.extend(query.build_query_as::<ConversationRow>().fetch_all(pool).await?);
        }
    });
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let seats = seats(read, &ids).await?;
    let of = |known: &Known| {
        let row = rows.iter().find(|row| known.is(row))?.clone();
        let seats = seats.get(&row.id).cloned().unwrap_or_default();
        Some(row.with_seats(seats))
    };
    Ok(asked.iter().map(of).collect())
}

/// The seats of several conversations, sorted within each.
pub(super) async fn seats(read: &Pool, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<Seat>>> {
    let mut seats: HashMap<Uuid, Vec<Seat>> = HashMap::new();
    if ids.is_empty() {
        return Ok(seats);
    }
    let rows: Vec<SeatRow> = on_pool!(read, pool => {
        let mut query = QueryBuilder::new("SELECT conversation_id, user_id, role FROM seats WHERE conversation_id IN (");
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(*id);
        }
        query.push(")");
        query.build_query_as().fetch_all(pool).await?
    });
    for (id, seat) in rows.into_iter().filter_map(SeatRow::seat) {
        seats.entry(id).or_default().push(seat);
    }
    seats.values_mut().for_each(|seats| seats.sort());
    Ok(seats)
}

/// Makes conversations in one transaction; of each, false when somebody else was faster.
pub(super) async fn make(write: &Pool, outbox: &Outbox, new: &[New]) -> Result<Vec<bool>> {
    match make_all(write, outbox, new).await {
        // One that cannot be made does not keep the others from it.
        Err(sqlx::Error::Database(_)) if new.len() > 1 => {
            let mut made = Vec::with_capacity(new.len());
            for one in new {
                made.extend(make_all(write, outbox, std::slice::from_ref(one)).await?);
            }
            Ok(made)
        }
        made => Ok(made?),
    }
}

async fn make_all(write: &Pool, outbox: &Outbox, new: &[New]) -> sqlx::Result<Vec<bool>> {
    // Openings of a kind wait here for those of other instances, so that none of them has to begin again; the kinds come
    // in one order, so that nobody waits in a circle.
    let mut kinds: Vec<Kind> = new.iter().map(|new| new.opening.kind).collect();
    kinds.sort_unstable_by_key(|kind| i32::from(*kind));
    kinds.dedup();
    Ok(on_pool!(write, pool => {
        let mut tx = pool.begin().await?;
        let mut numbered: Vec<(&New, i64)> = Vec::with_capacity(new.len());
        for kind in kinds {
            let of_kind = || new.iter().filter(|new| new.opening.kind == kind);
            let minted = of_kind().filter_map(|new| new.opening.number).filter(|number| *number < COUNTED_NUMBERS_END);
            let wanted = of_kind().filter(|new| new.opening.number.is_none()).count();
            let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
            // The next numbers of this kind, above all that were minted elsewhere.
            let last: i64 = sqlx::query_scalar(TAKE_NUMBERS)
                .bind(minted.max().unwrap_or(0))
                .bind(wanted)
                .bind(format!("{}_NUMBER", kind.as_str_name()))
                .fetch_one(&mut *tx)
                .await?;
            let mut next = last - wanted;
            numbered.extend(of_kind().map(|new| {
                let number = new.opening.number.unwrap_or_else(|| {
                    next += 1;
                    next
                });
                (new, number)
            }));
        }
        // What is repeated conflicts with itself.
        let mut query = QueryBuilder::new(
            "INSERT INTO conversations
                 (id, kind, number, people, subject, status, last_seq, erased, created_at, updated_at) ",
        );
        query.push_values(padded(&numbered), |mut row, (New { opening, id, people, now }, number)| {
            row.push_bind(*id)
                .push_bind(i32::from(opening.kind))
                .push_bind(*number)
                .push_bind(people)
                .push_bind(&opening.subject)
                .push_bind(i32::from(Openness::Open))
                .push("0")
                .push("0")
                .push_bind(*now)
                .push_bind(*now);
        });
        query.push(" ON CONFLICT DO NOTHING RETURNING id");
        let mut made: HashSet<Uuid> = query.build_query_scalar().fetch_all(&mut *tx).await?.into_iter().collect();
        // Of two with the same id, the first was made.
        let mut told = made.clone();
        let is_made: Vec<bool> = new.iter().map(|new| made.remove(&new.id)).collect();
        let seats: Vec<(&New, &Seat)> = new
            .iter()
            .zip(&is_made)
            .filter(|(_, is_made)| **is_made)
            .flat_map(|(new, _)| new.opening.seats.iter().map(move |seat| (new, seat)))
            .collect();
        if !seats.is_empty() {
            let mut query = QueryBuilder::new("INSERT INTO seats (conversation_id, user_id, role, kind) ");
            query.push_values(padded(&seats), |mut row, (new, seat)| {
                row.push_bind(new.id)
                    .push_bind(&seat.user_id)
                    .push_bind(seat.role.as_str())
                    .push_bind(i32::from(new.opening.kind));
            });
            query.push(" ON CONFLICT DO NOTHING").build().execute(&mut *tx).await?;
        }
        for (new, number) in &numbered {
            if told.remove(&new.id) {
                record_event!(tx, Happening::Opened, new.id, None, String::new(), new.now);
                let event = hooks::opened(&new.opening, new.id, *number, new.now);
                enqueue!(tx, outbox, &event);
            }
        }
        tx.commit().await?;
        is_made
    }))
}
