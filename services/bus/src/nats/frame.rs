//! What goes over NATS: a head of 25 bytes, and the payload.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the kind |
//! | 16 | the member's id |
//! | 8 | the number, big-endian |
//! | the rest | the payload |
//!
//! Instances of neighbouring versions must understand it: only add kinds. A kind that is not known is passed over.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use uuid::Uuid;

/// What the bus puts before each payload on NATS.
pub const HEAD_BYTES: usize = 1 + 16 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The member's payload of this number on the subject; the first has number 1.
    Payload = 1,
    /// The member's last payload on the subject had this number.
    Beat = 2,
    /// The same, and there will be no other.
    Goodbye = 3,
    /// A subscriber to itself: the server knows the subscription. The member's id is the subscription's.
    Hello = 4,
    /// A subscriber to itself, to see how long it takes. The member's id is the subscription's, the number its own time.
    Echo = 5,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) member: Uuid,
    pub(crate) number: u64,
    pub(crate) payload: Bytes,
}

/// Why a message is no frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Strange {
    #[error("shorter than a head")]
    Short,
    #[error("kind {0} is not known")]
    Kind(u8),
}

impl Frame {
    /// One without a payload.
    pub(crate) fn bare(kind: Kind, member: Uuid, number: u64) -> Self {
        Self { kind, member, number, payload: Bytes::new() }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + self.payload.len());
        bytes.put_u8(self.kind as u8);
        bytes.put_slice(self.member.as_bytes());
        bytes.put_u64(self.number);
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Strange> {
        if bytes.len() < HEAD_BYTES {
            return Err(Strange::Short);
        }
        let kind = match bytes.get_u8() {
            1 => Kind::Payload,
            2 => Kind::Beat,
            3 => Kind::Goodbye,
            4 => Kind::Hello,
            5 => Kind::Echo,
            other => return Err(Strange::Kind(other)),
        };
        let member = Uuid::from_u128(bytes.get_u128());
        let number = bytes.get_u64();
        Ok(Self { kind, member, number, payload: bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for (kind, payload) in [
            (Kind::Payload, "hello"),
            (Kind::Payload, ""),
            (Kind::Beat, ""),
            (Kind::Goodbye, ""),
            (Kind::Hello, ""),
            (Kind::Echo, ""),
        ] {
            let frame = Frame { kind, member: Uuid::from_u128(7), number: u64::MAX, payload: Bytes::from(payload) };
            let bytes = frame.encode();
            assert_eq!(bytes.len(), HEAD_BYTES + payload.len());
            assert_eq!(Frame::decode(bytes), Ok(frame));
        }
    }

    #[test]
    fn what_others_say_is_no_frame() {
        assert_eq!(Frame::decode(Bytes::from_static(b"hello")), Err(Strange::Short));
        assert_eq!(Frame::decode(Bytes::from_static(&[9; HEAD_BYTES])), Err(Strange::Kind(9)));
    }
}
