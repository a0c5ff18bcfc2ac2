//! Makes topics, and checks those that are there.
//!
//! A topic that is deleted and made again begins at offset 0 once more; what was remembered of the
//! first must not be taken for the second. Kafka gives every topic an id, but librdkafka's bindings do
//! not show it. So a topic that is made here carries the time of its making in `delete.retention.ms`,
//! which means something for compacted topics only, and these are not compacted. That is its
//! generation. One that was made by somebody else has generation 0.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, ConfigSource, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::cursor::{Plain, blocking};
use super::names::{Names, Topic};
use super::{Error, MESSAGE_BYTES_MAX, TopicSpec};
use crate::backend::kafka;

/// Makes what is missing; gives each topic's generation.
pub(super) async fn ensure(
    connection: &kafka::Options,
    names: &Names,
    specs: &[TopicSpec],
) -> Result<HashMap<Arc<str>, u32>, Error> {
    let mut wanted = Vec::with_capacity(specs.len());
    for spec in specs {
        wanted.push((names.topic(&spec.name)?, spec));
    }
    let client: Arc<AdminClient<Plain>> =
        Arc::new(connection.client()?.create_with_context(Plain)?);
    let metadata = look(&client).await?;
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(topic, _)| find(&metadata, topic).is_none())
        .collect();
    if !missing.is_empty() {
        make(&client, &missing, metadata.brokers().len()).await?;
    }
    let metadata = wait(&client, &wanted).await?;
    check(&client, &wanted, &metadata).await
}

async fn look(client: &Arc<AdminClient<Plain>>) -> Result<Metadata, Error> {
    let client = Arc::clone(client);
    blocking(move || Ok(client.inner().fetch_metadata(None, ASK_WITHIN)?)).await
}

fn find<'a>(metadata: &'a Metadata, topic: &Topic) -> Option<&'a rdkafka::metadata::MetadataTopic> {
    let mut topics = metadata.topics().iter();
    topics.find(|found| found.name() == topic.kafka && found.error().is_none())
}

async fn make(
    client: &AdminClient<Plain>,
    missing: &[&(Arc<Topic>, &TopicSpec)],
    brokers: usize,
) -> Result<(), Error> {
    let copies = brokers.clamp(1, COPIES_MAX);
    // With three copies one broker may be away and what is acknowledged is still on two.
    let in_sync = if copies == COPIES_MAX { "2" } else { "1" };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let generation = now.as_secs().to_string();
    let bytes = MESSAGE_BYTES_MAX.to_string();
    let texts: Vec<_> = missing
        .iter()
        .map(|(_, spec)| spec.retention.as_millis().to_string())
        .collect();
    let topics: Vec<_> = missing
        .iter()
        .zip(&texts)
        .map(|((topic, spec), retention)| {
            let partitions = i32::try_from(spec.partitions.max(1)).unwrap_or(i32::MAX);
            let copies = TopicReplication::Fixed(i32::try_from(copies).unwrap_or(1));
            NewTopic::new(&topic.kafka, partitions, copies)
                .set("retention.ms", retention)
                .set("cleanup.policy", "delete")
                .set("min.insync.replicas", in_sync)
                .set("unclean.leader.election.enable", "false")
                .set("max.message.bytes", &bytes)
                // The brokers' clock: a rewind to a time misses nothing because a sender's is wrong.
                .set("message.timestamp.type", "LogAppendTime")
                .set("delete.retention.ms", &generation)
        })
        .collect();
    for outcome in client.create_topics(&topics, &options()).await? {
        match outcome {
            Ok(topic) => tracing::info!(topic, "a topic was made"),
            // Another node was quicker.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(fault(topic, format!("can not be made: {code}"))),
        }
    }
    Ok(())
}

/// Waits until the brokers know the topics and each partition has a leader.
async fn wait(
    client: &Arc<AdminClient<Plain>>,
    wanted: &[(Arc<Topic>, &TopicSpec)],
) -> Result<Metadata, Error> {
    let until = Instant::now() + READY_WITHIN;
    loop {
        let metadata = look(client).await?;
        let is_led = |topic: &rdkafka::metadata::MetadataTopic| {
            !topic.partitions().is_empty() && topic.partitions().iter().all(|p| p.leader() >= 0)
        };
        let unready = wanted
            .iter()
            .find(|(topic, _)| !find(&metadata, topic).is_some_and(is_led));
        match unready {
            None => return Ok(metadata),
            Some((topic, _)) if Instant::now() > until => {
                let text = "was made, and has partitions without a leader".to_owned();
                return Err(fault(topic.kafka.clone(), text));
            }
            Some(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn check(
    client: &AdminClient<Plain>,
    wanted: &[(Arc<Topic>, &TopicSpec)],
    metadata: &Metadata,
) -> Result<HashMap<Arc<str>, u32>, Error> {
    let asked: Vec<_> = wanted
        .iter()
        .map(|(topic, _)| ResourceSpecifier::Topic(&topic.kafka))
        .collect();
    let mut found = HashMap::new();
    for outcome in client.describe_configs(&asked, &options()).await? {
        let config = outcome.map_err(kafka::Error::Broker)?;
        if let OwnedResourceSpecifier::Topic(name) = &config.specifier {
            found.insert(name.clone(), config);
        }
    }
    let mut generations = HashMap::new();
    for (topic, spec) in wanted {
        let Some(config) = found.get(&topic.kafka) else {
            return Err(fault(topic.kafka.clone(), "has no settings".to_owned()));
        };
        let Some(topic_metadata) = find(metadata, topic) else {
            continue;
        };
        let partitions = topic_metadata.partitions();
        if partitions.len() != spec.partitions as usize {
            tracing::warn!(topic = %topic.kafka, has = partitions.len(), configured = spec.partitions,
                "a topic keeps the number of partitions it was made with");
        }
        let copies = partitions.iter().map(|p| p.replicas().len()).min();
        let in_sync = value(config, "min.insync.replicas").and_then(|v| v.parse::<usize>().ok());
        if let (Some(copies), Some(in_sync)) = (copies, in_sync)
            && in_sync > copies
        {
            let text = format!(
                "can take no record: min.insync.replicas is {in_sync} and it has {copies} replicas"
            );
            return Err(fault(topic.kafka.clone(), text));
        }
        if value(config, "cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            let text = "is compacted, which would take records out of the log".to_owned();
            return Err(fault(topic.kafka.clone(), text));
        }
        generations.insert(Arc::clone(&topic.name), generation(config));
    }
    Ok(generations)
}

fn value<'a>(config: &'a ConfigResource, name: &str) -> Option<&'a str> {
    config.get(name)?.value.as_deref()
}

fn generation(config: &ConfigResource) -> u32 {
    let entry = config.get("delete.retention.ms");
    let own = entry.filter(|entry| entry.source == ConfigSource::DynamicTopic);
    let value = own.and_then(|entry| entry.value.as_deref());
    value.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn fault(topic: String, fault: String) -> Error {
    kafka::Error::Topic { topic, fault }.into()
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ASK_WITHIN))
        .operation_timeout(Some(ASK_WITHIN))
}

const ASK_WITHIN: Duration = Duration::from_secs(15);
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const COPIES_MAX: usize = 3;
