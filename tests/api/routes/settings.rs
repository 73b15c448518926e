//! Settings and logs, which all functions have in common.

use std::{collections::HashMap, fs, process::Stdio};

use harness::{
    API_KEY, API_SECRET, Api, Call, Environment, database, environment, eventually, gateway::Authorizer,
    routes::functions,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with these configuration files.
fn folder(files: &[(&str, &Value)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    folder
}

fn settings(settings: &[(&str, &str)]) -> HashMap<String, String> {
    settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// The one line that a function ends with if it cannot start.
fn complaint(folder: &TempDir, function: &str, variables: &[(&str, &str)]) -> String {
    let output = environment::command(function, &settings(variables))
        .current_dir(folder.path())
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

#[tokio::test]
async fn a_missing_or_wrong_setting_is_one_line_that_names_it() {
    let empty = folder(&[]);
    let url = ("DATABASE_URL", "postgresql://u@localhost/d");
    let platform =
        [url, ("ECOMMERCE_BASE_URL", "http://localhost"), ("ECOMMERCE_API_KEY", "k"), ("ECOMMERCE_API_SECRET", "s")];
    for function in functions() {
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
        ("DATABASE_URL", "postgresql://u@h/d?sslmode=always"),
        ("DATABASE_URL", "postgresql://u@h/d?sslmode=verify-ca"),
        ("DATABASE_URL", "postgresql://u@h/d?sslmode=require&sslrootcert=system"),
        ("DATABASE_IDLE_TIMEOUT_MS", "99"),
        ("DATABASE_IDLE_TIMEOUT_MS", "3600001"),
        ("DATABASE_IDLE_TIMEOUT_MS", "-1"),
        ("DATABASE_IDLE_TIMEOUT_MS", "2s"),
        ("ECOMMERCE_TIMEOUT_MS", "0"),
        ("ECOMMERCE_TIMEOUT_MS", "soon"),
        ("ECOMMERCE_TIMEOUT_MS", "20001"),
        ("BILLING_TIMEZONE", "Sao Paulo"),
        ("BILLING_TIMEZONE", "-03:00"),
        ("BILLING_TIMEZONE", "america/sao_paulo"),
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
        (
            json!({ "database": { "db_user": "u", "db_host": "h", "db_name": "d", "sslmode": "verify-ca" } }),
            "`database.sslmode`",
        ),
        (
            json!({ "database": { "db_user": "u", "db_host": "h", "db_name": "d", "functions_password": "p" } }),
            "`database.functions_user`",
        ),
        (json!({ "database": 5 }), "local_config.json"),
        (json!({ "database": { "db_password": 271828 } }), "line 1"),
        (json!([]), "local_config.json"),
    ] {
        let line = complaint(&folder(&[("local_config.json", &config)]), "subscribe", &[]);
        assert!(line.contains(key) && line.contains("local_config.json") && !line.contains("271828"), "{line}");
    }
    let broken = folder(&[]);
    fs::write(broken.path().join("local_config.json"), "{ \"database\": ").unwrap();
    assert!(complaint(&broken, "status", &[]).contains("local_config.json cannot be read"));

    let database = json!({ "db_user": "u", "db_host": "h", "db_name": "d" });
    let ecommerce = json!({ "base_url": "http://localhost", "api_key": "k" });
    let mut impatient = database.clone();
    impatient["idle_timeout_ms"] = json!("soon");
    let impatient = folder(&[("local_config.json", &json!({ "database": impatient }))]);
    assert!(complaint(&impatient, "status", &[]).contains("`database.idle_timeout_ms`"));
    let incomplete = folder(&[("local_config.json", &json!({ "database": database, "ecommerce": ecommerce }))]);
    assert!(complaint(&incomplete, "charge", &[]).contains("`ecommerce.api_secret`"));
}

#[tokio::test]
async fn settings_come_from_the_file_of_the_scope_and_the_platforms_also_from_model_config() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let ecommerce =
        json!({ "base_url": format!("{}/", api.platform.base_url()), "api_key": API_KEY, "api_secret": API_SECRET });
    let database = database::configuration(&api.database_url);
    for (files, scope) in [
        (vec![("local_config.json", json!({ "database": database, "ecommerce": ecommerce }))], None),
        // The platform's settings in a file that every scope shares.
        (
            vec![
                ("dev_config.json", json!({ "database": database })),
                ("model_config.json", json!({ "ecommerce": ecommerce })),
            ],
            Some("dev"),
        ),
    ] {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content)).collect();
        let folder = folder(&files);
        let scope = scope.map(|scope| ("SCOPE", scope));
        let environment = Environment::start_in(folder.path(), "charge", &settings(scope.as_slice())).await;
        assert_eq!(environment.call(&Call::charge(&subscription, "o")).await.status, 200, "{}", environment.log());
    }
    assert_eq!(api.platform.received().len(), 1);
}

#[tokio::test]
async fn the_customers_claim_comes_from_the_file_and_is_sub_where_customers_are_authenticated() {
    let api = Api::start().await;
    let list = |claim: &str| Call::get("/subscription").authorized(Authorizer::UserPool, json!({ claim: "c" }));
    for (customers, variable, claim) in [
        (json!({ "authorization": "cognito" }), "", Some("sub")),
        (json!({ "authorization": "lambda", "claim": "customer" }), "", Some("customer")),
        (json!({ "claim": "customer" }), "", Some("customer")),
        (json!({ "claim": "customer" }), "email", Some("email")),
        (json!({ "authorization": "none" }), "", None),
        (json!({ "authorization": "aws_iam" }), "", None),
        (json!(null), "", None),
    ] {
        let config = json!({ "database": database::configuration(&api.database_url), "customers": customers });
        let folder = folder(&[("local_config.json", &config)]);
        let environment =
            Environment::start_in(folder.path(), "lookup", &settings(&[("CUSTOMER_CLAIM", variable)])).await;
        if let Some(claim) = claim {
            assert_eq!(environment.call(&list(claim)).await.body, json!([]), "{customers} {variable}");
            environment.call(&list("another")).await.refuses(401, "unauthenticated");
        } else {
            environment.call(&list("sub")).await.refuses(400, "invalid_request");
        }
    }
}

#[tokio::test]
async fn the_limit_of_changes_comes_from_the_environment_or_the_file_and_a_closed_stage_has_one() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    api.run(
        "insert into subscription_status_history
         select gen_random_uuid()::text, id, 1, utc_now(), utc_now() from subscription, generate_series(1, 100)",
    )
    .await;
    let mut database = database::configuration(&api.database_url);
    database["sslmode"] = json!("disable");
    let change = Call::post(format!("/subscription/{subscription}/status"), json!({ "status_id": 1 }));
    for (scope, in_file, variable, is_limited) in [
        ("dev", json!(null), "", false),
        ("local", json!(null), "", false),
        ("shop", json!(null), "", true),
        ("prod", json!(null), "", true),
        ("shop", json!(0), "", false),
        ("shop", json!(10_000), "", false),
        ("dev", json!(100), "", true),
        ("dev", json!("100"), "", true),
        ("shop", json!(null), "0", false),
        ("dev", json!(0), "100", true),
    ] {
        let config = json!({ "database": database, "changes_per_day": in_file });
        let folder = folder(&[(&format!("{scope}_config.json"), &config)]);
        let variables = settings(&[("SCOPE", scope), ("CHANGES_PER_DAY", variable)]);
        let answer = Environment::start_in(folder.path(), "status", &variables).await.call(&change).await;
        let expected = if is_limited { 429 } else { 200 };
        assert_eq!(answer.status, expected, "{scope} {in_file} {variable}: {answer:?}");
    }
    let url = ("DATABASE_URL", api.database_url.as_str());
    for wrong in ["-1", "1.5", "many", "4294967296"] {
        let line = complaint(&folder(&[]), "status", &[url, ("CHANGES_PER_DAY", wrong)]);
        assert!(line.contains("CHANGES_PER_DAY (`changes_per_day`)"), "{line}");
    }
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
        eventually("it logs", async || environment.log().contains("answered")).await;
        let log = environment.log();
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
        assert!(!log.contains(API_SECRET) && !log.contains(API_KEY), "{log}");
    }
    // At debug the runtime logs whole events, for developers. At info and above nothing names a customer.
    let quiet = api.environment_with("subscribe", &[("RUST_LOG", "info")]).await;
    quiet.call(&Call::subscribe(club, "the-customers-id")).await.refuses(409, "already_subscribed");
    eventually("it logs", async || quiet.log().contains("already_subscribed")).await;
    assert!(!quiet.log().contains("the-customers-id"), "{}", quiet.log());

    let lookup = api.environment_with("lookup", &[("RUST_LOG", "info")]).await;
    let list = Call::get("/subscription").query("customer_id", "the-customers-id");
    assert_eq!(lookup.call(&list).await.body[0]["id"], subscription);
    eventually("it logs", async || lookup.log().contains("answered")).await;
    assert!(!lookup.log().contains("the-customers-id"), "{}", lookup.log());

    let lambdas = api
        .environment_with(
            "status",
            &[("RUST_LOG", "error"), ("AWS_LAMBDA_LOG_LEVEL", "INFO"), ("AWS_LAMBDA_LOG_FORMAT", "Text")],
        )
        .await;
    lambdas.call(&Call::post("/subscription/x/status", json!({}))).await;
    eventually("it logs", async || lambdas.log().contains("refused")).await;
    assert!(!lambdas.log().starts_with('{'));
}
