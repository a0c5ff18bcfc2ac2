//! REST: one's own profile, others' profiles, bans.

use http::{Method, Request};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::accounts::{nothing, now};
use super::{Answer, Api, problem, request};
use crate::accounts;
use crate::auth::Identity;
use crate::handlers::Fact;
use crate::store::{User, UserChanges};
use crate::types::{Code, Problem, Timestamp, UserId};

/// What others are shown of a user.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicUser<'a> {
    id: &'a UserId,
    name: &'a str,
    role: &'a str,
    attributes: &'a RawValue,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// What a user is shown of itself.
#[derive(Serialize)]
pub(super) struct OwnUser<'a> {
    #[serde(flatten)]
    user: PublicUser<'a>,
    email: Option<&'a str>,
}

impl<'a> PublicUser<'a> {
    fn of(user: &'a User, stale: bool) -> Self {
        Self {
            id: &user.id,
            name: &user.name,
            role: &user.role,
            attributes: &user.attributes,
            created_at: user.created_at,
            updated_at: user.updated_at,
            stale,
        }
    }
}

impl<'a> OwnUser<'a> {
    pub(super) fn of(user: &'a User, stale: bool) -> Self {
        Self {
            user: PublicUser::of(user, stale),
            email: user.email.as_deref(),
        }
    }
}

#[derive(Deserialize)]
struct Changes {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    attributes: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(default)]
    until: Option<Timestamp>,
}

impl Api {
    pub(super) async fn profile(&self, request: Request<Incoming>) -> Answer {
        let identity = self.identity(request.headers()).await?;
        if request.method() == Method::PATCH {
            return self.change_profile(request, &identity).await;
        }
        let found = self.context.directory.user(identity.user()).await?;
        let user = found.value.ok_or_else(|| {
            let message = "the token's user has no account here";
            Problem::new(Code::NotFound, message)
        })?;
        let mut response = problem::json(&OwnUser::of(&user, found.is_stale));
        let age = identity.expires_at().since(now()).as_secs();
        self.renew_csrf(&mut response, request.headers(), age);
        Ok(response)
    }

    async fn change_profile(&self, request: Request<Incoming>, identity: &Identity) -> Answer {
        let body = request::body(request, (self.body_max, self.body_within)).await?;
        let changes: Changes = request::json(&body)?;
        if changes.name.is_none() && changes.attributes.is_none() {
            let message = "nothing is to be changed; send name, attributes or both";
            return Err(Problem::new(Code::Invalid, message));
        }
        if let Some(attributes) = &changes.attributes {
            accounts::check_attributes(attributes.get())?;
        }
        let name = changes.name.as_deref().map(accounts::check_name);
        let changes = UserChanges {
            name: name.transpose()?,
            attributes: changes.attributes,
        };
        let (context, id) = (&self.context, identity.user());
        let user = context.store.update_user(id, changes, now()).await?;
        let user = user.ok_or_else(|| {
            let message = "the token's user has no account here";
            Problem::new(Code::NotFound, message)
        })?;
        context.directory.user_changed(id);
        self.announce_profile(&user).await?;
        Ok(problem::json(&OwnUser::of(&user, false)))
    }

    async fn announce_profile(&self, user: &User) -> Result<(), Problem> {
        let attributes: serde_json::Value =
            serde_json::from_str(user.attributes.get()).unwrap_or_default();
        let data = json!({
            "id": user.id,
            "userId": user.id,
            "name": user.name,
            "role": user.role,
            "attributes": attributes,
            "updatedAt": user.updated_at,
        });
        // Of two changes in one millisecond each is an event when it says something else.
        let of = format!("{} {data}", user.updated_at);
        let fact = Fact {
            kind: "PROFILE_UPDATED",
            user: &user.id,
            of: &of,
            data: &data,
        };
        self.context.announce(fact).await
    }

    pub(super) async fn user(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::user_id(id)?;
        let found = self.context.directory.user(&id).await?;
        let unknown = || Problem::new(Code::NotFound, "there is no such user");
        let user = found.value.ok_or_else(unknown)?;
        if id != *identity.user() {
            let random = format!("{:032x}", rand::random::<u128>());
            self.context.mention(Fact {
                kind: "PROFILE_VIEW_ANALYTICS",
                user: identity.user(),
                of: &random,
                data: &json!({ "viewedUserId": id }),
            });
        }
        Ok(problem::json(&PublicUser::of(&user, found.is_stale)))
    }

    pub(super) async fn ban(&self, request: Request<Incoming>, id: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let id = request::user_id(id)?;
        self.may_ban(&identity).await?;
        let until = if request.method() == Method::DELETE {
            None
        } else {
            let body = request::body(request, (self.body_max, self.body_within)).await?;
            let given = match body.trim_ascii() {
                b"" => Ban { until: None },
                json => request::json(json)?,
            };
            // Without a time, for good.
            Some(
                given
                    .until
                    .unwrap_or_else(|| Timestamp::from_millis(i64::MAX)),
            )
        };
        self.context.accounts.ban(&id, until, now()).await?;
        Ok(nothing())
    }

    async fn may_ban(&self, identity: &Identity) -> Result<(), Problem> {
        if identity.has_scope("users:ban") {
            return Ok(());
        }
        let asker = self.context.directory.user(identity.user()).await?.value;
        if asker.is_some_and(|asker| asker.role == "admin") {
            return Ok(());
        }
        let message = "banning needs a service's token with scope \"users:ban\", or an admin";
        Err(Problem::new(Code::Forbidden, message))
    }
}
