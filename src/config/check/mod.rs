//! What must hold across keys and sections.
//!
//! A rule is not judged where one of its keys is already known to be wrong: its value would be a
//! stand-in and the complaint a riddle.

mod auth;
mod cluster;

use super::Config;
use super::reader::Reader;
use super::value::Value;

/// Notes every rule that the configuration breaks.
pub(super) fn check(config: &Config, reader: &mut Reader) {
    let mut rules = Rules { reader };
    edge(config, &mut rules);
    transport(config, &mut rules);
    auth::check(config, &mut rules);
    cluster::check(config, &mut rules);
    telemetry(config, &mut rules);
    if config.timeline.keep_min > config.timeline.entries_max {
        rules.broken(
            "timeline.keep_min",
            &config.timeline.keep_min,
            &["timeline.entries_max"],
            format!(
                "must not be more than timeline.entries_max ({})",
                config.timeline.entries_max
            ),
        );
    }
}

struct Rules<'a> {
    reader: &'a mut Reader,
}

impl Rules<'_> {
    /// Notes a broken rule at `key`, unless it or one of `others` is wrong already.
    fn broken<T: Value>(&mut self, key: &str, value: &T, others: &[&str], allowed: String) {
        if self.reader.is_wrong(key) || others.iter().any(|other| self.reader.is_wrong(other)) {
            return;
        }
        let shown = if T::IS_SECRET {
            "***".to_owned()
        } else {
            value.show().to_string()
        };
        self.reader.note(key, Some(shown), allowed);
    }
}

fn edge(config: &Config, rules: &mut Rules<'_>) {
    let edge = &config.edge;
    let tls = ["edge.tls.certificate", "edge.tls.key"];
    match (&edge.tls.certificate, &edge.tls.key) {
        (Some(_), None) => {
            let text = "must be set, because edge.tls.certificate is".to_owned();
            rules.broken(tls[1], &edge.tls.key, &[tls[0]], text);
        }
        (None, Some(_)) => {
            let text = "must be set, because edge.tls.key is".to_owned();
            rules.broken(tls[0], &edge.tls.certificate, &[tls[1]], text);
        }
        _ => {}
    }
    if edge.listen == edge.operations && edge.listen.port() != 0 {
        let text = "must differ from edge.listen".to_owned();
        rules.broken("edge.operations", &edge.operations, &["edge.listen"], text);
    }
    if edge.origins.iter().any(|origin| origin.is_any()) && config.auth.cookie.is_some() {
        let text = "must be a list of origins while auth.cookie is not \"\": with \"*\" every website \
                    could act with its visitors' cookies";
        rules.broken(
            "edge.origins",
            &edge.origins,
            &["auth.cookie"],
            text.to_owned(),
        );
    }
}

fn transport(config: &Config, rules: &mut Rules<'_>) {
    let transport = &config.transport;
    let path = &transport.path;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    let is_path = path.starts_with('/') && path.ends_with('/') && path.chars().all(is_plain);
    if !is_path || path.len() < 2 || path.contains("//") {
        let text = "must begin and end with \"/\", with letters, digits, \"-\", \"_\", \".\" and \
                    \"~\" between";
        rules.broken("transport.path", path, &[], text.to_owned());
    }
    let kinds = &transport.transports;
    let is_double = |index: usize| kinds[..index].contains(&kinds[index]);
    if kinds.is_empty() || (0..kinds.len()).any(is_double) {
        let text = "must name \"polling\", \"websocket\" or both, each once".to_owned();
        rules.broken("transport.transports", kinds, &[], text);
    }
    if config.rooms.outbox_bytes < transport.max_payload {
        let text = format!(
            "must not be less than transport.max_payload ({})",
            transport.max_payload
        );
        rules.broken(
            "rooms.outbox_bytes",
            &config.rooms.outbox_bytes,
            &["transport.max_payload"],
            text,
        );
    }
}

fn telemetry(config: &Config, rules: &mut Rules<'_>) {
    let level = &config.telemetry.log_level;
    if !level.split(',').all(is_directive) {
        let text = "must be a level, \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or \
                    levels by part, like \"info,vestibule::auth=debug\"";
        rules.broken("telemetry.log_level", level, &[], text.to_owned());
    }
    let otlp = &config.telemetry.otlp;
    if otlp.as_deref().is_some_and(|url| !is_http_url(url)) {
        let text = "must be a URL like \"http://127.0.0.1:4318\"".to_owned();
        rules.broken("telemetry.otlp", otlp, &[], text);
    }
}

fn is_http_url(text: &str) -> bool {
    let uri = text.parse::<http::Uri>();
    uri.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    })
}

/// A level, or a part and its level. A bare word that is no level would be taken for a part whose
/// every line is wanted, so that a slip of the pen turns into a flood.
fn is_directive(text: &str) -> bool {
    let (part, level) = text
        .trim()
        .rsplit_once('=')
        .unwrap_or_else(|| ("vestibule", text.trim()));
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
    LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
        && !part.is_empty()
        && part.chars().all(is_part)
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
