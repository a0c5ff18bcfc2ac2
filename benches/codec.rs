//! What one event costs to read and to encode. `cargo bench --bench codec`.

use bytes::Bytes;
use divan::{Bencher, black_box};
use vestibule::protocol::engineio::payload::{self, Encoder};
use vestibule::protocol::frame::Frame;
use vestibule::protocol::socketio::{decode, encode};

fn main() {
    divan::main();
}

fn content() -> String {
    format!(
        r#"{{"conversationId":"lobby","content":"{}"}}"#,
        "x".repeat(200)
    )
}

#[divan::bench]
fn decode_event(bencher: Bencher<'_, '_>) {
    let text = format!(r#"2123["message:send",{}]"#, content());
    bencher.bench(|| decode::packet(black_box(&text)).is_ok());
}

#[divan::bench]
fn encode_broadcast(bencher: Bencher<'_, '_>) {
    let content = content();
    bencher.bench(|| encode::event("/", None, "message:new", black_box(&content), &[]));
}

#[divan::bench]
fn share_a_frame(bencher: Bencher<'_, '_>) {
    let frame = encode::event("/", None, "message:new", &content(), &[]);
    bencher.bench(|| black_box(&frame).clone());
}

#[divan::bench]
fn encode_polling_body(bencher: Bencher<'_, '_>) {
    let frames: Vec<Frame> = (0..16)
        .map(|_| encode::event("/", None, "message:new", &content(), &[]))
        .collect();
    bencher.bench(|| {
        let mut encoder = Encoder::default();
        frames
            .iter()
            .filter(|frame| encoder.add(frame, 1_000_000))
            .count()
    });
}

#[divan::bench]
fn decode_polling_body(bencher: Bencher<'_, '_>) {
    let mut encoder = Encoder::default();
    encoder.add(&Frame::text(&["4", &content()]), usize::MAX);
    encoder.add(&Frame::binary(&Bytes::from(vec![7; 1000])), usize::MAX);
    let body = encoder.finish();
    bencher.bench(|| {
        payload::decode(black_box(&body))
            .filter(Result::is_ok)
            .count()
    });
}
