//! What a message of an emitter means. Pure.

use bytes::Bytes;
use rmpv::Value;
use serde::Deserialize;

use crate::types::Timestamp;

/// Whom a command is for: the union of rooms, without some. No room means everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Targets {
    /// Names of rooms, or ids of sockets.
    #[serde(default)]
    pub rooms: Vec<String>,
    /// The same, left out.
    #[serde(default)]
    pub except: Vec<String>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Emit an event.
    Event {
        /// To whom.
        to: Targets,
        /// Its name.
        event: String,
        /// Its arguments: JSON values separated by commas, with placeholders for attachments.
        json: String,
        /// Binary attachments, in the order of their placeholders' numbers.
        attachments: Vec<Bytes>,
        /// Whether it may be dropped for who still has something waiting.
        is_volatile: bool,
    },
    /// Have sockets join rooms.
    Join {
        /// Who.
        who: Targets,
        /// Where.
        rooms: Vec<String>,
    },
    /// Have sockets leave rooms.
    Leave {
        /// Who.
        who: Targets,
        /// From where.
        rooms: Vec<String>,
    },
    /// Disconnect sockets.
    Disconnect {
        /// Who.
        who: Targets,
        /// Whether their connections are closed too.
        close: bool,
    },
}

/// Why there is nothing to be done for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// It is well formed, but meant for servers of another kind, or for another namespace.
    #[error("it is for other servers")]
    Ignored,
    /// It is no msgpack, or no JSON.
    #[error("it cannot be read")]
    Unreadable,
    /// A part is missing or of the wrong kind: which.
    #[error("its {0} is missing or wrong")]
    Part(&'static str),
    /// It nests deeper than any client could read.
    #[error("it is nested too deeply")]
    Deep,
}

/// Arrays and objects in each other. Node's own parser goes further, but no event needs it.
const DEPTH_MAX: usize = 128;
/// The one namespace there is.
const NAMESPACE: &str = "/";
const EVENT: u64 = 2;
const BINARY_EVENT: u64 = 5;
/// Names that mean something to the client library itself.
const RESERVED: &[&str] = &[
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

const REMOTE_JOIN: u64 = 2;
const REMOTE_LEAVE: u64 = 3;
const REMOTE_DISCONNECT: u64 = 4;

/// Reads a message of `PREFIX#/#…`: msgpack of `[uid, packet, {rooms, except, flags}]`.
///
/// # Errors
/// Why there is nothing to be done for it.
pub fn event(message: &[u8]) -> Result<Command, Nothing> {
    let mut rest = message;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH_MAX);
    let value = value.map_err(|error| match error {
        rmpv::decode::Error::DepthLimitExceeded => Nothing::Deep,
        _ => Nothing::Unreadable,
    })?;
    let Value::Array(parts) = &value else {
        return Err(Nothing::Unreadable);
    };
    let [_, packet, options, ..] = &parts[..] else {
        return Err(Nothing::Unreadable);
    };
    let namespace = part(packet, "nsp").and_then(Value::as_str);
    if namespace.is_some_and(|name| name != NAMESPACE) {
        return Err(Nothing::Ignored);
    }
    match part(packet, "type").and_then(Value::as_u64) {
        Some(EVENT | BINARY_EVENT) => {}
        Some(_) => return Err(Nothing::Ignored),
        None => return Err(Nothing::Part("type")),
    }
    let data = part(packet, "data").and_then(Value::as_array);
    let (name, args) = data
        .and_then(|data| data.split_first())
        .ok_or(Nothing::Part("data"))?;
    let name = name.as_str().ok_or(Nothing::Part("event"))?;
    if RESERVED.contains(&name) {
        return Err(Nothing::Part("event"));
    }
    if !options.is_map() {
        return Err(Nothing::Part("options"));
    }
    let is_volatile = part(options, "flags")
        .and_then(|flags| part(flags, "volatile"))
        .and_then(Value::as_bool);
    let mut written = Written::default();
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            written.json.push(',');
        }
        written.value(arg)?;
    }
    Ok(Command::Event {
        to: Targets {
            rooms: names(options, "rooms")?,
            except: names(options, "except")?,
        },
        event: name.to_owned(),
        json: written.json,
        attachments: written.attachments,
        is_volatile: is_volatile.unwrap_or(false),
    })
}

