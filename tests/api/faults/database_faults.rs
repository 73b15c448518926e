//! The database goes away, stalls, or comes back as another, at each step of a charge.

use std::{sync::Arc, time::Duration};

use api_tests::{Answer, Api, Call, Environment, eventually, wire::Wire};
use ecommerce_stub::Behaviour;
use serde_json::json;
use sqlx::{Postgres, Transaction};
use tokio::task::JoinHandle;

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
        let environment = Arc::new(
            api.environment_with("charge", &[("DATABASE_URL", &url), ("RUST_LOG", "info,club_core=debug")]).await,
        );
        // Every statement is known on its connection from now on.
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

    /// The platform has the order and does not answer yet.
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

    /// The attempt is found as unknown once its deadline is past, and repeating it ends well.
    async fn ends_well_later(&self) {
        self.api.set_clock("statement_timestamp() + interval '1 minute'").await;
        let seen: i64 = self.api.ask("select count(*) from unresolved_charges where request_id = 'o'").await;
        assert_eq!(seen, 1);
        self.ends_well(&self.environment.call(&Call::charge(&self.subscription, "o")).await).await;
    }
}

#[tokio::test]
async fn a_connection_cut_between_claim_and_settle_is_made_again() {
    let scene = Scene::new().await;
    let charge = scene.while_waiting().await;
    scene.wire.cut();
    scene.api.platform.release();
    scene.ends_well(&charge.await.unwrap()).await;
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_recognised() {
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
async fn a_settlement_whose_answer_was_lost_is_recognised() {
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
async fn a_subscription_that_is_locked_is_looked_at_again_when_it_is_not() {
    let scene = Scene::new().await;
    let mut operator = scene.locked("select from subscription for update").await;
    let charge = scene.charge();
    // It stays away for as long as it takes to be noticed.
    eventually("the function was turned away", async || scene.environment.log().contains("is in the way")).await;
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
    scene.environment.invoke(event, Duration::from_secs(7)).await.refuses(503, "database_unavailable");
    // Its last question may be on its way still, and would find the lock gone.
    scene.wire.cut();
    let sessions = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'beer-club' and query like '%claim_charge%'";
    eventually("its session ends", async || scene.api.ask::<i64>(sessions).await == 0).await;
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
async fn without_a_database_at_the_settlement_the_answer_is_honest() {
    let scene = Scene::new().await;
    let charge = scene.while_waiting().await;
    scene.wire.go_down();
    scene.api.platform.release();
    charge.await.unwrap().refuses(504, "charge_outcome_unknown");
    scene.wire.come_up();
    eventually("it is logged", async || scene.environment.log().contains("not_recorded")).await;
    scene.ends_well_later().await;
}

#[tokio::test]
async fn a_claim_that_the_database_cancels_sends_nothing() {
    let scene = Scene::new().await;
    scene
        .api
        .run("do $$ begin execute format('alter database %I set statement_timeout = 200', current_database()); end $$")
        .await;
    scene.wire.cut();
    let lock = scene.locked("lock table subscription").await;
    scene.charge().await.unwrap().refuses(503, "database_unavailable");
    lock.rollback().await.unwrap();
    scene.nothing_happened().await;
    scene.ends_well(&scene.charge().await.unwrap()).await;
}

#[tokio::test]
async fn a_settlement_that_the_database_cancels_is_found_later() {
    let scene = Scene::new().await;
    scene
        .api
        .run("do $$ begin execute format('alter database %I set statement_timeout = 200', current_database()); end $$")
        .await;
    scene.wire.cut();
    let charge = scene.while_waiting().await;
    let lock = scene.locked("select from charge_attempt for update").await;
    scene.api.platform.release();
    charge.await.unwrap().refuses(504, "charge_outcome_unknown");
    lock.rollback().await.unwrap();
    scene.ends_well_later().await;
}

#[tokio::test]
async fn a_failover_to_a_read_only_server_is_no_database() {
    let scene = Scene::new().await;
    let set = |value: &str| {
        format!(
            "do $$ begin execute format('alter database %I set default_transaction_read_only = {value}', current_database()); end $$"
        )
    };
    scene.api.run(&set("on")).await;
    scene.wire.cut();
    scene.charge().await.unwrap().refuses(503, "database_unavailable");
    scene.nothing_happened().await;

    // It comes back, and goes read-only again while the platform has the order.
    scene.api.run(&set("off")).await;
    let charge = scene.while_waiting().await;
    scene.api.run(&set("on")).await;
    scene.wire.cut();
    scene.api.platform.release();
    charge.await.unwrap().refuses(504, "charge_outcome_unknown");
    scene.api.run(&set("off")).await;
    scene.ends_well_later().await;
}
