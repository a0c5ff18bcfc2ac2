//! The negative control: a server that makes exactly the mistakes it is told to make.
//!
//! It speaks both dialects, just well enough for the generator, and writes in odd little pieces so
//! that frames are cut everywhere.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

/// What happens to the `n`-th event of a room on its way to the `member`-th member.
pub(super) type Fault = fn(n: u64, member: usize) -> Fate;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Deliver,
    Drop,
    Double,
    /// Comes after the next one.
    Swap,
    /// Comes after the next one if that is another publisher's.
    Mingle,
    /// The connection is closed instead.
    Hang,
    /// The publisher is refused and nobody gets it.
    Refuse,
}

/// Starts the server on a thread of its own, for the rest of the test process.
pub(super) fn start(fault: Fault, tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let (tell, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let hall = Rc::new(Hall {
                fault,
                rooms: RefCell::default(),
            });
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (hall, tls) = (hall.clone(), tls.clone());
                spawn_local(async move {
                    match tls {
                        None => serve(stream, hall).await,
                        Some(tls) => {
                            serve(TlsAcceptor::from(tls).accept(stream).await.unwrap(), hall).await;
                        }
                    }
                });
            }
        });
    });
    address.recv().unwrap()
}

struct Hall {
    fault: Fault,
    rooms: RefCell<HashMap<String, Room>>,
}

#[derive(Default)]
struct Room {
    events: u64,
    members: Vec<Member>,
}

struct Member {
    out: mpsc::Sender<Option<String>>,
    held: Option<(Fate, String)>,
}

impl Hall {
    fn join(&self, room: &str, out: &mpsc::Sender<Option<String>>) {
        let member = Member {
            out: out.clone(),
            held: None,
        };
        self.rooms
            .borrow_mut()
            .entry(room.to_owned())
            .or_default()
            .members
            .push(member);
    }

    /// False if the event is refused.
    fn publish(&self, room: &str, text: &str) -> bool {
        let mut rooms = self.rooms.borrow_mut();
        let room = rooms.get_mut(room).unwrap();
        let n = room.events;
        room.events += 1;
        for (index, member) in room.members.iter_mut().enumerate() {
            let say = |text: Option<String>| member.out.try_send(text).unwrap_or(());
            let fate = (self.fault)(n, index);
            if let Some((_, held)) = member.held.take_if(|(held_by, held)| {
                *held_by == Fate::Mingle && publisher(held) == publisher(text)
            }) {
                say(Some(held));
            }
            match fate {
                Fate::Refuse => return false,
                Fate::Drop => {}
                Fate::Hang => say(None),
                Fate::Swap | Fate::Mingle => member.held = Some((fate, text.to_owned())),
                Fate::Deliver | Fate::Double => {
                    say(Some(text.to_owned()));
                    if fate == Fate::Double {
                        say(Some(text.to_owned()));
                    }
                    if let Some((_, held)) = member.held.take() {
                        say(Some(held));
                    }
                }
            }
        }
        true
    }

    fn on(&self, text: &str, out: &mpsc::Sender<Option<String>>) {
        let say = |text: String| out.try_send(Some(text)).unwrap();
        if text.starts_with("40") {
            return say(r#"40{"sid":"s"}"#.to_owned());
        }
        let Some(packet) = text.strip_prefix("42") else {
            return;
        };
        let start = packet.find('[').unwrap();
        let (id, body) = packet.split_at(start);
        let event: Value = serde_json::from_str(body).unwrap();
        let argument = &event[1];
        let ack = |answer: Value| say(format!("43{id}{}", json!([answer])));
        match event[0].as_str().unwrap() {
            "join" => {
                self.join(argument.as_str().unwrap(), out);
                ack(json!("ok"));
            }
            "publish" => {
                self.publish(
                    argument["room"].as_str().unwrap(),
                    &format!(r#"42["event",{argument}]"#),
                );
            }
            "echo" => ack(argument.clone()),
            "join:conversation" => {
                self.join(argument["conversationId"].as_str().unwrap(), out);
                ack(json!({"ok": true}));
            }
            "message:send" => {
                let room = argument["conversationId"].as_str().unwrap();
                if self.publish(room, &format!(r#"42["message:new",{argument},"offset"]"#)) {
                    ack(json!({"ok": true, "id": "e"}));
                } else {
                    ack(json!({"ok": false, "error": {"code": "overloaded"}}));
                }
            }
            other => panic!("unknown event {other}"),
        }
    }
}

/// The publisher's digits in an event's stamp.
fn publisher(text: &str) -> &str {
    let stamp = text.find('~').unwrap();
    &text[stamp + 5..stamp + 9]
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(mut stream: S, hall: Rc<Hall>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (out, mut queue) = mpsc::channel::<Option<String>>(10_000);
    spawn_local(async move {
        let mut wire = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_vec();
        frame(&mut wire, r#"0{"sid":"e","pingInterval":25000}"#);
        frame(&mut wire, "2");
        let mut piece = 1;
        loop {
            for bytes in wire.chunks(piece) {
                if writer.write_all(bytes).await.is_err() {
                    return;
                }
            }
            writer.flush().await.unwrap_or(());
            wire.clear();
            piece = piece % 333 + 41;
            let Some(Some(text)) = queue.recv().await else {
                break;
            };
            frame(&mut wire, &text);
        }
        writer.shutdown().await.unwrap_or(());
    });
    while let Ok(text) = read(&mut reader).await {
        hall.on(&text, &out);
    }
}

fn frame(wire: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(short) if short < 126 => wire.extend_from_slice(&[0x81, short]),
        _ => {
            wire.extend_from_slice(&[0x81, 126]);
            wire.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        }
    }
    wire.extend_from_slice(text.as_bytes());
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<String> {
    assert_eq!(stream.read_u8().await?, 0x81);
    let length = match stream.read_u8().await? - 0x80 {
        126 => usize::from(stream.read_u16().await?),
        short => usize::from(short),
    };
    let key = stream.read_u32().await?.to_be_bytes();
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await?;
    text.iter_mut()
        .enumerate()
        .for_each(|(i, byte)| *byte ^= key[i % 4]);
    Ok(String::from_utf8(text).unwrap())
}
