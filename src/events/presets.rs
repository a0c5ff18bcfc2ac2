//! Catalogues of known systems: the built-in one with their names of topics and rooms.

use crate::events::layers::Layer;
use crate::events::load::Mistakes;

/// The name of no preset.
pub const NONE: &str = "none";

/// Each preset's name and what it lays on top of the built-in catalogue.
pub const PRESETS: [(&str, &str); 4] = [
    ("devconnect", include_str!("presets/devconnect.toml")),
    ("residents", include_str!("presets/residents.toml")),
    ("community", include_str!("presets/community.toml")),
    ("classroom", include_str!("presets/classroom.toml")),
];

pub(super) fn layer(name: &str) -> Result<Option<Layer<'static>>, Mistakes> {
    if name == NONE {
        return Ok(None);
    }
    match PRESETS.iter().find(|(known, _)| *known == name) {
        Some((name, text)) => Ok(Some(Layer { name, text })),
        None => {
            let known = PRESETS.map(|(name, _)| name).join(", ");
            let mistake = format!("there is no preset {name:?}; known are {NONE}, {known}");
            Err(Mistakes(vec![mistake]))
        }
    }
}
