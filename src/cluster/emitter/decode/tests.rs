//! Messages as the reference emitter writes them, and as nobody should.

use super::*;

fn pack(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::Map(
        pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

fn texts(texts: &[&str]) -> Value {
    Value::Array(texts.iter().map(|text| Value::from(*text)).collect())
}

/// A whole message; `data` begins with the event's name.
fn message(data: Vec<Value>, options: Value) -> Vec<u8> {
    let packet = map(vec![
        ("type", 2.into()),
        ("data", Value::Array(data)),
        ("nsp", "/".into()),
    ]);
    pack(&Value::Array(vec!["emitter".into(), packet, options]))
}

fn everybody() -> Value {
    let none = || texts(&[]);
    map(vec![
        ("rooms", none()),
        ("flags", map(Vec::new())),
        ("except", none()),
    ])
}

fn json_of(arg: Value) -> Result<String, Nothing> {
    match event(&message(vec!["e".into(), arg], everybody()))? {
        Command::Event { json, .. } => Ok(json),
        other => panic!("{other:?}"),
    }
}

/// `io.to("a").except("b").volatile.emit("e", {n: 1.5, t: "x"}, Buffer.from([1, 2]), null)`, written by
/// version 5.1.0 of the emitter.
const WRITTEN: &[u8] = b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x94\xa1e\x82\xa1n\xcb\x3f\xf8\0\0\0\0\0\0\
\xa1t\xa1x\xc4\x02\x01\x02\xc0\xa3nsp\xa1/\x83\xa5rooms\x91\xa1a\xa5flags\x81\xa8volatile\xc3\xa6except\x91\xa1b";

#[test]
fn an_event_is_read_as_it_was_written() {
    let command = event(WRITTEN).unwrap();
    let expected = Command::Event {
        to: Targets {
            rooms: vec!["a".to_owned()],
            except: vec!["b".to_owned()],
        },
        event: "e".to_owned(),
        json: r#"{"n":1.5,"t":"x"},{"_placeholder":true,"num":0},null"#.to_owned(),
        attachments: vec![Bytes::from_static(&[1, 2])],
        is_volatile: true,
    };
    assert_eq!(command, expected);
}

#[test]
fn values_become_the_json_that_node_would_make() {
    let nested = map(vec![
        ("a\"\n", Value::Array(vec![true.into(), Value::Nil])),
        ("", map(Vec::new())),
    ]);
    let seconds = |seconds: u32| Value::Ext(-1, seconds.to_be_bytes().to_vec());
    let with_millis = (123_000_000_u64 << 34) | 1_000;
    for (value, json) in [
        (nested, r#"{"a\"\n":[true,null],"":{}}"#),
        ((-7).into(), "-7"),
        (u64::MAX.into(), "18446744073709551615"),
        (0.1.into(), "0.1"),
        (f64::NAN.into(), "null"),
        (f64::INFINITY.into(), "null"),
        ("ü\u{2028}😀".into(), "\"ü\u{2028}😀\""),
        (seconds(0), r#""1970-01-01T00:00:00.000Z""#),
        (
            Value::Ext(-1, with_millis.to_be_bytes().to_vec()),
            r#""1970-01-01T00:16:40.123Z""#,
        ),
        (
            Value::Ext(-1, [[0; 4].as_slice(), &(-1_i64).to_be_bytes()].concat()),
            r#""1969-12-31T23:59:59.000Z""#,
        ),
        (Value::Ext(0, vec![0]), "null"),
    ] {
        assert_eq!(json_of(value).as_deref(), Ok(json));
    }
    // A text that is none: JavaScript's may hold halves of characters.
    let broken = b"\x93\xa1u\x83\xa4type\x02\xa4data\x92\xa1e\xa2\xff\xfe\xa3nsp\xa1/\x80";
    assert!(
        matches!(event(broken), Ok(Command::Event { json, .. }) if json == "\"\u{fffd}\u{fffd}\"")
    );
}

#[test]
fn what_is_no_event_is_named() {
    let deep = (0..200).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
    for (bytes, why) in [
        (Vec::new(), Nothing::Unreadable),
        (b"{\"json\":true}".to_vec(), Nothing::Unreadable),
        (WRITTEN[..WRITTEN.len() - 1].to_vec(), Nothing::Unreadable),
        // Announces four thousand million items and brings none.
        (vec![0xdd, 0xff, 0xff, 0xff, 0xff], Nothing::Unreadable),
        (pack(&texts(&["u", "p"])), Nothing::Unreadable),
        (pack(&texts(&["u", "p", "o"])), Nothing::Part("type")),
        (message(Vec::new(), everybody()), Nothing::Part("data")),
        (message(vec![1.into()], everybody()), Nothing::Part("event")),
        (
            message(vec!["connect".into()], everybody()),
            Nothing::Part("event"),
        ),
        (
            message(vec!["e".into()], Value::Nil),
            Nothing::Part("options"),
        ),
        (
            message(vec!["e".into()], map(vec![("rooms", "a".into())])),
            Nothing::Part("rooms"),
        ),
        (
            message(
                vec!["e".into()],
                map(vec![("except", Value::Array(vec![1.into()]))]),
            ),
            Nothing::Part("except"),
        ),
        (message(vec!["e".into(), deep], everybody()), Nothing::Deep),
    ] {
        assert_eq!(event(&bytes), Err(why), "{bytes:?}");
    }
    assert_eq!(
        json_of(Value::Ext(5, vec![1])),
        Err(Nothing::Part("extension"))
    );
    assert_eq!(
        json_of(Value::Map(vec![(1.into(), 1.into())])),
        Err(Nothing::Part("key"))
    );
    let packet = |kind: i64, nsp: &str| {
        let packet = map(vec![("type", kind.into()), ("nsp", nsp.into())]);
        pack(&Value::Array(vec!["u".into(), packet, everybody()]))
    };
    assert_eq!(event(&packet(3, "/")), Err(Nothing::Ignored), "an ack");
    assert_eq!(event(&packet(2, "/admin")), Err(Nothing::Ignored));
}

#[test]
fn requests_are_read_and_those_of_servers_left_alone() {
    let who = |rooms: &[&str]| Targets {
        rooms: rooms.iter().map(|&room| room.to_owned()).collect(),
        except: Vec::new(),
    };
    let rooms = vec!["r".to_owned()];
    for (text, expected) in [
        (
            r#"{"type":2,"opts":{"rooms":["a"],"except":[]},"rooms":["r"]}"#,
            Ok(Command::Join {
                who: who(&["a"]),
                rooms: rooms.clone(),
            }),
        ),
        (
            r#"{"uid":"x","type":3,"sid":"s","room":"r"}"#,
            Ok(Command::Leave {
                who: who(&["s"]),
                rooms,
            }),
        ),
        (
            r#"{"type":4,"opts":{"rooms":[],"except":[]},"close":true}"#,
            Ok(Command::Disconnect {
                who: who(&[]),
                close: true,
            }),
        ),
        (
            r#"{"uid":"emitter","type":6,"data":["hello"]}"#,
            Err(Nothing::Ignored),
        ),
        (r#"{"type":0,"rooms":5}"#, Err(Nothing::Ignored)),
        (r#"{"type":2,"rooms":["r"]}"#, Err(Nothing::Part("options"))),
        (
            r#"{"type":4,"opts":{"rooms":"a"}}"#,
            Err(Nothing::Part("options")),
        ),
        (r#"{"type":"2"}"#, Err(Nothing::Unreadable)),
        ("", Err(Nothing::Unreadable)),
    ] {
        assert_eq!(request(text.as_bytes()), expected, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes: Vec<u8>, at in 0..WRITTEN.len(), byte: u8) {
        drop((event(&bytes), request(&bytes)));
        let mut changed = WRITTEN.to_vec();
        changed[at] = byte;
        if let Ok(Command::Event { json, .. }) = event(&changed) {
            let array = format!("[{json}]");
            proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&array).is_ok());
        }
    }
}