/// Reads a message of `PREFIX-request#/#`: JSON.
///
/// # Errors
/// Why there is nothing to be done for it.
pub fn request(message: &[u8]) -> Result<Command, Nothing> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(rename = "type")]
        kind: u64,
        opts: Option<Targets>,
        #[serde(default)]
        rooms: Vec<String>,
        room: Option<String>,
        sid: Option<String>,
        #[serde(default)]
        close: bool,
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: u64,
    }
    let Kind { kind } = serde_json::from_slice(message).map_err(|_| Nothing::Unreadable)?;
    if !matches!(kind, REMOTE_JOIN | REMOTE_LEAVE | REMOTE_DISCONNECT) {
        return Err(Nothing::Ignored);
    }
    let request: Request = serde_json::from_slice(message).map_err(|_| Nothing::Part("options"))?;
    // Older adapters name one socket and one room.
    let of_one = |sid| Targets {
        rooms: vec![sid],
        except: Vec::new(),
    };
    let who = request.opts.or_else(|| request.sid.map(of_one));
    let who = who.ok_or(Nothing::Part("options"))?;
    let mut rooms = request.rooms;
    rooms.extend(request.room);
    match request.kind {
        REMOTE_JOIN => Ok(Command::Join { who, rooms }),
        REMOTE_LEAVE => Ok(Command::Leave { who, rooms }),
        _ => Ok(Command::Disconnect {
            who,
            close: request.close,
        }),
    }
}

fn part<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let pairs = map.as_map()?.iter();
    let mut found = pairs.filter(|(key, _)| key.as_str() == Some(name));
    found.next().map(|(_, value)| value)
}

/// The list of this name; a missing one is empty.
fn names(options: &Value, what: &'static str) -> Result<Vec<String>, Nothing> {
    let list = match part(options, what) {
        None | Some(Value::Nil) => return Ok(Vec::new()),
        Some(list) => list.as_array().ok_or(Nothing::Part(what))?,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let texts: Option<Vec<_>> = list.iter().map(text).collect();
    texts.ok_or(Nothing::Part(what))
}

/// JSON, and what cannot be part of it.
#[derive(Default)]
struct Written {
    json: String,
    attachments: Vec<Bytes>,
}

impl Written {
    fn value(&mut self, value: &Value) -> Result<(), Nothing> {
        match value {
            Value::Nil => self.json.push_str("null"),
            Value::Boolean(true) => self.json.push_str("true"),
            Value::Boolean(false) => self.json.push_str("false"),
            Value::Integer(number) => self.json.push_str(&number.to_string()),
            Value::F32(number) => self.number(f64::from(*number)),
            Value::F64(number) => self.number(*number),
            Value::String(text) => self.text(&String::from_utf8_lossy(text.as_bytes())),
            Value::Binary(data) => {
                let number = self.attachments.len();
                let placeholder = format!(r#"{{"_placeholder":true,"num":{number}}}"#);
                self.json.push_str(&placeholder);
                self.attachments.push(Bytes::copy_from_slice(data));
            }
            Value::Array(items) => {
                self.json.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.json.push(',');
                    }
                    self.value(item)?;
                }
                self.json.push(']');
            }
            Value::Map(pairs) => {
                self.json.push('{');
                for (index, (key, item)) in pairs.iter().enumerate() {
                    if index > 0 {
                        self.json.push(',');
                    }
                    self.text(key.as_str().ok_or(Nothing::Part("key"))?);
                    self.json.push(':');
                    self.value(item)?;
                }
                self.json.push('}');
            }
            // What older encoders make of `undefined`.
            Value::Ext(0, data) if data.len() == 1 => self.json.push_str("null"),
            Value::Ext(-1, data) => {
                let at = timestamp(data).ok_or(Nothing::Part("time"))?;
                self.text(&at.to_string());
            }
            Value::Ext(..) => return Err(Nothing::Part("extension")),
        }
        Ok(())
    }

    fn number(&mut self, number: f64) {
        // As JSON.stringify does.
        match serde_json::Number::from_f64(number) {
            Some(number) => self.json.push_str(&number.to_string()),
            None => self.json.push_str("null"),
        }
    }

    fn text(&mut self, text: &str) {
        self.json
            .push_str(&serde_json::Value::from(text).to_string());
    }
}

/// The three forms of msgpack's timestamp; milliseconds are as fine as JavaScript's.
fn timestamp(data: &[u8]) -> Option<Timestamp> {
    let (seconds, nanos) = match data.len() {
        4 => (i64::from(u32::from_be_bytes(data.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(data.try_into().ok()?);
            let seconds = i64::try_from(both & 0x3_ffff_ffff).ok()?;
            (seconds, i64::try_from(both >> 34).ok()?)
        }
        12 => {
            let (nanos, seconds) = data.split_at(4);
            let nanos = u32::from_be_bytes(nanos.try_into().ok()?);
            let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
            (seconds, i64::from(nanos))
        }
        _ => return None,
    };
    let millis = seconds.checked_mul(1_000)?.checked_add(nanos / 1_000_000)?;
    Some(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests;
