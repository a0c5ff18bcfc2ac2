//! REST: history, sending, and what development needs.
//!
//! Every refusal is `application/problem+json` with the same `code` that Socket.IO acks carry.
//! Handlers are the same services that the sockets use, so an event sent here is in the same log, in
//! the same order, as one sent there.

mod accounts;
mod connections;
mod conversations;
mod cookies;
mod courses;
mod development;
mod events;
mod idempotency;
mod limits;
mod messages;
mod notifications;
mod openapi;
mod presence;
mod problem;
mod profile;
mod records;
mod request;
mod rooms;
mod routes;

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

pub use limits::EXPOSED;

/// The REST interface of one node.
pub struct Api {
    context: Arc<Context>,
    development: Option<Development>,
    page_max: usize,
    body_max: usize,
    body_within: std::time::Duration,
}

type Answer = Result<Response<Full<Bytes>>, Problem>;
/// Who asks, or why that is not known.
type Asker = Result<Identity, Problem>;

tokio::task_local! {
    /// Who asks in the request being answered: found out once, for its limits and for what it wants.
    static ASKER: Asker;
}

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
        request: Request<Incoming>,
        client: IpAddr,
    ) -> (Route, Response<Full<Bytes>>) {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let known = routes::find(&segments);
        let (route, template) = known.map_or((Route::Api, ""), |p| (p.route, p.template));
        let asker = self.asker(request.headers()).await;
        let endpoint = (&request.method().clone(), template);
        let (limit, admitted) = self.admit(asker.as_ref(), client, endpoint).await;
        let answer = async {
            admitted?;
            let known = known.ok_or_else(|| {
                Problem::new(Code::NotFound, format!("there is no {}", cut(&path)))
            })?;
            self.at(known, request, (client, &segments)).await
        };
        let answer = match asker.clone() {
            Some(asker) => ASKER.scope(asker, answer).await,
            None => answer.await,
        };
        let mut response = answer.unwrap_or_else(|problem| problem::response(&problem));
        let left = self.after(asker.as_ref(), template, limit).await;
        limits::tell(&mut response, left);
        (route, response)
    }

    /// What a path answers.
    async fn at(
        &self,
        known: &routes::Path,
        mut request: Request<Incoming>,
        (client, segments): (IpAddr, &[&str]),
    ) -> Answer {
        if request.method() == Method::HEAD {
            // As GET; the HTTP library leaves the body out.
            *request.method_mut() = Method::GET;
        }
        if !known.methods.contains(request.method()) {
            Ok(problem::method_not_allowed(known.methods))
        } else if request::is_other_media(&request) {
            Ok(problem::unsupported_media())
        } else if let Err(problem) =
            self.guard((request.method(), known.template), request.headers())
        {
            Err(problem)
        } else {
            self.once(request, client, segments).await
        }
    }

    /// Who asks, when the request says anything about it.
    async fn asker(&self, headers: &http::HeaderMap) -> Option<Asker> {
        let says = [http::header::AUTHORIZATION, http::header::COOKIE];
        if says.iter().any(|name| headers.contains_key(name)) {
            Some(self.identify(headers).await)
        } else {
            None
        }
    }

    /// What a path of [`routes`] answers to a method that it has.
    async fn answer(&self, request: Request<Incoming>, client: IpAddr, path: &[&str]) -> Answer {
        match *path {
            ["api", "signup"] => self.sign_up(request, client).await,
            ["api", "login"] => self.login(request, client).await,
            ["api", "logout"] => self.logout(request).await,
            ["api", "sessions"] => self.sessions(request).await,
            ["api", "sessions", id] => self.session(request, id).await,
            ["api", "profile"] => self.profile(request).await,
            ["api", "users", id] => self.user(request, id).await,
            ["api", "users", id, "ban"] => self.ban(request, id).await,
            ["api", "conversations"] => self.conversations(request).await,
            ["api", "conversations", id] => self.conversation(request, id).await,
            ["api", "conversations", id, "members"] => self.members(request, id).await,
            ["api", "conversations", id, "members", user] => self.member(request, id, user).await,
            ["api", "conversations", id, "messages"] => self.history(request, id).await,
            ["api", "conversations", id, "read"] => self.read(request, id).await,
            ["api", "messages"] => self.send(request).await,
            ["api", "messages", id] => self.message(request, id).await,
            ["api", "messages", id, "reactions"] => self.reactions(request, id).await,
            ["api", "notifications"] => self.notifications(request).await,
            ["api", "connections"] => self.connections(request).await,
            ["api", "connections", id] => self.connection(request, id).await,
            ["api", kind @ ("courses" | "buildings"), id, "members"] => {
                self.group_members(request, kind, id).await
            }
            ["api", "presence"] => self.presence(request).await,
            ["api", "records", kind, id] => self.record(request, kind, id).await,
            ["api", "rooms", room, "sockets"] => self.room_sockets(request, room).await,
            ["api", "events"] => self.events(request).await,
            ["api", "openapi.json"] => self.openapi(request).await,
            ["api", "development", "token"] => self.token(request, client).await,
            _ => Err(Problem::new(Code::NotFound, "there is nothing here")),
        }
    }

    /// Who asks.
    async fn identity(&self, headers: &http::HeaderMap) -> Asker {
        match ASKER.try_with(Clone::clone) {
            Ok(asker) => asker,
            Err(_) => self.identify(headers).await,
        }
    }

    async fn identify(&self, headers: &http::HeaderMap) -> Result<Identity, Problem> {
        let cookies = cookies::joined(headers);
        let credentials = cookies::credentials(headers, cookies.as_deref());
        let now = std::time::SystemTime::now().into();
        let identity = self
            .context
            .authenticator
            .authenticate(&credentials, now)
            .await?;
        self.context.accounts.check(&identity, now).await?;
        Ok(identity)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}
