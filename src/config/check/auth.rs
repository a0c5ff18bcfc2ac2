//! Rules of `[auth]`: a token must be checked against something, and only as strictly as it says.

use std::net::{IpAddr, SocketAddr};

use super::Rules;
use crate::config::{Algorithm, Auth, Authentication, Config, SECRET_BYTES_MIN};

/// Notes every rule of `[auth]` that the configuration breaks.
pub(super) fn check(config: &Config, rules: &mut Rules<'_>) {
    keys(&config.auth, rules);
    mode(&config.auth, rules);
    development(config, rules);
}

/// Each key for itself, and the pairs that exclude each other.
fn keys(auth: &Auth, rules: &mut Rules<'_>) {
    if auth.secret.is_some() && auth.secret_file.is_some() {
        let text = "must not be set together with auth.secret".to_owned();
        rules.broken(
            "auth.secret_file",
            &auth.secret_file,
            &["auth.secret"],
            text,
        );
    }
    if auth.jwks_file.is_some() && auth.jwks_url.is_some() {
        let text = "must not be set together with auth.jwks_file".to_owned();
        rules.broken("auth.jwks_url", &auth.jwks_url, &["auth.jwks_file"], text);
    }
    if auth
        .secret
        .as_ref()
        .is_some_and(|secret| secret.reveal().len() < SECRET_BYTES_MIN)
    {
        let text = format!("must be at least {SECRET_BYTES_MIN} bytes");
        rules.broken("auth.secret", &auth.secret, &[], text);
    }
    if auth
        .jwks_url
        .as_deref()
        .is_some_and(|url| !is_safe_url(url))
    {
        let text = "must be an https URL, or http on a loopback address".to_owned();
        rules.broken("auth.jwks_url", &auth.jwks_url, &[], text);
    }
    if auth
        .cookie
        .as_deref()
        .is_some_and(|name| !is_cookie_name(name))
    {
        let text = "must be a cookie name: letters, digits, \"-\", \"_\" and \".\"".to_owned();
        rules.broken("auth.cookie", &auth.cookie, &[], text);
    }
}

/// The mode has what it needs to check a token, and nothing that it would not use.
fn mode(auth: &Auth, rules: &mut Rules<'_>) {
    let has_secret = auth.secret.is_some() || auth.secret_file.is_some();
    let has_keys = auth.jwks_file.is_some() || auth.jwks_url.is_some();
    let sources = [
        "auth.secret",
        "auth.secret_file",
        "auth.jwks_file",
        "auth.jwks_url",
    ];
    let accepts_hmac = auth.algorithms.contains(&Algorithm::Hs256);
    let accepts_keys = auth
        .algorithms
        .iter()
        .any(|algorithm| *algorithm != Algorithm::Hs256);
    match auth.mode {
        Authentication::Token if !has_secret && !has_keys => {
            let text = "needs one of auth.secret, auth.secret_file, auth.jwks_file, auth.jwks_url";
            rules.broken("auth.mode", &auth.mode, &sources, text.to_owned());
        }
        Authentication::Token if has_secret && !accepts_hmac => {
            let text = "must contain \"HS256\", because a secret is set".to_owned();
            rules.broken("auth.algorithms", &auth.algorithms, &sources, text);
        }
        Authentication::Token if has_keys && !accepts_keys => {
            let text =
                "must contain \"RS256\", \"ES256\" or \"EdDSA\", because keys (JWKS) are set";
            rules.broken(
                "auth.algorithms",
                &auth.algorithms,
                &sources,
                text.to_owned(),
            );
        }
        Authentication::Development if has_secret || has_keys => {
            let text = "must be \"token\", because a secret or keys are set; \"development\" does \
                        not use them";
            rules.broken("auth.mode", &auth.mode, &sources, text.to_owned());
        }
        Authentication::Development if !accepts_hmac => {
            let text = "must contain \"HS256\", which auth.mode \"development\" uses".to_owned();
            rules.broken("auth.algorithms", &auth.algorithms, &["auth.mode"], text);
        }
        _ => {}
    }
}

/// Development tokens can be made by anybody on the machine, so nobody else may get in.
fn development(config: &Config, rules: &mut Rules<'_>) {
    let is_development = config.auth.mode == Authentication::Development;
    if is_development && !is_loopback(config.edge.listen) {
        let text = "must be a loopback address while auth.mode is \"development\"; set auth.mode \
                    = \"token\" to let others connect";
        rules.broken(
            "edge.listen",
            &config.edge.listen,
            &["auth.mode"],
            text.to_owned(),
        );
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Keys that came over a line anybody can write to are nobody's keys.
fn is_safe_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return false;
    };
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let is_local = host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_local,
        _ => false,
    }
}

fn is_cookie_name(name: &str) -> bool {
    name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
