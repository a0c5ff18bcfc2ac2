//! What the two official protocol test-suites expect of a server, on the public API.
//!
//! `cargo run --release --example conformance -- [--engine-only] [--port 3000]` serves
//! `/engine.io/` (echoing every message) with `--engine-only`, else `/socket.io/` with the namespaces
//! `/` and `/custom`. Prints `listening ADDRESS`.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;
use vestibule::app::library::Library;
use vestibule::config::{Config, Origin};
use vestibule::server::{Namespace, Server};
use vestibule::types::Span;

#[derive(Parser)]
struct Flags {
    /// Serve the Engine.IO suite's echo server instead of Socket.IO.
    #[arg(long)]
    engine_only: bool,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let mut config = Config::default();
    config.transport.ping_interval = Span::from_millis(300);
    config.transport.ping_timeout = Span::from_millis(200);
    // The suites ask for 1,000 ms and ping three times within them without joining; a busy machine
    // needs a little more.
    config.transport.connect_timeout = Span::from_millis(1500);
    config.edge.origins = Origin::parse("*").into_iter().collect();
    let server = if flags.engine_only {
        config.transport.path = "/engine.io/".to_owned();
        // No namespace is ever joined here.
        config.transport.connect_timeout = Span::from_secs(60);
        Server::new().raw(Some)
    } else {
        Server::new()
            .namespace("/", namespace)
            .namespace("/custom", namespace)
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, flags.port));
    let library = Library::with(server, address, config)?;
    #[expect(clippy::print_stdout, reason = "the address is what callers wait for")]
    {
        println!("listening {}", library.address());
    }
    library.run()
}

fn namespace(namespace: &mut Namespace) {
    namespace.keep_auth();
    namespace.on_connect(|socket| {
        let auth = socket.auth().unwrap_or("{}");
        socket.emit_raw("auth", auth);
    });
    namespace.on("message", |socket, event| {
        socket.emit("message-back", event.to_args())
    });
    namespace.on("message-with-ack", |_, event| {
        let args = event.to_args();
        event.ack(args);
    });
}
