//! REST: notifications.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn notifications(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
}
