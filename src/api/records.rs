//! REST: records of the operator's kinds.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn record(&self, request: Request<Incoming>, kind: &str, id: &str) -> Answer {
        todo!("{request:?} {kind} {id}")
    }
}
