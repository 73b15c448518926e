//! The database disappears, stalls, or comes back read-only, at each step of a charge.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ecommerce_stub::Behaviour;
use harness::{Answer, Api, Call, Environment, PATIENT, SESSIONS, eventually, wire::Wire};
use serde_json::json;
use sqlx::{Postgres, Transaction};
use tokio::task::JoinHandle;
use uuid::Uuid;

const READ_ONLY: &str = "default_transaction_read_only";

/// A charge through a wire that can be cut.
struct Scene {
    api: Api,
    wire: Wire,
    environment: Arc<Environment>,
    subscription: String,
}

impl Scene {
    async fn new() -> Self {
        let api = Api::start().await;
        let subscription = api.subscription().await;
        let (wire, url) = Wire::before(&api.database_url).await;
        let settings = [("DATABASE_URL", url.as_str()), ("RUST_LOG", "info,club_core=debug"), PATIENT];
        let environment = Arc::new(api.environment_with("charge", &settings).await);
        // Its connection has prepared every statement from now on.
        let other = api.subscription().await;
        assert_eq!(environment.call(&Call::charge(&other, "warm")).await.status, 200);
        Self { api, wire, environment, subscription }
    }

    fn orders(&self) -> usize {
        self.api.platform.received().iter().filter(|order| order.request_id == "o").count()
    }

    /// The states of the scene's attempts.
    async fn states(&self) -> Vec<String> {
        let ledger = self.api.ledger().await.into_iter();
        ledger.filter(|attempt| attempt.request_id == "o").map(|attempt| attempt.state).collect()
    }

    async fn nothing_happened(&self) {
        assert_eq!((self.orders(), self.states().await), (0, Vec::new()));
    }

    fn charge(&self) -> JoinHandle<Answer> {
        let (environment, call) = (Arc::clone(&self.environment), Call::charge(&self.subscription, "o"));
        tokio::spawn(async move { environment.call(&call).await })
    }

    /// A charge whose order the platform has and does not answer yet.
    async fn while_waiting(&self) -> JoinHandle<Answer> {
        self.api.platform.behave_for("o", Behaviour { held: true, ..Behaviour::default() });
        let charge = self.charge();
        eventually("the order arrives", async || self.orders() > 0).await;
        charge
    }

