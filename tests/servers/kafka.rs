//! Apache Kafka in KRaft mode, from its published jars: `kafka/pom.xml` says which.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, run};
use super::{free_ports, wait_for};

/// One broker of a cluster of one or three.
#[derive(Debug)]
pub struct Broker {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
}

/// How to reach the listener that asks for TLS and a password: user `node`, password `let me in`, by
/// SCRAM or PLAIN.
#[derive(Debug)]
pub struct Secured {
    /// The address for clients.
    pub bootstrap: String,
    /// The file of the authority that signed the broker's certificate.
    pub authority: PathBuf,
}

/// A Kafka cluster.
#[derive(Debug)]
pub struct Kafka {
    brokers: Vec<Broker>,
}

/// Small enough for three brokers beside everything else, and quick to start.
const JAVA: &[&str] = &[
    "-Xms192m",
    "-Xmx320m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:MaxMetaspaceSize=128m",
    "-XX:MaxDirectMemorySize=64m",
    "-XX:ReservedCodeCacheSize=64m",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];
/// Names more options for the brokers' Java: for benchmarks, which measure servers that are warm.
const MORE_JAVA: &str = "VESTIBULE_KAFKA_JAVA";
/// Any valid id: the clusters of two tests never meet.
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// The broker's jars, put there by Maven.
fn jars() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/kafka/jars");
    assert!(
        folder.is_dir(),
        "the jars of Kafka are not there; in tests/servers/kafka run: mvn dependency:copy-dependencies \
         -DincludeScope=runtime -DoutputDirectory=jars"
    );
    format!("{}/*", folder.display())
}

impl Kafka {
    /// Starts one broker.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        Self::of(folder, 1, None)
    }

    /// Starts brokers with a listener more for each of `advertised`: it tells clients to come to that port
    /// instead, where somebody else takes them and hands them on. The ports of these listeners, by broker.
    #[must_use]
    pub fn behind(folder: &Path, advertised: &[Vec<u16>]) -> (Self, Vec<Vec<u16>>) {
        let ports: Vec<Vec<u16>> = advertised
            .iter()
            .map(|more| more.iter().map(|_| free_ports::<1>()[0]).collect())
            .collect();
        let listeners = |n: usize| {
            let pairs = ports[n].iter().copied().zip(advertised[n].iter().copied());
            pairs.collect::<Vec<_>>()
        };
        let change = |n: usize, properties: String| with_listeners(&properties, &listeners(n));
        let kafka = Self::changed(folder, advertised.len(), None, &change);
        (kafka, ports)
    }

    /// Starts three brokers that replicate.
    #[must_use]
    pub fn three(folder: &Path) -> Self {
        Self::of(folder, 3, None)
    }

    /// Starts one broker that has a listener with TLS and passwords too.
    #[must_use]
    pub fn secured(folder: &Path) -> (Self, Secured) {
        let [port] = free_ports();
        let authority = folder.join("authority.pem");
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = key.expect("a certificate");
        std::fs::write(&authority, cert.pem()).expect("its file");
        let store = folder.join("broker.pem");
        let text = format!("{}{}", signing_key.serialize_pem(), cert.pem());
        std::fs::write(&store, text).expect("its file");
        let kafka = Self::of(folder, 1, Some((port, &store)));
        let bootstrap = format!("127.0.0.1:{port}");
        (
            kafka,
            Secured {
                bootstrap,
                authority,
            },
        )
    }

    fn of(folder: &Path, count: usize, secured: Option<(u16, &Path)>) -> Self {
        Self::changed(folder, count, secured, &|_, properties| properties)
    }

    fn changed(
        folder: &Path,
        count: usize,
        secured: Option<(u16, &Path)>,
        change: &dyn Fn(usize, String) -> String,
    ) -> Self {
        let ports: [u16; 6] = free_ports();
        let voters: Vec<String> = (0..count)
            .map(|n| format!("{}@127.0.0.1:{}", n + 1, ports[3 + n]))
            .collect();
        let broker = |n: usize| {
            let folder = folder.join(format!("kafka-{}", ports[n]));
            std::fs::create_dir_all(&folder).expect("a folder for kafka");
            let mut properties =
                properties(n + 1, (ports[n], ports[3 + n]), &voters.join(","), &folder);
            properties = change(n, properties);
            if let Some((port, store)) = secured {
                properties = with_security(&properties, port, store);
            }
            std::fs::write(folder.join("server.properties"), properties).expect("its settings");
            let file = folder.join("server.properties").display().to_string();
            let mut format = Command::new("java");
            format.args(JAVA).args([
                "-cp",
                &jars(),
                "kafka.tools.StorageTool",
                "format",
                "-t",
                CLUSTER_ID,
                "-c",
                &file,
            ]);
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                let user = format!("{mechanism}=[name=node,password=\"let me in\"]");
                if secured.is_some() {
                    format.args(["--add-scram", &user]);
                }
            }
            run("kafka's storage tool", &mut format);
            Broker {
                process: None,
                folder,
                port: ports[n],
            }
        };
        let mut kafka = Self {
            brokers: (0..count).map(broker).collect(),
        };
        // All of them first: a broker is not ready before the majority is there.
        kafka.brokers.iter_mut().for_each(Broker::launch);
        kafka.brokers.iter_mut().for_each(Broker::wait);
        kafka
    }

    /// The addresses for clients.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self
            .brokers
            .iter()
            .map(|broker| format!("127.0.0.1:{}", broker.port))
            .collect();
        addresses.join(",")
    }

    /// One of the brokers.
    pub fn broker(&mut self, index: usize) -> &mut Broker {
        &mut self.brokers[index]
    }

    /// Runs one of Kafka's own command-line tools, for example
    /// `org.apache.kafka.tools.consumer.group.ConsumerGroupCommand`.
    #[must_use]
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let mut tool = Command::new("java");
        tool.args(JAVA)
            .args([
                "-cp",
                &jars(),
                class,
                "--bootstrap-server",
                &self.bootstrap(),
            ])
            .args(arguments);
        run(class, &mut tool)
    }
}

