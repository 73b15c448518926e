//! A test's database, as its URL names it.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use url::Url;

/// The socket that its server listens on. The URL's host is the folder of that socket.
pub fn socket(url: &Url) -> PathBuf {
    Path::new(&folder(url)).join(".s.PGSQL.5432")
}

/// The folder of that socket.
pub fn folder(url: &Url) -> String {
    let folder = percent_decode_str(url.host_str().expect("a folder"));
    folder.decode_utf8().expect("a folder in UTF-8").into_owned()
}

/// The same database at a port, with these connection parameters. The host may be the folder of a socket.
pub fn at(url: &Url, host: &str, port: u16, parameters: &str) -> Url {
    let mut url = url.clone();
    url.set_host(Some(&host.replace('/', "%2F"))).expect("a host");
    url.set_port(Some(port)).expect("a port");
    url.set_query(Some(parameters));
    url
}

/// The `database` block of a configuration file. The server takes any password; this one has every character that needs care.
pub fn configuration(url: &Url) -> Value {
    json!({
        "database_type": "postgresql", "driver": "psycopg2", "db_user": url.username(),
        "db_password": "p@ss:/?#[]!$&'()*+,;=%41\"\\ é", "db_host": folder(url), "db_port": "5432", "db_name": name(url)
    })
}

pub fn name(url: &Url) -> &str {
    url.path().trim_start_matches('/')
}
