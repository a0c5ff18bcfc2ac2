//! REST: sign-up, login, logout, sessions, profiles, bans.

use std::net::IpAddr;

use http::Request;
use hyper::body::Incoming;

use super::{Answer, Api};

impl Api {
    pub(super) async fn sign_up(&self, request: Request<Incoming>, client: IpAddr) -> Answer {
        todo!("{request:?} {client}")
    }
    pub(super) async fn login(&self, request: Request<Incoming>, client: IpAddr) -> Answer {
        todo!("{request:?} {client}")
    }
    pub(super) async fn logout(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
    pub(super) async fn sessions(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
    pub(super) async fn session(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
    pub(super) async fn profile(&self, request: Request<Incoming>) -> Answer {
        todo!("{request:?}")
    }
    pub(super) async fn user(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
    pub(super) async fn ban(&self, request: Request<Incoming>, id: &str) -> Answer {
        todo!("{request:?} {id}")
    }
}
