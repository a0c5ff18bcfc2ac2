//! `[auth]`: whose tokens are believed.

use std::path::PathBuf;

use crate::config::section::{choice, section};
use crate::types::{ByteSize, Secret, Span};

choice! {
    /// Whose tokens are believed.
    Authentication {
        /// Those signed with a secret that the node makes itself; only on a loopback address.
        Development = "development",
        /// Those signed with the configured secret or keys.
        Token = "token",
    }
}

choice! {
    /// A signature algorithm. Each key is used with one of them only.
    Algorithm {
        /// HMAC with SHA-256 and a shared secret.
        Hs256 = "HS256",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// EdDSA on Ed25519.
        EdDsa = "EdDSA",
    }
}

section! {
    /// Whose tokens are believed. Tokens are JWTs with at least the claims `sub` and `exp`.
    Auth = "auth" {
        /// "development": the node makes its own secret in the data folder, `vestibule token` makes
        /// tokens with it, and anybody with access to that folder can be anybody. Refused when
        /// clients can connect from elsewhere. "token": tokens are signed by somebody else.
        mode: Authentication = Authentication::Development;
        /// Shared secret for HS256, at least 32 bytes. Better kept out of this file: secret_file.
        secret: Option<Secret<String>> = None;
        /// File with the shared secret; white space at its end does not count.
        secret_file: Option<PathBuf> = None;
        /// File with public keys (JWKS). Read again when it changes.
        jwks_file: Option<PathBuf> = None;
        /// URL of public keys (JWKS): https with a certificate of a public CA, or http on a
        /// loopback address. While it does not answer, the keys last read stay in use.
        jwks_url: Option<String> = None;
        /// How often the keys are read again. Long keeps a withdrawn key alive that much longer.
        jwks_refresh: Span = Span::from_secs(300), in Span::from_secs(1) => Span::from_secs(86_400);
        /// The least time between two fetches because of a key that is not known. Bounds what
        /// made-up tokens can cost the server of the keys.
        jwks_cooldown: Span = Span::from_secs(30), in Span::from_secs(1) => Span::from_secs(3_600);
        /// Time for one fetch of the keys.
        jwks_timeout: Span = Span::from_secs(5), in Span::from_millis(100) => Span::from_secs(60);
        /// The algorithms accepted. The key decides which one a token must use; this only narrows.
        algorithms: Vec<Algorithm> = Algorithm::ALL.to_vec();
        /// The claim `iss` that a token must carry. Empty: any or none.
        issuer: Option<String> = None;
        /// What the claim `aud` of a token must contain. Empty: any or none, so that a token made
        /// for another service with the same keys is believed too.
        audience: Option<String> = None;
        /// How far clocks may differ, in judging `exp`, `nbf` and `iat`.
        leeway: Span = Span::from_secs(60), in Span::from_millis(0) => Span::from_secs(300);
        /// Name of the cookie in which a browser may send the token, and which a login sets. Empty:
        /// cookies are neither read nor set. With it, edge.origins is what keeps other websites
        /// from opening sockets as their visitors; requests that change something need the value of
        /// cookie vestibule_csrf in the header X-CSRF-Token.
        cookie: Option<String> = Some("vestibule_token".to_owned());
        /// How long a login lasts. Long is comfortable, short ends what was left open on a borrowed
        /// device.
        session_ttl: Span = Span::from_secs(86_400),
            in Span::from_secs(60) => Span::from_secs(365 * 86_400);
        /// Whether anybody may make an account. Logins need a secret to sign tokens with:
        /// mode "development", secret or secret_file.
        sign_up: bool = true;
    }
    contains { passwords: Passwords }
}

section! {
    /// How passwords are kept: argon2id. The defaults are those that OWASP recommends; what is
    /// stored names its own, so that a change is for new passwords only.
    Passwords = "auth.passwords" {
        /// Memory for one hash. More makes guessing dearer, and each login.
        memory: ByteSize = ByteSize::new(19 << 20), in ByteSize::new(1 << 20) => ByteSize::new(1 << 30);
        /// Passes over the memory.
        iterations: u32 = 2, in 1 => 100;
        /// Hashes made at once; each takes one core for some 20 ms and its memory. Many logins at
        /// once then wait instead of starving everything else.
        concurrent: usize = 2, in 1 => 256;
        /// Logins that may wait for a hash; beyond it they are refused as overloaded.
        waiting_max: usize = 64, in 1 => 100_000;
    }
}
