//! `vestibule check-config`: would a node start with this configuration?

use std::fs::File;
use std::path::Path;

use super::Failure;
use super::flags::NodeFlags;
use crate::app::catalogue;

/// Checks the configuration and the catalogue, and that the files they name can be read. What is in
/// the others is checked by the node at its start.
pub(super) fn run(flags: NodeFlags) -> Result<&'static str, Failure> {
    let config = flags.load()?;
    let named = [
        ("edge.tls.certificate", &config.edge.tls.certificate),
        ("edge.tls.key", &config.edge.tls.key),
        ("auth.secret_file", &config.auth.secret_file),
        ("auth.jwks_file", &config.auth.jwks_file),
    ];
    let complaint = |(key, path): (&str, &Path)| {
        let error = File::open(path).err()?;
        Some(format!(
            "\n  {key} = {:?}: the file cannot be read: {error}",
            path.display()
        ))
    };
    let set = named
        .into_iter()
        .filter_map(|(key, path)| Some((key, path.as_deref()?)));
    let mut complaints: String = set.filter_map(complaint).collect();
    if let Err(error) = catalogue::load(&config.catalogue) {
        complaints.extend(["\n  ", &error.to_string()]);
    }
    if complaints.is_empty() {
        Ok("the configuration is valid\n")
    } else {
        Err(Failure::refused(format!(
            "the configuration names files that are no use:{complaints}"
        )))
    }
}
