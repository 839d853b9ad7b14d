//! Messages by name, and as the JSON that protobuf maps them to.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::FILE_DESCRIPTOR_SET;

/// What a name or its JSON is not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such message.
    #[error("{0} is not in the protos")]
    Unknown(String),
    /// The JSON is not of such a message.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The message is another one.
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
}

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("made together with this program"));

/// All interfaces.
///
/// # Panics
/// When [`FILE_DESCRIPTOR_SET`] cannot be decoded: a build's fault.
#[must_use]
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// How this program writes JSON: fields by their names in the `.proto` files, numbers as numbers.
#[must_use]
pub fn options() -> SerializeOptions {
    SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false)
}

/// A message as JSON.
///
/// # Errors
/// When there is no such message, or `message` is another one.
pub fn to_json(name: &str, message: &impl Message, options: &SerializeOptions) -> Result<Value, Error> {
    let mut dynamic = DynamicMessage::new(descriptor(name)?);
    dynamic.transcode_from(message)?;
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, options)?)
}

/// A message from JSON, by fields' names in the `.proto` files or in camel case.
///
/// # Errors
/// What is wrong with it, and what would be right; or that there is no such message.
pub fn from_json<M: Message + Default>(name: &str, value: Value) -> Result<M, Error> {
    Ok(DynamicMessage::deserialize(descriptor(name)?, value)?.transcode_to()?)
}

fn descriptor(name: &str) -> Result<MessageDescriptor, Error> {
    pool().get_message_by_name(name).ok_or_else(|| Error::Unknown(name.to_owned()))
}
