//! REST: connections between users.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn connections(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
    pub(super) async fn connection(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
}