impl Broker {
    /// Starts it again with the data it has.
    pub fn restart(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end();
        }
        self.launch();
        self.wait();
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Its process, to pause it.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is running")
    }

    fn launch(&mut self) {
        let (jars, file) = (
            jars(),
            self.folder.join("server.properties").display().to_string(),
        );
        let mut command = vec!["java"];
        command.extend(JAVA);
        // Later options take the place of earlier ones.
        let more = std::env::var(MORE_JAVA).unwrap_or_default();
        command.extend(more.split_whitespace());
        command.extend(["-cp", &jars, "kafka.Kafka", &file]);
        self.process = Some(Process::start("kafka", &command, &self.folder.join("log")));
    }

    fn wait(&mut self) {
        // The listener opens when the broker is registered and may lead partitions.
        let port = self.port;
        wait_for(self.process(), || super::is_open(port));
    }
}

/// Adds listeners, each the port it has and the port that clients are told.
fn with_listeners(properties: &str, ports: &[(u16, u16)]) -> String {
    let lines = properties.lines().map(|line| {
        let more = ports
            .iter()
            .enumerate()
            .map(|(n, (own, told))| match line.split('=').next() {
                Some("listeners") => format!(",VIA{n}://127.0.0.1:{own}"),
                Some("advertised.listeners") => format!(",VIA{n}://127.0.0.1:{told}"),
                Some("listener.security.protocol.map") => format!(",VIA{n}:PLAINTEXT"),
                _ => String::new(),
            });
        format!("{line}{}\n", more.collect::<String>())
    });
    lines.collect()
}

/// Adds a listener with TLS and passwords to a broker's settings.
fn with_security(properties: &str, port: u16, store: &Path) -> String {
    let more = format!(",SECURE://127.0.0.1:{port}");
    let module = "org.apache.kafka.common.security";
    let lines = properties.lines().map(|line| match line.split('=').next() {
        Some("listeners" | "advertised.listeners") => format!("{line}{more}\n"),
        Some("listener.security.protocol.map") => format!("{line},SECURE:SASL_SSL\n"),
        _ => format!("{line}\n"),
    });
    let scram = |bits: u32| {
        format!(
            "listener.name.secure.scram-sha-{bits}.sasl.jaas.config={module}.scram.ScramLoginModule required;\n"
        )
    };
    format!(
        "{}listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN\n{}{}\
         listener.name.secure.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_node=\"let me in\";\n\
         listener.name.secure.ssl.keystore.type=PEM\n\
         listener.name.secure.ssl.keystore.location={}\n",
        lines.collect::<String>(),
        scram(256),
        scram(512),
        store.display()
    )
}

fn properties(id: usize, (port, controller): (u16, u16), voters: &str, folder: &Path) -> String {
    let count = voters.split(',').count();
    let majority = count.min(2);
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}/data\n\
         num.network.threads=2\n\
         num.io.threads=2\n\
         background.threads=2\n\
         num.recovery.threads.per.data.dir=1\n\
         default.replication.factor={count}\n\
         min.insync.replicas={majority}\n\
         offsets.topic.replication.factor={count}\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor={count}\n\
         transaction.state.log.min.isr={majority}\n\
         transaction.state.log.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor={count}\n\
         share.coordinator.state.topic.min.isr={majority}\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         log.cleaner.dedupe.buffer.size=4194304\n\
         log.cleaner.threads=1\n\
         log.segment.bytes=16777216\n\
         log.index.size.max.bytes=1048576\n\
         auto.create.topics.enable=false\n\
         broker.session.timeout.ms=3000\n\
         broker.heartbeat.interval.ms=500\n",
        folder.display()
    )
}
