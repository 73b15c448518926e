//! Secrets in AWS's stores, and encrypted connections to the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use futures_util::{StreamExt, stream};
use harness::{API_KEY, API_SECRET, Api, Call, Environment, database, eventually};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, UnixStream},
};
use tokio_rustls::TlsAcceptor;
use url::Url;

const TOKEN: &str = "the-session-of-the-environment";
const KEY: &str = "arn:aws:ssm:sa-east-1:123456789012:parameter/beer-club/key";
const SECRET: &str = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:beer-club-AbCdEf:api_secret::";
const PASSWORD: &str = "arn:aws:secretsmanager:sa-east-1:123456789012:secret:database-AbCdEf";

/// A stand-in for the AWS Parameters and Secrets extension.
#[derive(Default)]
struct Extension {
    /// Its answers, by path and query.
    answers: Mutex<HashMap<String, String>>,
    /// The number of times that it still answers that it is not ready.
    not_ready: Mutex<u32>,
}

impl Extension {
    async fn start() -> (Arc<Self>, String) {
        let extension = Arc::new(Self::default());
        let routes = Router::new().fallback(answer).with_state(extension.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        (extension, port.to_string())
    }

    fn set(&self, path_and_query: &str, answer: serde_json::Value) {
        self.answers.lock().unwrap().insert(path_and_query.to_owned(), answer.to_string());
    }

    fn set_password(&self, password: &str) {
        let arn = PASSWORD.replace(':', "%3A").replace('-', "%2D");
        self.set(&format!("/secretsmanager/get?secretId={arn}"), json!({ "SecretString": password }));
    }
}

async fn answer(State(extension): State<Arc<Extension>>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    if headers.get("x-aws-parameters-secrets-token").is_none_or(|token| token != TOKEN) {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let mut not_ready = extension.not_ready.lock().unwrap();
    if *not_ready > 0 {
        *not_ready -= 1;
        return (StatusCode::BAD_REQUEST, "not ready to serve traffic, please wait".to_owned());
    }
    let answers = extension.answers.lock().unwrap();
    match answers.get(uri.path_and_query().unwrap().as_str()) {
        Some(answer) => (StatusCode::OK, answer.clone()),
        None => (StatusCode::BAD_REQUEST, "an unexpected error occurred while executing request".to_owned()),
    }
}

#[tokio::test]
async fn the_platforms_key_and_secret_may_be_references() {
    let api = Api::start().await;
    let (extension, port) = Extension::start().await;
    let settings = [
        ("ECOMMERCE_API_KEY", KEY),
        ("ECOMMERCE_API_SECRET", SECRET),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", &port),
    ];
    let subscription = api.subscription().await;
    let environment = api.environment_with("charge", &settings).await;
    let unreadable = environment.call(&Call::charge(&subscription, "o")).await;
    unreadable.refuses(503, "ecommerce_unavailable");
    assert_eq!(api.attempts().await[0]["state"], "not_sent", "the month stays open");
    assert!(api.platform.received().is_empty());
    eventually("it says why", async || environment.log().contains("may the function read the secret?")).await;

    extension.set(
        "/systemsmanager/parameters/get?withDecryption=true&name=%2Fbeer%2Dclub%2Fkey",
        json!({ "Parameter": { "Value": API_KEY } }),
    );
    extension.set(
        "/secretsmanager/get?secretId=arn%3Aaws%3Asecretsmanager%3Asa%2Deast%2D1%3A123456789012%3Asecret%3Abeer%2Dclub%2DAbCdEf",
        json!({ "SecretString": json!({ "api_secret": API_SECRET, "other": 1 }).to_string() }),
    );
    *extension.not_ready.lock().unwrap() = 3;
    assert_eq!(environment.call(&Call::charge(&subscription, "o")).await.status, 200, "{}", environment.log());
    assert!(!environment.log().contains(API_SECRET) && !environment.log().contains(API_KEY));
}

#[tokio::test]
async fn the_databases_password_may_be_a_reference_and_be_rotated() {
    let api = Api::start().await;
    let (extension, port) = Extension::start().await;
    // The test server asks this role alone for its password.
    let role = format!("role_{}", uuid::Uuid::new_v4().simple());
    api.run(&format!(
        "create role {role} superuser login password 'first';
         do $$ begin execute format(
             'copy (select ''local all {role} scram-sha-256'' union all select * from regexp_split_to_table(%L, ''\\n'')) to %L',
             pg_read_file(current_setting('hba_file')), current_setting('hba_file'));
         end $$;
         select pg_reload_conf()"
    ))
    .await;
    let mut url = api.database_url.clone();
    url.set_username(&role).unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", &port),
    ];
    let eligible = Call::get("/subscription/eligible");

    extension.set_password("wrong");
    let environment = api.environment_with("eligible", &settings).await;
    environment.call(&eligible).await.refuses(503, "database_unavailable");
    // The extension starts at the same time as the function.
    *extension.not_ready.lock().unwrap() = 3;
    extension.set_password("first");
    assert_eq!(environment.call(&eligible).await.status, 200, "{}", environment.log());

    api.run(&format!("alter role {role} password 'second'")).await;
    extension.set_password("second");
    assert_eq!(environment.call(&eligible).await.status, 200, "the open connection stays");
    api.run(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'")).await;
    assert_eq!(environment.call(&eligible).await.status, 200, "{}", environment.log());
    assert!(!environment.log().contains("second"), "{}", environment.log());
}

/// A server with a certificate for `localhost`, in front of the database; its port, and the certificate as a file.
pub async fn tls_before(database_url: &Url) -> (u16, NamedTempFile) {
    let (key, certificate) = certificate();
    let der = CertificateDer::from_pem_file(certificate.path()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der], key)
        .unwrap();
    (before(database_url, Some(TlsAcceptor::from(Arc::new(config)))).await, certificate)
}

/// A server without TLS, in front of the database; its port.
pub async fn no_tls_before(database_url: &Url) -> u16 {
    before(database_url, None).await
}

/// A certificate for `localhost` that is its own authority.
pub fn certificate() -> (PrivateKeyDer<'static>, NamedTempFile) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certified.cert.pem()).unwrap();
    (PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into()), file)
}

