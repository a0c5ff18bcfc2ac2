//! The session's state machine: whatever arrives in whatever order, its end is final.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    vestibule::protocol::exercise::session(data, std::time::Instant::now());
});
