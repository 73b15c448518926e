//! Settings, logs, and a connection that survives.

use std::{collections::HashMap, process::Stdio};

use api_tests::{API_KEY, API_SECRET, Api, Call, Environment, environment, wire::Wire};
use serde_json::{Value, json};

/// A folder with these configuration files.
struct Folder(std::path::PathBuf);

impl Folder {
    fn with(files: &[(&str, &Value)]) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("beer-club-{}", uuid::Uuid::new_v4())));
        std::fs::create_dir(&folder.0).unwrap();
        for (name, content) in files {
            std::fs::write(folder.0.join(name), content.to_string()).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn settings(settings: &[(&str, &str)]) -> HashMap<String, String> {
    settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// The one line that a function ends with when it cannot start.
fn complaint(folder: &Folder, function: &str, variables: &[(&str, &str)]) -> String {
    let output = environment::command(function, &settings(variables))
        .current_dir(&folder.0)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((out.lines().count(), err.as_str()), (1, ""), "{out}");
    let line: Value = serde_json::from_str(&out).unwrap();
    line["message"].as_str().unwrap().to_owned()
}

fn database_block(url: &str) -> Value {
    let (user, rest) = url.strip_prefix("postgresql://").unwrap().split_once('@').unwrap();
    let (host, name) = rest.split_once('/').unwrap();
    json!({
        "database_type": "postgresql", "driver": "psycopg2", "db_user": user, "db_password": "any:/?#[]@!$&'()*+,;=%\"\\ é",
        "db_host": host.replace("%2F", "/"), "db_port": "5432", "db_name": name
    })
}

#[tokio::test]
async fn a_missing_or_wrong_setting_is_one_line_that_names_it() {
    let empty = Folder::with(&[]);
    let url = ("DATABASE_URL", "postgresql://u@localhost/d");
    let platform =
        [url, ("ECOMMERCE_BASE_URL", "http://localhost"), ("ECOMMERCE_API_KEY", "k"), ("ECOMMERCE_API_SECRET", "s")];
    for function in ["subscribe", "status", "eligible", "charge"] {
        let line = complaint(&empty, function, &[]);
        assert!(line.contains("DATABASE_URL") && line.contains("local_config.json"), "{line}");
    }
    assert!(complaint(&empty, "status", &[("SCOPE", "dev")]).contains("dev_config.json"));
    assert!(complaint(&empty, "status", &[("scope", "dev")]).contains("dev_config.json"));
    let line = complaint(&empty, "status", &[("DATABASE_URL", "mysql://user:hunter2@host/name")]);
    assert!(line.contains("DATABASE_URL") && !line.contains("hunter2"), "{line}");
    assert!(complaint(&empty, "status", &[url, ("CORS_ALLOW_ORIGIN", "a\nb")]).contains("CORS_ALLOW_ORIGIN"));

    assert!(complaint(&empty, "charge", &[url]).contains("ECOMMERCE_BASE_URL"));
    for (index, name) in ["ECOMMERCE_BASE_URL", "ECOMMERCE_API_KEY", "ECOMMERCE_API_SECRET"].into_iter().enumerate() {
        let mut missing = platform.to_vec();
        missing.remove(index + 1);
        assert!(complaint(&empty, "charge", &missing).contains(name));
    }
    for (name, value) in [
        ("ECOMMERCE_BASE_URL", "ftp://host"),
        ("ECOMMERCE_BASE_URL", "host/path"),
        ("ECOMMERCE_BASE_URL", "http://host/?a=b"),
        ("ECOMMERCE_API_KEY", "a\nb"),
        ("ECOMMERCE_API_SECRET", "arn:aws:s3:::a-bucket"),
        ("DATABASE_URL", "postgresql://u:arn%3Aaws%3As3%3A%3A%3Aa-bucket@h/d"),
        ("ECOMMERCE_TIMEOUT_MS", "0"),
        ("ECOMMERCE_TIMEOUT_MS", "soon"),
        ("ECOMMERCE_TIMEOUT_MS", "60001"),
        ("BILLING_TIMEZONE", "Sao Paulo"),
        ("BILLING_TIMEZONE", "-03:00"),
    ] {
        let line = complaint(&empty, "charge", &[&platform[..], &[(name, value)]].concat());
        assert!(line.contains(name), "{line}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_file_is_one_line_that_names_the_key() {
    for (config, key) in [
        (json!({}), "`database`"),
        (json!({ "database": {} }), "`database.db_user`"),
        (json!({ "database": { "db_user": "u", "db_host": "h" } }), "`database.db_name`"),
        (
            json!({ "database": { "db_user": "u", "db_host": "h", "db_name": "d", "db_port": "x" } }),
            "`database.db_port`",
        ),
        (
            json!({ "database": { "db_user": "u", "db_host": "h", "db_name": "d", "sslmode": "always" } }),
            "`database.sslmode`",
        ),
        (
            json!({ "database": { "db_user": "u", "db_host": "h", "db_name": "d", "db_password": "arn:aws:kms:x" } }),
            "`database.db_password`",
        ),
        (json!({ "database": 5 }), "local_config.json"),
        (json!({ "database": { "db_password": 271828 } }), "line 1"),
        (json!([]), "local_config.json"),
    ] {
        let folder = Folder::with(&[("local_config.json", &config)]);
        let line = complaint(&folder, "subscribe", &[]);
        assert!(line.contains(key) && line.contains("local_config.json") && !line.contains("271828"), "{line}");
    }
    let broken = Folder::with(&[]);
    std::fs::write(broken.0.join("local_config.json"), "{ \"database\": ").unwrap();
    assert!(complaint(&broken, "status", &[]).contains("local_config.json cannot be read"));

    let database = json!({ "db_user": "u", "db_host": "h", "db_name": "d" });
    let ecommerce = json!({ "base_url": "http://localhost", "api_key": "k" });
    let folder = Folder::with(&[("local_config.json", &json!({ "database": database, "ecommerce": ecommerce }))]);
    assert!(complaint(&folder, "charge", &[]).contains("`ecommerce.api_secret`"));
}

#[tokio::test]
async fn settings_come_from_the_scopes_file_and_the_platforms_from_the_model() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let ecommerce =
        json!({ "base_url": format!("{}/", api.platform.base_url()), "api_key": API_KEY, "api_secret": API_SECRET });
    let database = database_block(&api.database_url);
    for (files, scope) in [
        (vec![("local_config.json", json!({ "database": database, "ecommerce": ecommerce }))], None),
        // The earlier form.
        (
            vec![
                ("dev_config.json", json!({ "database": database })),
                ("model_config.json", json!({ "ecommerce": ecommerce })),
            ],
            Some("dev"),
        ),
    ] {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content)).collect();
        let folder = Folder::with(&files);
        let scope = scope.map(|scope| ("SCOPE", scope));
        let environment = Environment::start_in(&folder.0, "charge", &settings(scope.as_slice())).await;
        assert_eq!(environment.call(&Call::charge(&subscription, "o")).await.status, 200, "{}", environment.log());
    }
    assert_eq!(api.platform.received().len(), 1);
}

#[tokio::test]
async fn the_configured_origin_is_on_every_answer() {
    let api = Api::with(&[("CORS_ALLOW_ORIGIN", "https://shop.example")]).await;
    let answers = [api.call(Call::get("/subscription/eligible")).await, api.status("x", json!({})).await];
    for answer in answers {
        assert_eq!(answer.headers["access-control-allow-origin"], "https://shop.example");
    }
}

#[tokio::test]
async fn logs_are_json_without_secrets_or_customers() {
    let api = Api::with(&[("RUST_LOG", "debug")]).await;
    let club = api.club().await;
    let subscribe = api.environment("subscribe").await;
    let charge = api.environment("charge").await;
    let subscription = subscribe.call(&Call::subscribe(club, "the-customers-id")).await.text("id").to_owned();
    charge.call(&Call::charge(&subscription, "o")).await;
    for environment in [&subscribe, &charge] {
        api_tests::eventually("it logs", async || environment.log().contains("answered")).await;
        let log = environment.log();
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
        assert!(!log.contains(API_SECRET) && !log.contains(API_KEY), "{log}");
    }
    // Debug shows what the runtime itself was sent, which is for developers; info and above never name a customer.
    let quiet = api.environment_with("subscribe", &[("RUST_LOG", "info")]).await;
    quiet.call(&Call::subscribe(club, "the-customers-id")).await.refuses(409, "already_subscribed");
    api_tests::eventually("it logs", async || quiet.log().contains("already_subscribed")).await;
    assert!(!quiet.log().contains("the-customers-id"), "{}", quiet.log());

    let lambdas = api
        .environment_with(
            "status",
            &[("RUST_LOG", "error"), ("AWS_LAMBDA_LOG_LEVEL", "INFO"), ("AWS_LAMBDA_LOG_FORMAT", "Text")],
        )
        .await;
    lambdas.call(&Call::post("/subscription/x/status", json!({}))).await;
    api_tests::eventually("it logs", async || lambdas.log().contains("refused")).await;
    assert!(!lambdas.log().starts_with('{'));
}

#[tokio::test]
async fn a_function_that_was_frozen_while_the_database_restarted_answers_the_first_request() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let club = api.club().await;
    let (wire, url) = Wire::before(&api.database_url).await;
    for (index, (function, call)) in [
        ("subscribe", Call::subscribe(club, "c")),
        ("status", Call::post(format!("/subscription/{subscription}/status"), json!({ "status_id": 1 }))),
        ("eligible", Call::get("/subscription/eligible")),
        ("charge", Call::charge(&subscription, "o")),
    ]
    .into_iter()
    .enumerate()
    {
        let environment = api.environment_with(function, &[("DATABASE_URL", &url)]).await;
        // Warm, in a way that leaves the call's own outcome open.
        let warm = if function == "eligible" { call.clone() } else { call.clone().body("{}") };
        let warm = if function == "charge" { Call::charge("nobody", "o") } else { warm };
        environment.call(&warm).await;
        environment.freeze();
        // What a restart does: every session ends, with or without a word, and for a while nobody listens.
        if index % 2 == 0 {
            api.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'beer-club'").await;
        }
        wire.go_down();
        environment.thaw();
        // It comes back while the function is trying.
        let (answer, ()) = tokio::join!(environment.call(&call), async {
            let tried = wire.refused();
            api_tests::eventually("the function tries", async || wire.refused() > tried).await;
            wire.come_up();
        });
        assert!([200, 201].contains(&answer.status), "{function}: {answer:?}");
    }
    assert_eq!(api.ask::<i64>("select count(*) from subscription where customer_store_id = 'c'").await, 1);
}

#[tokio::test]
async fn a_database_that_stays_away_is_said_to_be_unavailable() {
    let api = Api::start().await;
    let (wire, url) = Wire::before(&api.database_url).await;
    wire.go_down();
    let environment = api.environment_with("eligible", &[("DATABASE_URL", &url)]).await;
    let answer = environment.call(&Call::get("/subscription/eligible")).await;
    assert!(answer.refuses(503, "database_unavailable").headers.contains_key("retry-after"));
    wire.come_up();
    assert_eq!(environment.call(&Call::get("/subscription/eligible")).await.status, 200);
}
