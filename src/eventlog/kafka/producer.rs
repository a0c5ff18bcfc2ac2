//! Appends to Kafka.
//!
//! There are two lanes, each with a client of its own: ordinary appends, which Kafka has a bounded
//! time to confirm, and patient ones, which are produced for ever. So a record that is given up never
//! stands between two patient ones, and what is durable of those is a prefix of what was appended.
//!
//! A lane enqueues under one short lock: the order of the calls is the order in which the idempotent
//! producer writes them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use tokio::sync::oneshot;

use super::flight::{Flight, Pending};
use super::names::Topic;
use super::{Append, Appended, Error, Options, Patience, Request, meter};
use crate::backend::kafka;
use crate::types::Timestamp;

type Client = BaseProducer<Context>;

/// Both lanes.
#[derive(Debug)]
pub(super) struct Producer {
    ordinary: Arc<Lane>,
    patient: Arc<Lane>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Producer {
    pub(super) fn start(options: &Options) -> Result<Self, Error> {
        let lane = |patience| Lane::new(patience, options);
        let (ordinary, patient) = (lane(Patience::Refuse)?, lane(Patience::Persist)?);
        let threads = [&ordinary, &patient].map(Lane::run);
        let threads = threads.into_iter().collect::<Result<_, _>>()?;
        Ok(Self {
            ordinary,
            patient,
            threads: Mutex::new(threads),
        })
    }

    pub(super) fn append(&self, topic: &Arc<Topic>, request: Request<'_>) -> Result<Append, Error> {
        match request.patience {
            Patience::Refuse => self.ordinary.append(topic, request),
            Patience::Persist => self.patient.append(topic, request),
        }
    }

    /// Whether records wait and none has been confirmed for a while.
    pub(super) fn is_stuck(&self) -> bool {
        [&self.ordinary, &self.patient].iter().any(|lane| {
            let state = lane.lock();
            !state.flight.is_empty() && state.progress.elapsed() > STUCK_AFTER
        })
    }

    /// Takes nothing more. What waits still has a while to become durable.
    pub(super) fn close(&self) {
        self.ordinary.close();
        self.patient.close();
    }

    /// The threads, for whoever waits for their end.
    pub(super) fn threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.close();
    }
}

/// One client and what it has to make durable.
struct Lane {
    patience: Patience,
    config: ClientConfig,
    answer_within: Duration,
    state: Mutex<State>,
}

struct State {
    /// `None` for a moment, while a new one is made.
    client: Option<Arc<Client>>,
    /// Counts the clients: what an earlier one still reports means nothing.
    generation: u64,
    flight: Flight,
    /// Set when what waits is refused at once.
    is_stalled: bool,
    /// When Kafka confirmed something, or there was nothing to confirm.
    progress: Instant,
    /// When patient records that failed are produced again.
    redo_at: Instant,
    closed: Option<Instant>,
}

struct Context {
    lane: std::sync::Weak<Lane>,
    generation: u64,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        kafka::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "vestibule::kafka", %error, reason, "a producer met an error");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let Some(lane) = self.lane.upgrade() else {
            return;
        };
        let outcome = match result {
            Ok(message) => Ok(Appended {
                partition: u32::try_from(message.partition()).unwrap_or_default(),
                offset: u64::try_from(message.offset()).unwrap_or_default(),
                at: Timestamp::from_millis(message.timestamp().to_millis().unwrap_or_default()),
            }),
            Err((error, _)) => Err(error.clone()),
        };
        lane.delivered(self.generation, ticket as u64, outcome);
    }
}

impl Lane {
    fn new(patience: Patience, options: &Options) -> Result<Arc<Self>, Error> {
        let config = config(patience, options)?;
        let now = Instant::now();
        let state = State {
            client: None,
            generation: 0,
            flight: Flight::new(options.in_flight_records, options.in_flight_bytes),
            is_stalled: false,
            progress: now,
            redo_at: now,
            closed: None,
        };
        let lane = Arc::new(Self {
            patience,
            config,
            answer_within: options.answer_within,
            state: Mutex::new(state),
        });
        let client = lane.client(0)?;
        lane.lock().client = Some(client);
        Ok(lane)
    }

    fn client(self: &Arc<Self>, generation: u64) -> Result<Arc<Client>, Error> {
        let lane = Arc::downgrade(self);
        let client = self
            .config
            .create_with_context(Context { lane, generation });
        client.map(Arc::new).map_err(Error::from)
    }

