//! What is demanded of the claims of a token that is signed well, and what becomes of them.

use std::time::Duration;

use super::*;
use crate::auth::token::{Keys, Rules, verify};
use crate::types::{Code, IdError, Problem, Span, UserId};

#[test]
fn a_good_token_becomes_an_identity() {
    let identity = check(&signed(&json!({
        "name": "Ada L.",
        "rooms": ["conversation:*", "course:bio-*"],
        "jti": "t-1",
        "nbf": NOW_SECONDS,
        "exp": NOW_SECONDS as f64 + 0.5,
        "something": {"else": [1, 2]},
    })))
    .unwrap();
    assert_eq!(identity.user().as_str(), "ada");
    assert_eq!(identity.name(), Some("Ada L."));
    assert_eq!(identity.token_id(), Some("t-1"));
    assert_eq!(
        identity.expires_at().to_string(),
        "2026-01-31T12:01:00.500Z"
    );
    assert!(identity.rooms().matches("course:bio-101"));
    assert!(!identity.rooms().matches("course:chem-101"));

    let plain = check(&signed(&json!({ "name": null, "rooms": null, "jti": "" }))).unwrap();
    assert_eq!((plain.name(), plain.token_id()), (None, None));
    assert!(!plain.rooms().matches("conversation:1"));
}

#[test]
fn bad_claims_are_refused() {
    let seconds = "a number of seconds since 1970";
    let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
    let short = "at most 256 bytes without control characters";
    for (changes, expected) in [
        (json!({ "exp": null }), Error::MissingClaim("exp")),
        (json!({ "exp": "tomorrow" }), Error::Claim("exp", seconds)),
        (
            json!({ "exp": NOW_SECONDS - 60 }),
            Error::Expired(at(NOW_SECONDS - 60)),
        ),
        (json!({ "exp": 0 }), Error::Expired(at(0))),
        (
            json!({ "exp": -1e300 }),
            Error::Expired(Timestamp::from_millis(i64::MIN)),
        ),
        (
            json!({ "nbf": NOW_SECONDS + 61 }),
            Error::NotYetValid(at(NOW_SECONDS + 61)),
        ),
        (
            json!({ "iat": NOW_SECONDS + 61 }),
            Error::NotYetValid(at(NOW_SECONDS + 61)),
        ),
        (json!({ "nbf": [] }), Error::Claim("nbf", seconds)),
        (
            json!({ "iat": u64::MAX }),
            Error::NotYetValid(Timestamp::from_millis(i64::MAX)),
        ),
        (json!({ "sub": null }), Error::MissingClaim("sub")),
        (json!({ "sub": 7 }), Error::Claim("sub", "a text")),
        (
            json!({ "sub": "" }),
            Error::Subject(IdError::Empty("user id")),
        ),
        (
            json!({ "sub": "a\u{0}b" }),
            Error::Subject(IdError::Character("user id", '\u{0}')),
        ),
        (
            json!({ "sub": "x".repeat(129) }),
            Error::Subject(IdError::TooLong("user id", 129, 128)),
        ),
        (
            json!({ "rooms": "conversation:*" }),
            Error::Claim("rooms", "a list of texts"),
        ),
        (
            json!({ "rooms": [1] }),
            Error::Claim("rooms", "a list of texts"),
        ),
        (json!({ "rooms": [""] }), Error::Rooms(GlobError::Empty)),
        (
            json!({ "rooms": vec!["*"; 65] }),
            Error::Rooms(GlobError::TooMany(65)),
        ),
        (json!({ "name": ["Ada"] }), Error::Claim("name", "a text")),
        (
            json!({ "name": "Ada\u{1b}[2J" }),
            Error::Claim("name", short),
        ),
        (
            json!({ "jti": "x".repeat(257) }),
            Error::Claim("jti", short),
        ),
    ] {
        assert_eq!(check(&signed(&changes)), Err(expected), "{changes}");
    }
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    for changes in [
        json!({ "exp": NOW_SECONDS - 59 }),
        json!({ "nbf": NOW_SECONDS + 60 }),
        json!({ "iat": NOW_SECONDS + 60 }),
    ] {
        assert!(check(&signed(&changes)).is_ok(), "{changes}");
    }
    let secret = Key::secret(SECRET.as_bytes());
    let strict = Rules {
        leeway: Span::from_secs(0),
        ..rules()
    };
    let keys = Keys {
        secret: Some(&secret),
        public: None,
    };
    let token = signed(&json!({ "exp": NOW_SECONDS, "iat": null }));
    assert!(matches!(
        verify(&token, keys, &strict, now()),
        Err(Error::Expired(_))
    ));
    assert!(
        verify(
            &token,
            keys,
            &strict,
            Timestamp::from_millis(NOW_SECONDS * 1_000 - 1)
        )
        .is_ok()
    );
}

