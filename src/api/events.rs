//! REST: domain events from other services.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn events(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
}
