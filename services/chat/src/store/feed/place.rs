//! A place in the feed, and how a cursor spells it.

use uuid::Uuid;

/// Where something is among what is told together: by conversation, then in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) conversation_id: Uuid,
    pub(crate) seq: i64,
    /// 0 for a message, which comes before the events at its `seq`.
    pub(crate) event: i64,
}

impl Key {
    pub(crate) const FIRST: Self = Self { conversation_id: Uuid::nil(), seq: -1, event: 0 };
}

/// A place in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// SQLite: after the message with this number, and the event in this row.
    After { number: i64, event: i64 },
    /// Postgres: among what was stored before there was a feed.
    Old(Key),
    /// Postgres: before the transaction `from`.
    Before { from: i64 },
    /// Postgres: inside of the chunk of the transactions from `from` to before `to`, after `key`.
    Inside { from: i64, to: i64, key: Key },
}

impl Place {
    /// As a cursor.
    pub(crate) fn write(self) -> String {
        let key = |key: Key| format!("{}.{}.{}", key.conversation_id.simple(), key.seq, key.event);
        match self {
            Self::After { number, event } => format!("s.{number}.{event}"),
            Self::Old(old) => format!("o.{}", key(old)),
            Self::Before { from } => format!("b.{from}"),
            Self::Inside { from, to, key: inside } => format!("i.{from}.{to}.{}", key(inside)),
        }
    }

    /// `None` for what we did not write.
    pub(crate) fn read(cursor: &str) -> Option<Self> {
        let parts: Vec<&str> = cursor.split('.').collect();
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        let key = |id: &str, seq: &str, event: &str| {
            let (seq, event) = (seq.parse().ok().filter(|seq| *seq >= -1)?, number(event)?);
            Some(Key { conversation_id: Uuid::try_parse(id).ok()?, seq, event })
        };
        Some(match parts.as_slice() {
            ["s", at, event] => Self::After { number: number(at)?, event: number(event)? },
            ["o", id, seq, event] => Self::Old(key(id, seq, event)?),
            ["b", from] => Self::Before { from: number(from)? },
            ["i", from, to, id, seq, event] => {
                Self::Inside { from: number(from)?, to: number(to)?, key: key(id, seq, event)? }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let key = Key { conversation_id: Uuid::from_u128(u128::MAX), seq: i64::MAX, event: i64::MAX };
        for place in [
            Place::After { number: 7, event: 0 },
            Place::Old(Key::FIRST),
            Place::Before { from: i64::MAX },
            Place::Inside { from: i64::MAX, to: i64::MAX, key },
        ] {
            let cursor = place.write();
            assert!(cursor.len() <= 200);
            assert_eq!(Place::read(&cursor), Some(place), "{cursor}");
        }
        for wrong in
            ["", "s", "s.1", "s.1.x", "s.1.2.3", "b.-1", "x.1", "i.1.2.zz.1.1", "o.0.1.1.", "s.99999999999999999999.0"]
        {
            assert_eq!(Place::read(wrong), None, "{wrong}");
        }
    }
}
