//! Idempotency keys on POST: a retry gets the first answer.
