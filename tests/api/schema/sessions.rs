//! The functions' sessions carry no state, so a pooler can give each call another server connection.

use api_tests::{Answer, Api, Call, SESSIONS, eventually, report, routes::functions, wire::Wire};
use ecommerce_stub::{Answer as Reply, Behaviour};
use serde_json::json;

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
    let environment = api.environment_with(function, &[("DATABASE_URL", url.as_str())]).await;
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
    let orders: Vec<Option<String>> =
        sqlx::query_scalar("select platform_order from charge_attempt order by request_id")
            .fetch_all(&api.sql)
            .await
            .unwrap();
    assert!(
        orders[0].as_ref().is_some_and(|order| order.len() > 12_000) && orders[1].is_none(),
        "an order that is too large is not kept"
    );
}

#[tokio::test]
async fn connecting_sends_no_statement() {
    let api = Api::start().await;
    for function in functions() {
        let (wire, url) = Wire::before(&api.database_url).await;
        let environment = api.environment_with(function, &[("DATABASE_URL", url.as_str())]).await;
        let connected = format!("select count(*) from {SESSIONS} and state = 'idle'");
        eventually("it connects", async || api.ask::<i64>(&connected).await == 1).await;
        let messages = wire.messages();
        assert!(messages.is_empty(), "{function}: {messages:?}");
        drop(environment);
        eventually("its session ends", async || api.ask::<i64>(&connected).await == 0).await;
    }
}
