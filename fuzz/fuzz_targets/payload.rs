//! Long-polling bodies: any text splits into packets or is refused, and what is encoded reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vestibule::protocol::exercise::payload(data));
