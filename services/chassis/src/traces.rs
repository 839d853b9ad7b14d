//! Traces: what a frame or a call took where, over all processes, told to a collector by OTLP.
//!
//! What is not sampled leaves no span: a [`Span`] is an empty option then, and what is done with it comes to nothing.
//! Where a trace goes on in another task or process, its [`Context`] is carried there: in the task by [`scope`], in a
//! call by the header `traceparent` (W3C Trace Context), in a frame of a stream by a field of the same form.

mod export;

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use opentelemetry::{
    Context as Carrier, KeyValue, Value,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
        TraceState, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_sdk::{
    Resource,
    trace::{IdGenerator as _, RandomIdGenerator, Sampler, SdkTracer, SdkTracerProvider, Span as Recorded, SpanLimits},
};
use serde::{Deserialize, Serialize};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;
use tracing::Instrument as _;

pub use export::check;
use export::{Counts, Queue};

use crate::{Lifecycle, Secret, directory::Instance, tls::ClientTls};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Of one span; what is beyond is dropped.
const LIMITS: SpanLimits = SpanLimits {
    max_events_per_span: 16,
    max_attributes_per_span: 32,
    max_links_per_span: 128,
    max_attributes_per_event: 8,
    max_attributes_per_link: 8,
};

/// `[traces]`: what is told to a collector.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// A collector that takes OTLP over gRPC: `http://host:4317` or `https://host:4317`; nothing is traced without one.
    pub otlp_endpoint: String,
    /// What is shown to it: `name=value`, several with commas.
    pub otlp_headers: Secret,
    /// Its authorities at `https://`, PEM; the system's when not given.
    pub otlp_ca_file: std::path::PathBuf,
    /// How many of the frames and requests that no caller has decided about are traced: 0 to 1.
    pub sample_ratio: f64,
    /// The process's `service.name`; `switchboard-<role>` when not given, or `switchboard` with several roles.
    pub service_name: String,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            otlp_headers: Secret::default(),
            otlp_ca_file: std::path::PathBuf::new(),
            sample_ratio: 0.01,
            service_name: String::new(),
        }
    }
}

impl TracesConfig {
    /// Whether nothing is traced.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.otlp_endpoint.is_empty()
    }

    /// Whether the collector is reached by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.otlp_endpoint.starts_with("https://")
    }

    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        // What stands there may have a password in it, so it is not repeated.
        if !self.is_off() && (self.otlp_endpoint.contains('@') || Instance::read(&self.otlp_endpoint).is_err()) {
            mistakes.push("traces.otlp_endpoint: a collector is http://host:4317 or https://host:4317".to_owned());
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            mistakes.push("traces.sample_ratio: from 0 to 1 is wanted".to_owned());
        }
        if export::headers(self.otlp_headers.expose()).is_none() {
            mistakes.push("traces.otlp_headers: name=value is wanted, several with commas".to_owned());
        }
        mistakes
    }
}

/// Which process it is that traces.
#[derive(Clone, Debug)]
pub struct About {
    /// `service.name`
    pub service: String,
    /// `service.version`
    pub version: &'static str,
    /// `service.instance.id`
    pub instance: String,
}

/// Where traces begin. Cheap to clone; the default traces nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Recorder>>);