    fn append(&self, topic: &Arc<Topic>, request: Request<'_>) -> Result<Append, Error> {
        let (done, append) = oneshot::channel();
        let pending = Pending {
            topic: Arc::clone(topic),
            key: Arc::from(request.key),
            value: request.value,
            headers: request.headers.to_vec(),
            since: Instant::now(),
            done: Some(done),
        };
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(Error::Closed);
        }
        state.flight.admit(&pending)?;
        if state.flight.is_empty() {
            state.progress = pending.since;
        } else if state.is_stalled && self.patience == Patience::Refuse {
            // One record is always under way, to find out when the brokers are back.
            return Err(unreachable());
        }
        let ticket = state.flight.ticket();
        if state.flight.is_redoing() {
            state.flight.insert(ticket, pending);
            state.flight.redo(ticket);
            return Ok(Append(append));
        }
        let client = state.client.clone().ok_or(Error::Closed)?;
        match send(&client, ticket, &pending) {
            Ok(()) => state.flight.insert(ticket, pending),
            Err(_) if self.patience == Patience::Persist => {
                state.flight.insert(ticket, pending);
                state.flight.redo(ticket);
            }
            Err(error) => return Err(refusal(&error)),
        }
        Ok(Append(append))
    }

    fn delivered(&self, generation: u64, ticket: u64, outcome: Result<Appended, KafkaError>) {
        let mut state = self.lock();
        if generation != state.generation {
            return;
        }
        match outcome {
            Ok(appended) => {
                state.progress = Instant::now();
                state.is_stalled = false;
                if let Some(pending) = state.flight.remove(ticket) {
                    meter::appended(self.patience, pending.since.elapsed());
                    pending.topic.appended.add(1);
                    pending.answer(Ok(appended));
                }
            }
            Err(error) if self.patience == Patience::Persist && !is_hopeless(&error) => {
                tracing::warn!(%error, "a record was not taken; it is produced again");
                state.flight.redo(ticket);
                state.redo_at = Instant::now() + REDO_AFTER;
            }
            Err(error) => {
                if let Some(pending) = state.flight.remove(ticket) {
                    meter::refused();
                    pending.answer(Err(refusal(&error)));
                }
            }
        }
    }

    fn close(&self) {
        self.lock().closed.get_or_insert_with(Instant::now);
    }

    /// Serves what the brokers answer, until the lane is closed and empty, or has waited long enough.
    fn run(lane: &Arc<Self>) -> Result<JoinHandle<()>, Error> {
        let lane = Arc::clone(lane);
        let name = match lane.patience {
            Patience::Refuse => "kafka-append",
            Patience::Persist => "kafka-patient",
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        let serve = move || {
            while !lane.is_over() {
                if let Some(client) = lane.current() {
                    client.poll(LOOK_EVERY);
                }
                lane.look_after();
            }
            let client = lane.lock().client.take();
            // Dropping it gives up what is left; what waited reads that the log is closed.
            drop(client);
            lane.lock().flight.clear();
        };
        let thread = thread.spawn(serve);
        thread.map_err(|error| kafka::Error::Other(error.to_string()).into())
    }

    fn current(&self) -> Option<Arc<Client>> {
        self.lock().client.clone()
    }

    fn is_over(&self) -> bool {
        let state = self.lock();
        let is_late = |since: Instant| since.elapsed() > FLUSH_WITHIN || state.flight.is_empty();
        state.closed.is_some_and(is_late)
    }

    fn look_after(self: &Arc<Self>) {
        let Some(client) = self.current() else {
            return self.replace();
        };
        if let Some((code, reason)) = client.client().fatal_error() {
            tracing::error!(%code, reason, "a producer can not go on; another takes its place");
            return self.replace();
        }
        let now = Instant::now();
        let mut state = self.lock();
        match self.patience {
            Patience::Refuse => {
                let late = state
                    .flight
                    .answer_late(now, self.answer_within, &unreachable());
                (0..late).for_each(|_| meter::refused());
                let is_quiet = now.duration_since(state.progress) > self.answer_within;
                if late > 0 && is_quiet && !state.is_stalled {
                    state.is_stalled = true;
                    tracing::warn!("kafka confirms nothing; appends are refused until it does");
                }
            }
            Patience::Persist if state.redo_at <= now => {
                while let Some((ticket, pending)) = state.flight.next_redo() {
                    if send(&client, ticket, pending).is_err() {
                        state.redo_at = now + REDO_AFTER;
                        break;
                    }
                    state.flight.redone(ticket);
                }
            }
            Patience::Persist => {}
        }
    }

    /// Puts a new client in the place of one that can not go on. What was in flight is unknown:
    /// ordinary records are refused, patient ones produced again in their order.
    fn replace(self: &Arc<Self>) {
        let generation = self.lock().generation + 1;
        let made = self.client(generation);
        let mut state = self.lock();
        state.generation = generation;
        let old = state.client.take();
        match self.patience {
            Patience::Refuse => {
                let gone = state.flight.fail_all(&unreachable());
                (0..gone).for_each(|_| meter::refused());
            }
            Patience::Persist => state.flight.redo_all(),
        }
        match made {
            Ok(client) => state.client = Some(client),
            Err(error) => tracing::error!(%error, "a producer could not be made; trying again"),
        }
        let has_client = state.client.is_some();
        drop(state);
        // Its last reports come while it is dropped, and belong to an earlier generation.
        drop(old);
        if !has_client {
            std::thread::park_timeout(REDO_AFTER);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// Hands a record to the client. It takes a copy, and never waits.
fn send(client: &Client, ticket: u64, pending: &Pending) -> Result<(), KafkaError> {
    let ticket = usize::try_from(ticket).unwrap_or(usize::MAX);
    let mut record = BaseRecord::with_opaque_to(&pending.topic.kafka, ticket)
        .key(&*pending.key)
        .payload(&pending.value[..]);
    if !pending.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(pending.headers.len());
        for (key, value) in &pending.headers {
            let value = Some(&value[..]);
            headers = headers.insert(Header { key, value });
        }
        record = record.headers(headers);
    }
    client.send(record).map_err(|(error, _)| error)
}

/// What a sender is told when a record was not taken.
fn refusal(error: &KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => Error::Overloaded {
            what: "records",
            limit: QUEUE_RECORDS_MAX,
            retry_after: RETRY_AFTER_LOAD,
        },
        Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut) => {
            unreachable()
        }
        _ => kafka::Error::from(error.clone()).into(),
    }
}

