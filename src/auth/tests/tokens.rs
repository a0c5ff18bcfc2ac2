//! One table of bad tokens; what good ones become.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::super::keys::KeySet;
use super::super::token::{Keys, Rules, verify};
use super::*;
use crate::types::{Code, IdError, Problem, Span, UserId};

fn rules() -> Rules {
    let config = token_config();
    Rules {
        algorithms: config.algorithms,
        issuer: None,
        audience: None,
        leeway: config.leeway,
    }
}

fn check(token: &str) -> Result<Identity, Error> {
    let secret = Key::secret(SECRET.as_bytes());
    verify(
        token,
        Keys {
            secret: Some(&secret),
            public: None,
        },
        &rules(),
        now(),
    )
}

fn check_public(token: &str, signers: &[&Signer]) -> Result<Identity, Error> {
    let set = KeySet::parse(&key_set(signers)).unwrap();
    verify(
        token,
        Keys {
            secret: None,
            public: Some(&set),
        },
        &rules(),
        now(),
    )
}

fn signed(changes: &Value) -> String {
    Signer::secret(SECRET.as_bytes()).sign(&claims(changes))
}

/// A token with a header of one's own making, signed with the shared secret.
fn with_header(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Signature::HS256).unwrap();
    format!("{signed}.{signature}")
}

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
        "2026-01-31T12:00:00.500Z"
    );
    assert!(identity.rooms().matches("course:bio-101"));
    assert!(!identity.rooms().matches("course:chem-101"));

    let plain = check(&signed(&json!({ "name": null, "rooms": null, "jti": "" }))).unwrap();
    assert_eq!((plain.name(), plain.token_id()), (None, None));
    assert!(!plain.rooms().matches("conversation:1"));
}

#[test]
fn every_algorithm_is_verified() {
    for signer in [Signer::rsa("r"), Signer::p256("e"), Signer::ed25519("d")] {
        let token = signer.sign(&claims(&json!({})));
        let other = Signer::p256("another");
        assert!(
            check_public(&token, &[&other, &signer]).is_ok(),
            "{:?}",
            signer.algorithm
        );
        let unnamed = signer.without_kid();
        let token = unnamed.sign(&claims(&json!({})));
        assert!(
            check_public(&token, &[&unnamed]).is_ok(),
            "{:?} unnamed",
            unnamed.algorithm
        );
    }
}