struct Recorder {
    tracer: SdkTracer,
    ids: RandomIdGenerator,
    /// Of 2^63 numbers, those below it are sampled.
    bound: u64,
    ending: CancellationToken,
    exporter: TaskTracker,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Traces {
    /// Traces for as long as the process runs, if that is configured; `tls` is for `https://`. Within a runtime.
    ///
    /// # Errors
    /// When the endpoint cannot be read.
    pub fn start(config: &TracesConfig, about: About, tls: &ClientTls, lifecycle: &Lifecycle) -> Result<Self, String> {
        let counts = Counts::new(lifecycle.metrics());
        if config.is_off() {
            return Ok(Self::default());
        }
        // The builder that is not empty would read variables of the environment that no setting of ours names.
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", about.service),
                KeyValue::new("service.version", about.version),
                KeyValue::new("service.instance.id", about.instance),
            ])
            .build();
        let (queue, spans) = Queue::new(&counts);
        let collector = export::Collector::new(config, tls, &resource, counts)?;
        let provider = SdkTracerProvider::builder()
            // What is not sampled never comes so far.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_limits(LIMITS)
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        let (ending, exporter) = (CancellationToken::new(), TaskTracker::new());
        exporter.spawn(export::run(spans, collector, ending.clone()));
        exporter.close();
        Ok(Self(Some(Arc::new(Recorder {
            tracer: provider.tracer("switchboard"),
            ids: RandomIdGenerator::default(),
            bound: bound(config.sample_ratio),
            ending,
            exporter,
        }))))
    }

    /// The root of a trace of something that nobody else has begun: none, when it is not sampled.
    #[must_use]
    pub fn root(&self, name: &'static str) -> Span {
        match &self.0 {
            Some(recorder) if recorder.is_sampled() => {
                Span::of(recorder.begin(name.into(), SpanKind::Server, &Carrier::new()))
            }
            _ => Span::default(),
        }
    }

    /// A request's part of its caller's trace, or else the root of a new one. A caller that does not sample decides for
    /// everything that comes of its request, as one that does.
    #[must_use]
    pub fn request(&self, headers: &HeaderMap, name: impl Into<Cow<'static, str>>) -> Span {
        let Some(recorder) = &self.0 else { return Span::default() };
        let context = match caller(headers) {
            Some(caller) if caller.is_sampled() => {
                return Span::of(recorder.begin(name.into(), SpanKind::Server, &below(caller)));
            }
            None if recorder.is_sampled() => {
                return Span::of(recorder.begin(name.into(), SpanKind::Server, &Carrier::new()));
            }
            Some(caller) => caller,
            None => {
                let (trace, span) = (recorder.ids.new_trace_id(), recorder.ids.new_span_id());
                SpanContext::new(trace, span, TraceFlags::default(), false, TraceState::default())
            }
        };
        Span::of(Live { recorder: recorder.clone(), context, span: None })
    }

    /// What a frame of a stream causes, when it carries a `traceparent`.
    #[must_use]
    pub fn continued(&self, traceparent: &str, name: impl FnOnce() -> String) -> Span {
        let Some(recorder) = self.0.as_ref().filter(|_| !traceparent.is_empty()) else { return Span::default() };
        match read(traceparent, "").filter(SpanContext::is_sampled) {
            Some(caller) => Span::of(recorder.begin(name().into(), SpanKind::Server, &below(caller))),
            None => Span::default(),
        }
    }

    /// Tells the collector what it has not been told yet, if it answers.
    pub async fn finish(&self) {
        if let Some(recorder) = &self.0 {
            recorder.ending.cancel();
            if tokio::time::timeout(export::LAST_MOMENT, recorder.exporter.wait()).await.is_err() {
                tracing::warn!("the collector did not take the last spans in time");
            }
        }
    }
}

/// See [`Recorder::bound`].
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^63")]
fn bound(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64
}

impl Recorder {
    fn is_sampled(&self) -> bool {
        let [.., a, b, c, d, e, f, g, h] = self.ids.new_trace_id().to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.bound
    }

    fn begin(self: &Arc<Self>, name: Cow<'static, str>, kind: SpanKind, parent: &Carrier) -> Live {
        let span = self.tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        Live { recorder: self.clone(), context: span.span_context().clone(), span: Some(span) }
    }
}

/// Something that takes time, from its making until it is dropped; mostly nothing, because it is not sampled.
#[derive(Default)]
pub struct Span(Option<Box<Live>>);

struct Live {
    recorder: Arc<Recorder>,
    context: SpanContext,
    /// Nothing in a trace that is not sampled, and that others shall know for such.
    span: Option<Recorded>,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.0.as_ref().map(|live| live.context.trace_id())).finish()
    }
}

impl Span {
    fn of(live: Live) -> Self {
        Self(Some(Box::new(live)))
    }

    fn recorded(&mut self) -> Option<&mut Recorded> {
        self.0.as_mut()?.span.as_mut()
    }

