//! `[presence]`: who is online, and who is told.

use crate::config::section::{choice, section};
use crate::types::Span;

choice! {
    /// Who is told that a user came or went.
    Audience {
        /// Those who asked for it and may see the user.
        Visible = "visible",
        /// Everybody.
        All = "all",
    }
}

section! {
    /// Who is online, and who is told.
    Presence = "presence" {
        /// How long a user stays online after the last link was lost; who leaves on purpose is
        /// offline at once. Short makes phones in tunnels flicker, long shows people who are gone.
        grace: Span = Span::from_secs(15), in Span::from_millis(0) => Span::from_secs(3_600);
        /// "visible": those who subscribed and may see the user: accepted connections, and who shares
        /// a conversation or course. "all": everybody is told of everybody, and may ask.
        broadcast: Audience = Audience::Visible;
    }
}
