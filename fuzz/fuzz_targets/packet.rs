//! Socket.IO packets and their attachments: any text decodes or is refused, and what was decoded can
//! be sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vestibule::protocol::exercise::packet(data));