    /// Whether anybody will see it.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.0.as_ref().is_some_and(|live| live.span.is_some())
    }

    /// Of which trace it is, if anybody will see it.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.0.as_ref().filter(|live| live.span.is_some()).map(|live| live.context.trace_id())
    }

    /// Says something of it: never what people write or show.
    pub fn set<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(span) = self.recorded() {
            span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Names it, when that is known only later.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(span) = self.recorded() {
            span.update_name(name());
        }
    }

    /// It did not do what it should.
    pub fn fail(&mut self, why: &'static str) {
        if let Some(span) = self.recorded() {
            span.set_status(Status::error(why));
        }
    }

    /// It has to do with another, which may be of another trace.
    pub fn link(&mut self, other: &Self) {
        if let (Some(span), Some(other)) = (self.recorded(), &other.0) {
            span.add_link(other.context.clone(), Vec::new());
        }
    }

    /// A part of it.
    #[must_use]
    pub fn child(&self, name: impl Into<Cow<'static, str>>) -> Self {
        self.context().map_or_else(Self::default, |context| context.child(name, SpanKind::Internal))
    }

    /// A part of it that somebody else does.
    #[must_use]
    pub fn asking(&self, name: impl FnOnce() -> String) -> Self {
        self.context().map_or_else(Self::default, |context| context.child(name(), SpanKind::Client))
    }

    /// What those need to know that go on with it.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        let live = self.0.as_ref()?;
        Some(Context { recorder: live.recorder.clone(), span: live.context.clone() })
    }

    /// The same for a frame; empty when it is not recorded.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.0.as_ref().filter(|live| live.span.is_some()).map_or_else(String::new, |live| traceparent(&live.context))
    }

    /// A call was answered, as the conventions of OpenTelemetry for gRPC say it.
    pub(crate) fn answered(&mut self, code: Code, is_ours: bool) {
        self.set("rpc.grpc.status_code", || i64::from(i32::from(code)));
        // A caller's mistakes are no failure of who answers.
        let is_failure = match code {
            Code::Ok => false,
            Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => true,
            _ => !is_ours,
        };
        if is_failure {
            self.fail("");
        }
    }

    /// It is a call of a method, `<service>/<method>`.
    pub(crate) fn is_call(&mut self, method: &str) {
        let (service, method) = method.split_once('/').unwrap_or((method, "other"));
        self.set("rpc.system", || "grpc");
        self.set("rpc.service", || service.to_owned());
        self.set("rpc.method", || method.to_owned());
    }
}

/// For what is a part of it.
fn below(parent: SpanContext) -> Carrier {
    Carrier::new().with_remote_span_context(parent)
}

fn traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags())
}

/// A place in a trace, with which another task or process goes on.
#[derive(Clone, Debug)]
pub struct Context {
    recorder: Arc<Recorder>,
    span: SpanContext,
}

impl Context {
    fn child(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Span {
        if !self.span.is_sampled() {
            return Span::default();
        }
        Span::of(self.recorder.begin(name.into(), kind, &below(self.span.clone())))
    }

    /// What says in the log to which trace a line belongs.
    fn log(&self) -> tracing::Span {
        if self.span.is_sampled() {
            tracing::info_span!("trace", trace_id = %self.span.trace_id())
        } else {
            tracing::Span::none()
        }
    }

    fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(traceparent(&self.span)) {
            headers.insert(TRACEPARENT, value);
        }
        match HeaderValue::try_from(self.span.trace_state().header()) {
            Ok(value) if !value.is_empty() => _ = headers.insert(TRACESTATE, value),
            _ => {}
        }
    }
}

tokio::task_local! {
    static CURRENT: Context;
}

/// Does work as a part of something that is traced, if it is.
pub async fn scope<F: Future>(context: Option<Context>, work: F) -> F::Output {
    match context {
        None => work.await,
        Some(context) => {
            let log = context.log();
            // Boxed, so that there is no room for it where nothing is traced.
            Box::pin(CURRENT.scope(context, work).instrument(log)).await
        }
    }
}

/// The same for work that does not wait.
pub fn enter<T>(context: Option<&Context>, work: impl FnOnce() -> T) -> T {
    match context {
        None => work(),
        Some(context) => context.log().in_scope(|| CURRENT.sync_scope(context.clone(), work)),
    }
}

/// A part of what this task does, if that is traced.
#[must_use]
pub fn here(name: &'static str) -> Span {
    CURRENT.try_with(|context| context.child(name, SpanKind::Internal)).unwrap_or_default()
}

/// What this task does, if that is traced, for a frame: see [`Span::traceparent`].
#[must_use]
pub fn traceparent_here() -> String {
    let sampled = |context: &Context| context.span.is_sampled().then(|| traceparent(&context.span));
    CURRENT.try_with(sampled).ok().flatten().unwrap_or_default()
}

