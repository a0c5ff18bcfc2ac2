//! The fan-out of one worker, without a network.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::*;
use crate::cluster::bus::{Bus, Ephemeral};
use crate::cluster::control::Control;
use crate::lifecycle::Admission;
use crate::lifecycle::admission::Bounds;
use crate::protocol::frame::Part;
use crate::rooms::{Limits, Link, Member, Outbox};
use crate::server::{Client, ConnectError, Handshake, Io, Local, Mailboxes, Options, Server};
use crate::timeline;
use crate::types::{CloseReason, SocketId, Timestamp, UserId};

fn timeline() -> Timeline {
    Timeline::Memory(timeline::Memory::new(timeline::Limits::default()))
}

/// A transport that takes everything at once.
struct Fast {
    outbox: Rc<Outbox>,
    taken: Cell<usize>,
}

impl Link for Fast {
    fn drain(&self) {
        while self.outbox.pop().is_some() {
            self.taken.set(self.taken.get() + 1);
        }
    }
    fn close(&self, _reason: CloseReason) {}
    fn is_writable(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_backlog_does_not_overflow_a_fast_socket() {
    const EVENTS: usize = 1000;
    let (hub, bus) = (Hub::new(1), Bus::memory());
    let room = RoomName::parse("conversation:1").unwrap();
    let outbox = Outbox::new(Limits {
        frames_max: 100,
        bytes_max: 1 << 20,
    });
    let fast = Rc::new(Fast {
        outbox: Rc::clone(&outbox),
        taken: Cell::new(0),
    });
    let link: Rc<dyn Link> = Rc::clone(&fast) as Rc<dyn Link>;
    outbox.connect(Rc::downgrade(&link));
    let member = Member::new(SocketId::parse(&"s".repeat(20)).unwrap(), NAMESPACE, outbox);
    hub.add(&member);
    hub.join(&member, &room);
    let (port, stream) = bus.attach(2 * EVENTS);
    port.subscribe(&room);
    for _ in 0..EVENTS {
        let data = RawValue::from_string("1".to_owned()).unwrap();
        let event = Ephemeral {
            room: room.clone(),
            event: "e".into(),
            data,
            except: None,
        };
        assert_eq!(bus.publish_ephemeral(Arc::new(event)), 0);
    }
    bus.close();
    let fanout = Fanout::new(Rc::clone(&hub), port, Vocabulary::builtin(), timeline());
    let tasks = tokio::task::LocalSet::new();
    let flushed = Rc::clone(&hub);
    tasks.spawn_local(async move { flushed.run_flusher().await });
    tasks.spawn_local(async move { fanout.run(stream).await });
    tasks
        .run_until(async {
            for _ in 0..EVENTS {
                tokio::task::yield_now().await
            }
        })
        .await;
    assert!(!member.outbox().is_closed());
    assert_eq!(fast.taken.get(), EVENTS);
}

/// A transport that notes what it is given.
pub(super) struct Noted {
    outbox: Rc<Outbox>,
    pub(super) seen: RefCell<Vec<String>>,
    pub(super) closed: Cell<Option<CloseReason>>,
}

impl Link for Noted {
    fn drain(&self) {
        while let Some(frame) = self.outbox.pop() {
            let text = frame.parts().map(|part| match part {
                Part::Text(text) => text.to_owned(),
                Part::Binary(_) => "binary".to_owned(),
            });
            self.seen.borrow_mut().extend(text);
        }
    }
    fn close(&self, reason: CloseReason) {
        self.closed.set(Some(reason));
        self.outbox.close();
    }
    fn is_writable(&self) -> bool {
        true
    }
}

/// What these sockets send with CONNECT, whose payload has to be an object.
#[derive(serde::Deserialize)]
struct Rooms {
    rooms: Vec<RoomName>,
}

/// One worker with its fan-out; sockets enter it into the rooms that they name in CONNECT.
pub(super) struct Worker {
    local: Rc<Local>,
    pub(super) bus: Bus,
    pub(super) fanout: Rc<Fanout>,
    stream: Stream,
}

impl Worker {
    fn new() -> Self {
        Self::over(timeline())
    }

    pub(super) fn over(timeline: Timeline) -> Self {
        let server = Server::new().namespace("/", |root| {
            root.middleware(|socket, auth| async move {
                let auth = auth.expect("a list of rooms");
                let Rooms { rooms } = serde_json::from_str(auth.get()).unwrap();
                assert!(socket.admit());
                for room in &rooms {
                    socket.join(room);
                }
                let refused = rooms.iter().any(|room| room.as_str() == "refused");
                tokio::task::yield_now().await;
                if refused {
                    return Err(ConnectError::new("refused"));
                }
                Ok(())
            });
        });
        let (mailboxes, _) = Mailboxes::new(1, 8);
        let options = Options {
            in_flight_max: 8,
            attachments_max: 0,
            attachment_bytes_max: 0,
        };
        let local = Local::install(0, Io::new(mailboxes, server.clone()), server, options);
        let bus = Bus::memory();
        let (port, stream) = bus.attach(64);
        let fanout = Fanout::new(
            Rc::clone(local.hub()),
            port,
            Vocabulary::builtin(),
            timeline,
        );
        fanout.on_control(Duties {
            moved: Box::new(|_, _, _| {}),
            shard_of: Box::new(|_| ShardId(0)),
            rooms_max: 4,
            others: Box::new(|_| {}),
        });
        Self {
            local,
            bus,
            fanout,
            stream,
        }
    }

    /// A socket that has sent CONNECT for these rooms.
    pub(super) fn connect(&self, rooms: &str) -> (Rc<Client>, Rc<Noted>) {
        let outbox = Outbox::new(Limits {
            frames_max: 100,
            bytes_max: 1 << 20,
        });
        let noted = Rc::new(Noted {
            outbox: Rc::clone(&outbox),
            seen: RefCell::default(),
            closed: Cell::default(),
        });
        let link: Rc<dyn Link> = Rc::clone(&noted) as Rc<dyn Link>;
        outbox.connect(Rc::downgrade(&link));
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let request = ("", std::iter::empty());
        let handshake = Handshake::new(address, false, Timestamp::default(), request);
        let opening = Admission::new(Bounds::default()).open().unwrap();
        let client = Client::new(&self.local, outbox, (handshake, opening));
        client.text(&format!("0{{\"rooms\":{rooms}}}")).unwrap();
        (client, noted)
    }

    /// Lets the worker's tasks do what they can, and delivers what the bus holds.
    pub(super) async fn settle(&mut self) {
        for _ in 0..32 {
            tokio::task::yield_now().await;
            while let Some(delivery) = self.stream.try_recv() {
                self.fanout.deliver(delivery);
            }
        }
        self.local.hub().flush();
    }

    async fn tell(&mut self, control: Control) {
        assert_eq!(self.bus.control(control), 0);
        self.settle().await;
    }

    fn emit(&self, room: &str) {
        let ephemeral = Ephemeral {
            room: name(room),
            event: "e".into(),
            data: RawValue::from_string("1".to_owned()).unwrap(),
            except: None,
        };
        self.fanout
            .deliver(Delivery::Ephemeral(Arc::new(ephemeral)));
    }

    pub(super) fn size(&self, room: &str) -> usize {
        self.fanout.members(Some(name(room))).len()
    }
}

pub(super) fn name(text: &str) -> RoomName {
    RoomName::parse(text).unwrap()
}

pub(super) fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

/// Runs on a thread of its own kind, as workers do.
async fn on_a_worker<F: Future>(test: impl FnOnce(Worker) -> F) {
    tokio::task::LocalSet::new()
        .run_until(async { test(Worker::new()).await })
        .await;
}

#[tokio::test]
async fn what_comes_before_the_answer_to_connect_follows_it() {
    on_a_worker(|mut worker| async move {
        let (_client, noted) = worker.connect(r#"["user:ann"]"#);
        worker.emit("user:ann");
        assert_eq!(*noted.seen.borrow(), [""; 0], "held");
        worker.settle().await;
        worker.emit("user:ann");
        worker.settle().await;
        let seen = noted.seen.borrow();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert!(seen[0].starts_with(r#"40{"sid""#), "{seen:?}");
        assert_eq!(seen[1..], [r#"42["e",1]"#; 2]);
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_is_refused_leaves_nothing_behind() {
    on_a_worker(|mut worker| async move {
        let (_refused, noted) = worker.connect(r#"["user:ann","refused"]"#);
        worker.emit("user:ann");
        let (gone, _) = worker.connect(r#"["user:ann"]"#);
        gone.close(CloseReason::TransportClose);
        worker.settle().await;
        assert_eq!(*noted.seen.borrow(), [r#"44{"message":"refused"}"#]);
        assert_eq!(worker.size("user:ann"), 0);
        assert!(worker.local.hub().members(NAMESPACE).is_empty());
    })
    .await;
}

#[tokio::test]
async fn control_words_find_sockets_by_token_and_user() {
    on_a_worker(|mut worker| async move {
        let (_a, phone) = worker.connect(r#"["user:ann","token:1"]"#);
        let (_b, laptop) = worker.connect(r#"["user:ann","token:2"]"#);
        let (_c, other) = worker.connect(r#"["user:bob","token:3"]"#);
        worker.settle().await;
        let closed = |noted: &Noted| noted.closed.get();
        worker.tell(Control::CloseToken("nobody".into())).await;
        worker.tell(Control::CloseToken("1".into())).await;
        assert_eq!(closed(&phone), Some(CloseReason::ForcedServerClose));
        assert_eq!(phone.seen.borrow().last().unwrap(), "41");
        assert_eq!((closed(&laptop), closed(&other)), (None, None));
        let except = Some(Arc::from("2"));
        let (ann, spared) = (
            user("ann"),
            Control::CloseUser {
                user: user("ann"),
                except,
            },
        );
        worker.tell(spared).await;
        assert_eq!(closed(&laptop), None);
        let except = None;
        worker.tell(Control::CloseUser { user: ann, except }).await;
        assert_eq!(closed(&laptop), Some(CloseReason::ForcedServerClose));
        assert_eq!(closed(&other), None);
    })
    .await;
}

#[tokio::test]
async fn a_rooms_sockets_are_closed_and_no_others() {
    on_a_worker(|mut worker| async move {
        let (_a, inside) = worker.connect(r#"["user:ann","course:bio"]"#);
        let (_b, outside) = worker.connect(r#"["user:ann"]"#);
        worker.settle().await;
        worker.tell(Control::CloseRoom(name("course:bio"))).await;
        assert_eq!(inside.closed.get(), Some(CloseReason::ForcedServerClose));
        assert_eq!(outside.closed.get(), None);
        worker.tell(Control::CloseRoom(name("nobody"))).await;
        assert_eq!(outside.closed.get(), None);
    })
    .await;
}

#[tokio::test]
async fn a_users_sockets_are_put_into_a_room_and_out_of_it() {
    on_a_worker(|mut worker| async move {
        let (_a, ann) = worker.connect(r#"["user:ann"]"#);
        let (_b, crowded) = worker.connect(r#"["user:ann","a","b","c"]"#);
        let (_c, _bob) = worker.connect(r#"["user:bob"]"#);
        worker.settle().await;
        let (user, room) = (user("ann"), name("course:bio"));
        let join = Control::JoinRoom {
            user: user.clone(),
            room: room.clone(),
        };
        for _ in 0..2 {
            worker.tell(join.clone()).await;
            assert_eq!(worker.size("course:bio"), 1, "not who is in too many");
        }
        // It hears the bus now: nothing of the room passes by this worker.
        let ephemeral = Ephemeral {
            room: room.clone(),
            event: "e".into(),
            data: RawValue::from_string("1".to_owned()).unwrap(),
            except: None,
        };
        assert_eq!(worker.bus.publish_ephemeral(Arc::new(ephemeral)), 0);
        worker.settle().await;
        assert_eq!(ann.seen.borrow().last().unwrap(), r#"42["e",1]"#);
        assert_eq!(crowded.seen.borrow().len(), 1);
        let leave = Control::LeaveRoom { user, room };
        worker.tell(leave.clone()).await;
        assert_eq!(worker.size("course:bio"), 0);
        // In one go: the place in the stream where the socket would join is behind the word to leave.
        assert_eq!(worker.bus.control(join), 0);
        worker.tell(leave).await;
        assert_eq!(worker.size("course:bio"), 0);
    })
    .await;
}
