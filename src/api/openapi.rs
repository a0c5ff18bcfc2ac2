//! REST: the description of all this.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn openapi(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
}