    async fn locked(&self, rows: &'static str) -> Transaction<'static, Postgres> {
        let mut transaction = self.api.sql.begin().await.unwrap();
        sqlx::query(rows).execute(&mut *transaction).await.unwrap();
        transaction
    }

    /// One order, one attempt, charged.
    async fn ends_well(&self, answer: &Answer) {
        assert_eq!((answer.status, &answer.body["order"]["request_id"]), (200, &json!("o")), "{answer:?}");
        assert_eq!(self.states().await, ["charged"]);
    }

    /// After its deadline the attempt is unresolved, and a repeat charges it.
    async fn ends_well_later(&self) {
        self.api.set_clock("statement_timestamp() + interval '1 minute'").await;
        let seen: i64 = self.api.ask("select count(*) from unresolved_charges where request_id = 'o'").await;
        assert_eq!(seen, 1);
        self.ends_well(&self.environment.call(&Call::charge(&self.subscription, "o")).await).await;
    }
}

#[tokio::test]
async fn a_connection_cut_between_claim_and_settle_is_replaced() {
    let scene = Scene::new().await;
    let charge = scene.while_waiting().await;
    scene.wire.cut();
    scene.api.platform.release();
    scene.ends_well(&charge.await.unwrap()).await;
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_recognized() {
    let scene = Scene::new().await;
    scene.wire.hold_answers();
    let charge = scene.charge();
    eventually("the claim is committed", async || !scene.states().await.is_empty()).await;
    assert_eq!(scene.orders(), 0);
    scene.wire.cut();
    scene.ends_well(&charge.await.unwrap()).await;
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_settlement_whose_answer_was_lost_is_recognized() {
    let scene = Scene::new().await;
    let charge = scene.while_waiting().await;
    scene.wire.hold_answers();
    scene.api.platform.release();
    eventually("the settlement is committed", async || scene.states().await == ["charged"]).await;
    scene.wire.cut();
    let answer = charge.await.unwrap();
    scene.ends_well(&answer).await;
    assert_eq!((scene.orders(), &answer.body["already_charged"]), (1, &json!(false)));
}

#[tokio::test]
async fn a_claim_that_met_a_lock_sees_what_was_committed_meanwhile() {
    let scene = Scene::new().await;
    let mut operator = scene.locked("select from subscription for update").await;
    let charge = scene.charge();
    // The lock stays until the function has met it.
    eventually("the function meets the lock", async || scene.environment.log().contains("is in the way")).await;
    sqlx::query(
        "insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
         select gen_random_uuid()::text, id, 2, utc_now(), utc_now() from subscription",
    )
    .execute(&mut *operator)
    .await
    .unwrap();
    operator.commit().await.unwrap();
    charge.await.unwrap().refuses(409, "not_chargeable");
    scene.nothing_happened().await;
}

#[tokio::test]
async fn a_call_that_gives_up_on_a_lock_leaves_nothing_behind() {
    let scene = Scene::new().await;
    let lock = scene.locked("select from subscription for update").await;
    let event = Call::charge(&scene.subscription, "o").event();
    // It waits until the time that is left is too short to call out.
    scene.environment.invoke(event, Duration::from_secs(7)).await.refuses(503, "ecommerce_unavailable");
    // Its last statement may still wait for the lock, and would get it.
    scene.wire.cut();
    let sessions = format!("select count(*) from {SESSIONS} and query like '%claim_charge%'");
    eventually("its session ends", async || scene.api.ask::<i64>(&sessions).await == 0).await;
    lock.rollback().await.unwrap();
    scene.nothing_happened().await;
    assert_eq!(scene.api.charge(&scene.subscription, "another").await.status, 200);
}

#[tokio::test]
async fn without_a_database_at_the_claim_nothing_is_sent() {
    let scene = Scene::new().await;
    scene.wire.go_down();
    scene.charge().await.unwrap().refuses(503, "database_unavailable");
    scene.nothing_happened().await;
    scene.wire.come_up();
    scene.ends_well(&scene.charge().await.unwrap()).await;
}

#[tokio::test]
async fn without_a_database_at_the_settlement_the_outcome_is_unknown() {
    let scene = Scene::new().await;
    let charge = scene.while_waiting().await;
    scene.wire.go_down();
    scene.api.platform.release();
    charge.await.unwrap().refuses(504, "charge_outcome_unknown");
    scene.wire.come_up();
    eventually("it is logged", async || scene.environment.log().contains("charge not settled")).await;
    scene.ends_well_later().await;
}

#[tokio::test]
async fn a_settlement_whose_session_the_database_ends_is_recorded() {
    let scene = Scene::new().await;
    // Less than the function's lock_timeout. PostgreSQL 17 and later have it.
    scene.api.set_default("transaction_timeout", "200").await;
    scene.wire.cut();
    let charge = scene.while_waiting().await;
    let lock = scene.locked("select from charge_attempt for update").await;
    scene.api.platform.release();
    eventually("its session is ended", async || scene.environment.log().contains("transaction timeout")).await;
    lock.rollback().await.unwrap();
    scene.ends_well(&charge.await.unwrap()).await;
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_fatal_error_of_any_code_loses_neither_a_claim_nor_a_settlement() {
    // Timeouts of PostgreSQL, an internal error, a code of nobody's.
    for code in ["25P03", "25P04", "57P05", "XX000", "0B00B"] {
        let scene = Scene::new().await;
        scene.wire.fail_next(code);
        let charge = scene.while_waiting().await;
        scene.wire.fail_next(code);
        scene.api.platform.release();
        scene.ends_well(&charge.await.unwrap()).await;
        assert_eq!(scene.orders(), 1, "{code}");
    }
}

/// The database's URL for a role that may not have a single connection.
async fn without_connections(api: &Api) -> (String, String) {
    let role = format!("role_{}", Uuid::new_v4().simple());
    api.run(&format!("create role {role} login in role {} connection limit 0", api.database_url.username())).await;
    let mut url = api.database_url.clone();
    url.set_username(&role).unwrap();
    (role, url.into())
}

#[tokio::test]
async fn a_free_connection_is_waited_for_as_long_as_the_request_has_time() {
    // Longer than for a server that cannot be reached.
    const LONG: Duration = Duration::from_secs(6);
    let api = Api::start().await;
    let club = api.club().await;
    let (role, url) = without_connections(&api).await;
    let environment = api.environment_with("subscribe", &[("DATABASE_URL", &url)]).await;
    let begun = Instant::now();
    let call = Call::subscribe(club, "c");
    let (answer, ()) = tokio::join!(environment.call(&call), async {
        eventually("it waits for long", async || begun.elapsed() > LONG).await;
        api.run(&format!("alter role {role} connection limit 1")).await;
    });
    assert_eq!(answer.status, 201, "{answer:?}");
    let log = environment.log();
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains("too many connections for role"), "{log}");
}

#[tokio::test]
async fn without_a_free_connection_the_database_is_unavailable_and_the_log_says_why() {
    let api = Api::start().await;
    let (_, url) = without_connections(&api).await;
    let environment = api.environment_with("eligible", &[("DATABASE_URL", &url)]).await;
    let eligible = Call::get("/subscription/eligible").event();
    let answer = environment.invoke(eligible, Duration::from_secs(2)).await;
    answer.refuses(503, "database_unavailable");
    eventually("it is logged", async || {
        let log = environment.log();
        log.lines().any(|line| line.contains("\"failed\"") && line.contains("too many connections for role"))
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_the_database_cancels_sends_nothing() {
    let scene = Scene::new().await;
    scene.api.set_default("statement_timeout", "200").await;
    scene.wire.cut();
    let lock = scene.locked("lock table subscription").await;
    scene.charge().await.unwrap().refuses(503, "database_unavailable");
    lock.rollback().await.unwrap();
    scene.nothing_happened().await;
    scene.ends_well(&scene.charge().await.unwrap()).await;
}

#[tokio::test]
async fn a_settlement_that_the_database_cancels_is_repeated_later() {
    let scene = Scene::new().await;
    scene.api.set_default("statement_timeout", "200").await;
    scene.wire.cut();
    let charge = scene.while_waiting().await;
    let lock = scene.locked("select from charge_attempt for update").await;
    scene.api.platform.release();
    charge.await.unwrap().refuses(504, "charge_outcome_unknown");
    lock.rollback().await.unwrap();
    scene.ends_well_later().await;
}

#[tokio::test]
async fn a_read_only_server_is_an_unavailable_database() {
    let scene = Scene::new().await;
    scene.api.set_default(READ_ONLY, "on").await;
    scene.wire.cut();
    scene.charge().await.unwrap().refuses(503, "database_unavailable");
    scene.nothing_happened().await;

    // It becomes writable, and read-only again while the platform has the order.
    scene.api.set_default(READ_ONLY, "off").await;
    let charge = scene.while_waiting().await;
    scene.api.set_default(READ_ONLY, "on").await;
    scene.wire.cut();
    scene.api.platform.release();
    charge.await.unwrap().refuses(504, "charge_outcome_unknown");
    scene.api.set_default(READ_ONLY, "off").await;
    scene.ends_well_later().await;
}

#[tokio::test]
async fn a_function_that_was_frozen_while_the_database_restarted_answers_its_first_request() {
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
        let environment = api.environment_with(function, &[("DATABASE_URL", url.as_str())]).await;
        // Connects, and does not do what the call will do.
        let warm = if function == "eligible" { call.clone() } else { call.clone().body("{}") };
        let warm = if function == "charge" { Call::charge("nobody", "o") } else { warm };
        environment.call(&warm).await;
        environment.freeze();
        // A restart ends every session, with or without a message, and for a while nobody listens.
        if index % 2 == 0 {
            api.run(&format!("select pg_terminate_backend(pid) from {SESSIONS}")).await;
        }
        wire.go_down();
        environment.thaw();
        // The server is back while the function still tries.
        let (answer, ()) = tokio::join!(environment.call(&call), async {
            let tried = wire.refused();
            eventually("the function tries", async || wire.refused() > tried).await;
            wire.come_up();
        });
        assert!([200, 201].contains(&answer.status), "{function}: {answer:?}");
    }
    assert_eq!(api.ask::<i64>("select count(*) from subscription where customer_store_id = 'c'").await, 1);
}

#[tokio::test]
async fn a_database_that_stays_down_is_unavailable_until_it_is_up() {
    let api = Api::start().await;
    let (wire, url) = Wire::before(&api.database_url).await;
    wire.go_down();
    let environment = api.environment_with("eligible", &[("DATABASE_URL", url.as_str())]).await;
    let answer = environment.call(&Call::get("/subscription/eligible")).await;
    assert!(answer.refuses(503, "database_unavailable").headers.contains_key("retry-after"));
    wire.come_up();
    assert_eq!(environment.call(&Call::get("/subscription/eligible")).await.status, 200);
}
