//! Accounts over a store in a file.

use std::net::Ipv4Addr;

use super::*;
use crate::backend::sql::{self, Database};
use crate::cluster::bus::{Delivery, Stream};
use crate::store::Store;
use crate::types::ByteSize;

struct Fixture {
    accounts: Accounts,
    authenticator: Authenticator,
    stream: Stream,
    _folder: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(sql::Options::new(folder.path()))
        .await
        .unwrap();
    let authenticator = Authenticator::open(config::Auth::default(), folder.path()).unwrap();
    let bus = Bus::memory();
    let (_, stream) = bus.attach(64);
    let directory = Directory::new(Store::sqlite(&database), bus.clone());
    let options = Options {
        passwords: config::Passwords {
            memory: ByteSize::new(1 << 20),
            iterations: 1,
            ..config::Passwords::default()
        },
        session_ttl: Duration::from_secs(3_600),
        may_sign_up: true,
        is_secure: false,
    };
    Fixture {
        accounts: Accounts::new(authenticator.clone(), directory, bus, options),
        authenticator,
        stream,
        _folder: folder,
    }
}

impl Fixture {
    async fn sign_up(&self, email: &str, id: Option<&str>) -> Result<Login, Problem> {
        let new = SignUp {
            email: email.to_owned(),
            password: secret("correct horse"),
            name: "Ada".to_owned(),
            id: id.map(|id| UserId::parse(id).unwrap()),
            attributes: None,
        };
        self.accounts.sign_up(new, device(), now()).await
    }

    async fn login(&self, email: &str, password: &str) -> Result<Login, Problem> {
        self.accounts
            .login(email, secret(password), device(), now())
            .await
    }

    fn identity(&self, login: &Login) -> Identity {
        self.authenticator
            .verify_now(login.token.reveal(), now())
            .unwrap()
    }

    /// The words about closing that went out.
    fn closed(&mut self) -> Vec<Control> {
        let mut words = Vec::new();
        while let Some(delivery) = self.stream.try_recv() {
            if let Delivery::Control(word) = delivery
                && !matches!(*word, Control::Forget { .. })
            {
                words.push((*word).clone());
            }
        }
        words
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_769_860_800_000)
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() + seconds * 1_000)
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn device() -> Device {
    Device {
        name: "x".repeat(1_000),
        address: Ipv4Addr::LOCALHOST.into(),
    }
}