const fn unreachable() -> Error {
    Error::Unreachable {
        retry_after: RETRY_AFTER_OUTAGE,
    }
}

/// No broker will ever take it.
fn is_hopeless(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord)
    )
}

fn config(patience: Patience, options: &Options) -> Result<ClientConfig, Error> {
    let mut config = options.connection.client()?;
    // The bounds here are the lane's; the client's own are never met first.
    let kbytes = (options.in_flight_bytes / 1_024 * 2 + 65_536).min(2_097_151);
    let timeout = match patience {
        Patience::Refuse => options.delivery_timeout.as_millis().max(1_000),
        // For ever.
        Patience::Persist => 0,
    };
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("max.in.flight.requests.per.connection", "5")
        .set("message.timeout.ms", timeout.to_string())
        .set("message.max.bytes", super::MESSAGE_BYTES_MAX.to_string())
        .set(
            "queue.buffering.max.messages",
            QUEUE_RECORDS_MAX.to_string(),
        )
        .set("queue.buffering.max.kbytes", kbytes.to_string())
        .set("allow.auto.create.topics", "false");
    let linger = match patience {
        Patience::Refuse => "1",
        // No sender waits for these, and a request to the brokers costs as much for one record as for many.
        Patience::Persist => "40",
    };
    let defaults = [
        ("linger.ms", linger),
        ("compression.type", "lz4"),
        ("batch.size", "262144"),
        ("batch.num.messages", "10000"),
        ("request.timeout.ms", "5000"),
    ];
    for (property, value) in defaults {
        if config.get(property).is_none() {
            config.set(property, value);
        }
    }
    Ok(config)
}

/// How long the thread waits for an answer before it looks at what is late.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// So long without a confirmation is no hiccup.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// A patient record that failed is produced again after this.
const REDO_AFTER: Duration = Duration::from_millis(500);
/// What waits when the log is closed has so long to become durable.
const FLUSH_WITHIN: Duration = Duration::from_secs(10);
/// As in the embedded log: what is full drains in about this time.
const RETRY_AFTER_LOAD: Duration = Duration::from_millis(250);
/// Brokers that are gone are rarely back within less.
const RETRY_AFTER_OUTAGE: Duration = Duration::from_secs(2);
/// Above what any lane lets in.
const QUEUE_RECORDS_MAX: usize = 2_000_000;
