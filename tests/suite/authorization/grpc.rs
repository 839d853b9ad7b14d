//! Any method of any service, by its name and with JSON.

use std::time::Duration;

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use switchboard_chassis::error::reason;
use switchboard_tests::Sandbox;
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A channel to the services, that shows nothing by itself.
pub(super) struct Grpc {
    channel: Channel,
    pool: DescriptorPool,
    deployment: String,
}

/// What a call was answered: `OK`, or a code and a reason; and the responses.
pub(super) struct Answered {
    pub(super) code: String,
    pub(super) responses: Vec<Value>,
}

impl Grpc {
    pub(super) fn new(sandbox: &Sandbox) -> anyhow::Result<Self> {
        Ok(Self {
            channel: Endpoint::from_shared(format!("http://{}", sandbox.grpc))?.connect_lazy(),
            pool: DescriptorPool::decode(switchboard_proto::FILE_DESCRIPTOR_SET)?,
            deployment: sandbox.secrets.grpc_token.expose().to_owned(),
        })
    }

    /// All methods of all services, as the tables name them.
    pub(super) fn methods() -> anyhow::Result<Vec<String>> {
        let pool = DescriptorPool::decode(switchboard_proto::FILE_DESCRIPTOR_SET)?;
        let names = pool.services().flat_map(|service| {
            let names: Vec<String> =
                service.methods().map(|method| format!("{}/{}", service.name(), method.name())).collect();
            names
        });
        Ok(names.collect())
    }

    fn method(&self, name: &str) -> Option<MethodDescriptor> {
        let (service, method) = name.split_once('/')?;
        let service = self.pool.services().find(|known| known.name() == service)?;
        service.methods().find(|known| known.name() == method)
    }

    /// Calls as a caller of the table, with one empty request; a stream is given none.
    pub(super) async fn call_empty(&self, caller: &str, method: &str) -> anyhow::Result<String> {
        let is_stream = match self.method(method) {
            Some(method) => method.is_client_streaming(),
            None => !method.ends_with("/Check"),
        };
        let requests = if is_stream { Vec::new() } else { vec![Vec::new()] };
        Ok(match self.begin(caller, method, requests).await? {
            Ok(_) => "OK".to_owned(),
            Err(status) => told(&status),
        })
    }

    /// Calls as the deployment, with a request or a list of them.
    pub(super) async fn call(&self, method: &str, request: &str) -> anyhow::Result<Answered> {
        let descriptor = self.method(method).with_context(|| format!("{method} is no method"))?;
        let requests = match serde_json::from_str(request).with_context(|| format!("not JSON: {request}"))? {
            Value::Array(requests) => requests,
            request => vec![request],
        };
        let encoded = requests
            .into_iter()
            .map(|request| Ok(DynamicMessage::deserialize(descriptor.input(), request)?.encode_to_vec()))
            .collect::<anyhow::Result<_>>()?;
        let mut stream = match self.begin("deployment", method, encoded).await? {
            Ok(stream) => stream,
            Err(status) => return Ok(Answered { code: told(&status), responses: Vec::new() }),
        };
        let mut responses = Vec::new();
        loop {
            match tokio::time::timeout(TIMEOUT, stream.message()).await? {
                Ok(Some(bytes)) => {
                    let message = DynamicMessage::decode(descriptor.output(), bytes.as_slice())?;
                    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
                    responses.push(message.serialize_with_options(serde_json::value::Serializer, &options)?);
                }
                Ok(None) => return Ok(Answered { code: "OK".to_owned(), responses }),
                Err(status) => return Ok(Answered { code: told(&status), responses }),
            }
        }
    }

    async fn begin(
        &self,
        caller: &str,
        method: &str,
        requests: Vec<Vec<u8>>,
    ) -> anyhow::Result<Result<tonic::Streaming<Vec<u8>>, Status>> {
        let full_name = match self.method(method) {
            Some(known) => format!("{}/{}", known.parent_service().full_name(), known.name()),
            None => method.to_owned(),
        };
        let mut request = Request::new(tokio_stream::iter(requests));
        let token = match caller {
            "none" => None,
            "deployment" => Some(self.deployment.clone()),
            caller => Some(format!("the-token-of-{caller}")),
        };
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let path: PathAndQuery = format!("/{full_name}").parse()?;
        // On the wire a unary call is a stream of one.
        let calling = client.streaming(request, path, Bytes);
        Ok(tokio::time::timeout(TIMEOUT, calling).await?.map(tonic::Response::into_inner))
    }
}

/// `PERMISSION_DENIED NOT_A_PARTICIPANT`
fn told(status: &Status) -> String {
    let code = match status.code() {
        Code::Ok => "OK",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Unauthenticated => "UNAUTHENTICATED",
        other => return format!("{other:?} {}", status.message()),
    };
    format!("{code} {}", reason(status)).trim_end().to_owned()
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
