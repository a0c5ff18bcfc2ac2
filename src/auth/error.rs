//! Why a token is refused, with what to do about it. The token itself is never part of it.

use crate::telemetry::labels::AuthFailure;
use crate::types::{Code, IdError, Kind, Problem, Timestamp};

use super::globs::GlobError;

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was sent.
    #[error("no token was sent; send one as auth.token, or in the header Authorization: Bearer")]
    Missing,
    /// Credentials that cannot be understood: which, and what about them.
    #[error("{0} {1}")]
    Credentials(&'static str, &'static str),
    /// The token is longer than the limit, in bytes: length, limit.
    #[error("the token is {0} bytes, the limit is {1}")]
    TooLong(usize, usize),
    /// The text is no JWT: what is wrong with it.
    #[error("the token is not a valid JWT: {0}")]
    Malformed(&'static str),
    /// The header demands an extension (`crit`), and none is known here.
    #[error("the token demands extensions (crit) that this node does not know")]
    Extension,
    /// The header's algorithm is not accepted, or not the one of the key.
    #[error("the token is signed with an algorithm that is not accepted or not that of its key")]
    Algorithm,
    /// No key fits: the key's id, if the token names one.
    #[error("the token's key {} is not known; get a new token", shown(.0.as_deref()))]
    UnknownKey(Option<String>),
    /// More than one key could fit.
    #[error("the token names no key (kid), and there is more than one that could be meant")]
    AmbiguousKey,
    /// The signature is not that of the key.
    #[error("the token's signature is wrong; get a new token")]
    Signature,
    /// A claim that must be there is missing.
    #[error("the token has no claim {0}")]
    MissingClaim(&'static str),
    /// A claim has a value of the wrong kind: which, what it must be.
    #[error("the token's claim {0} must be {1}")]
    Claim(&'static str, &'static str),
    /// The claim `sub` is no user id.
    #[error("the token's claim sub is refused: {0}")]
    Subject(IdError),
    /// The claim `rooms` is refused.
    #[error("the token's claim rooms is refused: {0}")]
    Rooms(GlobError),
    /// The token's time is over.
    #[error("the token expired at {0}; get a new one")]
    Expired(Timestamp),
    /// The token's time has not come.
    #[error("the token is not valid before {0}; check the clocks")]
    NotYetValid(Timestamp),
    /// The claim `iss` is not the one configured.
    #[error("the token is from another issuer (iss) than this node accepts")]
    Issuer,
    /// The claim `aud` does not contain what is configured.
    #[error("the token is meant for somebody else (aud)")]
    Audience,
    /// There are no keys yet, because their server has not answered since the start.
    #[error("the keys to check tokens with are not there yet; try again")]
    KeysUnavailable,
}

impl Error {
    /// The code for the client.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::KeysUnavailable => Code::Unavailable,
            _ => Code::Unauthenticated,
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.code().kind()
    }

    /// Whether the same token can be accepted later.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(self, Self::KeysUnavailable | Self::NotYetValid(_))
    }

    /// A word for metrics: few, and none made by clients.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Credentials(..) => "credentials",
            Self::TooLong(..) | Self::Malformed(_) | Self::Extension => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey(_) | Self::AmbiguousKey => "unknown_key",
            Self::Signature => "signature",
            Self::MissingClaim(_) | Self::Claim(..) | Self::Subject(_) | Self::Rooms(_) => "claims",
            Self::Expired(_) => "expired",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }
}

impl From<&Error> for AuthFailure {
    fn from(error: &Error) -> Self {
        match error {
            Error::Missing => Self::Missing,
            Error::Credentials(..)
            | Error::TooLong(..)
            | Error::Malformed(_)
            | Error::Extension => Self::Malformed,
            Error::Algorithm => Self::Algorithm,
            Error::UnknownKey(_) | Error::AmbiguousKey => Self::UnknownKey,
            Error::Signature => Self::Signature,
            Error::MissingClaim(_)
            | Error::Claim(..)
            | Error::Subject(_)
            | Error::Rooms(_)
            | Error::Issuer
            | Error::Audience => Self::Claims,
            Error::Expired(_) => Self::Expired,
            Error::NotYetValid(_) => Self::NotYetValid,
            Error::KeysUnavailable => Self::KeysUnavailable,
        }
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

fn shown(key: Option<&str>) -> String {
    key.map_or_else(|| "(unnamed)".to_owned(), |key| format!("{key:?}"))
}
