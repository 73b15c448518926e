//! The addresses and the names that a database may have.

use std::{collections::HashMap, net::TcpListener, path::Path};

use harness::{Call, Environment, postgres::Shell};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::schema::migrations::{ROOT, Scope};

#[tokio::test]
async fn a_server_may_have_an_ipv6_address_and_names_with_any_character() {
    let shell = Shell::new();
    let port = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap().port();
    shell.initialize("data", &format!("listen_addresses = '::1'\nport = {port}"));
    shell.start("data");
    let (user, name) = ("the owner@/?#[]:%41é", "beer club/?#[]@:%41é");
    let at = format!("--host=::1 --port={port} --username=club");
    shell.run(&format!("createuser {at} '{user}'; createdb {at} --owner='{user}' '{name}'"));

    // One file for Alembic and the functions.
    let config = json!({ "database": {
        "db_user": user, "db_password": "p@ss:/?#[]%41é", "db_host": "::1", "db_port": port, "db_name": name, "sslmode": "prefer"
    } });
    let scope = Scope::with(Path::new(ROOT), Some(&config));
    scope.alembic(&["upgrade", "head"]).unwrap();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let url = |host: &str| format!("postgresql://{}:p@{host}:{port}/{}", encoded(user), encoded(name));
    for (name, value) in [
        ("SCOPE", scope.file().to_str().unwrap().trim_end_matches("_config.json").to_owned()),
        ("DATABASE_URL", url("[::1]")),
        ("DATABASE_URL", url("%3A%3A1")),
    ] {
        let settings = HashMap::from([(name.to_owned(), value.clone())]);
        let environment = Environment::start("eligible", &settings).await;
        let answer = environment.call(&Call::get("/subscription/eligible")).await;
        assert_eq!((answer.status, answer.body), (200, json!([])), "{value}: {}", environment.log());
    }
}
