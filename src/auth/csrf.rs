//! Proof that a request which a cookie vouches for was made by our own page.
//!
//! Browsers send cookies also with requests that other websites make. So whoever logs in by cookie is
//! given, in a second cookie that scripts of the page can read, a value derived from the token; a
//! request that changes something repeats it in the header `X-CSRF-Token`. Another website can
//! neither read it nor, without the token, which no script can read, derive it. Nothing is stored,
//! and it ends with its token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The cookie that scripts read it from.
pub const COOKIE: &str = "vestibule_csrf";
/// The header that they repeat it in.
pub const HEADER: &str = "x-csrf-token";

/// The value that belongs to a token.
#[must_use]
pub fn value(token: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"vestibule csrf\0");
    hash.update(token);
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// Whether a request repeats the value of its token.
#[must_use]
pub fn is_value(token: &str, repeated: &str) -> bool {
    value(token).as_bytes().ct_eq(repeated.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_one_token() {
        assert!(is_value("a.b.c", &value("a.b.c")));
        for wrong in [
            "",
            "a.b.c",
            &value("a.b.d"),
            &format!("{}=", value("a.b.c")),
        ] {
            assert!(!is_value("a.b.c", wrong), "{wrong}");
        }
        assert_eq!(value("a.b.c").len(), 43);
    }
}
