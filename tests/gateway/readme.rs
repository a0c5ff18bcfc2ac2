//! What the README tells people to type exists.

use std::collections::BTreeSet;

use super::support::program::root;

#[test]
fn every_make_target_that_the_readme_names_exists() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (readme, makefile) = (read("README.md"), read("Makefile"));
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .filter(|target| is_target(target))
        .collect();
    // In code: at the start of a line of a block, or of a span.
    let named: BTreeSet<&str> = readme
        .lines()
        .flat_map(|line| line.split('`'))
        .filter_map(|code| code.strip_prefix("make "))
        .filter_map(|rest| rest.split([' ', '\n']).next())
        .filter(|word| is_target(word))
        .collect();
    assert!(named.contains("run"), "{named:?}");
    let missing: Vec<_> = named.difference(&targets).collect();
    assert!(
        missing.is_empty(),
        "README.md names make {missing:?}, the Makefile has {targets:?}"
    );
}

fn is_target(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}
