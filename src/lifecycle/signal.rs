//! The signals that end a node, SIGTERM and SIGINT, and the one that makes it read its files again,
//! SIGHUP.
//!
//! The first of those that end it asks for a drain, the second ends it at once; both are taken by
//! [`Signals::next`].

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, from an orchestrator.
    Terminate,
    /// SIGINT, from a keyboard.
    Interrupt,
}

impl Signal {
    /// Its name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// Takes the signals of this process from its creation on.
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// Takes over the signals; before this they end the process.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal. Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => Signal::Terminate,
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            else => std::future::pending().await,
        }
    }
}

/// Takes SIGHUP from its creation on; before this it ends the process.
pub struct Reloads(unix::Signal);

impl Reloads {
    /// Takes over the signal.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self(unix::signal(SignalKind::hangup())?))
    }

    /// The next one. Cancel-safe.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;

    #[tokio::test]
    async fn the_second_signal_is_told_like_the_first() {
        let mut signals = Signals::new().unwrap();
        let expected = [("-TERM", Signal::Terminate), ("-INT", Signal::Interrupt)];
        for (flag, signal) in expected {
            let sent = Command::new("kill")
                .args([flag, &id().to_string()])
                .status()
                .unwrap();
            assert!(sent.success());
            assert_eq!(signals.next().await, signal);
        }
    }
}
