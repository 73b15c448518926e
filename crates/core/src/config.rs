//! Settings: the environment first, else `<scope>_config.json` in the working directory.
//!
//! | environment | key in the file | default |
//! | --- | --- | --- |
//! | `SCOPE` or `scope` | names the file | `local` |
//! | `DATABASE_URL` | `database`: `db_user`, `db_password`, `db_host`, `db_port`, `db_name` | port 5432 |
//! | its user and password | `database`: `functions_user`, `functions_password` | `db_user`, `db_password` |
//! | its `sslmode`, `sslrootcert` | `database`: `sslmode`, `sslrootcert` (a file, or `system`) | `verify-full`; `prefer` in the scopes `dev` and `local` |
//! | `DATABASE_IDLE_TIMEOUT_MS` | `database.idle_timeout_ms`; 0: never | 3000 |
//! | `ECOMMERCE_BASE_URL` | `ecommerce.base_url` | |
//! | `ECOMMERCE_API_KEY` | `ecommerce.api_key` | |
//! | `ECOMMERCE_API_SECRET` | `ecommerce.api_secret` | |
//! | `ECOMMERCE_TIMEOUT_MS` | `ecommerce.timeout_ms` | 15000 |
//! | `CHANGES_PER_DAY` | `changes_per_day`; 0: no limit | 100; no limit with `DATABASE_URL`, or in the scopes `dev` and `local` |
//! | `BILLING_TIMEZONE` | `billing_timezone`, an IANA name | `UTC` |
//! | `CUSTOMER_CLAIM` | `customers.claim` | `sub` if `customers.authorization` is `cognito` or `lambda` |
//! | `CORS_ALLOW_ORIGIN` | `cors_allow_origin` | `*` |
//!
//! The database's password and the platform's key and secret may be references: see [`crate::secrets`].
//!
//! A file without an `ecommerce` block takes that block from `model_config.json`. A function reads only what it uses:
//! `subscribe` starts without the platform's settings.

use std::{env, fs, io, ops::RangeInclusive, time::Duration};

use chrono_tz::Tz;
use lambda_http::http::HeaderValue;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};
use thiserror::Error;

use crate::secrets::{Reference, Secret};

const MODEL: &str = "model_config.json";
/// The scope of a developer's machine.
const LOCAL: &str = "local";
const DEFAULT_PORT: u16 = 5432;
/// After a burst of calls to one function, a burst to another waits this long for connections. If it is shorter than
/// calls take in an overload, reconnecting adds to it.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// A session needs some time for its first statement. After an hour, firewalls have dropped the connection.
const IDLE_TIMEOUTS_MS: RangeInclusive<u64> = 100..=3_600_000;
/// The limit of a closed stage.
const DEFAULT_CHANGES_PER_DAY: i32 = 100;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Leaves charge the time to settle before Lambda ends it.
const LONGEST_TIMEOUT_MS: u64 = 20_000;