async fn before(database_url: &Url, tls: Option<TlsAcceptor>) -> u16 {
    let socket = database::socket(database_url);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (tls, socket) = (tls.clone(), socket.clone());
            tokio::spawn(async move {
                let mut server = UnixStream::connect(socket).await?;
                let Some(tls) = tls else { return copy_bidirectional(&mut client, &mut server).await };
                // PostgreSQL's SSLRequest, eight bytes, and its answer.
                client.read_exact(&mut [0; 8]).await?;
                client.write_all(b"S").await?;
                copy_bidirectional(&mut tls.accept(client).await?, &mut server).await
            });
        }
    });
    port
}

/// The statuses of eligible in this scope, with the database at this address: given by a URL, and by a configuration file.
pub async fn statuses(api: &Api, scope: &str, host: &str, port: u16, parameters: &[(&str, &str)]) -> [u64; 2] {
    let eligible = Call::get("/subscription/eligible");
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let url = database::at(&api.database_url, host, port, &query);
    let by_url = api.environment_with("eligible", &[("SCOPE", scope), ("DATABASE_URL", url.as_str())]).await;

    let folder = tempfile::tempdir().unwrap();
    let mut block = database::configuration(&api.database_url);
    block["db_host"] = host.into();
    block["db_port"] = port.into();
    for (key, value) in parameters {
        block[key] = (*value).into();
    }
    let file = folder.path().join(format!("{scope}_config.json"));
    std::fs::write(file, json!({ "database": block }).to_string()).unwrap();
    let settings = HashMap::from([("SCOPE".to_owned(), scope.to_owned())]);
    let by_file = Environment::start_in(folder.path(), "eligible", &settings).await;
    let (by_url, by_file) = tokio::join!(by_url.call(&eligible), by_file.call(&eligible));
    [by_url.status, by_file.status]
}

#[tokio::test]
async fn each_sslmode_encrypts_and_verifies_as_libpqs_does() {
    let api = Api::start().await;
    let (tls, own) = tls_before(&api.database_url).await;
    let no_tls = no_tls_before(&api.database_url).await;
    let (_, other) = certificate();
    let (own, other) = (own.path().to_str().unwrap(), other.path().to_str().unwrap());
    let mode = |mode| vec![("sslmode", mode)];
    let with = |mode, certificate| vec![("sslmode", mode), ("sslrootcert", certificate)];
    let cases = [
        ("localhost", tls, mode("allow"), 200),
        ("localhost", tls, mode("prefer"), 200),
        ("localhost", tls, with("prefer", other), 200),
        ("localhost", tls, mode("require"), 200),
        ("localhost", tls, with("require", own), 200),
        ("127.0.0.1", tls, with("require", own), 200),
        ("localhost", tls, with("require", other), 503),
        ("127.0.0.1", tls, with("verify-ca", own), 200),
        ("localhost", tls, with("verify-ca", other), 503),
        ("localhost", tls, with("verify-full", own), 200),
        ("127.0.0.1", tls, with("verify-full", own), 503),
        ("localhost", tls, with("verify-full", other), 503),
        ("localhost", tls, mode("verify-full"), 503),
        ("localhost", tls, with("verify-full", "system"), 503),
        ("localhost", tls, vec![("sslrootcert", "system")], 503),
        ("localhost", no_tls, mode("disable"), 200),
        ("localhost", no_tls, mode("allow"), 200),
        ("localhost", no_tls, mode("prefer"), 200),
        ("localhost", no_tls, mode("require"), 503),
        ("localhost", no_tls, with("verify-ca", own), 503),
        ("localhost", no_tls, with("verify-full", own), 503),
        // A socket crosses no network.
        (&database::folder(&api.database_url), 5432, with("verify-full", own), 200),
    ];
    let answers = cases.map(async |(host, port, parameters, status)| {
        let answers = statuses(&api, "dev", host, port, &parameters).await;
        assert_eq!(answers, [status; 2], "{host} {port} {parameters:?}");
    });
    // Few at a time, so that each has time to connect.
    stream::iter(answers).buffer_unordered(3).collect::<()>().await;
}