#[test]
fn issuer_and_audience_are_demanded_when_they_are_configured() {
    let secret = Key::secret(SECRET.as_bytes());
    let keys = Keys {
        secret: Some(&secret),
        public: None,
    };
    let rules = Rules {
        issuer: Some("https://id.example".to_owned()),
        audience: Some("chat".to_owned()),
        ..rules()
    };
    let iss = "https://id.example";
    for (changes, expected) in [
        (json!({ "iss": iss, "aud": "chat" }), None),
        (json!({ "iss": iss, "aud": ["mail", "chat"] }), None),
        (json!({ "aud": "chat" }), Some(Error::MissingClaim("iss"))),
        (
            json!({ "iss": "https://id.example/", "aud": "chat" }),
            Some(Error::Issuer),
        ),
        (
            json!({ "iss": [iss], "aud": "chat" }),
            Some(Error::Claim("iss", "a text")),
        ),
        (json!({ "iss": iss }), Some(Error::MissingClaim("aud"))),
        (json!({ "iss": iss, "aud": "mail" }), Some(Error::Audience)),
        (json!({ "iss": iss, "aud": [] }), Some(Error::Audience)),
        (
            json!({ "iss": iss, "aud": 7 }),
            Some(Error::Claim("aud", "a text or a list of texts")),
        ),
    ] {
        let outcome = verify(&signed(&changes), keys, &rules, now());
        assert_eq!(outcome.err(), expected, "{changes}");
    }
}

#[test]
fn an_issued_token_is_accepted() {
    let grant = issue::Grant {
        user: UserId::parse("ada").unwrap(),
        name: Some("Ada".to_owned()),
        rooms: Rooms::parse(&["conversation:*"]).unwrap(),
        token_id: "t-9".to_owned(),
        scope: Some("events:write users:ban".to_owned()),
        is_login: true,
        life: Duration::from_secs(60),
    };
    let identity = check(&issue::issue(SECRET.as_bytes(), &grant, now())).unwrap();
    assert_eq!(identity.user(), &grant.user);
    assert_eq!(identity.name(), Some("Ada"));
    assert_eq!(identity.rooms(), &grant.rooms);
    assert_eq!(identity.token_id(), Some("t-9"));
    assert!(identity.has_scope("users:ban") && identity.has_scope("events:write"));
    for none in ["users", "users:ban events:write", "", " ", "events:write "] {
        assert!(!identity.has_scope(none), "{none:?}");
    }
    assert!(identity.is_login());
    // The leeway is added.
    assert_eq!(identity.expires_at().since(now()), Duration::from_secs(120));
    assert!(!identity.is_expired(now()));
    assert!(identity.is_expired(identity.expires_at()));
}

#[test]
fn refusals_say_what_to_do_and_show_no_token() {
    let token = signed(&json!({ "exp": NOW_SECONDS - 3_600 }));
    let error = check(&token).unwrap_err();
    let problem = Problem::from(&error);
    assert_eq!(problem.code, Code::Unauthenticated);
    assert_eq!(
        problem.message,
        "the token expired at 2026-01-31T11:00:00.000Z; get a new one"
    );
    assert_eq!(
        Problem::from(&Error::KeysUnavailable).code,
        Code::Unavailable
    );
    for token in [token.as_str(), "not-a-token", &format!("{token}x")] {
        let shown = check(token)
            .map_err(|error| format!("{error} {error:?}"))
            .unwrap_err();
        assert!(
            token.split('.').all(|part| !shown.contains(part)),
            "{shown}"
        );
    }
}
