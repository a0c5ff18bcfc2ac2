//! The path of a durable event as a trace: one span for each part of it, on whichever node, for one event in so
//! many, exported by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! An event's trace is its id: the sixteen bytes of an id that a node drew are the trace id, other ids are hashed.
//! So every node knows which events are traced, and under which span, without being told, and who has an event's id
//! has its trace. Spans are made when a part is over, with the times at which it began and ended: parts begin in
//! one batch and end in another, and belong to no scope of the code.

mod collector;

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use xxhash_rust::xxh3::xxh3_128;

use self::collector::Collector;
use crate::types::EventId;

/// The header of a record that names its trace: W3C Trace Context, <https://www.w3.org/TR/trace-context/>.
pub const HEADER: &str = "traceparent";

/// Where spans go, and of how many events.
#[derive(Debug, Clone)]
pub struct Options {
    /// The base URL of a collector, http or https; `/v1/traces` is added.
    pub endpoint: String,
    /// One event in so many is traced.
    pub one_in: u64,
    /// This node's name.
    pub node: String,
}

struct Export {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    one_in: u64,
}

static EXPORT: OnceLock<Export> = OnceLock::new();

/// Begins to export, for the life of this process. Has to be called on the runtime that exports.
///
/// # Errors
/// When the endpoint is no URL.
pub fn begin(options: &Options) -> Result<(), ExporterBuildError> {
    let endpoint = format!("{}/v1/traces", options.endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new())
        .with_endpoint(endpoint)
        .build()?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    processor.set_resource(
        &Resource::builder_empty()
            .with_service_name("vestibule")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", options.node.clone()),
            ])
            .build(),
    );
    let export = Export {
        processor,
        scope: InstrumentationScope::builder("vestibule").build(),
        one_in: options.one_in.max(1),
    };
    // A second node in one process exports with the first.
    EXPORT.set(export).ok();
    Ok(())
}

/// Exports what waits, for a moment at most. Blocks.
pub fn end() {
    if let Some(export) = EXPORT.get() {
        export.processor.shutdown_with_timeout(END_WITHIN).ok();
    }
}

/// The trace of an event that is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace(u128);

/// A part of an event's path, over.
#[derive(Debug)]
pub struct Part<'a> {
    /// What it is called.
    pub name: &'static str,
    /// When it began.
    pub from: SystemTime,
    /// What more there is to say of it.
    pub more: &'a [(&'static str, &'a str)],
}

impl Trace {
    /// An event's, if it is traced.
    #[must_use]
    pub fn of(id: &EventId) -> Option<Self> {
        let export = EXPORT.get()?;
        let trace = Self::always(id);
        trace.is_among(export.one_in).then_some(trace)
    }