/// One line that names the setting.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{variable} is not set, and {file} {problem}")]
    Missing { variable: &'static str, file: String, problem: String },
    #[error("{file} cannot be read: {reason}")]
    File { file: String, reason: String },
    #[error("{setting} is wrong: it must be {expected}")]
    Wrong { setting: String, expected: &'static str },
}

/// A configuration file. Unknown keys are ignored. tests/contract/test_names.py reads the keys of these blocks and the
/// names of the variables from this source, tests/deploy/test_configuration.py the variables.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    database: Option<DatabaseBlock>,
    ecommerce: Option<EcommerceBlock>,
    changes_per_day: Option<Value>,
    billing_timezone: Option<String>,
    cors_allow_origin: Option<String>,
    customers: Option<CustomersBlock>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DatabaseBlock {
    db_user: String,
    db_password: Option<SecretString>,
    /// The functions' login, if it is not the owner's.
    functions_user: String,
    functions_password: Option<SecretString>,
    db_host: String,
    db_port: Value,
    db_name: String,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    idle_timeout_ms: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EcommerceBlock {
    base_url: Option<String>,
    api_key: Option<String>,
    api_secret: Option<String>,
    timeout_ms: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CustomersBlock {
    authorization: Option<String>,
    claim: Option<String>,
}

/// The database's address, and its password.
pub struct DatabaseSettings {
    pub options: PgConnectOptions,
    /// Where the password is kept, unless it is in the options.
    pub password: Option<Reference>,
    /// The silence after which the server is asked to end a session, so that another one can begin.
    pub idle_timeout: Option<Duration>,
}

/// The e-commerce platform's address, and its key and secret.
pub struct EcommerceSettings {
    pub base_url: Url,
    pub api_key: Secret,
    pub api_secret: Secret,
    /// The longest call-out, measured from before its claim.
    pub timeout: Duration,
}

pub struct Settings {
    /// True for `dev` and a developer's machine. Every other scope is closed, whatever its name.
    is_open: bool,
    file_name: String,
    file: Option<File>,
}

impl Settings {
    pub fn load() -> Result<Self, ConfigError> {
        let scope = variable("SCOPE").or_else(|| variable("scope")).unwrap_or_else(|| LOCAL.to_owned());
        let file_name = format!("{scope}_config.json");
        let file = read(&file_name)?;
        Ok(Self { is_open: [LOCAL, "dev"].contains(&&*scope), file_name, file })
    }

    pub fn database(&self) -> Result<DatabaseSettings, ConfigError> {
        if let Some(url) = variable("DATABASE_URL") {
            return self.database_of_url(&url);
        }
        let missing =
            |problem: String| ConfigError::Missing { variable: "DATABASE_URL", file: self.file_name.clone(), problem };
        let Some(file) = &self.file else {
            return Err(missing(format!("is not in the working directory: copy {MODEL} to it and fill it in")));
        };
        let Some(database) = &file.database else { return Err(missing("has no `database`".to_owned())) };
        for (key, value) in
            [("db_user", &database.db_user), ("db_host", &database.db_host), ("db_name", &database.db_name)]
        {
            if value.is_empty() {
                return Err(missing(format!("has no `database.{key}`")));
            }
        }
        let functions_password = database.functions_password.as_ref();
        let (user, password, password_key) = if !database.functions_user.is_empty() {
            (&database.functions_user, functions_password, "functions_password")
        } else if functions_password.is_none() {
            (&database.db_user, database.db_password.as_ref(), "db_password")
        } else {
            return Err(missing("has a `database.functions_password` without `database.functions_user`".to_owned()));
        };
        let unset = database.db_port.is_null() || database.db_port == "";
        let port = number(&database.db_port)
            .and_then(|port| u16::try_from(port).ok())
            .or(unset.then_some(DEFAULT_PORT))
            .ok_or_else(|| wrong(format!("`database.db_port` in {}", self.file_name), "a port number"))?;
        let options = PgConnectOptions::new_without_pgpass()
            .host(&database.db_host)
            .port(port)
            .username(user)
            .database(&database.db_name);
        let in_file = |key: &str| format!("`database.{key}` in {}", self.file_name);
        let (sslmode, sslrootcert) = (database.sslmode.clone(), database.sslrootcert.clone());
        let options = self.with_tls(options, sslmode, sslrootcert, in_file("sslmode"))?;
        self.with_password(options, password.map(ExposeSecret::expose_secret), &in_file(password_key))
    }

    fn database_of_url(&self, text: &str) -> Result<DatabaseSettings, ConfigError> {
        // The parsers' reasons may quote the URL, password included, so they are dropped.
        let malformed = || wrong("DATABASE_URL", "postgresql://user:password@host:port/name");
        let url = Url::parse(text)
            .ok()
            .filter(|_| ["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme)))
            .ok_or_else(malformed)?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let options = PgConnectOptions::from_url(&url).map_err(|_| malformed())?;
        // sqlx takes the host as it is written, an IPv6 address in its brackets.
        let host = decoded(options.get_host());
        let options = options.host(host.trim_start_matches('[').trim_end_matches(']'));
        // sqlx reads a parameter by each of these names.
        let parameter = |names: &[&str]| {
            url.query_pairs().filter(|(name, _)| names.contains(&&**name)).last().map(|(_, value)| value.into_owned())
        };
        let (sslmode, sslrootcert) =
            (parameter(&["sslmode", "ssl-mode"]), parameter(&["sslrootcert", "ssl-root-cert", "ssl-ca"]));
        let options = self.with_tls(options, sslmode, sslrootcert, "DATABASE_URL's sslmode".to_owned())?;
        self.with_password(options, url.password().map(decoded).as_deref(), "DATABASE_URL's password")
    }

    /// Encrypts and verifies as libpq does. sqlx makes two things differ: `allow` is `prefer`, and the public CAs are
    /// always trusted.
    fn with_tls(
        &self,
        options: PgConnectOptions,
        sslmode: Option<String>,
        sslrootcert: Option<String>,
        setting: String,
    ) -> Result<PgConnectOptions, ConfigError> {
        let given = |value: Option<String>, name| value.filter(|value| !value.is_empty()).or_else(|| variable(name));
        let sslrootcert = given(sslrootcert, "PGSSLROOTCERT");
        let by_public_authorities = sslrootcert.as_deref() == Some("system");
        let mode = match given(sslmode, "PGSSLMODE") {
            None if self.is_open && !by_public_authorities => PgSslMode::Prefer,
            None => PgSslMode::VerifyFull,
            Some(mode) => match mode.parse() {
                Ok(mode) => mode,
                Err(_) => {
                    return Err(wrong(setting, "disable, allow, prefer, require, verify-ca or verify-full"));
                }
            },
        };
        let mode = match mode {
            // No name is checked, so any certificate of a public authority would pass.
            PgSslMode::VerifyCa if sslrootcert.is_none() => {
                return Err(wrong(setting, "verify-full, or verify-ca with an sslrootcert"));
            }
            PgSslMode::VerifyFull => PgSslMode::VerifyFull,
            _ if by_public_authorities => return Err(wrong(setting, "verify-full if sslrootcert is system")),
            PgSslMode::Require if sslrootcert.is_some() => PgSslMode::VerifyCa,
            PgSslMode::Allow => PgSslMode::Prefer,
            mode @ (PgSslMode::Disable | PgSslMode::Prefer | PgSslMode::Require | PgSslMode::VerifyCa) => mode,
        };
        let by_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
        let options = options.ssl_mode(if by_socket { PgSslMode::Disable } else { mode });
        Ok(match sslrootcert {
            None => options,
            // Nothing is added to the public authorities.
            Some(_) if by_public_authorities => options.ssl_root_cert_from_pem(Vec::new()),
            Some(file) => options.ssl_root_cert(file),
        })
    }

    fn with_password(
        &self,
        options: PgConnectOptions,
        password: Option<&str>,
        setting: &str,
    ) -> Result<DatabaseSettings, ConfigError> {
        let secret =
            password.filter(|password| !password.is_empty()).map(|password| secret(setting, password.to_owned()));
        let (options, password) = match secret.transpose()? {
            None => (options, None),
            Some(Secret::Value(value)) => (options.password(value.expose_secret()), None),
            Some(Secret::Reference(reference)) => (options, Some(reference)),
        };
        Ok(DatabaseSettings { options, password, idle_timeout: self.idle_timeout()? })
    }

    fn idle_timeout(&self) -> Result<Option<Duration>, ConfigError> {
        let in_file = || self.file.as_ref()?.database.as_ref()?.idle_timeout_ms.clone();
        let Some(value) = variable("DATABASE_IDLE_TIMEOUT_MS").map(Value::from).or_else(in_file) else {
            return Ok(Some(DEFAULT_IDLE_TIMEOUT));
        };
        match number(&value) {
            Some(0) => Ok(None),
            Some(milliseconds) if IDLE_TIMEOUTS_MS.contains(&milliseconds) => {
                Ok(Some(Duration::from_millis(milliseconds)))
            }
            _ => Err(wrong(
                "DATABASE_IDLE_TIMEOUT_MS (`database.idle_timeout_ms`)",
                "0, or a number of milliseconds from 100 to 3600000",
            )),
        }
    }

    pub fn ecommerce(&self) -> Result<EcommerceSettings, ConfigError> {
        let model;
        let (file, block) = match self.file.as_ref().and_then(|file| file.ecommerce.as_ref()) {
            Some(block) => (&*self.file_name, block),
            None => {
                model = read(MODEL)?.and_then(|model| model.ecommerce).unwrap_or_default();
                (MODEL, &model)
            }
        };
        let find = |name: &'static str, key: &str, in_file: &Option<String>| {
            variable(name).or_else(|| in_file.clone().filter(|value| !value.is_empty())).ok_or_else(|| {
                ConfigError::Missing {
                    variable: name,
                    file: file.to_owned(),
                    problem: format!("has no `ecommerce.{key}`"),
                }
            })
        };
        let header = |name: &'static str, value: String| {
            if HeaderValue::try_from(&value).is_err() {
                return Err(wrong(name, "the value of an HTTP header"));
            }
            secret(name, value)
        };
        let base_url = find("ECOMMERCE_BASE_URL", "base_url", &block.base_url)?;
        let base_url = Url::parse(&base_url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none())
            .ok_or_else(|| {
                wrong("ECOMMERCE_BASE_URL (`ecommerce.base_url`)", "an http or https URL without a query")
            })?;
        let timeout = match variable("ECOMMERCE_TIMEOUT_MS").map(Value::from).or_else(|| block.timeout_ms.clone()) {
            None => DEFAULT_TIMEOUT,
            Some(value) => number(&value)
                .filter(|milliseconds| (1..=LONGEST_TIMEOUT_MS).contains(milliseconds))
                .map(Duration::from_millis)
                .ok_or_else(|| {
                    wrong("ECOMMERCE_TIMEOUT_MS (`ecommerce.timeout_ms`)", "a number of milliseconds from 1 to 20000")
                })?,
        };
        Ok(EcommerceSettings {
            base_url,
            api_key: header("ECOMMERCE_API_KEY", find("ECOMMERCE_API_KEY", "api_key", &block.api_key)?)?,
            api_secret: header("ECOMMERCE_API_SECRET", find("ECOMMERCE_API_SECRET", "api_secret", &block.api_secret)?)?,
            timeout,
        })
    }

    /// The most changes of a subscription in 24 hours, if there is a limit.
    pub fn changes_per_day(&self) -> Result<Option<i32>, ConfigError> {
        let in_file = || self.file.as_ref()?.changes_per_day.clone();
        let Some(value) = variable("CHANGES_PER_DAY").map(Value::from).or_else(in_file) else {
            let deployed = variable("DATABASE_URL").is_some();
            return Ok(Some(DEFAULT_CHANGES_PER_DAY).filter(|_| !self.is_open && !deployed));
        };
        let limit = number(&value)
            .and_then(|limit| i32::try_from(limit).ok())
            .ok_or_else(|| wrong("CHANGES_PER_DAY (`changes_per_day`)", "0, or a number of changes"))?;
        Ok(Some(limit).filter(|limit| *limit > 0))
    }

    /// Where the billing month begins and ends.
    pub fn billing_timezone(&self) -> Result<Tz, ConfigError> {
        self.text("BILLING_TIMEZONE", |file| &file.billing_timezone).map_or(Ok(Tz::UTC), |name| {
            name.parse()
                .map_err(|_| wrong("BILLING_TIMEZONE (`billing_timezone`)", "an IANA name such as America/Sao_Paulo"))
        })
    }

    /// The value of `access-control-allow-origin`.
    pub fn cors_allow_origin(&self) -> Result<HeaderValue, ConfigError> {
        self.text("CORS_ALLOW_ORIGIN", |file| &file.cors_allow_origin).map_or(
            Ok(HeaderValue::from_static("*")),
            |origin| {
                HeaderValue::try_from(origin)
                    .map_err(|_| wrong("CORS_ALLOW_ORIGIN (`cors_allow_origin`)", "an origin, or *"))
            },
        )
    }

    /// The claim that names the customer who calls, if the gateway authenticates customers.
    pub fn customer_claim(&self) -> Option<String> {
        variable("CUSTOMER_CLAIM").or_else(|| {
            let customers = self.file.as_ref()?.customers.as_ref()?;
            let authenticated = matches!(customers.authorization.as_deref(), Some("cognito" | "lambda"));
            customers.claim.clone().or_else(|| authenticated.then(|| "sub".to_owned()))
        })
    }

    fn text(&self, name: &str, key: impl Fn(&File) -> &Option<String>) -> Option<String> {
        variable(name).or_else(|| self.file.as_ref().and_then(|file| key(file).clone()))
    }
}

fn secret(setting: &str, value: String) -> Result<Secret, ConfigError> {
    Secret::parse(value)
        .ok_or_else(|| wrong(setting, "a value, or the ARN of an SSM parameter or a Secrets Manager secret"))
}

fn wrong(setting: impl Into<String>, expected: &'static str) -> ConfigError {
    ConfigError::Wrong { setting: setting.into(), expected }
}

/// An empty variable counts as unset.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A number, or its digits in a string.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn read(file: &str) -> Result<Option<File>, ConfigError> {
    let parsed = match fs::read(file) {
        // The place only: the value may be a password.
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error: serde_json::Error| {
            format!("wrong JSON or a value of the wrong type at line {} column {}", error.line(), error.column())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    parsed.map_err(|reason| ConfigError::File { file: file.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema ends a deployment with a number that the functions would refuse to start with.
    #[test]
    fn the_schema_and_the_page_have_the_same_bounds() {
        const FILES: &str =
            "deploy/config.schema.json and docs/settings.md must say what crates/core/src/config.rs does";
        let schema: Value = serde_json::from_str(include_str!("../../../deploy/config.schema.json")).unwrap();
        let page = include_str!("../../../docs/settings.md");
        let blocks = &schema["properties"];
        let timeout = &blocks["ecommerce"]["properties"]["timeout_ms"];
        let idle_timeout = &blocks["database"]["properties"]["idle_timeout_ms"]["anyOf"][1];
        for (setting, bounds) in [(timeout, 1..=LONGEST_TIMEOUT_MS), (idle_timeout, IDLE_TIMEOUTS_MS)] {
            let (first, last) = bounds.into_inner();
            assert_eq!((&setting["minimum"], &setting["maximum"]), (&first.into(), &last.into()), "{FILES}");
            assert!(page.contains(&format!("{first} to {last}")), "{FILES}: {first} to {last}");
        }
        assert_eq!(blocks["changes_per_day"]["maximum"], i32::MAX, "{FILES}");
    }
}
