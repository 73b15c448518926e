//! The functions' sessions carry no state, so a pooler can give each call another server connection.

use ecommerce_stub::{Answer as Reply, Behaviour};
use futures_util::future::join_all;
use harness::{
    Answer, Api, Call, Environment, PATIENT, SESSIONS, database, eventually, report, routes::functions, wire::Wire,
};
use serde_json::json;
use uuid::Uuid;

/// Words of SQL that leave state in a session, or pin it behind RDS Proxy.
const STATEFUL: [&str; 14] = [
    "set",
    "reset",
    "set_config",
    "prepare",
    "execute",
    "deallocate",
    "discard",
    "declare",
    "listen",
    "temporary",
    "temp",
    "pg_advisory_lock",
    "nextval",
    "setval",
];
const LARGEST_MESSAGE: usize = 16 * 1024;

/// Makes these calls of a new environment: their answers, the round trips of each, and the wire that heard them.
async fn heard(api: &Api, function: &'static str, calls: &[Call]) -> (Vec<Answer>, Vec<usize>, Wire) {
    let (wire, url) = Wire::before(&api.database_url).await;
    let environment = api.environment_with(function, &[("DATABASE_URL", url.as_str()), PATIENT]).await;
    let (mut answers, mut round_trips) = (Vec::new(), Vec::new());
    for call in calls {
        let before = wire.round_trips();
        answers.push(environment.call(call).await);
        round_trips.push(wire.round_trips() - before);
    }
    (answers, round_trips, wire)
}

fn is_stateful(sql: &str) -> bool {
    let words = sql.to_lowercase();
    let mut words = words.split(|character: char| !character.is_alphanumeric() && character != '_');
    words.any(|word| STATEFUL.contains(&word))
}

#[tokio::test]
async fn no_statement_of_a_function_leaves_state_in_its_session() {
    assert!(is_stateful("SET lock_timeout = 1") && is_stateful("select set_config('a', 'b', false)"));
    let api = Api::start().await;
    let club = api.club().await;
    let mut subscriptions = Vec::new();
    for _ in 0..4 {
        subscriptions.push(api.subscription().await);
    }
    let status = |body| Call::post(format!("/subscription/{}/status", subscriptions[0]), body);
    let charge = |number: usize| Call::charge(&subscriptions[number], &format!("o-{number}"));
    // An order that is just small enough to be kept, and one that is not.
    let order = |bytes: usize| {
        let body = json!({ "note": "x".repeat(bytes) }).to_string();
        Behaviour { answer: Reply::Status { status: 201, headers: Default::default(), body }, ..Behaviour::default() }
    };
    api.platform.behave_for("o-1", order(12_000));
    api.platform.behave_for("o-2", order(200_000));
    let longest = "🍺".repeat(36);
    let nobody =
        || Call::post(format!("/subscription/{}/status", "%F0%9F%8D%BA".repeat(36)), json!({ "status_id": 1 }));

    for (function, calls, statuses, round_trips) in [
        (
            "subscribe",
            vec![
                Call::subscribe(club, "c"),
                Call::subscribe(club, &longest),
                Call::subscribe(club, "c"),
                Call::subscribe(club + 99, "c"),
            ],
            vec![201, 201, 409, 404],
            vec![1, 1, 1],
        ),
        (
            "status",
            vec![
                status(json!({ "status_id": 1 })),
                status(json!({ "status_id": 3, "interval": 5, "details": "🍺".repeat(256) })),
                nobody(),
            ],
            vec![200, 200, 404],
            vec![1, 1],
        ),
        (
            "lookup",
            vec![
                Call::get("/club"),
                Call::get(format!("/subscription/{}", subscriptions[0])),
                Call::get("/subscription").query("customer_id", &longest),
                Call::get("/subscription/nobody"),
                Call::get("/club"),
            ],
            vec![200, 200, 200, 404, 200],
            // The second statement is prepared by the second call.
            vec![2, 1, 1, 1],
        ),
        (
            "eligible",
            vec![
                Call::get("/subscription/eligible"),
                Call::get("/subscription/eligible").query("limit", "2"),
                Call::get("/subscription/eligible").query("after", &"x".repeat(1000)),
            ],
            vec![200, 200, 200],
            vec![1, 1],
        ),
        (
            "charge",
            vec![charge(3), charge(1), charge(2), charge(1), Call::charge("nobody", "o")],
            vec![200, 200, 200, 200, 404],
            vec![2, 2, 1, 1],
        ),
    ] {
        let (answers, taken, wire) = heard(&api, function, &calls).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), statuses, "{answers:?}");
        // The first call prepares its statements.
        assert_eq!(taken[1..], round_trips, "{function}");
        let messages = wire.messages();
        for message in &messages {
            assert!(!is_stateful(&message.sql), "{function}: {message:?}");
            assert!(message.size <= LARGEST_MESSAGE, "{function}: {message:?}");
        }
        let statements = messages.iter().filter(|message| !message.sql.is_empty()).count();
        assert_eq!(
            statements,
            if ["charge", "lookup"].contains(&function) { 2 } else { 1 },
            "one for each operation: {messages:?}"
        );
        let largest = messages.iter().map(|message| message.size).max().unwrap_or_default();
        report(&format!("sessions: {function} said {} messages, the largest of {largest} bytes", messages.len()));
    }
    let orders: Vec<Option<String>> = sqlx::query_scalar("select \"order\" from charge_attempt order by request_id")
        .fetch_all(&api.sql)
        .await
        .unwrap();
    assert!(
        orders[0].as_ref().is_some_and(|order| order.len() > 12_000) && orders[1].is_none(),
        "an order that is too large is not kept"
    );
}

