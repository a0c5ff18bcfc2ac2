//! Every kind of mistake, with the exact complaint.

use std::ffi::OsString;
use std::fs;

use super::*;

fn complaints(file: &str, environment: &[(&str, &str)], flags: Flags) -> Vec<String> {
    match load(file, environment, flags) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

fn load(file: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Config, Mistakes> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vestibule.toml");
    fs::write(&path, file).unwrap();
    let environment: Vec<Variable> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
        .collect();
    Config::load(
        &Flags {
            config: Some(path),
            ..flags
        },
        &environment,
    )
}

#[test]
fn nothing_at_all_is_the_default_configuration() {
    assert_eq!(
        Config::load(&Flags::default(), &[]).unwrap(),
        Config::default()
    );
}

#[test]
fn the_example_file_is_the_default_configuration() {
    let committed = include_str!("../../docs/config.example.toml");
    assert_eq!(
        committed,
        example(),
        "run: vestibule default-config > docs/config.example.toml"
    );
    assert_eq!(
        load(&example(), &[], Flags::default()).unwrap(),
        Config::default()
    );
}
