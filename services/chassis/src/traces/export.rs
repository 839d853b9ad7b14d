//! Spans on their way to the collector: a bounded queue, and one task that tells it batches.

use std::{mem::take, time::Duration};

use opentelemetry::Context as Carrier;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::Channel,
};

use super::TracesConfig;
use crate::{
    grpc,
    metrics::{Counter, Counters, Metrics},
    tls::ClientTls,
};

/// Spans that wait for the collector; those beyond it are dropped.
const QUEUE_SPANS_MAX: usize = 4_096;
/// Spans that the collector is told at once.
const BATCH_SPANS_MAX: usize = 512;
/// How long a span waits for others to be told with.
const BATCH_DELAY: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// For what has not been told when the process ends.
pub(super) const LAST_MOMENT: Duration = Duration::from_secs(2);
/// Between two lines in the log about a collector that is away.
const SAY_AGAIN: Duration = Duration::from_secs(600);

const SPANS: Counters<1> = Counters::new(
    "switchboard_traces_spans_total",
    "Spans of sampled traces: exported, dropped (too many waited), failed (the collector did not take them)",
    &["result"],
);

#[derive(Clone, Debug)]
pub(super) struct Counts {
    exported: Counter,
    dropped: Counter,
    failed: Counter,
}

impl Counts {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let result = |name| metrics.counter(&SPANS, [name]);
        Self { exported: result("exported"), dropped: result("dropped"), failed: result("failed") }
    }
}

/// Where spans go that have ended. Never waits.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Counter,
}

impl Queue {
    pub(super) fn new(counts: &Counts) -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, queue) = mpsc::channel(QUEUE_SPANS_MAX);
        (Self { spans, dropped: counts.dropped.clone() }, queue)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Carrier) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Tells batches until the end, and then what is left.
pub(super) async fn run(mut spans: mpsc::Receiver<SpanData>, mut collector: Collector, ending: CancellationToken) {
    let mut batch = Vec::new();
    let mut due = interval(BATCH_DELAY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let room = BATCH_SPANS_MAX - batch.len();
        tokio::select! {
            taken = spans.recv_many(&mut batch, room) => {
                if taken == 0 {
                    break;
                }
                if batch.len() < BATCH_SPANS_MAX {
                    continue;
                }
            }
            _ = due.tick() => if batch.is_empty() {
                continue;
            },
            () = ending.cancelled() => break,
        }
        collector.tell(take(&mut batch)).await;
    }
    spans.close();
    loop {
        while batch.len() < BATCH_SPANS_MAX
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            return;
        }
        if collector.is_away {
            // The end does not wait for it.
            collector.counts.failed.inc_by(count(&take(&mut batch)));
        } else {
            collector.tell(take(&mut batch)).await;
        }
    }
}

/// Who is told.
pub(super) struct Collector {
    client: TraceServiceClient<Channel>,
    headers: MetadataMap,
    resource: ResourceAttributesWithSchema,
    counts: Counts,
    is_away: bool,
    said_at: Option<Instant>,
}

impl Collector {
    pub(super) fn new(
        config: &TracesConfig,
        tls: &ClientTls,
        resource: &Resource,
        counts: Counts,
    ) -> Result<Self, String> {
        let (client, headers) = client(config, tls)?;
        Ok(Self { client, headers, resource: resource.into(), counts, is_away: false, said_at: None })
    }

    async fn tell(&mut self, spans: Vec<SpanData>) {
        let told = count(&spans);
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        match export(&mut self.client, &self.headers, ExportTraceServiceRequest { resource_spans }).await {
            Ok(rejected) => {
                let rejected = rejected.min(told);
                self.counts.exported.inc_by(told - rejected);
                self.counts.failed.inc_by(rejected);
                if take(&mut self.is_away) {
                    tracing::info!("the collector takes spans again");
                }
            }
            Err(why) => {
                self.counts.failed.inc_by(told);
                self.is_away = true;
                if self.said_at.is_none_or(|said_at| said_at.elapsed() >= SAY_AGAIN) {
                    self.said_at = Some(Instant::now());
                    tracing::warn!(why, "the collector does not take spans; what it misses is counted");
                }
            }
        }
    }
}

fn count(spans: &[SpanData]) -> u64 {
    u64::try_from(spans.len()).unwrap_or(u64::MAX)
}

/// Whether the collector of a configuration takes what it is told: it is told nothing.
///
/// # Errors
/// Why not.
pub async fn check(config: &TracesConfig, tls: &ClientTls) -> Result<(), String> {
    let (mut client, headers) = client(config, tls)?;
    export(&mut client, &headers, ExportTraceServiceRequest::default()).await.map(|_| ())
}

fn client(config: &TracesConfig, tls: &ClientTls) -> Result<(TraceServiceClient<Channel>, MetadataMap), String> {
    let channel = grpc::channel(&config.otlp_endpoint, tls.clone()).map_err(|error| error.to_string())?;
    let headers = headers(config.otlp_headers.expose()).ok_or("traces.otlp_headers cannot be read")?;
    Ok((TraceServiceClient::new(channel), headers))
}

/// How many of the spans were rejected.
async fn export(
    client: &mut TraceServiceClient<Channel>,
    headers: &MetadataMap,
    spans: ExportTraceServiceRequest,
) -> Result<u64, String> {
    let mut request = tonic::Request::new(spans);
    *request.metadata_mut() = headers.clone();
    match timeout(EXPORT_TIMEOUT, client.export(request)).await {
        Err(_) => Err("no answer".to_owned()),
        Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
        Ok(Ok(answer)) => {
            let rejected = answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans);
            Ok(rejected.max(0).unsigned_abs())
        }
    }
}

/// `name=value,name=value`; `None` when it is not.
pub(super) fn headers(list: &str) -> Option<MetadataMap> {
    let mut headers = MetadataMap::new();
    for header in list.split(',').map(str::trim).filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once('=')?;
        let mut value: AsciiMetadataValue = value.trim().parse().ok()?;
        value.set_sensitive(true);
        headers.insert(name.trim().to_ascii_lowercase().parse::<AsciiMetadataKey>().ok()?, value);
    }
    Some(headers)
}
