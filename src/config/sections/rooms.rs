//! `[rooms]`: what one socket may hold and how much may wait for it.

use crate::config::section::section;
use crate::types::ByteSize;

section! {
    /// What one socket may hold and how much may wait for it.
    Rooms = "rooms" {
        /// Frames that may wait for one socket. Full: volatile frames are dropped, anything else
        /// closes the socket as a slow consumer. Small closes phones in tunnels, large lets a slow
        /// reader hold memory.
        outbox_frames: usize = 1_024, in 16 => 1_000_000;
        /// Bytes that may wait for one socket; the same holds. Not less than transport.max_payload.
        outbox_bytes: ByteSize = ByteSize::new(1 << 20),
            in ByteSize::new(64 << 10) => ByteSize::new(1 << 30);
        /// Rooms that one socket may be in, its own user room included.
        rooms_per_socket_max: usize = 128, in 1 => 10_000;
        /// Whether users may put themselves into courses (`POST /api/courses/{id}/members`). Off:
        /// somebody with the scope "members:write" does, or tokens name their courses.
        self_enrolment: bool = false;
        /// Events of one socket that are worked on at once; then the socket is not read until one
        /// is done. Small slows a fast sender, large lets one sender crowd out others.
        handlers_in_flight: usize = 64, in 1 => 10_000;
        /// Publications that may wait for one worker. Full: durable ones hold the pump back,
        /// ephemeral ones are dropped and counted.
        bus_queue: usize = 65_536, in 16 => 16_777_216;
    }
}
