//! Who gets which handle.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;

use super::backends::Backends;
use super::front::Parts;
use super::library::{cors, trusted};
use crate::api::{self, Api};
use crate::config::{self, Config};
use crate::delivery::catchup::Catchup;
use crate::delivery::fanout::Fanout;
use crate::edge::origin::Cors;
use crate::edge::tls::Tls;
use crate::handlers::returns::Returns;
use crate::handlers::{self, Context};
use crate::lifecycle::{Admission, Drain, Health, Workers};
use crate::limits::Rules;
use crate::server::{Local, Server};

/// How many workers this configuration means.
pub(super) fn workers(config: &Config) -> usize {
    let count = match config.transport.workers {
        0 => Workers::available(),
        count => count,
    };
    count.min(crate::transport::WORKERS_MAX)
}

/// What the workers are made of.
pub(super) fn parts(
    config: &Config,
    backends: &Backends,
    (drain, health, admission): (&Drain, &Health, &Admission),
    tls: Option<Tls>,
) -> anyhow::Result<Parts> {
    let context = context(config, backends, (health, admission));
    let context = Arc::new(context);
    let server = Server::new().namespace("/", |root| handlers::register(root, &context));
    let development = backends.authenticator.development().cloned();
    let is_development = development.is_some();
    let body = (config.edge.max_body.bytes(), config.edge.body_timeout.get());
    let page_max = config.archive.page_max;
    let (bus, capacity) = (backends.bus.clone(), config.rooms.bus_queue);
    let (vocabulary, timeline) = (backends.vocabulary.clone(), backends.timeline.clone());
    let recent = backends.publisher.recent().clone();
    let watched = Arc::clone(&context);
    let has_offsets = backends.recovery.is_on();
    Ok(Parts {
        server,
        edge: config.edge.clone(),
        transport: config.transport.clone(),
        rooms: config.rooms.clone(),
        node: backends.node.clone(),
        cors: Cors {
            exposed_headers: Some(HeaderValue::from_static(api::EXPOSED)),
            ..cors(&config.edge)?
        },
        trusted: trusted(&config.edge)?,
        tls,
        drain: drain.clone(),
        admission: admission.clone(),
        page: Some(is_development),
        api: Some(Arc::new(move || {
            Rc::new(Api::new(
                Arc::clone(&context),
                development.clone(),
                page_max,
                body,
            ))
        })),
        inside: None,
        setup: Arc::new(move |local: &Rc<Local>| {
            let (port, stream) = bus.attach(capacity);
            let fanout = Fanout::new(
                Rc::clone(local.hub()),
                port,
                vocabulary.clone(),
                timeline.clone(),
            );
            if has_offsets {
                fanout.show_offsets();
            }
            local.provide(Rc::clone(&fanout));
            local.provide(Rc::new(recent.clone()));
            let watch = handlers::Watch::install(&watched, local, &fanout);
            drop(tokio::task::spawn_local(async move { watch.run().await }));
            drop(tokio::task::spawn_local(
                async move { fanout.run(stream).await },
            ));
        }),
    })
}

fn context(
    config: &Config,
    backends: &Backends,
    (health, admission): (&Health, &Admission),
) -> Context {
    Context {
        admission: admission.clone(),
        health: health.clone(),
        authenticator: backends.authenticator.clone(),
        vocabulary: backends.vocabulary.clone(),
        publisher: backends.publisher.clone(),
        timeline: backends.timeline.clone(),
        bus: backends.bus.clone(),
        history: backends.history.clone(),
        store: backends.store.clone(),
        directory: backends.directory.clone(),
        accounts: backends.accounts.clone(),
        limits: backends.limits.clone(),
        rules: rules(&config.limits),
        crowds: backends.crowds.clone(),
        is_presence_for_all: backends.is_presence_for_all,
        is_self_enrolment: config.rooms.self_enrolment,
        presence: backends.presence.clone(),
        returns: Returns::new(
            (backends.recovery.clone(), &config.recovery),
            Catchup::new(
                (backends.timeline.clone(), backends.archive.clone()),
                backends.vocabulary.clone(),
                config.recovery.events_max,
            ),
        ),
        rooms_max: config.rooms.rooms_per_socket_max,
        typing_for: TYPING_FOR,
        turns: handlers::reaction::Turns::default(),
        receipts: handlers::read_cursor::Receipts::default(),
    }
}

fn rules(section: &config::Limits) -> Rules {
    Rules {
        api: section.api.into(),
        services: section.services.into(),
        login: section.login.into(),
        signup: section.signup.into(),
        other: section.other.into(),
        events_per_socket: section.enabled.then(|| section.events_per_socket.into()),
    }
}

/// A typing notice that is not repeated ends by itself after this.
const TYPING_FOR: std::time::Duration = std::time::Duration::from_secs(3);
