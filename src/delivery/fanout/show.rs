//! Events into the outboxes of this worker.

use std::rc::Rc;

use bytes::Bytes;

use super::rooms::Verdict;
use super::{Fanout, NAMESPACE};
use crate::cluster::bus::{Ephemeral, Publication};
use crate::delivery::meter;
use crate::events::{Envelope, view};
use crate::lifecycle::mutation::{self, Mutation};
use crate::protocol::frame::Frame;
use crate::protocol::socketio::encode;
use crate::rooms::{Broadcast, Reach};
use crate::telemetry::{metrics, trace};
use crate::types::{CloseReason, RoomName, ShardPosition, SocketId, Timestamp};

impl Fanout {
    /// Shows an entry if it is next in its room. False when something before it is missing; then it was
    /// not shown.
    pub(super) fn entry(&self, publication: &Publication) -> bool {
        let heard_on = self.tracks.borrow().get(&publication.room).map(|t| t.shard);
        if heard_on.is_some_and(|shard| shard != publication.shard) {
            // It is read again when the room has come over.
            self.came_to(publication.shard, &publication.room);
            return true;
        }
        self.show_next(publication)
    }

    /// The same for an entry that was read, wherever it was written.
    pub(super) fn show_next(&self, publication: &Publication) -> bool {
        let place = (publication.position, publication.at);
        let mut verdict = match self.tracks.borrow_mut().get_mut(&publication.room) {
            Some(track) => track.judge(place, &publication.id),
            None => Verdict::New,
        };
        if verdict == Verdict::Gap && mutation::is_on(Mutation::RepairOff) {
            if let Some(track) = self.tracks.borrow_mut().get_mut(&publication.room) {
                track.restart(Some(publication.position), publication.at);
            }
            verdict = Verdict::New;
        }
        if verdict == Verdict::Gap {
            return false;
        }
        self.advance(publication.shard, publication.at);
        match verdict {
            Verdict::Old | Verdict::Gap => {}
            Verdict::New => self.show(publication),
            Verdict::Again => self.show_to_newcomers(publication),
            Verdict::Lost => {
                self.send_away(&publication.room);
                if let Some(track) = self.tracks.borrow_mut().get_mut(&publication.room) {
                    track.restart(Some(publication.position), publication.at);
                }
                self.show(publication);
            }
        }
        true
    }

    fn show(&self, publication: &Publication) {
        let room = &publication.room;
        if self.hub.room(NAMESPACE, room.as_str()).is_none() {
            return;
        }
        let since = std::time::Instant::now();
        if let Some((frame, happened)) = self.frame(publication) {
            self.hub.broadcast(&Broadcast {
                reach: Reach {
                    namespace: NAMESPACE,
                    to: vec![room.clone()],
                    except: Vec::new(),
                },
                frame,
                is_volatile: false,
            });
            meter::shown(happened);
            meter::traced_shown(&publication.id, since.elapsed(), room);
        }
    }

    fn show_to_newcomers(&self, publication: &Publication) {
        let newcomers = self.newcomers(&publication.room);
        if newcomers.is_empty() {
            return;
        }
        let Some((frame, _)) = self.frame(publication) else {
            return;
        };
        for id in newcomers {
            let member = self.hub.member(NAMESPACE, id.as_str());
            if let Some(member) = member.filter(|member| member.is_in(publication.room.as_str())) {
                self.hub.send(member.outbox(), frame.clone());
            }
        }
    }

    fn newcomers(&self, room: &RoomName) -> Vec<SocketId> {
        let tracks = self.tracks.borrow();
        tracks
            .get(room)
            .map_or_else(Vec::new, |track| track.newcomers().to_vec())
    }

    /// What members get, and when it happened.
    fn frame(&self, publication: &Publication) -> Option<(Frame, Timestamp)> {
        let shown = Envelope::parse(&publication.payload)
            .map_err(|error| error.to_string())
            .and_then(|envelope| {
                let place = publication.position;
                let shown = view(&self.vocabulary.current(), &envelope, place);
                shown
                    .map(|shown| (shown, envelope.timestamp))
                    .map_err(|error| error.to_string())
            });
        match shown {
            Ok((shown, happened)) => {
                let frame = match self.offset() {
                    Some(at) => encode::event_with_offset("/", &shown.event, &shown.json, &at),
                    None => encode::event("/", None, &shown.event, &shown.json, &[]),
                };
                Some((frame, happened))
            }
            // The pump checked it before it was ordered; history shows it all the same.
            Err(error) => {
                let trace_id = trace::id(&publication.id);
                tracing::error!(id = %publication.id, trace_id, %error, "an event cannot be shown");
                None
            }
        }
    }

    pub(super) fn ephemeral(&self, event: &Ephemeral) {
        let except = event
            .except
            .iter()
            .filter_map(|id| RoomName::parse(id.as_str()).ok());
        self.hub.broadcast(&Broadcast {
            reach: Reach {
                namespace: NAMESPACE,
                to: vec![event.room.clone()],
                except: except.collect(),
            },
            frame: self.frame_of(&event.event, event.data.get(), &[]),
            is_volatile: false,
        });
    }

    /// An event without a place, as its members are sent it. Clients take any text at the end for an
    /// offset, so behind one of its own comes that of the worker.
    pub fn frame_of(&self, event: &str, args: &str, attachments: &[Bytes]) -> Frame {
        let ends_in_text = args.trim_end().ends_with('"');
        match self.offset().filter(|_| ends_in_text) {
            Some(at) => {
                let args = format!("{args},\"{at}\"");
                encode::event("/", None, event, &args, attachments)
            }
            None => encode::event("/", None, event, args, attachments),
        }
    }

    /// Has everything that is shown from now on carry the worker's position, as text.
    pub fn show_offsets(&self) {
        self.has_offsets.set(true);
    }

    /// The worker's position as text, where it is shown.
    pub fn offset(&self) -> Option<Rc<str>> {
        if !self.has_offsets.get() {
            return None;
        }
        let mut offset = self.offset.borrow_mut();
        let offset = offset.get_or_insert_with(|| self.vector().to_string().into());
        Some(Rc::clone(offset))
    }

    /// What a room's members missed up to `at` cannot be brought back: all of them begin anew.
    pub(super) fn reload(&self, room: &RoomName, at: ShardPosition) {
        if let Some(track) = self.tracks.borrow_mut().get_mut(room) {
            track.restart(None, at);
        }
        self.send_away(room);
    }

    /// Closes the transports of those who were in a room before its order was lost. Their clients come
    /// back by themselves, with the place up to which they were shown it.
    fn send_away(&self, room: &RoomName) {
        let newcomers = self.newcomers(room);
        let mut members = self.members(Some(room.clone()));
        members.retain(|member| !newcomers.contains(member.id()));
        if members.is_empty() {
            return;
        }
        tracing::warn!(%room, sockets = members.len(), "a room's events cannot be completed; its members begin anew");
        metrics::BUS_RELOADS.add(members.len() as u64);
        for member in members {
            // Nothing more goes out to it, of this room or of others: what it is shown has to be whole up to the
            // position that it comes back with.
            self.hub.leave(&member, room.as_str());
            member.outbox().seal();
            member.outbox().close_link(CloseReason::Interrupted);
        }
    }
}
