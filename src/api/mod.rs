//! REST: history, sending, and what development needs.
//!
//! Every refusal is `application/problem+json` with the same `code` that Socket.IO acks carry.
//! Handlers are the same services that the sockets use, so an event sent here is in the same log, in
//! the same order, as one sent there.

mod accounts;
mod connections;
mod conversations;
mod courses;
mod development;
mod events;
mod idempotency;
mod messages;
mod notifications;
mod openapi;
mod presence;
mod problem;
mod records;
mod request;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::auth::{Development, Identity};
use crate::handlers::Context;
use crate::telemetry::labels::Route;
use crate::types::{Code, Problem};

/// The REST interface of one node.
pub struct Api {
    context: Arc<Context>,
    development: Option<Development>,
    page_max: usize,
    body_max: usize,
    body_within: std::time::Duration,
}

type Answer = Result<Response<Full<Bytes>>, Problem>;

impl Api {
    /// The interface over these services; tokens for anybody only in development mode.
    #[must_use]
    pub const fn new(
        context: Arc<Context>,
        development: Option<Development>,
        page_max: usize,
        (body_max, body_within): (usize, std::time::Duration),
    ) -> Self {
        Self {
            context,
            development,
            page_max,
            body_max,
            body_within,
        }
    }

    /// Answers a request. The first value names the route for metrics.
    pub async fn respond(
        &self,
        mut request: Request<Incoming>,
        client: IpAddr,
    ) -> (Route, Response<Full<Bytes>>) {
        if request::is_other_media(&request) {
            return (Route::Api, problem::unsupported_media());
        }
        if request.method() == Method::HEAD {
            // As GET; the HTTP library leaves the body out.
            *request.method_mut() = Method::GET;
        }
        let (route, answer) = self.once(request, client).await;
        (
            route,
            answer.unwrap_or_else(|problem| problem::response(&problem)),
        )
    }

    async fn dispatch(&self, request: Request<Incoming>, client: IpAddr) -> (Route, Answer) {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match *parts {
            ["api", "signup"] => (Route::Accounts, self.sign_up(request, client).await),
            ["api", "login"] => (Route::Accounts, self.login(request, client).await),
            ["api", "logout"] => (Route::Accounts, self.logout(request).await),
            ["api", "sessions"] => (Route::Accounts, self.sessions(request).await),
            ["api", "sessions", id] => (Route::Accounts, self.session(request, id).await),
            ["api", "profile"] => (Route::Users, self.profile(request).await),
            ["api", "users", id] => (Route::Users, self.user(request, id).await),
            ["api", "users", id, "ban"] => (Route::Users, self.ban(request, id).await),
            ["api", "conversations"] => (Route::Conversations, self.conversations(request).await),
            ["api", "conversations", id] => {
                (Route::Conversations, self.conversation(request, id).await)
            }
            ["api", "conversations", id, "members"] => {
                (Route::Conversations, self.members(request, id).await)
            }
            ["api", "conversations", id, "members", user] => {
                (Route::Conversations, self.member(request, id, user).await)
            }
            ["api", "conversations", id, "messages"] => (
                Route::History,
                self.only(&[Method::GET], request, |r| self.history(r, id))
                    .await,
            ),
            ["api", "conversations", id, "read"] => {
                (Route::Conversations, self.read(request, id).await)
            }
            ["api", "messages"] => (
                Route::Messages,
                self.only(&[Method::POST], request, |r| self.send(r)).await,
            ),
            ["api", "messages", id] => (Route::Messages, self.message(request, id).await),
            ["api", "messages", id, "reactions"] => {
                (Route::Messages, self.reactions(request, id).await)
            }
            ["api", "notifications"] => (Route::Notifications, self.notifications(request).await),
            ["api", "connections"] => (Route::Connections, self.connections(request).await),
            ["api", "connections", id] => (Route::Connections, self.connection(request, id).await),
            ["api", kind @ ("courses" | "buildings"), id, "members"] => {
                (Route::Groups, self.group_members(request, kind, id).await)
            }
            ["api", "presence"] => (Route::Presence, self.presence(request).await),
            ["api", "records", kind, id] => (Route::Records, self.record(request, kind, id).await),
            ["api", "events"] => (Route::Events, self.events(request).await),
            ["api", "openapi.json"] => (Route::Api, self.openapi(request).await),
            ["api", "development", "token"] => (
                Route::Api,
                self.only(&[Method::POST], request, |r| self.token(r, client))
                    .await,
            ),
            _ => (
                Route::Api,
                Err(Problem::new(
                    Code::NotFound,
                    format!("there is no {}", cut(&path)),
                )),
            ),
        }
    }

    async fn only<F: Future<Output = Answer>>(
        &self,
        methods: &[Method],
        request: Request<Incoming>,
        handle: impl FnOnce(Request<Incoming>) -> F,
    ) -> Answer {
        if methods.contains(request.method()) {
            return handle(request).await;
        }
        Ok(problem::method_not_allowed(methods))
    }

    /// Who asks.
    async fn identity(&self, headers: &http::HeaderMap) -> Result<Identity, Problem> {
        let authorization = headers
            .get(http::header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok());
        // HTTP/2 may carry each cookie in a header of its own: RFC 9113 section 8.2.3.
        let cookies = headers
            .get_all(http::header::COOKIE)
            .iter()
            .filter_map(|v| v.to_str().ok());
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let cookie = Some(cookies.as_str()).filter(|cookies| !cookies.is_empty());
        let credentials = crate::auth::Credentials {
            auth: None,
            authorization,
            cookie,
        };
        let now = std::time::SystemTime::now().into();
        Ok(self
            .context
            .authenticator
            .authenticate(&credentials, now)
            .await?)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}
