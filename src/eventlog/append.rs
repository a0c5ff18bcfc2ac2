//! An append under way, in any backend.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::{Appended, Error};

/// Resolves when a record is durable. May be dropped: the record stays.
#[derive(Debug)]
#[must_use = "a record counts as durable only when this has resolved"]
pub struct Append(pub(super) oneshot::Receiver<Result<Appended, Error>>);

impl Future for Append {
    type Output = Result<Appended, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}
