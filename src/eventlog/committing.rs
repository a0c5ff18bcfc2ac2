//! A commit under way, in any backend.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::Error;

/// A commit under way.
#[derive(Debug)]
#[must_use = "a commit counts as done only when this has resolved"]
pub struct Committing {
    answer: Answer,
    /// Told when this fails or is dropped before its time.
    doubt: Option<Arc<AtomicBool>>,
}

#[derive(Debug)]
enum Answer {
    Here(Option<Result<(), Error>>),
    Coming(oneshot::Receiver<Result<(), Error>>),
}

impl Committing {
    /// There was nothing to commit.
    pub(super) const fn nothing() -> Self {
        Self {
            answer: Answer::Here(Some(Ok(()))),
            doubt: None,
        }
    }

    /// A commit that is under way, or was refused. `doubt` is set unless it is seen to succeed.
    pub(super) fn of(
        enqueued: Result<oneshot::Receiver<Result<(), Error>>, Error>,
        doubt: &Arc<AtomicBool>,
    ) -> Self {
        let answer = match enqueued {
            Ok(answer) => Answer::Coming(answer),
            Err(error) => Answer::Here(Some(Err(error))),
        };
        Self {
            answer,
            doubt: Some(Arc::clone(doubt)),
        }
    }
}

impl Future for Committing {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &mut self.answer {
            Answer::Here(outcome) => outcome.take().unwrap_or(Ok(())),
            Answer::Coming(answer) => {
                ready!(Pin::new(answer).poll(context)).unwrap_or(Err(Error::Closed))
            }
        };
        if outcome.is_ok() {
            self.doubt = None;
        }
        Poll::Ready(outcome)
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        if let Some(doubt) = &self.doubt {
            doubt.store(true, Ordering::Release);
        }
    }
}
