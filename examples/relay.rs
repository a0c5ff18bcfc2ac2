//! A relay without durability, like for like with a few lines of socket.io on Node: `join` puts a
//! socket into a room and answers, `publish` sends its arguments to everybody in the room.
//!
//! `cargo run --release --example relay -- [--listen 127.0.0.1:0]`; prints `listening ADDRESS`. The
//! benchmarks run it beside its counterpart.

use std::net::SocketAddr;

use clap::Parser;
use serde::Deserialize;
use vestibule::app::library::Library;
use vestibule::server::Server;
use vestibule::types::RoomName;

/// What decides where an event goes; the rest is passed on as it came.
#[derive(Deserialize)]
struct Publish {
    room: String,
}

#[derive(Parser)]
struct Flags {
    /// The address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let server = Server::new().namespace("/", |root| {
        root.on("join", |socket, event| {
            if let Ok(room) = event.arg::<RoomName>(0) {
                socket.join(&room);
            }
            event.ack(());
        });
        root.on("publish", |socket, event| {
            if let Ok(to) = event.arg::<Publish>(0) {
                socket
                    .everybody()
                    .to(&to.room)
                    .emit_raw("event", event.rest());
            }
        });
        root.on("echo", |_, event| {
            let args = event.to_args();
            event.ack(args);
        });
    });
    let library = Library::bind(server, flags.listen)?;
    #[expect(clippy::print_stdout, reason = "the address is what callers wait for")]
    {
        println!("listening {}", library.address());
    }
    library.run()
}