#[tokio::test]
async fn connecting_sends_a_start_up_message_and_no_statement() {
    let api = Api::start().await;
    let parameters = ["DateStyle", "TimeZone", "application_name", "client_encoding", "database", "options", "user"];
    for function in functions() {
        let (wire, url) = Wire::before(&api.database_url).await;
        let environment = api.environment_with(function, &[("DATABASE_URL", url.as_str()), PATIENT]).await;
        let connected = format!("select count(*) from {SESSIONS} and state = 'idle'");
        eventually("it connects", async || api.ask::<i64>(&connected).await == 1).await;
        let messages = wire.messages();
        assert!(messages.is_empty(), "{function}: {messages:?}");
        let [start_up] = &wire.start_ups()[..] else { panic!("one connection") };
        assert!(start_up.keys().eq(parameters), "{function}: {start_up:?}");
        assert_eq!(start_up["options"], format!("-c idle_session_timeout={}", PATIENT.1));
        drop(environment);
        eventually("its session ends", async || api.ask::<i64>(&connected).await == 0).await;
    }
}

async fn no_session_is_left(api: &Api) {
    let sessions = format!("select count(*) from {SESSIONS}");
    eventually("the sessions end", async || api.ask::<i64>(&sessions).await == 0).await;
}

/// A call that succeeds each time it is made.
async fn repeatable_calls(api: &Api) -> Vec<Call> {
    let subscription = api.subscription().await;
    let club = api.club().await;
    vec![
        Call::subscribe(club, &Uuid::new_v4().to_string()),
        Call::post(format!("/subscription/{subscription}/status"), json!({ "status_id": 1 })),
        Call::get("/subscription/eligible"),
        Call::get(format!("/subscription/{subscription}")),
        Call::charge(&subscription, "o"),
    ]
}

/// Not a word about a connection in its log.
fn assert_calm(environment: &Environment) {
    let log = environment.log();
    assert!(!["WARN", "ERROR"].iter().any(|level| log.contains(level)), "{log}");
}