/// Statements of the function that the closure is in, while this is there: see [`on_pool!`](crate::on_pool).
#[must_use]
pub fn statements<F>(system: &'static str, _of: &F) -> Span {
    CURRENT
        .try_with(|context| {
            // `crate::module::<impl Type>::function::{{closure}}::{{closure}}`
            let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
            let function = path.rsplit("::").next().unwrap_or(path);
            let mut span = context.child(function, SpanKind::Client);
            span.set("db.system.name", || system);
            span.set("code.function.name", || path);
            span
        })
        .unwrap_or_default()
}

/// A call of this task's to another service: its span, whose context goes with it. `None` when nothing is traced.
pub(crate) fn calling<B>(request: &mut Request<B>) -> Option<Span> {
    let context = CURRENT.try_with(Clone::clone).ok()?;
    let mut span = context.child("call", SpanKind::Client);
    if span.is_recorded() {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        span.is_call(&method);
        span.rename(|| method);
    }
    span.context().unwrap_or(context).inject(request.headers_mut());
    Some(span)
}

/// Forgets what a request says of its trace.
pub fn forget(headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
}

/// The trace of whoever makes a request.
fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    // Of several, none is known to be the caller's.
    let (Some(traceparent), None) = (values.next(), values.next()) else { return None };
    let tracestate = headers.get(TRACESTATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    read(traceparent.to_str().ok()?, tracestate)
}

/// Reads `<version>-<trace>-<span>-<flags>`; a later version may say more after it.
fn read(traceparent: &str, tracestate: &str) -> Option<SpanContext> {
    const BYTES: usize = 55;
    let (known, more) = traceparent.split_at_checked(BYTES)?;
    let parts: Vec<&str> = known.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { return None };
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_whole = parts.iter().all(|part| is_hex(part)) && [version, trace, span].map(str::len) == [2, 32, 16];
    let is_known = if version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
    if !is_whole || !is_known || version == "ff" {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = tracestate.parse().unwrap_or_default();
    let span = SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, state);
    span.is_valid().then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_say_of_their_trace() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for (text, is_sampled) in [
            (format!("00-{TRACE}-01"), Some(true)),
            (format!("00-{TRACE}-00"), Some(false)),
            // Flags that we do not know.
            (format!("00-{TRACE}-03"), Some(true)),
            (format!("00-{TRACE}-02"), Some(false)),
            // A later version.
            (format!("01-{TRACE}-01-more"), Some(true)),
            (format!("01-{TRACE}-01more"), None),
            (format!("00-{TRACE}-01-more"), None),
            (format!("ff-{TRACE}-01"), None),
            (format!("00-{}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-0"), None),
            (format!("00-{TRACE}-0g"), None),
            (format!("0-0{TRACE}-01"), None),
            (format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16)), None),
            (format!("00-{}-{}-01", "1".repeat(32), "0".repeat(16)), None),
            ("é".repeat(40), None),
            (String::new(), None),
        ] {
            let read = read(&text, "vendor=state");
            assert_eq!(read.as_ref().map(SpanContext::is_sampled), is_sampled, "{text}");
            if let Some(read) = read {
                assert_eq!(read.trace_state().header(), "vendor=state");
                assert!(traceparent(&read).starts_with(&format!("00-{TRACE}-")), "{text}");
            }
        }
    }

    #[test]
    fn only_possible_ratios_and_endpoints_are_taken() {
        let config = |endpoint: &str, ratio, headers: &str| TracesConfig {
            otlp_endpoint: endpoint.to_owned(),
            sample_ratio: ratio,
            otlp_headers: Secret::new(headers),
            ..TracesConfig::default()
        };
        for right in [
            config("", 0.01, ""),
            config("http://collector:4317", 0.0, "a=b"),
            config("https://[::1]:1", 1.0, "a=b,c="),
        ] {
            assert_eq!(right.mistakes(), Vec::<String>::new(), "{right:?}");
        }
        for wrong in [
            config("collector:4317", 0.01, ""),
            config("http://collector:4317/v1/traces", 0.01, ""),
            config("http://me:secret@collector:4317", 0.01, ""),
            config("", 1.1, ""),
            config("", f64::NAN, ""),
            config("", 0.01, "secret"),
            config("", 0.01, "a b=secret"),
        ] {
            let mistakes = wrong.mistakes();
            assert!(mistakes.len() == 1 && !mistakes[0].contains("secret"), "{mistakes:?}");
        }
        assert_eq!((bound(0.0), bound(0.5), bound(1.0)), (0, 1 << 62, 1 << 63));
    }
}
