//! REST: who belongs to a course or building.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn group_members(
        &self,
        request: Request<Incoming>,
        kind: &str,
        id: &str,
    ) -> Answer {
        todo!("{request:?} {kind} {id}")
    }
}
