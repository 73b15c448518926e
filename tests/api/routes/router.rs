//! Cargo.toml names the functions and routes of functions.yml again: for `cargo build`, and for `cargo lambda watch`.

use std::{collections::BTreeSet, env, process::Command};

use harness::routes::{functions, routes};
use serde_json::{Map, Value, json};

fn workspace() -> Value {
    let arguments = ["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_router_of_cargo_lambda_watch_has_the_routes_of_functions_yml() {
    let mut expected = Map::new();
    for route in routes() {
        for slash in ["", "/"] {
            let functions = expected.entry(format!("{}{slash}", route.path)).or_insert_with(|| json!([]));
            functions.as_array_mut().unwrap().push(json!({ "method": route.method, "function": route.function }));
        }
    }
    assert_eq!(workspace()["metadata"]["lambda"]["watch"]["router"], Value::Object(expected));
}

#[test]
fn the_default_members_are_what_make_run_runs() {
    let workspace = workspace();
    let is_default =
        |package: &&Value| workspace["workspace_default_members"].as_array().unwrap().contains(&package["id"]);
    let packages = workspace["packages"].as_array().unwrap();
    let members: BTreeSet<_> =
        packages.iter().filter(is_default).map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(members, functions().chain(["bill-run", "ecommerce-stub"]).collect());
}
