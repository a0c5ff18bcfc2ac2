//! A packet whose binary messages have not all come yet.

use bytes::Bytes;
use serde_json::Value;

use super::decode::Decoded;
use crate::protocol::Violation;

/// A packet's text and all of its attachments.
pub type Whole = (Box<str>, Vec<Bytes>);

/// Collects the attachments of one packet.
#[derive(Debug)]
pub struct Assembler {
    text: Box<str>,
    expected: usize,
    bytes_left: usize,
    data: Vec<Bytes>,
}

impl Assembler {
    /// Starts with the packet's text; `limits` are attachments and bytes of all of them.
    ///
    /// # Errors
    /// More attachments than allowed, or a placeholder that names none of them.
    pub fn new(
        text: &str,
        packet: &Decoded<'_>,
        (count_max, bytes_max): (usize, usize),
    ) -> Result<Self, Violation> {
        let expected = packet.attachments();
        if expected > count_max {
            return Err(Violation("too many attachments"));
        }
        let args = match packet {
            Decoded::Event { args, .. } | Decoded::Ack { args, .. } => args,
            _ => "",
        };
        // Only packets with attachments pay for being parsed into values.
        let values: Vec<Value> = serde_json::from_str(&format!("[{args}]"))
            .map_err(|_| Violation("JSON nested too deeply"))?;
        if !values
            .iter()
            .all(|value| placeholders_exist(value, expected))
        {
            return Err(Violation("illegal attachments"));
        }
        Ok(Self {
            text: text.into(),
            expected,
            bytes_left: bytes_max,
            data: Vec::new(),
        })
    }

    /// Adds one; gives everything back with the last.
    ///
    /// # Errors
    /// More bytes than allowed.
    pub fn add(&mut self, data: Bytes) -> Result<Option<Whole>, Violation> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(data.len())
            .ok_or(Violation("attachments too large"))?;
        self.data.push(data);
        let is_complete = self.data.len() == self.expected;
        Ok(is_complete.then(|| {
            (
                std::mem::take(&mut self.text),
                std::mem::take(&mut self.data),
            )
        }))
    }
}

fn placeholders_exist(value: &Value, count: usize) -> bool {
    match value {
        Value::Array(values) => values.iter().all(|value| placeholders_exist(value, count)),
        Value::Object(map) if map.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = map.get("num").and_then(Value::as_u64);
            number
                .and_then(|n| usize::try_from(n).ok())
                .is_some_and(|n| n < count)
        }
        Value::Object(map) => map.values().all(|value| placeholders_exist(value, count)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::socketio::decode;

    fn assembler(text: &str) -> Result<Assembler, Violation> {
        Assembler::new(text, &decode::packet(text).unwrap(), (10, 100))
    }

    #[test]
    fn the_last_attachment_completes_the_packet() {
        let text =
            r#"52-["a",{"_placeholder":true,"num":1},{"x":[{"_placeholder":true,"num":0}]}]"#;
        let mut assembler = assembler(text).unwrap();
        assert_eq!(assembler.add(Bytes::from_static(b"x")), Ok(None));
        let (whole, data) = assembler.add(Bytes::from_static(b"y")).unwrap().unwrap();
        assert_eq!((&*whole, data.len()), (text, 2));
    }

    #[test]
    fn numbers_that_name_no_attachment_are_refused() {
        for bad in [
            r#"51-["a",{"_placeholder":true,"num":1}]"#,
            r#"51-["a",{"_placeholder":true,"num":-1}]"#,
            r#"51-["a",{"_placeholder":true,"num":0.5}]"#,
            r#"51-["a",{"_placeholder":true,"num":"0"}]"#,
            r#"51-["a",{"_placeholder":true}]"#,
            r#"511-["a"]"#,
        ] {
            assert!(assembler(bad).is_err(), "{bad}");
        }
        let twice = r#"51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#;
        assert!(assembler(twice).is_ok(), "the same one twice is allowed");
        let deep = format!("51-[\"a\",{}{}]", "[".repeat(500), "]".repeat(500));
        assert!(assembler(&deep).is_err());
    }

    #[test]
    fn bytes_of_all_attachments_are_bounded_together() {
        let mut assembler = assembler(r#"53-["a"]"#).unwrap();
        assert_eq!(assembler.add(Bytes::from(vec![0; 60])), Ok(None));
        assert_eq!(
            assembler.add(Bytes::from(vec![0; 60])),
            Err(Violation("attachments too large"))
        );
    }
}
