//! When a certificate ends: the one field that is read out of it here.
//!
//! A reader of just so much DER as lies before the validity (RFC 5280, 4.1). The TLS library checks all
//! the rest and keeps this field to itself.

use crate::types::Timestamp;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a DER certificate's validity; `None` when the bytes are no certificate.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (validity, _) = expect(fields, SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, the only forms a certificate may have.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    let (century, length) = match tag {
        // RFC 5280, 4.1.2.5.1: years from 50 belong to the last century.
        UTC_TIME => (if digits < "50" { "20" } else { "19" }, 12),
        GENERALIZED_TIME => ("", 14),
        _ => return None,
    };
    if digits.len() != length || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let full = format!("{century}{digits}");
    let part = |range| full.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(8..10)?, part(10..12)?, part(12..14)?);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        .parse()
        .ok()
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The first element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let size = usize::from(first & 0x7f);
        // Longer lengths than four bytes do not fit any certificate.
        let (bytes, rest) = rest
            .split_at_checked(size)
            .filter(|_| (1..=4).contains(&size))?;
        (
            bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte)),
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(1999, 1, 1);
        params.not_after = date_time_ymd(year, 2, 28);
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for year in [2000, 2031, 2049, 2050, 2999] {
            let expected = format!("{year}-02-28T00:00:00.000Z");
            assert_eq!(not_after(&certificate(year)).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_cut_certificate_has_no_end() {
        let der = certificate(2031);
        for length in 0..100 {
            assert_eq!(not_after(&der[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(not_after(&bytes).is_none_or(|at| at > Timestamp::from_millis(i64::MIN)));
        }

        #[test]
        fn a_bent_certificate_never_panics(at in 0usize..300, byte in any::<u8>()) {
            let mut der = certificate(2031);
            let length = der.len();
            der[at % length] = byte;
            prop_assert!(not_after(&der).is_none_or(|at| at > Timestamp::from_millis(i64::MIN)));
        }
    }
}
