//! Attacks. Each test is named after its attack, and shows that it fails. SECURITY.md lists them.

mod bodies;
mod changes;
mod customers_list;
mod database;
mod invisible_ids;
mod platform;

use std::{collections::BTreeSet, fs, path::Path};

use crate::schema::migrations::ROOT;

/// The names of the tests in this text of Rust or Python.
fn tests_in(text: &str) -> BTreeSet<&str> {
    let rust = text.split("\n#[").filter(|item| item.starts_with("test]") || item.starts_with("tokio::test"));
    let rust = rust.map(|item| item.split_once("fn ").unwrap().1);
    let python = text.split("\ndef ").filter(|item| item.starts_with("test_"));
    rust.chain(python).map(|item| item.split_once('(').unwrap().0).collect()
}

#[test]
fn the_security_page_names_each_attack() {
    let root = Path::new(ROOT);
    let page = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut named = BTreeSet::new();
    for link in page.split("[`").skip(1) {
        let (test, file) = link.split_once(')').unwrap().0.split_once("`](").unwrap();
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(tests_in(&text).contains(test), "there is no {test} in {file}");
        named.insert(test);
    }
    let files =
        ["tests/api/attacks", "tests/deploy"].into_iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    for file in files.map(|file| file.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.starts_with("test_attacks") || name.ends_with(".rs") && name != "mod.rs" {
            let text = fs::read_to_string(&file).unwrap();
            let missing: Vec<_> = tests_in(&text).into_iter().filter(|test| !named.contains(test)).collect();
            assert!(missing.is_empty(), "SECURITY.md names no {missing:?} of {name}");
        }
    }
}
