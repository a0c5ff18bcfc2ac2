//! REST: conversations and their members.

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn conversations(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
    pub(super) async fn conversation(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
    pub(super) async fn members(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
    pub(super) async fn member(&self, request: Request<Incoming>, id: &str, user: &str) -> Answer {
        todo!("{request:?} {id} {user}")
    }
    pub(super) async fn read(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
}
