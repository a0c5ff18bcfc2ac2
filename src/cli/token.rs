//! `vestibule token`: a token to try things with.

use std::path::PathBuf;
use std::time::SystemTime;

use super::Failure;
use crate::auth::issue::{Grant, token_id};
use crate::auth::{Development, Rooms};
use crate::config::{self, Authentication, Config, Flags};
use crate::types::{Span, UserId};

/// What the token says.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// User that the token names.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Name that others are shown.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Rooms that the user may join and send to; `*` stands for anything. May be repeated.
    #[arg(long, value_name = "GLOB", default_value = "conversation:*")]
    rooms: Vec<String>,
    /// What the token may do beyond its user's own things, as a service's does: `events:write`,
    /// `records:read`, `records:write`, `rooms:read`, `rooms:write`, `users:act`, `users:ban`, `members:write`,
    /// `notifications:write`; separated by spaces [default: none].
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// How long the token is valid.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Span,
    /// Data folder of the node [default: ./data].
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Configuration file of the node (TOML) [default: none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Makes the token, and the secret it is signed with if the folder has none yet.
pub(super) fn run(args: Args) -> Result<String, Failure> {
    let flags = Flags {
        config: args.config,
        data: args.data,
        ..Flags::default()
    };
    let config = Config::load(&flags, &config::environment())?;
    if config.auth.mode != Authentication::Development {
        let text = "auth.mode is \"token\": this node accepts tokens of its issuer only";
        return Err(Failure::refused(text.to_owned()));
    }
    let refused = |flag: &str, error: &dyn std::fmt::Display| {
        Failure::refused(format!("invalid value for {flag}: {error}"))
    };
    let user = UserId::parse(&args.user).map_err(|error| refused("--user", &error))?;
    let rooms = Rooms::parse(&args.rooms).map_err(|error| refused("--rooms", &error))?;
    let scope = args.scope.as_deref().map(scope).transpose();
    let scope = scope.map_err(|error| refused("--scope", &error))?;
    let life = args.ttl.get();
    if life.as_secs() == 0 {
        return Err(refused("--ttl", &"must be at least \"1s\""));
    }
    let development = Development::open(&config.data)
        .map_err(|error| Failure::new("no token was made", error))?;
    let grant = Grant {
        user,
        name: args.name,
        rooms,
        token_id: token_id(),
        scope,
        is_login: false,
        life,
    };
    Ok(development.sign(&grant, SystemTime::now().into()))
}

/// Scopes that the node knows; a mistyped one would only be noticed when it is refused.
const SCOPES: &[&str] = &[
    "events:write",
    "records:read",
    "records:write",
    "rooms:read",
    "rooms:write",
    "users:act",
    "users:ban",
    "members:write",
    "notifications:write",
];

fn scope(text: &str) -> Result<String, String> {
    let scopes: Vec<&str> = text.split_whitespace().collect();
    match scopes.iter().find(|scope| !SCOPES.contains(scope)) {
        Some(unknown) => Err(format!(
            "{unknown:?} is no scope; there are {}",
            SCOPES.join(", ")
        )),
        None => Ok(scopes.join(" ")),
    }
}
