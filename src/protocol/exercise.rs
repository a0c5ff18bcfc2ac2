//! What fuzzing and the kept inputs do with any bytes: decode, check what must hold, send on.
//!
//! Panics here are broken invariants of our own code.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engineio::handshake::{Query, Transport};
use super::engineio::packet;
use super::engineio::payload::{self, Encoder, Item};
use super::engineio::session::{Session, Timing};
use super::frame::{Frame, Part};
use super::socketio::attachments::Assembler;
use super::socketio::decode::{self, Decoded};
use super::socketio::encode;

/// A long-polling body.
pub fn payload(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut is_over = false;
    for item in payload::decode(&text) {
        assert!(!is_over, "nothing comes after an error");
        is_over = item.is_err();
        let frame = match item {
            Ok(Item::Text(_, rest)) => Frame::text(&["4", rest]),
            Ok(Item::Binary(bytes)) => Frame::binary(&bytes),
            Err(_) => continue,
        };
        let mut encoder = Encoder::default();
        assert!(encoder.add(&frame, 0), "the first frame always fits");
        let body = encoder.finish();
        let again = payload::decode(&body).next();
        match (frame.parts().next(), again) {
            (Some(Part::Text(sent)), Some(Ok(Item::Text(_, read)))) => assert_eq!(&sent[1..], read),
            (Some(Part::Binary(sent)), Some(Ok(Item::Binary(read)))) => assert_eq!(sent, read),
            other => panic!("{other:?}"),
        }
    }
    drop(Query::parse(
        &text,
        &[Transport::Polling, Transport::WebSocket],
    ));
}

/// A Socket.IO packet, and binary messages behind it.
pub fn packet(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(decoded) = decode::packet(&text) else {
        return;
    };
    if decoded.attachments() > 0
        && let Ok(mut assembler) = Assembler::new(&text, &decoded, (10, 1 << 16))
    {
        let all = (0..decoded.attachments()).map(|_| assembler.add(Bytes::from_static(b"x")));
        let last = all.last().expect("there is at least one");
        assert!(
            last.expect("they are small").is_some(),
            "the last completes the packet"
        );
    }
    match decoded {
        Decoded::Event {
            namespace,
            ack,
            name,
            args,
            attachments: 0,
        } => {
            let ack = ack.and_then(|id| u32::try_from(id).ok());
            let frame = encode::event(namespace, ack, &name, args, &[]);
            let sent = text_of(&frame);
            match decode::packet(&sent) {
                Ok(Decoded::Event { args: again, .. }) => assert_eq!(args, again),
                // A numeric name is sent on as a text, which may be a reserved one for nobody.
                other => panic!("{sent}: {other:?}"),
            }
        }
        Decoded::Ack {
            namespace,
            id,
            args,
            attachments: 0,
        } => {
            let sent = text_of(&encode::ack(namespace, id, args, &[]));
            assert!(
                matches!(decode::packet(&sent), Ok(Decoded::Ack { .. })),
                "{sent}"
            );
        }
        _ => {}
    }
}

/// The packet's text without the Engine.IO type.
fn text_of(frame: &Frame) -> String {
    match frame.parts().next() {
        Some(Part::Text(text)) => text[1..].to_owned(),
        other => panic!("{other:?}"),
    }
}

/// A session opened at `start`: each byte is something that happens.
pub fn session(data: &[u8], start: Instant) {
    let timing = Timing {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        upgrade_timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_millis(1000),
    };
    let mut now = start;
    let mut session = Session::new(Transport::Polling, &timing, now);
    for byte in data {
        let was_closed = session.is_closed();
        let was_websocket = session.transport() == Transport::WebSocket;
        now += Duration::from_millis(u64::from(byte >> 4) * 8);
        let text = [b'0' + (byte >> 4) % 8, b'p'];
        let text = std::str::from_utf8(&text).expect("it is ASCII");
        let Ok(packet) = packet::decode(text) else {
            continue;
        };
        match byte & 0xf {
            0 => drop(session.get()),
            1 => session.parked(),
            2 => session.released(),
            3 => drop(session.post()),
            4 => session.posted(),
            5 => drop(session.probe(&timing, now)),
            6 => drop(session.probe_packet((packet::Kind::Ping, packet::PROBE))),
            7 => drop(session.probe_packet((packet::Kind::Upgrade, ""))),
            8 => drop(session.probe_packet(packet)),
            9 => session.probe_closed(),
            10 => drop(session.packet(packet, &timing, now)),
            11 => drop(session.tick(&timing, now)),
            12 => session.joined(),
            13 => session.close(),
            _ => {}
        }
        assert!(!was_closed || session.is_closed(), "the end is final");
        assert!(
            !was_websocket || session.is_closed() || session.transport() == Transport::WebSocket,
            "an upgrade is final"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target<'a> = (&'a str, &'a dyn Fn(&[u8]));

    #[test]
    fn every_seed_is_taken() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/");
        let start = Instant::now();
        let targets: [Target<'_>; 3] = [
            ("payload", &payload),
            ("packet", &packet),
            ("session", &|data| session(data, start)),
        ];
        for (folder, target) in targets {
            let mut count = 0;
            for file in std::fs::read_dir(format!("{root}{folder}")).unwrap() {
                target(&std::fs::read(file.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "{folder} has no seeds");
        }
    }
}
