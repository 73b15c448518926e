//! The functions and their routes, as functions.yml has them.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    events: Vec<Event>,
}

/// A schedule has no `http`.
#[derive(Deserialize)]
struct Event {
    http: Option<Http>,
}

#[derive(Deserialize)]
struct Http {
    method: String,
    path: String,
    #[serde(default)]
    cors: bool,
}

pub struct Route {
    pub function: &'static str,
    /// In capital letters.
    pub method: String,
    /// With its parameters in braces.
    pub path: &'static str,
    /// A page calls it; else an operator does.
    pub has_cors: bool,
}

static FUNCTIONS: LazyLock<BTreeMap<String, Function>> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("../../../functions.yml")).expect("functions"));

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let routes = FUNCTIONS.iter().flat_map(|(name, function)| {
        function.events.iter().filter_map(|event| event.http.as_ref()).map(|http| Route {
            function: name,
            method: http.method.to_uppercase(),
            path: &http.path,
            has_cors: http.cors,
        })
    });
    routes.collect()
});

/// The name of each function, which is its package's and its binary's too.
pub fn functions() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.keys().map(String::as_str)
}

pub fn routes() -> &'static [Route] {
    &ROUTES
}
