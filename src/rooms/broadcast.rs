//! One frame to many members.

use std::rc::Rc;

use super::hub::{Hub, NamespaceId};
use super::member::Member;
use crate::protocol::frame::Frame;
use crate::types::RoomName;

/// Who a broadcast is for. No target means everybody in the namespace. Every socket counts as the
/// only member of a room of its own id.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The union of these, each socket once.
    pub to: Vec<RoomName>,
    /// But none of these.
    pub except: Vec<RoomName>,
}

/// A frame and who it is for.
#[derive(Clone)]
pub struct Broadcast {
    /// Who it is for.
    pub reach: Reach,
    /// The bytes, shared by all outboxes.
    pub frame: Frame,
    /// Dropped for members that still have something waiting.
    pub is_volatile: bool,
}

/// Only names of this length can be a socket's id; others are spared the look.
const SOCKET_ID_BYTES: usize = 20;

impl Hub {
    /// Puts the frame into the outbox of every local member that is meant, once.
    pub fn broadcast(&self, broadcast: &Broadcast) {
        let mut deliveries = 0;
        self.each(&broadcast.reach, |member| {
            deliveries += 1;
            if broadcast.is_volatile {
                self.send_volatile(member.outbox(), broadcast.frame.clone());
            } else {
                self.send(member.outbox(), broadcast.frame.clone());
            }
        });
        self.count(|counts| {
            counts.broadcasts += 1;
            counts.deliveries += deliveries;
        });
    }

    /// The local members that are meant, each once.
    pub fn reached(&self, reach: &Reach) -> Vec<Rc<Member>> {
        let mut found = Vec::new();
        self.each(reach, |member| found.push(Rc::clone(member)));
        found
    }

    fn each(&self, reach: &Reach, mut visit: impl FnMut(&Rc<Member>)) {
        // The usual case first: one room, nobody left out, no marks needed.
        if let ([room], []) = (&*reach.to, &*reach.except) {
            self.each_of(reach.namespace, room, visit);
            return;
        }
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        for target in &reach.except {
            self.each_of(reach.namespace, target, |member| member.mark.set(serial));
        }
        let mut once = |member: &Rc<Member>| {
            if member.mark.replace(serial) != serial {
                visit(member);
            }
        };
        if reach.to.is_empty() {
            self.members(reach.namespace).iter().for_each(once);
            return;
        }
        for target in &reach.to {
            self.each_of(reach.namespace, target, &mut once);
        }
    }

    fn each_of(&self, namespace: NamespaceId, name: &RoomName, mut visit: impl FnMut(&Rc<Member>)) {
        if let Some(room) = self.room(namespace, name.as_str()) {
            room.members.borrow().iter().for_each(&mut visit);
        }
        // Also beside a room of that name: others must not be able to take a socket's place by
        // joining a room that is called like it.
        if name.as_str().len() == SOCKET_ID_BYTES
            && let Some(member) = self.member(namespace, name.as_str())
            && !member.is_in(name.as_str())
        {
            visit(&member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::outbox::{Limits, Link, Outbox};
    use crate::types::{CloseReason, SocketId};

    struct Always;

    impl Link for Always {
        fn drain(&self) {}
        fn close(&self, _reason: CloseReason) {}
        fn is_writable(&self) -> bool {
            true
        }
    }

    struct Fixture {
        hub: Rc<Hub>,
        members: Vec<Rc<Member>>,
        link: Rc<dyn Link>,
    }

    /// Members 0, 1, 2; room `a` holds 0 and 1, room `b` holds 1 and 2.
    fn fixture() -> Fixture {
        let hub = Hub::new(1);
        let link: Rc<dyn Link> = Rc::new(Always);
        let members: Vec<_> = (0..3)
            .map(|n| {
                let outbox = Outbox::new(Limits {
                    frames_max: 4,
                    bytes_max: 1000,
                });
                outbox.connect(Rc::downgrade(&link));
                let id = SocketId::parse(&format!("socket-------------{n}")).unwrap();
                let member = Member::new(id, NamespaceId(0), outbox);
                hub.add(&member);
                member
            })
            .collect();
        for (room, who) in [("a", [0, 1]), ("b", [1, 2])] {
            for n in who {
                hub.join(&members[n], &RoomName::parse(room).unwrap());
            }
        }
        Fixture { hub, members, link }
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn send(
        fixture: &Fixture,
        to: Vec<RoomName>,
        except: Vec<RoomName>,
        is_volatile: bool,
    ) -> [usize; 3] {
        let reach = Reach {
            namespace: NamespaceId(0),
            to,
            except,
        };
        let frame = Frame::text(&["4x"]);
        fixture.hub.broadcast(&Broadcast {
            reach,
            frame,
            is_volatile,
        });
        [0, 1, 2].map(|n| std::iter::from_fn(|| fixture.members[n].outbox().pop()).count())
    }

    #[test]
    fn a_member_of_several_target_rooms_gets_it_once() {
        let fixture = fixture();
        assert_eq!(send(&fixture, vec![room("a")], vec![], false), [1, 1, 0]);
        assert_eq!(
            send(&fixture, vec![room("a"), room("b")], vec![], false),
            [1, 1, 1]
        );
        assert_eq!(send(&fixture, vec![], vec![], false), [1, 1, 1]);
        assert_eq!(
            send(&fixture, vec![room("nobody")], vec![], false),
            [0, 0, 0]
        );
    }

    #[test]
    fn except_rooms_and_sockets_are_left_out() {
        let fixture = fixture();
        let second = room(fixture.members[1].id().as_str());
        assert_eq!(
            send(&fixture, vec![], vec![second.clone()], false),
            [1, 0, 1]
        );
        assert_eq!(
            send(&fixture, vec![room("a")], vec![room("b")], false),
            [1, 0, 0]
        );
        assert_eq!(
            send(&fixture, vec![second.clone()], vec![], false),
            [0, 1, 0]
        );
        assert_eq!(
            send(&fixture, vec![second.clone()], vec![second], false),
            [0, 0, 0]
        );
    }

    #[test]
    fn a_room_called_like_a_socket_does_not_take_its_place() {
        let fixture = fixture();
        let second = room(fixture.members[1].id().as_str());
        fixture.hub.join(&fixture.members[0], &second);
        assert_eq!(
            send(&fixture, vec![second.clone()], vec![], false),
            [1, 1, 0]
        );
        assert_eq!(
            send(&fixture, vec![], vec![second.clone()], false),
            [0, 0, 1]
        );
        fixture.hub.join(&fixture.members[1], &second);
        assert_eq!(
            send(&fixture, vec![second], vec![], false),
            [1, 1, 0],
            "each once"
        );
    }

    #[test]
    fn volatile_frames_go_only_where_nothing_waits() {
        let fixture = fixture();
        fixture
            .hub
            .send(fixture.members[0].outbox(), Frame::text(&["4first"]));
        assert_eq!(send(&fixture, vec![room("a")], vec![], true), [1, 1, 0]);
        assert_eq!(fixture.hub.take_counts().dropped, 1);
        assert_eq!(Rc::weak_count(&fixture.link), 3);
    }

    #[test]
    fn slow_socket_is_reported_when_its_outbox_fills() {
        let fixture = fixture();
        for _ in 0..5 {
            fixture
                .hub
                .send(fixture.members[0].outbox(), Frame::text(&["4x"]));
        }
        assert!(fixture.members[0].outbox().is_closed());
        assert_eq!(fixture.hub.take_counts().overflows, 1);
        assert_eq!(send(&fixture, vec![room("a")], vec![], false), [0, 1, 0]);
    }
}
