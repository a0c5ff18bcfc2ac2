//! What is published, as bytes: one letter, then lines, the last of which may hold anything.
//!
//! ```text
//! E EPOCH-SEQ shard_seq room id payload    on a room's channel, by the timeline's function
//! V except-or-nothing event-as-json data   on a room's channel
//! T EPOCH-SHARD_SEQ number                 on a node's own channel, by vb1_tick
//! C sender word-as-json                    on the channel of all nodes
//! ```

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::cluster::bus::{Ephemeral, Publication};
use crate::cluster::control::Control;
use crate::types::{EventId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, SocketId};

/// A message that was heard.
#[derive(Debug)]
pub(super) enum Message {
    Entry(Publication),
    Ephemeral(Ephemeral),
    Tick { at: ShardPosition, number: u64 },
    Control { from: String, word: Control },
}

/// What was heard is none of these: another program publishes on our channels.
#[derive(Debug, thiserror::Error)]
#[error("not a message of the bus: {0}")]
pub(super) struct Strange(&'static str);

/// Reads a message that came on `channel`; `prefix` is what the channels of rooms begin with.
pub(super) fn read(
    bytes: Bytes,
    (channel, prefix): (&str, &str),
    shard: ShardId,
) -> Result<Message, Strange> {
    let mut rest = Lines(bytes);
    match &rest.line()?[..] {
        b"E" => {
            let position: Position = parsed(&rest.line()?, "a place")?;
            let shard_seq = parsed(&rest.line()?, "a shard's counter")?;
            let room = RoomName::parse(text(&rest.line()?)?).map_err(|_| Strange("a room"))?;
            let id = EventId::parse(text(&rest.line()?)?).map_err(|_| Strange("an id"))?;
            Ok(Message::Entry(Publication {
                room,
                shard,
                at: ShardPosition {
                    epoch: position.epoch,
                    shard_seq: ShardSeq(shard_seq),
                },
                position,
                id,
                payload: rest.0,
            }))
        }
        b"V" => {
            let room = channel.strip_prefix(prefix).ok_or(Strange("a channel"))?;
            let except = rest.line()?;
            let except = match text(&except)? {
                "" => None,
                id => Some(SocketId::parse(id).map_err(|_| Strange("a socket's id"))?),
            };
            let event: String =
                serde_json::from_slice(&rest.line()?).map_err(|_| Strange("an event's name"))?;
            let data: Box<RawValue> =
                serde_json::from_slice(&rest.0).map_err(|_| Strange("an event's data"))?;
            Ok(Message::Ephemeral(Ephemeral {
                room: RoomName::parse(room).map_err(|_| Strange("a room"))?,
                event: event.into(),
                data,
                except,
            }))
        }
        b"T" => {
            let Position { epoch, seq: Seq(n) } = parsed(&rest.line()?, "a place")?;
            Ok(Message::Tick {
                at: ShardPosition {
                    epoch,
                    shard_seq: ShardSeq(n),
                },
                number: parsed(&rest.0, "a question's number")?,
            })
        }
        b"C" => Ok(Message::Control {
            from: text(&rest.line()?)?.to_owned(),
            word: serde_json::from_slice(&rest.0).map_err(|_| Strange("a control word"))?,
        }),
        _ => Err(Strange("its kind")),
    }
}

pub(super) fn entry(entry: &Publication) -> Vec<u8> {
    let head = format!(
        "E\n{}\n{}\n{}\n{}\n",
        entry.position, entry.at.shard_seq, entry.room, entry.id
    );
    [head.as_bytes(), &entry.payload].concat()
}

pub(super) fn ephemeral(event: &Ephemeral) -> Vec<u8> {
    let except = event.except.as_ref().map_or("", SocketId::as_str);
    let name = serde_json::Value::from(&*event.event);
    format!("V\n{except}\n{name}\n{}", event.data.get()).into_bytes()
}

/// `None` for a word that has no JSON, of which there is none.
pub(super) fn control(from: &str, word: &Control) -> Option<Vec<u8>> {
    let word = serde_json::to_string(word).ok()?;
    Some(format!("C\n{from}\n{word}").into_bytes())
}

struct Lines(Bytes);

impl Lines {
    fn line(&mut self) -> Result<Bytes, Strange> {
        let end = self.0.iter().position(|byte| *byte == b'\n');
        let line = self.0.split_to(end.ok_or(Strange("its length"))?);
        self.0 = self.0.slice(1..);
        Ok(line)
    }
}

fn text(line: &[u8]) -> Result<&str, Strange> {
    std::str::from_utf8(line).map_err(|_| Strange("its text"))
}

fn parsed<T: std::str::FromStr>(line: &[u8], what: &'static str) -> Result<T, Strange> {
    text(line)?.parse().map_err(|_| Strange(what))
}

/// The names of a shard's channels.
#[derive(Debug)]
pub(super) struct Channels {
    tag: String,
    /// What the channels of rooms begin with.
    pub(super) rooms: String,
    /// This node's own.
    pub(super) own: String,
}

impl Channels {
    pub(super) fn new(tag: &str, own: &str) -> Self {
        Self {
            rooms: format!("{tag}:c:"),
            own: format!("{tag}:n:{own}"),
            tag: tag.to_owned(),
        }
    }

    pub(super) fn room(&self, room: &RoomName) -> String {
        format!("{}{room}", self.rooms)
    }

    /// That of all nodes; only the first shard's is used.
    pub(super) fn control(&self) -> String {
        format!("{}:ctl", self.tag)
    }

    /// The shard's hash, in which the timeline keeps where it stands.
    pub(super) fn shard(&self) -> String {
        format!("{}:s", self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;

    fn heard(bytes: Vec<u8>) -> Result<Message, Strange> {
        let at = ("{vb2}:c:conversation:1", "{vb2}:c:");
        read(Bytes::from(bytes), at, ShardId(2))
    }

    #[test]
    fn entries_read_back_whatever_their_payload_holds() {
        let one = Publication {
            room: RoomName::parse("conversation:1").unwrap(),
            shard: ShardId(2),
            at: ShardPosition {
                epoch: Epoch(3),
                shard_seq: ShardSeq(9),
            },
            position: "3-7".parse().unwrap(),
            id: EventId::parse("e1").unwrap(),
            payload: Bytes::from_static(b"{\n\"a\": 1\n}"),
        };
        let Ok(Message::Entry(read)) = heard(entry(&one)) else {
            panic!("it is one")
        };
        assert_eq!(read, one);
    }

    #[test]
    fn ephemeral_events_read_back_with_any_name() {
        for except in [None, Some(SocketId::parse(&"s".repeat(20)).unwrap())] {
            let one = Ephemeral {
                room: RoomName::parse("conversation:1").unwrap(),
                event: "a\nb\"c".into(),
                data: RawValue::from_string("[1,\n2]".to_owned()).unwrap(),
                except,
            };
            let Ok(Message::Ephemeral(read)) = heard(ephemeral(&one)) else {
                panic!("it is one")
            };
            assert_eq!(
                (read.room, read.event, read.except),
                (one.room, one.event, one.except)
            );
            assert_eq!(read.data.get(), one.data.get());
        }
    }

    #[test]
    fn control_words_read_back() {
        let user = crate::types::UserId::parse("ann").unwrap();
        let room = RoomName::parse("course:bio").unwrap();
        for one in [
            Control::CloseToken("t".into()),
            Control::CloseUser {
                user: user.clone(),
                except: Some("t".into()),
            },
            Control::JoinRoom {
                user: user.clone(),
                room: room.clone(),
            },
            Control::CloseRoom(room.clone()),
            Control::LeaveRoom { user, room },
            Control::Forget {
                cache: "users".into(),
                key: "a\nb".into(),
            },
            Control::TakeOver {
                socket: SocketId::parse(&"s".repeat(20)).unwrap(),
                generation: 2,
            },
            Control::Recheck,
        ] {
            let Ok(Message::Control { from, word }) = heard(control("n1", &one).unwrap()) else {
                panic!("it is one")
            };
            assert_eq!((from.as_str(), word), ("n1", one));
        }
    }

    #[test]
    fn ticks_are_read_and_what_is_none_of_these_is_refused() {
        let tick = heard(b"T\n2-40\n7".to_vec()).unwrap();
        assert!(
            matches!(tick, Message::Tick { at, number: 7 } if at.epoch == Epoch(2) && at.shard_seq == ShardSeq(40))
        );
        for strange in [
            "",
            "E",
            "E\n",
            "E\nx\n1\nr\ne\n{}",
            "E\n1-1\nx\nr\ne\n{}",
            "E\n1-1\n1\nr",
            "V\n",
            "V\nshort\n\"e\"\n1",
            "V\n\ne\n1",
            "V\n\n\"e\"\n{",
            "T\n1-1",
            "T\n1-1\nx",
            "C\nn\n{}",
            "X\n1",
            "E\n1-1\n1\n\ne\n{}",
        ] {
            assert!(heard(strange.into()).is_err(), "{strange:?}");
        }
    }
}
