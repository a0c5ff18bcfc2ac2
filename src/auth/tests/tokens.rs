//! The form of a token and its signature: one table of bad ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;
use crate::auth::keys::KeySet;
use crate::auth::token::{Keys, Rules, verify};

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

/// A token with a header of one's own making, signed with the shared secret.
fn with_header(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Signature::HS256).unwrap();
    format!("{signed}.{signature}")
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
    ] {
        assert_eq!(check(&token), Err(expected), "{:.200}", token);
    }
}

#[test]
fn bad_algorithms_and_signatures_are_refused() {
    let good = signed(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let body = claims(&json!({}));
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for (token, expected) in [
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
    ] {
        assert_eq!(check(&token), Err(expected), "{:.200}", token);
    }
}

#[test]
fn a_token_is_too_long_however_well_signed() {
    let token = signed(&json!({ "x": "y".repeat(9_000) }));
    assert_eq!(check(&token), Err(Error::TooLong(token.len(), 8_192)));
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
