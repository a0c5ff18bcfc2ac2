//! REST: who is online.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn presence(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
}
