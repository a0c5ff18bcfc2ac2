//! WebSocket frames as a client sees them: the server's are read in place, its own are masked.
//!
//! Reading borrows from the caller's buffer and copies nothing. Extensions are never offered, so a
//! reserved bit is an error, as is a masked frame from the server. Not here: joining fragments and
//! keeping what is incomplete (`inbox`).

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// One complete frame, borrowed from the read buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) is_final: bool,
    pub(super) opcode: Opcode,
    pub(super) payload: &'a [u8],
}

/// The server broke RFC 6455.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame starts with the reserved bits or opcode {0:#04x}")]
    Reserved(u8),
    #[error("the server masked a frame")]
    Masked,
    #[error("a frame is {0} bytes, the limit is {FRAME_MAX}")]
    TooLarge(u64),
    #[error("a control frame is fragmented or longer than 125 bytes")]
    Control,
    #[error("a continuation frame without a beginning, or a beginning inside a message")]
    Fragment,
}

/// Far above what a gateway announces as its largest payload; keeps a broken length from being believed.
const FRAME_MAX: u64 = 16 << 20;

/// Splits the first frame off `input`: the frame and its length on the wire, or `None` if more
/// bytes are needed.
pub(super) fn split(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let &[first, second, ref rest @ ..] = input else {
        return Ok(None);
    };
    let opcode = opcode(first)?;
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let (length, head) = match (second, rest) {
        (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 4),
        (127, &[a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
        (126 | 127, _) => return Ok(None),
        (short, _) => (u64::from(short), 2),
    };
    let is_final = first & 0x80 != 0;
    let is_control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
    if is_control && (!is_final || length > 125) {
        return Err(FrameError::Control);
    }
    if length > FRAME_MAX {
        return Err(FrameError::TooLarge(length));
    }
    let end = head + usize::try_from(length).expect("16 MiB fit in a usize");
    let Some(payload) = input.get(head..end) else {
        return Ok(None);
    };
    Ok(Some((
        Frame {
            is_final,
            opcode,
            payload,
        },
        end,
    )))
}

fn opcode(first: u8) -> Result<Opcode, FrameError> {
    Ok(match first & 0x7f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(FrameError::Reserved(first)),
    })
}

/// Appends one final frame, masked with `mask`, to `out`.
pub(super) fn push(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: u32) {
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    out.push(0x80 | code);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | u8::try_from(short).expect("at most 125")),
        medium @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(medium).expect("at most 65535").to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let key = mask.to_be_bytes();
    out.extend_from_slice(&key);
    out.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            n @ 0..=125 => out.push(n as u8),
            n @ 126..=0xffff => {
                out.push(126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                out.push(127);
                out.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn a_frame_is_whole_or_waited_for_at_every_byte() {
        for length in [0, 1, 125, 126, 127, 300, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let wire = server(0x81, &payload);
            let step = (wire.len() / 700).max(1);
            for cut in (0..wire.len()).step_by(step).chain([wire.len() - 1]) {
                assert_eq!(split(&wire[..cut]), Ok(None), "{length} cut at {cut}");
            }
            let (frame, used) = split(&wire).unwrap().unwrap();
            assert_eq!((frame.payload, used), (&payload[..], wire.len()));
        }
    }

    #[test]
    fn what_the_rfc_forbids_a_server_is_refused() {
        assert_eq!(split(&[0x81, 0x80]), Err(FrameError::Masked));
        assert_eq!(split(&[0xc1, 0x00]), Err(FrameError::Reserved(0xc1)));
        assert_eq!(split(&[0x83, 0x00]), Err(FrameError::Reserved(0x83)));
        assert_eq!(split(&[0x09, 0x00]), Err(FrameError::Control));
        assert_eq!(split(&[0x89, 126, 0, 126]), Err(FrameError::Control));
        let huge = [0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(split(&huge), Err(FrameError::TooLarge(0xff << 56)));
    }

    #[test]
    fn a_pushed_frame_unmasks_to_its_payload() {
        for length in [0, 1, 3, 4, 5, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut wire = Vec::new();
            push(&mut wire, Opcode::Text, &payload, 0xdead_beef);
            let head = wire.len() - payload.len();
            let key = &wire[head - 4..head];
            assert_eq!(key, [0xde, 0xad, 0xbe, 0xef]);
            assert_eq!((wire[0], wire[1] & 0x80), (0x81, 0x80));
            let plain: Vec<u8> = wire[head..]
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ key[i % 4])
                .collect();
            assert_eq!(plain, payload);
            if length > 3 {
                assert_ne!(
                    &wire[head..],
                    payload,
                    "the payload must not go out in the clear"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            while let Ok(Some((_, used))) = split(rest) {
                rest = &rest[used..];
            }
        }
    }
}