    fn always(id: &EventId) -> Self {
        let mut bytes = [0; 16];
        let text = id.as_str().as_bytes();
        let drawn = match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => u128::from_be_bytes(bytes),
            _ => xxh3_128(text),
        };
        // No trace and no span has a number of zeros only.
        let root = u64::try_from(drawn >> 64).unwrap_or(0);
        Self(if root == 0 { drawn | 1 << 64 } else { drawn })
    }

    /// As samplers of others decide it: by the 56 bits on the right of the id
    /// (<https://www.w3.org/TR/trace-context-2/#random-trace-id-flag>).
    fn is_among(self, one_in: u64) -> bool {
        let random = u64::try_from(self.0 & u128::from(RANDOM)).unwrap_or(0);
        random >= RANDOM - RANDOM / one_in
    }

    /// The span under which all others are.
    fn root(self) -> SpanId {
        SpanId::from(u64::try_from(self.0 >> 64).unwrap_or(1))
    }

    /// The value of [`HEADER`].
    #[must_use]
    pub fn header(self) -> String {
        format!("00-{:032x}-{}-01", self.0, self.root())
    }

    /// Whether a record with this header was published by a node, which has told the begin of its path.
    #[must_use]
    pub fn is_begun(self, header: Option<&str>) -> bool {
        header.is_some_and(|header| header == self.header())
    }

    /// The first part of the path, under which all others are. `caller`: the header of the program that wrote the
    /// record, if it gave one.
    pub fn begins(self, part: Part<'_>, caller: Option<&str>) {
        self.export(
            part,
            (self.root(), SpanId::INVALID),
            caller.and_then(context),
        );
    }

    /// A part of the path.
    pub fn took(self, part: Part<'_>) {
        let id = SpanId::from(rand::random_range(1..=u64::MAX));
        self.export(part, (id, self.root()), None);
    }

    fn export(self, part: Part<'_>, (id, parent): (SpanId, SpanId), caller: Option<SpanContext>) {
        let Some(export) = EXPORT.get() else {
            return;
        };
        let mut links = SpanLinks::default();
        links.links = caller.map(Link::with_context).into_iter().collect();
        let attributes = part.more.iter();
        let attributes = attributes.map(|(key, value)| KeyValue::new(*key, (*value).to_owned()));
        export.processor.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from(self.0),
                id,
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: parent,
            parent_span_is_remote: true,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(part.name),
            start_time: part.from,
            end_time: SystemTime::now().max(part.from),
            attributes: attributes.collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: Status::Unset,
            instrumentation_scope: export.scope.clone(),
        });
    }
}

/// The trace id of an event, traced or not, for the log.
#[must_use]
pub fn id(event: &EventId) -> String {
    format!("{:032x}", Trace::always(event).0)
}

/// When something began that lasted until now.
#[must_use]
pub fn ago(took: Duration) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(took).unwrap_or(now)
}

/// What a header of another program says, if it can be read.
fn context(header: &str) -> Option<SpanContext> {
    let mut parts = header.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_known = version.len() == 2 && version != "ff" && trace.len() == 32 && span.len() == 16;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(flags),
        true,
        TraceState::NONE,
    );
    (is_known && context.is_valid()).then_some(context)
}

const RANDOM: u64 = (1 << 56) - 1;
const END_WITHIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(id: &str) -> Trace {
        Trace::always(&EventId::parse(id).unwrap())
    }

    #[test]
    fn the_bytes_of_a_drawn_id_are_its_trace() {
        let bytes: [u8; 16] = std::array::from_fn(|n| u8::try_from(n + 1).unwrap());
        let event = EventId::parse(&URL_SAFE_NO_PAD.encode(bytes)).unwrap();
        assert_eq!(id(&event), "0102030405060708090a0b0c0d0e0f10");
        let header = Trace::always(&event).header();
        assert_eq!(
            header,
            "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"
        );
        let context = context(&header).unwrap();
        assert!(context.is_sampled() && context.is_remote());
    }

    #[test]
    fn ids_of_other_programs_have_a_trace_too() {
        assert_ne!(trace("order-1"), trace("order-2"));
        assert_eq!(trace("order-1"), trace("order-1"));
        // Sixteen bytes of nothing.
        let nothing = trace("AAAAAAAAAAAAAAAAAAAAAA");
        assert!(context(&nothing.header()).is_some());
    }

    #[test]
    fn one_in_so_many_is_traced() {
        let ids = (0..40_000).map(|n| trace(&format!("event-{n}")));
        let traced = ids.filter(|trace| trace.is_among(100)).count();
        assert!((300..500).contains(&traced), "{traced}");
        assert!(trace("any").is_among(1));
    }

    #[test]
    fn a_header_that_says_nothing_is_no_link() {
        for bad in [
            "",
            "00",
            "hello",
            "00-0-0-0",
            "ff-0102030405060708090a0b0c0d0e0f10-0102030405060708-01",
            "00-00000000000000000000000000000000-0102030405060708-01",
            "00-0102030405060708090a0b0c0d0e0f10-0000000000000000-01",
            "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-zz",
        ] {
            assert!(context(bad).is_none(), "{bad}");
        }
    }
}
