//! What an authenticator is opened with.

use std::time::Duration;

use super::*;
use crate::types::{Secret, UserId};

#[tokio::test]
async fn the_development_secret_accepts_the_tokens_made_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let authenticator = Authenticator::open(config::Auth::default(), folder.path()).unwrap();
    // Made by another process, like the command `token`.
    let development = Development::open(folder.path()).unwrap();
    let user = UserId::parse("ada").unwrap();
    let life = Duration::from_secs(60);
    let token = development
        .issue(&user, &["conversation:*".to_owned()], life, now())
        .unwrap();
    let auth = json!({ "token": token }).to_string();
    let credentials = Credentials {
        auth: Some(&auth),
        ..Credentials::default()
    };
    let identity = authenticator
        .authenticate(&credentials, now())
        .await
        .unwrap();
    assert_eq!(identity.user(), &user);
    assert!(authenticator.is_ready() && authenticator.development().is_some());
    let nobody = authenticator
        .authenticate(&Credentials::default(), now())
        .await;
    assert_eq!(nobody, Err(Error::Missing));
    assert!(
        development
            .issue(&user, &[String::new()], life, now())
            .is_err()
    );
}

#[test]
fn a_secret_comes_from_the_configuration_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let token = Signer::secret(SECRET.as_bytes()).sign(&claims(&json!({})));
    let inline = config::Auth {
        secret: Some(Secret::new(SECRET.to_owned())),
        ..token_config()
    };
    let file = config::Auth {
        secret_file: Some(path.clone()),
        ..token_config()
    };

    assert!(matches!(
        Authenticator::open(file.clone(), folder.path()),
        Err(OpenError::SecretFile(..))
    ));
    fs::write(&path, "short\n").unwrap();
    assert!(matches!(
        Authenticator::open(file.clone(), folder.path()),
        Err(OpenError::ShortSecret(_, 5))
    ));
    fs::write(&path, format!("{SECRET}\n")).unwrap();
    for config in [inline, file] {
        let authenticator = Authenticator::open(config, folder.path()).unwrap();
        assert!(authenticator.verify_now(&token, now()).is_ok());
    }
}

#[test]
fn a_secret_and_public_keys_serve_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let signer = Signer::p256("1");
    fs::write(&path, key_set(&[&signer])).unwrap();
    let config = config::Auth {
        secret: Some(Secret::new(SECRET.to_owned())),
        jwks_file: Some(path),
        ..token_config()
    };
    let authenticator = Authenticator::open(config, folder.path()).unwrap();
    let body = claims(&json!({}));
    let shared = Signer::secret(SECRET.as_bytes());
    assert!(authenticator.verify_now(&signer.sign(&body), now()).is_ok());
    assert!(authenticator.verify_now(&shared.sign(&body), now()).is_ok());
    // Some issuers name shared secrets too; the name means nothing here.
    let named = Signer {
        kid: Some("theirs".to_owned()),
        ..shared
    };
    assert!(authenticator.verify_now(&named.sign(&body), now()).is_ok());
    // But not the name of a public key.
    let confused = Signer {
        kid: Some("1".to_owned()),
        ..named
    };
    assert_eq!(
        authenticator.verify_now(&confused.sign(&body), now()),
        Err(Error::Algorithm)
    );
}
