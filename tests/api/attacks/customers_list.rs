//! A customer's list of 30,000 subscriptions, and its cursor.

use harness::{Answer, Api, Call, Environment, gateway::Authorizer, report};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::time::Duration;

use crate::schema::costs::rows_read;

const MANY: usize = 30_000;
/// The largest answer of a Lambda function.
const LARGEST_ANSWER: usize = 6 * 1024 * 1024;

/// Subscriptions of customer c. Many share a date, some have a date that cannot be shown, or none. A third of the ids are as
/// long as can be in JSON.
fn load(club: i32) -> String {
    format!(
        "insert into subscription
            select case when n % 3 = 0 then repeat(e'\\\\', 30) || lpad(n::text, 6, '0') else gen_random_uuid()::text end,
                {club}, 'c',
                case n % 100 when 0 then null when 1 then 'infinity' when 2 then '-infinity' when 3 then timestamp '12000-01-01'
                    else date '2020-01-01' + n % 977 * interval '1 hour' + n % 5 * interval '1 microsecond' end
            from generate_series(1, {MANY}) n;
         insert into subscription_status_history
            select md5(id), id, 3, '2020-01-01', '2020-01-01' from subscription;
         insert into subscription_status_history
            select md5(id || 'r'), id, 1, '2999-01-01', '2020-01-01', 'Automatic return schedule' from subscription;"
    )
}

fn list() -> Call {
    Call::get("/subscription").query("customer_id", "c")
}

fn ids(answer: &Answer) -> Vec<String> {
    let found = answer.body.as_array().unwrap_or_else(|| panic!("{answer:?}"));
    found.iter().map(|found| found["id"].as_str().unwrap().to_owned()).collect()
}

/// Every page, each found by the link of the one before. After each, somebody else creates a subscription for the customer.
async fn pages(api: &Api, environment: &Environment, first: Call) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(first));
    while let Some(call) = next {
        let payload = environment.invoke_raw(call.event(), Duration::from_secs(29)).await.unwrap();
        let size = payload.to_string().len();
        assert!(size <= LARGEST_ANSWER, "{size}");
        let answer = Answer::of(payload);
        next = answer.next_page("/subscription");
        pages.push(ids(&answer));
        let create_date = ["null", "'2020-01-10'", "'2020-02-01'", "utc_now()"][pages.len() % 4];
        api.run(&format!(
            "insert into subscription values ('new ' || gen_random_uuid()::varchar(30), 1, 'c', {create_date})"
        ))
        .await;
    }
    pages
}

#[tokio::test]
async fn a_customer_with_30_000_subscriptions_is_listed() {
    let api = Api::start().await;
    let club = api.club().await;
    api.run(&load(club)).await;
    api.run("vacuum analyze subscription, subscription_status_history").await;
    let environment = api.environment("lookup").await;
    let expected: Vec<String> = sqlx::query_scalar(
        "select id from subscription where customer_store_id = 'c'
         order by iso_moment(create_date) nulls first, id collate \"C\"",
    )
    .fetch_all(&api.sql)
    .await
    .unwrap();
    for (limit, size) in [(None, 1000), (Some("10000"), 10_000)] {
        let first = limit.map_or(list(), |limit| list().query("limit", limit));
        let pages = pages(&api, &environment, first).await;
        assert!(pages.iter().all(|page| page.len() <= size), "{limit:?}");
        let old = pages.concat().into_iter().filter(|id| !id.starts_with("new ")).collect::<Vec<_>>();
        assert!(old == expected, "{limit:?}: none is missing, none comes twice, and all are in order");
        report(&format!("30,000 subscriptions come in {} pages with limit {limit:?}", pages.len()));
        api.run("delete from subscription where id like 'new %'").await;
    }

    // A page reads the customer's rows once, and the statuses of the subscriptions on it.
    let mut session = PgConnection::connect(api.database_url.as_str()).await.unwrap();
    let page = "select subscriptions(null, 'c', '2020-01-10', 'x', 101, 60)";
    let read = rows_read(&mut session, page).await;
    report(&format!("rows read for a page of 100 of 30,000: {read}"));
    assert!(read <= 2 * MANY as i64 + 100 * 20, "{read}");
}

#[tokio::test]
async fn a_cursor_is_checked_and_leads_to_nobody_elses_subscription() {
    let api = Api::with(&[("CUSTOMER_CLAIM", "customer")]).await;
    let club = api.club().await;
    api.run(&format!(
        "insert into subscription
            select customer || n, {club}, customer, case when n > 1 then date '2020-01-01' + n end
            from generate_series(1, 4) n, (values ('c'), ('d')) customer (customer)"
    ))
    .await;
    let as_customer =
        |call: Call, customer: &str| call.authorized(Authorizer::UserPool, json!({ "customer": customer }));
    let mut cursors = Vec::new();
    let mut next = Some(Call::get("/subscription").query("limit", "1"));
    let mut seen = Vec::new();
    while let Some(call) = next {
        let answer = api.call(as_customer(call, "c")).await;
        seen.extend(ids(&answer));
        next = answer.next_page("/subscription");
        cursors.extend(next.iter().map(|call| call.query.clone()));
    }
    assert_eq!(seen, ["c1", "c2", "c3", "c4"]);
    assert_eq!(cursors.len(), 3);
    // With the same cursor, another customer's own list goes on from that position.
    for (place, query) in cursors.into_iter().enumerate() {
        assert!(query.iter().all(|(name, _)| name != "customer_id"), "it was not asked for: {query:?}");
        let mut call = Call::get("/subscription");
        call.query = query.into_iter().filter(|(name, _)| name == "after").collect();
        let answer = api.call(as_customer(call.clone(), "d")).await;
        assert_eq!(ids(&answer), ["d1", "d2", "d3", "d4"][place..], "d comes after c: {call:?}");
        // A cursor may name a subscription that does not exist.
        let position = call.query[0].1.replace(".c", ".b");
        let unknown = as_customer(Call::get("/subscription").query("after", &position), "d");
        assert_eq!(ids(&api.call(unknown).await), ids(&answer));
    }
    for after in [
        "",
        "c1",
        "x.c1",
        "1,5.c1",
        "9999999999999999999.c1",
        "253402300800000000.c1",
        "-62135596800000001.c1",
        "99999999999999999999999.c1",
        "1.a\0b",
        "infinity.c1",
        "now.c1",
        &format!("1.{}", "x".repeat(37)),
    ] {
        let call = as_customer(Call::get("/subscription").query("after", after), "c");
        let detail = api.call(call).await.refuses(400, "invalid_request").text("detail").to_owned();
        assert!(detail.starts_with("after must be"), "{after:?}: {detail}");
    }
    for limit in ["0", "10001", "-1", "x"] {
        let call = as_customer(Call::get("/subscription").query("limit", limit), "c");
        api.call(call).await.refuses(400, "invalid_request");
    }
}