#[tokio::test]
async fn a_login_is_good_until_its_session_is_over() {
    let mut fixture = fixture().await;
    let first = fixture.sign_up(" Ada@Example.org", None).await.unwrap();
    let second = fixture
        .login("ada@example.ORG ", "correct horse")
        .await
        .unwrap();
    assert_eq!(first.user.id, second.user.id);
    assert_eq!(first.user.email.as_deref(), Some("ada@example.org"));
    assert_eq!(second.session.device.len(), DEVICE_CHARS_MAX);
    let (one, other) = (fixture.identity(&first), fixture.identity(&second));
    assert!(one.is_login() && one.name() == Some("Ada"));
    let accounts = fixture.accounts.clone();
    accounts.check(&one, now()).await.unwrap();
    let listed = accounts.sessions_of(&first.user.id, now()).await.unwrap();
    assert_eq!(listed.len(), 2);

    let stranger = UserId::parse("eve").unwrap();
    let refused = accounts
        .revoke(&stranger, &first.session.token_id, now())
        .await;
    assert_eq!(refused.unwrap_err().code, Code::NotFound);
    assert_eq!(fixture.closed(), []);
    accounts
        .revoke(&first.user.id, &first.session.token_id, now())
        .await
        .unwrap();
    let token = Arc::from(first.session.token_id.as_str());
    assert_eq!(fixture.closed(), [Control::CloseToken(token)]);
    let refused = accounts.check(&one, now()).await.unwrap_err();
    assert_eq!(refused.code, Code::Unauthenticated);
    accounts.check(&other, now()).await.unwrap();
    accounts.logout(&other, now()).await.unwrap();
    assert!(accounts.check(&other, now()).await.is_err());
    let again = accounts
        .revoke(&first.user.id, &first.session.token_id, now())
        .await;
    assert_eq!(again.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn who_guesses_learns_nothing() {
    let fixture = fixture().await;
    fixture.sign_up("ada@example.org", None).await.unwrap();
    let long = "x".repeat(10_000);
    let mut answers = Vec::new();
    for (email, password) in [
        ("ada@example.org", "incorrect horse"),
        ("bob@example.org", "correct horse"),
        ("no address", "correct horse"),
        ("ada@example.org", ""),
        ("ada@example.org", &long),
    ] {
        answers.push(fixture.login(email, password).await.unwrap_err());
    }
    assert_eq!(answers[0].code, Code::Unauthenticated);
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn an_address_and_an_id_are_one_users() {
    let fixture = fixture().await;
    let ada = fixture
        .sign_up("ada@example.org", Some("ada"))
        .await
        .unwrap();
    assert_eq!(ada.user.id.as_str(), "ada");
    for (email, id, field) in [
        ("ADA@example.org", None, "email"),
        ("other@example.org", Some("ada"), "user"),
    ] {
        let refused = fixture.sign_up(email, id).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.field.as_deref()),
            (Code::Conflict, Some(field))
        );
    }
    assert_eq!(
        fixture
            .sign_up("x@example.org", Some("a b"))
            .await
            .unwrap_err()
            .field
            .as_deref(),
        Some("id")
    );
}

#[tokio::test]
async fn a_banned_user_is_out_until_the_ban_ends() {
    let mut fixture = fixture().await;
    let login = fixture.sign_up("ada@example.org", None).await.unwrap();
    let (identity, user) = (fixture.identity(&login), login.user.id.clone());
    let accounts = fixture.accounts.clone();
    accounts.check(&identity, now()).await.unwrap();
    accounts.ban(&user, Some(later(60)), now()).await.unwrap();
    let word = Control::CloseUser {
        user: user.clone(),
        except: None,
    };
    assert_eq!(fixture.closed(), [word]);
    assert_eq!(
        accounts.check(&identity, now()).await.unwrap_err().code,
        Code::Forbidden
    );
    let refused = fixture
        .login("ada@example.org", "correct horse")
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    let wrong = fixture
        .login("ada@example.org", "incorrect horse")
        .await
        .unwrap_err();
    assert_eq!(
        wrong.code,
        Code::Unauthenticated,
        "a ban is told to its user only"
    );
    accounts.check(&identity, later(60)).await.unwrap();
    accounts.ban(&user, None, now()).await.unwrap();
    assert_eq!(fixture.closed(), []);
    accounts.check(&identity, now()).await.unwrap();
}

#[tokio::test]
async fn a_token_made_elsewhere_is_good_until_it_is_revoked() {
    let fixture = fixture().await;
    let grant = |token_id: &str, is_login| Grant {
        user: UserId::parse("svc").unwrap(),
        name: None,
        rooms: Rooms::default(),
        token_id: token_id.to_owned(),
        scope: None,
        is_login,
        life: Duration::from_secs(60),
    };
    let identity = |grant: &Grant| {
        let token = fixture.authenticator.issue(grant, now()).unwrap();
        fixture
            .authenticator
            .verify_now(token.reveal(), now())
            .unwrap()
    };
    let foreign = identity(&grant("t-1", false));
    fixture.accounts.check(&foreign, now()).await.unwrap();
    fixture.accounts.logout(&foreign, now()).await.unwrap();
    assert!(fixture.accounts.check(&foreign, now()).await.is_err());
    let unknown = identity(&grant("t-2", true));
    assert!(fixture.accounts.check(&unknown, now()).await.is_err());
    // An id that belongs to somebody's login makes no token of another user good.
    let ada = fixture.sign_up("ada@example.org", None).await.unwrap();
    let borrowed = identity(&grant(&ada.session.token_id, false));
    assert!(fixture.accounts.check(&borrowed, now()).await.is_err());
}
