//! What an account may be made of. Pure.

use super::SignUp;
use super::password::{BYTES_MAX, BYTES_MIN};
use crate::types::{Problem, Secret, UserId};

/// RFC 5321 section 4.5.3.1 allows no longer address, nor a longer part before the `@`.
const EMAIL_BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 100;
const ID_BYTES_MAX: usize = 64;
/// What the rest of a profile may take, as JSON text.
const ATTRIBUTES_BYTES_MAX: usize = 16 << 10;

/// An e-mail address in the one way in which it is stored: trimmed, in lower case. Whether it is
/// anybody's only a message to it can show.
pub(super) fn email(text: &str) -> Result<String, Problem> {
    let email = text.trim().to_lowercase();
    let wrong = |why: &str| Problem::field("email", format!("email {why}"));
    if email.len() > EMAIL_BYTES_MAX {
        return Err(wrong("is longer than 254 bytes"));
    }
    let is_foreign = |c: char| c.is_whitespace() || c.is_control() || "<>()[],;:\\\"".contains(c);
    let parts = email.split_once('@').filter(|(local, domain)| {
        let is_domain = !domain.contains('@')
            && domain.split('.').all(|label| !label.is_empty())
            && !domain.starts_with('-');
        !local.is_empty() && local.len() <= LOCAL_BYTES_MAX && is_domain
    });
    if parts.is_none() || email.contains(is_foreign) {
        return Err(wrong("is not an address like ada@example.com"));
    }
    Ok(email)
}

/// A password that may be set.
pub(super) fn password(password: &Secret<String>) -> Result<(), Problem> {
    let length = password.reveal().len();
    if (BYTES_MIN..=BYTES_MAX).contains(&length) {
        return Ok(());
    }
    let message =
        format!("password is {length} bytes, allowed are {BYTES_MIN} to {BYTES_MAX}");
    Err(Problem::field("password", message))
}

/// A name that others are shown, trimmed.
pub fn name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let message = format!(
            "name must be 1 to {NAME_CHARS_MAX} characters, none of them a control character"
        );
        return Err(Problem::field("name", message));
    }
    Ok(name.to_owned())
}

/// The rest of a profile: a JSON object.
pub fn attributes(json: &str) -> Result<(), Problem> {
    if json.len() > ATTRIBUTES_BYTES_MAX {
        let message = format!("attributes are more than {ATTRIBUTES_BYTES_MAX} bytes");
        return Err(Problem::field("attributes", message));
    }
    if !json.trim_start().starts_with('{') {
        return Err(Problem::field("attributes", "attributes must be an object"));
    }
    Ok(())
}

/// An id that a user is mentioned by and rooms are named by.
pub(super) fn id(id: &UserId) -> Result<(), Problem> {
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.as_str().len() <= ID_BYTES_MAX && id.as_str().chars().all(is_usual) {
        return Ok(());
    }
    let message = "id must be 1 to 64 letters, digits, \"-\", \"_\" and \".\"";
    Err(Problem::field("id", message))
}

/// All of them for a sign-up; the address as it is stored, and the name.
pub(super) fn sign_up(new: &SignUp) -> Result<(String, String), Problem> {
    let email = email(&new.email)?;
    let name = name(&new.name)?;
    password(&new.password)?;
    new.id.as_ref().map_or(Ok(()), id)?;
    let attributes = new.attributes.as_deref();
    attributes.map_or(Ok(()), |json| self::attributes(json.get()))?;
    Ok((email, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stored_in_one_way() {
        assert_eq!(email("  Ada.Lovelace@Example.COM ").unwrap(), "ada.lovelace@example.com");
        for good in ["a@b", "a+b@c.d", "ö@exämple.de", &format!("{}@b", "a".repeat(64))] {
            assert!(email(good).is_ok(), "{good}");
        }
        let long = format!("{}@b", "a".repeat(65));
        let longer = format!("a@{}", "b".repeat(253));
        for bad in [
            "", "@", "a@", "@b", "a", "a@b@c", "a b@c", "a@b..c", "a@.b", "a@b.", "a@-b", "<a@b>",
            "a\n@b", "a@b\0", "a,b@c", &long, &longer,
        ] {
            assert_eq!(email(bad).unwrap_err().field.as_deref(), Some("email"), "{bad:?}");
        }
    }

    #[test]
    fn passwords_are_neither_short_nor_endless() {
        for (length, is_good) in [(0, false), (7, false), (8, true), (128, true), (129, false)] {
            let text = Secret::new("x".repeat(length));
            assert_eq!(password(&text).is_ok(), is_good, "{length}");
        }
    }

    #[test]
    fn names_and_ids_are_ones_that_can_be_shown() {
        assert_eq!(name(" Ada ").unwrap(), "Ada");
        assert!(name("Ada\u{7}").is_err() && name("  ").is_err() && name(&"x".repeat(101)).is_err());
        for (text, is_good) in [("ada-1_b.c", true), ("a:b", false), ("a b", false), ("ä", false)] {
            assert_eq!(id(&UserId::parse(text).unwrap()).is_ok(), is_good, "{text}");
        }
    }
}
