//! Not written yet.
use std::net::IpAddr;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use crate::telemetry::labels::Route;
/// Stub.
pub struct Api;
impl Api {
    /// Stub.
    pub async fn respond(&self, _request: Request<Incoming>, _client: IpAddr) -> (Route, Response<Full<Bytes>>) { (Route::Api, Response::default()) }
}
