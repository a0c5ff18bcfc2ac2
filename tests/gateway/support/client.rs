//! A user on a WebSocket, speaking Socket.IO.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::node::Node;
use super::wire::{CLOSE, TEXT, Wire};

/// Where a WebSocket begins.
pub(crate) const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
/// Where polling begins.
pub(crate) const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// A handshake of either transport is refused for a while, as long as `seconds` says.
pub(crate) async fn is_sent_away(wire: &mut Wire, seconds: RangeInclusive<u64>) {
    for path in [POLLING, WEBSOCKET] {
        let answer = match path {
            POLLING => wire.get(path, "").await,
            _ => wire.upgrade(path, "").await,
        };
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        let again: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds.contains(&again), "{again}");
    }
}

/// A connected socket on the main namespace.
pub(crate) struct Client {
    pub(crate) wire: Wire,
    next_id: u64,
    waiting: VecDeque<Incoming>,
    /// The code of the close frame, once it came.
    pub(crate) close_code: Option<u16>,
    /// Packets other than events, acks and pings.
    pub(crate) others: Vec<String>,
}

/// What a socket is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    Event { name: String, data: Value },
    Ack { id: u64, data: Value },
}

/// An event of a room, as a member is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) content: String,
}

impl From<&Value> for Shown {
    fn from(data: &Value) -> Self {
        let text = |name: &str| {
            data[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name} in {data}"))
        };
        let number = |name: &str| {
            data[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name} in {data}"))
        };
        Self {
            epoch: number("epoch"),
            seq: number("seq"),
            id: text("id").to_owned(),
            user: text("userId").to_owned(),
            content: text("content").to_owned(),
        }
    }
}

impl Client {
    /// A user's socket.
    pub(crate) async fn connect(node: &Node, user: &str) -> Self {
        Self::over(node.dial().await, &node.token(user)).await
    }

    /// The same on a connection of the test's own.
    pub(crate) async fn over(mut wire: Wire, token: &str) -> Self {
        let answer = wire.upgrade(WEBSOCKET, "").await;
        assert_eq!(answer.status, 101, "{}", answer.text());
        let open = wire.text().await.expect("the open packet");
        assert!(open.starts_with("0{"), "{open}");
        let mut client = Self {
            wire,
            next_id: 0,
            waiting: VecDeque::new(),
            close_code: None,
            others: Vec::new(),
        };
        let reply = client.enter(token).await;
        assert!(reply.starts_with("40{\"sid\""), "{reply}");
        client
    }

    /// Sends CONNECT; the reply to it.
    pub(crate) async fn enter(&mut self, token: &str) -> String {
        self.wire
            .send_text(&format!("40{}", json!({ "token": token })))
            .await;
        self.wire.text().await.expect("an answer to CONNECT")
    }

    /// Sends an event; the id that its ack will carry. False in the second place when the
    /// connection is gone.
    pub(crate) async fn emit(&mut self, event: &str, data: &Value) -> (u64, bool) {
        let id = self.next_id;
        self.next_id += 1;
        let packet = format!("42{id}{}", json!([event, data]));
        let frame = super::wire::frame(TEXT, packet.as_bytes());
        (id, self.wire.try_send(&frame).await.is_ok())
    }

    /// Sends an event and waits for its ack; events that come before it are kept.
    pub(crate) async fn ask(&mut self, event: &str, data: &Value) -> Value {
        let (id, _) = self.emit(event, data).await;
        self.ack(id).await
    }

    /// Waits for an ack; what comes before it is kept.
    pub(crate) async fn ack(&mut self, id: u64) -> Value {
        let mut before = VecDeque::new();
        loop {
            match self.next().await {
                Some(Incoming::Ack { id: found, data }) if found == id => {
                    before.append(&mut self.waiting);
                    self.waiting = before;
                    return data;
                }
                Some(other) => before.push_back(other),
                None => panic!(
                    "closed ({:?}) before event {id} was answered",
                    self.close_code
                ),
            }
        }
    }

    /// The same for what has to succeed.
    pub(crate) async fn ask_ok(&mut self, event: &str, data: &Value) -> Value {
        let ack = self.ask(event, data).await;
        assert_eq!(ack["ok"], true, "{event}: {ack}");
        ack
    }

    pub(crate) async fn join(&mut self, conversation: &str) -> Value {
        self.ask_ok(
            "join:conversation",
            &json!({ "conversationId": conversation }),
        )
        .await
    }

    /// Sends a message; its id.
    pub(crate) async fn say(&mut self, conversation: &str, content: &str) -> String {
        let data = json!({ "conversationId": conversation, "content": content });
        let ack = self.ask_ok("message:send", &data).await;
        ack["id"].as_str().unwrap().to_owned()
    }

    /// The next message of a room, skipping everything else; nothing at the end.
    pub(crate) async fn shown(&mut self) -> Option<Shown> {
        loop {
            match self.next().await? {
                Incoming::Event { name, data } if name == "message:new" => {
                    return Some(Shown::from(&data));
                }
                _ => {}
            }
        }
    }

    /// The names of the events that came while something else was waited for.
    pub(crate) fn drained(&mut self) -> Vec<String> {
        let names = self
            .waiting
            .drain(..)
            .filter_map(|incoming| match incoming {
                Incoming::Event { name, .. } => Some(name),
                Incoming::Ack { .. } => None,
            });
        names.collect()
    }

    /// The next event or ack; nothing when the connection ends. Pings are answered.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        if let Some(waiting) = self.waiting.pop_front() {
            return Some(waiting);
        }
        loop {
            let frame = self.wire.frame().await?;
            if frame.opcode == CLOSE {
                let code = frame
                    .payload
                    .get(..2)
                    .map(|code| u16::from_be_bytes([code[0], code[1]]));
                self.close_code = Some(code.unwrap_or(1005));
                continue;
            }
            let packet = String::from_utf8(frame.payload).unwrap();
            if packet == "2" {
                // Gone or not is seen by the next read.
                drop(self.wire.try_send(&super::wire::frame(TEXT, b"3")).await);
            } else if let Some(incoming) = decode(&packet) {
                return Some(incoming);
            } else {
                self.others.push(packet);
            }
        }
    }
}

fn decode(packet: &str) -> Option<Incoming> {
    let (kind, rest) = packet.split_at_checked(2)?;
    let start = rest.find('[')?;
    let id = rest[..start].parse().ok();
    let mut args: Vec<Value> = serde_json::from_str(&rest[start..]).ok()?;
    match (kind, id) {
        ("42", None) => {
            let name = args.first()?.as_str()?.to_owned();
            Some(Incoming::Event {
                name,
                data: args.get_mut(1)?.take(),
            })
        }
        ("43", Some(id)) => Some(Incoming::Ack {
            id,
            data: args.first_mut()?.take(),
        }),
        _ => None,
    }
}

/// All of a conversation, from the beginning, page by page.
pub(crate) async fn history(node: &Node, conversation: &str, user: &str) -> Vec<Shown> {
    const PAGE: usize = 200;
    let mut wire = node.dial().await;
    let authorization = format!("authorization: Bearer {}\r\n", node.token(user));
    let mut all: Vec<Shown> = Vec::new();
    loop {
        let after = all
            .last()
            .map_or_else(|| "0".to_owned(), |e| format!("{}-{}", e.epoch, e.seq));
        let path = format!("/api/conversations/{conversation}/messages?after={after}&limit={PAGE}");
        let response = wire.get(&path, &authorization).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let page = response.json();
        let messages = page["messages"].as_array().unwrap();
        all.extend(messages.iter().map(Shown::from));
        if messages.is_empty() {
            return all;
        }
    }
}