#[test]
fn bad_texts_are_refused() {
    let good = signed(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let three = Error::Malformed("it does not have three parts");
    let header = Error::Malformed("its header is not base64url of a JSON object");
    let algorithm = Error::Malformed("its header names no algorithm (alg)");
    let kid = Error::Malformed("its header's key id (kid) is not a text");
    let body = claims(&json!({}));
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for (token, expected) in [
        (String::new(), three.clone()),
        ("not a token".to_owned(), three.clone()),
        (format!("{}.{}", parts[0], parts[1]), three.clone()),
        (format!("{good}.x"), three),
        ("..".to_owned(), header.clone()),
        ("ä.ö.ü".to_owned(), header.clone()),
        (format!(" {good}"), header.clone()),
        (
            format!("{}.{}.{}", URL_SAFE_NO_PAD.encode("[]"), parts[1], parts[2]),
            header,
        ),
        (with_header(&json!({}), &body), algorithm.clone()),
        (with_header(&json!({ "alg": 1 }), &body), algorithm),
        (
            with_header(&json!({ "alg": "HS256", "kid": 7 }), &body),
            kid,
        ),
        (
            with_header(&json!({ "alg": "HS256", "crit": ["exp"] }), &body),
            Error::Extension,
        ),
        // Algorithms.
        (
            with_header(&json!({ "alg": "none" }), &body),
            Error::Algorithm,
        ),
        (
            with_header(&json!({ "alg": "None" }), &body),
            Error::Algorithm,
        ),
        (
            with_header(&json!({ "alg": "hs256" }), &body),
            Error::Algorithm,
        ),
        (
            with_header(&json!({ "alg": "HS512" }), &body),
            Error::Algorithm,
        ),
        (
            with_header(&json!({ "alg": "RS256" }), &body),
            Error::Algorithm,
        ),
        (format!("{none}.{}.", parts[1]), Error::Algorithm),
        // Signatures.
        (format!("{}.{}.", parts[0], parts[1]), Error::Signature),
        (format!("{}.{}.AAAA", parts[0], parts[1]), Error::Signature),
        (format!("{good}A"), Error::Signature),
        (format!("{good}="), Error::Signature),
        (
            format!("{}.{}x.{}", parts[0], parts[1], parts[2]),
            Error::Signature,
        ),
        (
            Signer::secret(b"another secret, long enough too!").sign(&body),
            Error::Signature,
        ),
        // Signed, but no claims.
        (
            with_header(&json!({ "alg": "HS256" }), &json!(["ada"])),
            Error::Malformed("its claims are not base64url of a JSON object"),
        ),
        ("x".repeat(8_193), Error::TooLong(8_193, 8_192)),
        (
            signed(&json!({ "x": "y".repeat(9_000) })),
            Error::TooLong(12_138, 8_192),
        ),
    ] {
        assert_eq!(check(&token), Err(expected), "{token}");
    }
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
    let token = signed(&json!({ "exp": NOW_SECONDS }));
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
fn a_public_key_is_never_a_shared_secret() {
    let rsa = Signer::rsa("r");
    let body = claims(&json!({}));
    let set = KeySet::parse(&key_set(&[&rsa])).unwrap();
    let der = pem_body(RSA_PUBLIC);
    let modulus = rsa.entry()["n"].as_str().unwrap().to_owned();
    let secret = Key::secret(SECRET.as_bytes());
    for forged_with in [RSA_PUBLIC, &der, modulus.as_bytes()] {
        for kid in [Some("r".to_owned()), None] {
            let forger = Signer {
                kid,
                ..Signer::secret(forged_with)
            };
            let token = forger.sign(&body);
            for secret in [None, Some(&secret)] {
                let outcome = verify(
                    &token,
                    Keys {
                        secret,
                        public: Some(&set),
                    },
                    &rules(),
                    now(),
                );
                assert!(outcome.is_err(), "{:?} {}", forger.kid, secret.is_some());
            }
        }
    }
    // A key that exists but has another algorithm is the token's fault.
    let token = Signer {
        kid: Some("r".to_owned()),
        ..Signer::secret(RSA_PUBLIC)
    }
    .sign(&body);
    assert_eq!(check_public(&token, &[&rsa]), Err(Error::Algorithm));
}

fn pem_body(pem: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap()
}

#[test]
fn the_key_must_be_the_one_that_is_named() {
    let (first, second) = (Signer::p256("1"), Signer::p256("2"));
    let body = claims(&json!({}));
    let unknown = Signer {
        kid: Some("3".to_owned()),
        ..Signer::p256("3")
    };
    let swapped = Signer {
        kid: Some("2".to_owned()),
        key: first.key.clone(),
        ..Signer::p256("")
    };
    let nameless = Signer {
        kid: None,
        key: first.key.clone(),
        ..Signer::p256("")
    };
    let both = [&first, &second];
    let named = |kid: &str| Err(Error::UnknownKey(Some(kid.to_owned())));
    assert_eq!(check_public(&unknown.sign(&body), &both), named("3"));
    assert_eq!(
        check_public(&swapped.sign(&body), &both),
        Err(Error::Signature)
    );
    assert_eq!(
        check_public(&nameless.sign(&body), &both),
        Err(Error::AmbiguousKey)
    );
    let long = Signer {
        kid: Some("x".repeat(500)),
        ..Signer::p256("")
    };
    assert_eq!(
        check_public(&long.sign(&body), &both),
        named(&"x".repeat(64))
    );
    let rsa = Signer::rsa("r").without_kid().sign(&body);
    assert_eq!(check_public(&rsa, &both), Err(Error::UnknownKey(None)));
}

#[test]
fn algorithms_can_be_narrowed() {
    let signer = Signer::p256("1");
    let set = KeySet::parse(&key_set(&[&signer])).unwrap();
    let rules = Rules {
        algorithms: vec![config::Algorithm::Rs256],
        ..rules()
    };
    let keys = Keys {
        secret: None,
        public: Some(&set),
    };
    let token = signer.sign(&claims(&json!({})));
    assert_eq!(verify(&token, keys, &rules, now()), Err(Error::Algorithm));
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

#[test]
fn an_issued_token_is_accepted() {
    let grant = issue::Grant {
        user: UserId::parse("ada").unwrap(),
        name: Some("Ada".to_owned()),
        rooms: Rooms::parse(&["conversation:*"]).unwrap(),
        token_id: "t-9".to_owned(),
        ttl: Span::from_secs(60),
    };
    let identity = check(&issue::issue(SECRET.as_bytes(), &grant, now())).unwrap();
    assert_eq!(identity.user(), &grant.user);
    assert_eq!(identity.name(), Some("Ada"));
    assert_eq!(identity.rooms(), &grant.rooms);
    assert_eq!(identity.token_id(), Some("t-9"));
    assert_eq!(identity.expires_at().since(now()), grant.ttl.get());
}

proptest! {
    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        prop_assert!(check(&text).is_err());
    }

    #[test]
    fn any_header_and_claims_are_answered(header in ".{0,60}", claims in ".{0,60}") {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.AAAA", part(&header), part(&claims));
        prop_assert!(check(&token).is_err());
    }

    #[test]
    fn one_changed_character_is_noticed(at in 0_usize..500, to in "[A-Za-z0-9_-]") {
        let token = signed(&json!({}));
        let at = at % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != token);
        prop_assert!(check(&changed).is_err());
    }
}
