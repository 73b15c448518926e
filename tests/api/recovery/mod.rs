//! The database survives copies, moves, restores, fail-overs and upgrades, and gives each login its rights and no more.
//!
//! The commands that a person would type are those of docs/recovery.md.

mod copies;
mod deletion;
mod restore;
pub mod rights;
mod search_path;
mod upgrade;

use ecommerce_stub::Behaviour;
use harness::{
    Api, Call, TEMPLATE, checker, create_database, eventually, pause,
    postgres::{Shell, programs},
};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use url::Url;
use uuid::Uuid;

const GUIDE: &str = include_str!("../../../docs/recovery.md");
const DELETE: &str = "delete from subscription_status_history; delete from subscription";
const TRUNCATE: &str = "truncate subscription_status_history, subscription";

/// A subscription for each state that a month can be in; its id names it.
const SUBSCRIPTIONS: [&str; 6] = ["charged", "unknown", "rejected", "orphaned", "charged-again", "open"];

/// Makes the subscriptions. A club's sku names the club.
async fn subscribe(api: &Api, ids: &[&str]) {
    let club: i32 = api.ask("select max(id) from club").await;
    for id in ids {
        api.run(&format!(
            "insert into subscription values ('{id}', {club}, 'customer of {id}', utc_now());
             insert into subscription_status_history values ('entry of {id}', '{id}', 1, utc_now(), utc_now())"
        ))
        .await;
    }
}

/// Subscribes and charges, so that each subscription's month is in the state of its name.
pub async fn fill(api: &Api) {
    api.club().await;
    subscribe(api, &["orphaned", "charged-again"]).await;
    assert!(charges(api, "orphaned", "4").await);
    assert!(charges(api, "charged-again", "5").await);
    api.run(DELETE).await;
    subscribe(api, &["charged-again"]).await;
    assert!(charges(api, "charged-again", "5").await);
    api.run(TRUNCATE).await;
    subscribe(api, &SUBSCRIPTIONS).await;
    assert!(charges(api, "charged-again", "5").await);
    assert!(charges(api, "charged", "1").await);
    api.charge_into_the_unknown("unknown", "2").await;
    api.platform.behave_for("3", Behaviour::status(422));
    api.charge("rejected", "3").await.refuses(502, "order_rejected");
}

/// True if this call charges; false if the month was charged before.
pub async fn charges(api: &Api, subscription: &str, request_id: &str) -> bool {
    let answer = api.charge(subscription, request_id).await;
    assert_eq!(answer.status, 200, "{subscription}, {request_id}: {answer:?}");
    answer.body["already_charged"] == json!(false)
}

/// Checks that the ledger counts as the one that was filled, and that subscriptions can be deleted.
///
/// Each copy sends the same request_ids, so that the platform's log can be held against the ledger of each.
async fn counts_as_before(api: &Api) {
    assert!(!charges(api, "charged", "1").await);
    assert!(!charges(api, "charged", "another").await);
    assert!(!charges(api, "charged-again", "5").await);
    assert!(!charges(api, "charged-again", "another").await);
    let refused = api.charge("unknown", "another").await;
    assert_eq!(refused.refuses(409, "charge_outcome_unknown").text("request_id"), "2");
    assert!(charges(api, "unknown", "2").await);
    assert!(charges(api, "rejected", "3-again").await);
    assert!(charges(api, "orphaned", "4-again").await);
    assert!(charges(api, "open", "6").await);
    assert_eq!(checker::violations(&api.platform.received(), &api.ledger().await), Vec::<String>::new());

    for delete in [DELETE, TRUNCATE] {
        api.run(delete).await;
        assert!(api.ask::<bool>("select bool_and(orphaned) from charge_ledger").await, "{delete}");
        subscribe(api, &SUBSCRIPTIONS).await;
        for (subscription, request_id) in SUBSCRIPTIONS.iter().zip(["1", "2", "3-again", "4-again", "5", "6"]) {
            assert!(charges(api, subscription, request_id).await, "{delete}");
        }
        assert_eq!(checker::violations(&api.platform.received(), &api.ledger().await), Vec::<String>::new());
    }
}

/// A new role of the test server.
pub async fn role(api: &Api, options: &str) -> String {
    let name = format!("role_{}", Uuid::new_v4().simple());
    api.run(&format!("create role {name} {options}")).await;
    name
}

/// A database `beer_club` on the server in this data folder, with the schema of the API's database. It is `OLD` from now on.
fn with_our_schema(shell: &mut Shell, data: &str, api: &Api) -> Url {
    let old = shell.url(data, "beer_club");
    shell.set("OLD", old.as_str());
    shell.set("PGOPTIONS", "-c default_transaction_read_only=off");
    // The dump is that of the API's server. An earlier version does not have this setting.
    shell.run(&format!(
        "createdb --maintenance-db='{}' beer_club
        {}/pg_dump --dbname='{}' | sed '/SET transaction_timeout/d' | psql --quiet --set=ON_ERROR_STOP=1 \"$OLD\"",
        shell.url(data, "postgres"),
        programs("POSTGRES_PROGRAMS").display(),
        api.database_url
    ));
    old
}

/// Closes the API as the guide says, and looks at what it answers then.
async fn closed(shell: &Shell, api: &Api) {
    let [close] = commands("Close").try_into().unwrap();
    shell.run(&close);
    // A new session has the setting only after all others were told.
    eventually("the server has it", async || {
        let mut session = PgConnection::connect(api.database_url.as_str()).await.unwrap();
        let closed: String =
            sqlx::query_scalar("show default_transaction_read_only").fetch_one(&mut session).await.unwrap();
        closed == "on"
    })
    .await;
    let orders = api.platform.received().len();
    api.charge("open", "6").await.refuses(503, "database_unavailable");
    assert_eq!(api.platform.received().len(), orders);
    assert_eq!(api.call(Call::get("/subscription/open")).await.status, 200);
}

#[test]
fn every_command_of_the_guide_is_run() {
    let headings = GUIDE.split("\n## ").skip(1).map(|section| section.lines().next().unwrap());
    let with_commands: Vec<_> = headings.filter(|heading| !commands(heading).is_empty()).collect();
    assert_eq!(
        with_commands,
        [
            "Close",
            "Open",
            "Dump and restore",
            "Moving to a new server",
            "Restore to a point in time",
            "Fail-over",
            "The way back",
            "Upgrade"
        ],
        "the tests run the commands under these headings"
    );
}

/// The guide's commands under this heading, block by block.
fn commands(heading: &str) -> Vec<String> {
    blocks(heading, "sh")
}

fn blocks(heading: &str, language: &str) -> Vec<String> {
    let (_, section) = GUIDE.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}
