//! Settings and errors of connections to Kafka.
//!
//! What a client is for (producing, a group) is set by who opens it; here is what all of them share:
//! where the brokers are, how they are spoken to, and what an operator may not change because a
//! promise rests on it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::types::{Kind, Secret};

/// Where the brokers are, and how they are spoken to.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `host:port`, separated by commas; one that answers is enough.
    pub bootstrap: String,
    /// What the brokers call this process in their logs and quotas.
    pub client_id: String,
    /// With TLS, if there is something here.
    pub tls: Option<Tls>,
    /// With a name and a password, if there is something here.
    pub sasl: Option<Sasl>,
    /// Other properties of librdkafka. Those that a promise rests on are refused.
    pub properties: BTreeMap<String, String>,
}

/// How the brokers prove who they are, and this process who it is.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The authorities to trust, a file in PEM form; the system's if there is none.
    pub authorities: Option<PathBuf>,
    /// This process's own certificate, a file in PEM form.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, a file in PEM form.
    pub key: Option<PathBuf>,
}

/// A name and a password.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// How the password is shown to the broker.
    pub mechanism: Mechanism,
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
}

/// How a password is shown to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// As it is: only over TLS is it hidden.
    Plain,
    /// By proof of knowing it, SHA-256.
    ScramSha256,
    /// By proof of knowing it, SHA-512.
    ScramSha512,
}

impl Mechanism {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Why Kafka did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A property that the operator may not set.
    #[error("the kafka property {0:?} is set by the program, because its promises rest on it")]
    Property(String),
    /// librdkafka does not take the settings.
    #[error("the kafka settings are not valid: {0}")]
    Settings(String),
    /// A topic is not as it has to be.
    #[error("the kafka topic {topic:?} {fault}")]
    Topic {
        /// The topic, as the brokers call it.
        topic: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The brokers, or the client on their behalf, said no.
    #[error("kafka: {0}")]
    Broker(RDKafkaErrorCode),
    /// The same, without a code.
    #[error("kafka: {0}")]
    Other(String),
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.retry() {
            Kind::Unavailable
        } else {
            Kind::Internal
        }
    }

    /// True if the same may succeed later.
    #[must_use]
    pub fn retry(&self) -> bool {
        match self {
            Self::Property(_) | Self::Settings(_) | Self::Topic { .. } => false,
            Self::Broker(code) => !is_final(*code),
            Self::Other(_) => true,
        }
    }
}

/// What no repetition changes: it takes an operator, or another record.
const fn is_final(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::MessageBatchTooLarge
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedVersion
            | Code::UnsupportedSASLMechanism
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::PolicyViolation
    )
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Self {
        match error {
            // Never the value: it may be a password.
            KafkaError::ClientConfig(_, text, property, _) => {
                Self::Settings(format!("{property}: {text}"))
            }
            KafkaError::ClientCreation(text) => Self::Settings(text),
            error => match error.rdkafka_error_code() {
                Some(code) => Self::Broker(code),
                None => Self::Other(error.to_string()),
            },
        }
    }
}

impl Options {
    /// The settings that every client begins with.
    ///
    /// # Errors
    /// When a property is not the operator's to set.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::new();
        for (property, value) in &self.properties {
            let property = property.trim();
            if REFUSED.iter().any(|refused| is_named(property, refused)) {
                return Err(Error::Property(property.to_owned()));
            }
            config.set(property, value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set("security.protocol", self.protocol());
        let defaults = [
            ("socket.keepalive.enable", "true"),
            ("socket.timeout.ms", "10000"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "1000"),
            ("retry.backoff.ms", "50"),
            ("retry.backoff.max.ms", "1000"),
            // So that a topic made a moment ago is found soon.
            ("topic.metadata.refresh.fast.interval.ms", "100"),
        ];
        for (property, value) in defaults {
            if config.get(property).is_none() {
                config.set(property, value);
            }
        }
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.authorities),
                ("ssl.certificate.location", &tls.certificate),
                ("ssl.key.location", &tls.key),
            ];
            for (property, file) in files {
                if let Some(file) = file {
                    config.set(property, file.display().to_string());
                }
            }
            if tls.authorities.is_none() {
                config.set("ssl.ca.location", "probe");
            }
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanisms", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", sasl.password.reveal());
        }
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }

    const fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }
}

/// Hands a line of librdkafka's log on.
pub fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error => {
            tracing::error!(target: "vestibule::kafka", facility, "{text}");
        }
        Level::Warning => tracing::warn!(target: "vestibule::kafka", facility, "{text}"),
        // A broker that restarts writes many of these; what follows from it is told elsewhere.
        Level::Notice | Level::Info | Level::Debug => {
            tracing::debug!(target: "vestibule::kafka", facility, "{text}");
        }
    }
}

fn is_named(property: &str, refused: &str) -> bool {
    match refused.strip_suffix('*') {
        Some(start) => property.starts_with(start),
        None => property == refused,
    }
}

/// Order, durability, what counts as done, and bounds rest on these; or they have keys of their own;
/// or they would load code.
const REFUSED: &[&str] = &[
    "acks",
    "auto.commit.*",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "delivery.timeout.ms",
    "dr_*",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol*",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "msg_order_cmp",
    "offset.store.*",
    "partition.assignment.strategy",
    "partitioner*",
    "plugin.library.paths",
    "produce.offset.report",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "sasl.mechanism*",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "test.mock.*",
    "transactional.id",
    "allow.auto.create.topics",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_promise_rests_on_is_refused() {
        for property in [
            "acks",
            "enable.idempotence",
            "partitioner",
            "group.protocol",
        ] {
            let mut options = Options::default();
            options
                .properties
                .insert(property.to_owned(), "1".to_owned());
            let refused = options.client().unwrap_err();
            assert!(refused.to_string().contains(property), "{refused}");
            assert!(!refused.retry());
        }
    }

    #[test]
    fn an_operators_property_replaces_a_default() {
        let mut options = Options::default();
        let property = "reconnect.backoff.max.ms";
        options
            .properties
            .insert(property.to_owned(), "7".to_owned());
        let config = options.client().unwrap();
        assert_eq!(config.get(property), Some("7"));
        assert_eq!(config.get("security.protocol"), Some("plaintext"));
    }

    #[test]
    fn a_password_is_set_and_not_shown() {
        let options = Options {
            tls: Some(Tls::default()),
            sasl: Some(Sasl {
                mechanism: Mechanism::ScramSha256,
                username: "node".to_owned(),
                password: Secret::new("hidden".to_owned()),
            }),
            ..Options::default()
        };
        let config = options.client().unwrap();
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("sasl.password"), Some("hidden"));
        assert!(!format!("{options:?}").contains("hidden"));
    }
}
