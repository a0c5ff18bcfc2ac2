//! REST: sign-up, login, logout, sessions.

use std::net::IpAddr;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::profile::OwnUser;
use super::{Answer, Api, problem, request};
use crate::accounts::{Device, Login, SignUp};
use crate::auth::Identity;
use crate::handlers::Fact;
use crate::types::{Code, Problem, Secret, Timestamp, UserId};

#[derive(Deserialize)]
struct NewAccount {
    email: String,
    password: Secret<String>,
    name: String,
    #[serde(default)]
    id: Option<UserId>,
    #[serde(default)]
    attributes: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: Secret<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn<'a> {
    user: OwnUser<'a>,
    token: &'a str,
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedSession<'a> {
    id: &'a str,
    device: &'a str,
    address: &'a str,
    created_at: Timestamp,
    expires_at: Timestamp,
    current: bool,
}

impl Api {
    pub(super) async fn sign_up(&self, request: Request<Incoming>, client: IpAddr) -> Answer {
        let device = device(request.headers(), client);
        let asker = self.identity(request.headers()).await.ok();
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let new: NewAccount = request::json(&body)?;
        if new.id.is_some() {
            self.may_wish(asker.as_ref())?;
        }
        let new = SignUp {
            email: new.email,
            password: new.password,
            name: new.name,
            id: new.id,
            attributes: new.attributes,
        };
        let login = self.context.accounts.sign_up(new, device, now()).await?;
        let user = &login.user;
        let data = json!({
            "id": user.id,
            "userId": user.id,
            "email": user.email,
            "name": user.name,
            "role": user.role,
            "createdAt": user.created_at,
            "updatedAt": user.updated_at,
        });
        let fact = Fact {
            kind: "USER_SIGNUP",
            user: &user.id,
            of: user.id.as_str(),
            data: &data,
        };
        self.context.announce(fact).await?;
        self.context.directory.warm(&login.user.id).await;
        let mut response = self.logged_in(&login);
        *response.status_mut() = StatusCode::CREATED;
        Ok(response)
    }

    pub(super) async fn login(&self, request: Request<Incoming>, client: IpAddr) -> Answer {
        let device = device(request.headers(), client);
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let given: Credentials = request::json(&body)?;
        let accounts = &self.context.accounts;
        let login = accounts
            .login(&given.email, given.password, device, now())
            .await?;
        let data = json!({
            "userId": login.user.id,
            "device": login.session.device,
            "address": login.session.address,
        });
        let fact = Fact {
            kind: "USER_LOGIN",
            user: &login.user.id,
            of: &login.session.token_id,
            data: &data,
        };
        self.context.announce(fact).await?;
        self.context.directory.warm(&login.user.id).await;
        Ok(self.logged_in(&login))
    }

    pub(super) async fn logout(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        self.context.accounts.logout(&identity, now()).await?;
        let mut response = nothing();
        self.log_browser_out(&mut response);
        Ok(response)
    }

    pub(super) async fn sessions(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let accounts = &self.context.accounts;
        let sessions = accounts.sessions_of(identity.user(), now()).await?;
        let sessions: Vec<_> = sessions
            .iter()
            .map(|session| ListedSession {
                id: &session.token_id,
                device: &session.device,
                address: &session.address,
                created_at: session.created_at,
                expires_at: session.expires_at,
                current: identity.token_id() == Some(&session.token_id),
            })
            .collect();
        Ok(problem::json(&json!({ "sessions": sessions })))
    }

    pub(super) async fn session(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::segment(id, "id")?;
        let accounts = &self.context.accounts;
        accounts.revoke(identity.user(), &id, now()).await?;
        let mut response = nothing();
        if identity.token_id() == Some(&id) {
            self.log_browser_out(&mut response);
        }
        Ok(response)
    }

    /// Whoever is named by tokens from elsewhere must not be taken by signing up under that name.
    fn may_wish(&self, asker: Option<&Identity>) -> Result<(), Problem> {
        let is_development = self.context.authenticator.development().is_some();
        if is_development || asker.is_some_and(|asker| asker.has_scope("users:act")) {
            return Ok(());
        }
        let message = "an id of one's own choice needs a service's token with scope \"users:act\"; \
                       leave id out";
        Err(Problem {
            field: Some("id".to_owned()),
            ..Problem::new(Code::Forbidden, message)
        })
    }

    fn logged_in(&self, login: &Login) -> Response<Full<Bytes>> {
        let mut response = problem::json(&LoggedIn {
            user: OwnUser::of(&login.user, false),
            token: login.token.reveal(),
            expires_at: login.session.expires_at,
        });
        let until = login.session.expires_at;
        self.log_browser_in(&mut response, &login.token, (until, now()));
        response
    }
}

pub(super) fn nothing() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn device(headers: &HeaderMap, address: IpAddr) -> Device {
    let name = headers.get(USER_AGENT).and_then(|name| name.to_str().ok());
    Device {
        name: name.unwrap_or_default().to_owned(),
        address,
    }
}

pub(super) fn now() -> Timestamp {
    SystemTime::now().into()
}