#[tokio::test]
async fn an_idle_session_ends_and_the_next_call_is_answered() {
    let api = Api::with(&[("DATABASE_IDLE_TIMEOUT_MS", "200")]).await;
    join_all(repeatable_calls(&api).await.iter().map(async |call| {
        let (wire, url) = Wire::before(&api.database_url).await;
        let environment = api.environment_with(call.function(), &[("DATABASE_URL", url.as_str())]).await;
        let mut last = environment.call(call).await;
        for _ in 0..2 {
            no_session_is_left(&api).await;
            let connected = wire.start_ups().len();
            let answer = environment.call(call).await;
            // A second subscribe is refused, because the first one was not forgotten.
            let status = if call.function() == "subscribe" { 409 } else { 200 };
            assert_eq!(answer.status, status, "after {last:?}: {answer:?}");
            assert!(wire.start_ups().len() > connected, "the session did not end");
            last = answer;
        }
        assert_calm(&environment);
    }))
    .await;
    assert_eq!(api.platform.received().len(), 1);
    // Nobody has called these.
    let _waiting = join_all(functions().map(|function| api.environment(function))).await;
    no_session_is_left(&api).await;
}

#[tokio::test]
async fn a_session_that_ends_while_a_statement_is_on_its_way_is_replaced() {
    let api = Api::start().await;
    let subscription = api.subscription().await;
    let (wire, url) = Wire::before(&api.database_url).await;
    let environment = api.environment_with("charge", &[("DATABASE_URL", url.as_str()), PATIENT]).await;
    assert_eq!(environment.call(&Call::charge("nobody", "o")).await.status, 404);
    // idle_session_timeout
    wire.fail_next("57P05");
    assert_eq!(environment.call(&Call::charge(&subscription, "o")).await.status, 200);
    assert_eq!((wire.start_ups().len(), api.platform.received().len()), (2, 1));
    assert_calm(&environment);
}

#[tokio::test]
async fn without_a_setting_three_seconds_of_silence_end_a_session_and_0_is_never() {
    let api = Api::start().await;
    let eligible = Call::get("/subscription/eligible");
    let (wire, url) = Wire::before(&api.database_url).await;
    let own = |options: &str| database::at(&url, "127.0.0.1", url.port().unwrap(), options);
    let no_settings: &[(&str, &str)] = &[];
    for (url, settings, options) in [
        (url.clone(), no_settings, Some("-c idle_session_timeout=3000")),
        (url.clone(), &[("DATABASE_IDLE_TIMEOUT_MS", "0")], None),
        (
            own("sslmode=disable&options=-c%20work_mem%3D8MB"),
            no_settings,
            Some("-c work_mem=8MB -c idle_session_timeout=3000"),
        ),
        // The URL's own setting stays.
        (own("sslmode=disable&options[idle_session_timeout]=1min"), no_settings, Some("-c idle_session_timeout=1min")),
    ] {
        let settings = [settings, &[("DATABASE_URL", url.as_str())]].concat();
        let environment = api.environment_with("eligible", &settings).await;
        assert_eq!(environment.call(&eligible).await.status, 200);
        let start_ups = wire.start_ups();
        assert_eq!(start_ups.last().unwrap().get("options").map(String::as_str), options);
    }
}

#[tokio::test]
async fn a_server_that_refuses_the_options_is_asked_once() {
    let api = Api::start().await;
    // PgBouncer, RDS Proxy, a server that does not know the parameter.
    for code in ["08P01", "0A000", "42704"] {
        let (wire, url) = Wire::before(&api.database_url).await;
        wire.refuse_options(code);
        let environment = api.environment_with("eligible", &[("DATABASE_URL", url.as_str())]).await;
        for _ in 0..2 {
            assert_eq!(environment.call(&Call::get("/subscription/eligible")).await.status, 200, "{code}");
            wire.cut();
        }
        assert_eq!(environment.call(&Call::get("/subscription/eligible")).await.status, 200, "{code}");
        let start_ups = wire.start_ups();
        let with_options: Vec<bool> = start_ups.iter().map(|start_up| start_up.contains_key("options")).collect();
        assert_eq!(with_options, [true, false, false, false], "{code}: {start_ups:?}");
    }
}
