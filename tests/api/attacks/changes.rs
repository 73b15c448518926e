//! A customer records thousands of status changes on one subscription. Every read has to go through them.

use std::{fs, sync::Arc};

use harness::{Answer, Api, Call, PATIENT, eventually, gateway::Authorizer, report, wire::Wire};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::schema::costs::rows_read;

const A_DAY: u64 = 24 * 60 * 60;
const ENTRIES: &str = "select count(*) from subscription_status_history";

fn change(customer: &str, subscription: &str, body: Value) -> Call {
    let call = Call::post(format!("/subscription/{subscription}/status"), body);
    call.authorized(Authorizer::UserPool, json!({ "customer": customer }))
}

fn too_many(answer: &Answer) -> u64 {
    let retry_after = &answer.refuses(429, "too_many_changes").headers["retry-after"];
    let retry_after = retry_after.parse().unwrap();
    assert!((1..=A_DAY).contains(&retry_after), "{retry_after}");
    retry_after
}

#[tokio::test]
async fn a_customer_records_thousands_of_changes_and_reads_them() {
    let api = Api::with(&[("CHANGES_PER_DAY", "100"), ("CUSTOMER_CLAIM", "customer")]).await;
    let club = api.club().await;
    api.run(&format!("insert into subscription values ('s', {club}, 'c'), ('other', {club}, 'd')")).await;
    api.set_clock("timestamptz '2026-11-10T10:00:00Z'").await;
    for number in 0..100 {
        // A pause with its return is one change.
        let answer = api.call(change("c", "s", json!({ "status_id": 3, "interval": 1 + number }))).await;
        assert_eq!(answer.status, 200, "{number}: {answer:?}");
    }
    let entries: i64 = api.ask(ENTRIES).await;
    assert_eq!(entries, 200);
    for number in 0..500 {
        let body = [json!({ "status_id": 1 }), json!({ "status_id": 2 }), json!({ "status_id": 3, "skip": "2027-01" })];
        let retry_after = too_many(&api.call(change("c", "s", body[number % 3].clone())).await);
        assert_eq!(retry_after, A_DAY);
    }
    // Another customer finds no such subscription. Each subscription has its own limit.
    api.call(change("d", "s", json!({ "status_id": 1 }))).await.refuses(404, "subscription_not_found");
    assert_eq!(api.ask::<i64>(ENTRIES).await, entries, "nothing was written");
    assert_eq!(api.call(change("d", "other", json!({ "status_id": 1 }))).await.status, 200);
    // A skip of a past month is a 400, not a 429.
    api.call(change("c", "s", json!({ "status_id": 3, "skip": "2020-01" }))).await.refuses(400, "invalid_request");

    let read = Call::get("/subscription/s").authorized(Authorizer::UserPool, json!({ "customer": "c" }));
    assert_eq!(api.call(read).await.body["status_id"], 3);
    let mut session = PgConnection::connect(api.database_url.as_str()).await.unwrap();
    for call in ["select subscriptions('s', null, null, null, null, 60)", "select * from subscription_current_status"] {
        let read = rows_read(&mut session, call).await;
        assert!(read <= 4 * entries, "{call}: {read}");
    }

    // An operator's rows are never refused. The next change is possible when the answer said.
    api.run("insert into subscription_status_history values ('x', 's', 1, '2026-11-10 11:00', '2026-11-10 11:00')")
        .await;
    api.set_clock("timestamptz '2026-11-11T09:59:57Z'").await;
    let retry_after = too_many(&api.call(change("c", "s", json!({ "status_id": 1 }))).await);
    // The changes were a microsecond apart.
    assert_eq!(retry_after, 4);
    api.set_clock("timestamptz '2026-11-11T10:00:01Z'").await;
    assert_eq!(api.call(change("c", "s", json!({ "status_id": 1 }))).await.status, 200);
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_not_one_too_many() {
    let api = Api::start().await;
    let club = api.club().await;
    api.run(&format!("insert into subscription values ('s', {club}, 'c')")).await;
    let (wire, url) = Wire::before(&api.database_url).await;
    let settings = [("DATABASE_URL", url.as_str()), ("CHANGES_PER_DAY", "2"), PATIENT];
    let environment = Arc::new(api.environment_with("status", &settings).await);
    let pause = || Call::post("/subscription/s/status", json!({ "status_id": 3 }));
    assert_eq!(environment.call(&pause()).await.status, 200);

    wire.hold_answers();
    let last = tokio::spawn({
        let environment = Arc::clone(&environment);
        async move { environment.call(&pause()).await }
    });
    eventually("the change is committed", async || api.ask::<i64>(ENTRIES).await == 2).await;
    wire.cut();
    let answer = last.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    too_many(&environment.call(&pause()).await);
    assert_eq!(api.ask::<i64>(ENTRIES).await, 2);
}

/// Every change under a scheduled pause has to correct that pause. In a month, those would be a million entries.
#[tokio::test]
async fn a_customer_makes_each_change_record_many_entries() {
    let api = Api::with(&[("CHANGES_PER_DAY", "100")]).await;
    let club = api.club().await;
    api.run(&format!("insert into subscription values ('s', {club}, 'c')")).await;
    let mut session = PgConnection::connect(api.database_url.as_str()).await.unwrap();
    let (mut recorded, mut most_read) = (0, 0);
    for day in 10..20 {
        api.set_clock(&format!("timestamptz '2026-11-{day}T10:00:00Z'")).await;
        for number in 0..120 {
            let [begin, end] = ["01", "02"].map(|month| format!("{}-{month}-{day}", 2030 + number));
            let schedule = json!({ "status_id": 3, "effect_date": begin, "until": end });
            let body = if number < 60 { schedule } else { json!({ "status_id": 1 + number % 2 * 2 }) };
            let answer = api.status("s", body).await;
            if answer.status == 200 {
                recorded += 1;
            } else {
                too_many(&answer);
            }
        }
        let change =
            "select record_status('s', null, 3, null, null, null, null, null, null, null, 'UTC', 'x', null, 60)";
        for call in [change, "select subscriptions('s', null, null, null, null, 60)"] {
            most_read = most_read.max(rows_read(&mut session, call).await);
        }
    }
    let entries: i64 = api.ask(ENTRIES).await;
    report(&format!(
        "in 10 days at the limit, {recorded} changes made {entries} entries; a call read at most {most_read} rows"
    ));
    // The last change of a day can record a correction for each of the 100 dates, twice.
    assert!(entries <= 10 * (2 * 100 + 2 * 100), "{entries}");
    assert!(most_read <= 10 * entries, "{most_read}");

    // A scheduled status can be undone, and the current one can be changed.
    let next = api.call(Call::get("/subscription/s")).await.body["next"].clone();
    api.set_clock("timestamptz '2026-11-25T10:00:00Z'").await;
    too_many(&api.status("s", json!({ "status_id": 2, "effect_date": "2029-01-01" })).await);
    let undo = json!({ "status_id": 3, "effect_date": next["effect_date"] });
    assert_eq!(api.status("s", undo).await.status, 200);
    assert_eq!(api.status("s", json!({ "status_id": 2 })).await.status, 200);
}

/// The end of a pause is a scheduled date, too.
#[tokio::test]
async fn a_customer_schedules_the_ends_of_hundreds_of_pauses() {
    let api = Api::with(&[("CHANGES_PER_DAY", "2147483647")]).await;
    let club = api.club().await;
    api.run(&format!("insert into subscription values ('s', {club}, 'c')")).await;
    let pause = async |year: u32| api.status("s", json!({ "status_id": 3, "until": format!("{year}-01-01") })).await;
    for year in 2100..2200 {
        assert_eq!(pause(year).await.status, 200, "{year}");
    }
    too_many(&pause(2200).await);
    too_many(&api.status("s", json!({ "status_id": 3, "effect_date": "2199-01-01", "interval": 7 })).await);
    for change in [
        json!({ "status_id": 3, "until": "2150-01-01" }),
        json!({ "status_id": 1, "effect_date": "2199-01-01" }),
        json!({ "status_id": 2 }),
        json!({ "status_id": 1 }),
    ] {
        assert_eq!(api.status("s", change.clone()).await.status, 200, "{change}");
    }
}

/// The processor time of this session so far, in nanoseconds.
async fn processor_time(session: &mut PgConnection) -> u64 {
    let id: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(session).await.unwrap();
    let times = fs::read_to_string(format!("/proc/{id}/schedstat")).unwrap();
    times.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_customer_changes_as_much_as_allowed_for_a_year() {
    let api = Api::start().await;
    let club = api.club().await;
    // Every return comes after the cancellation that makes it void, so the definition has to look at all of them.
    api.run(&format!(
        "insert into subscription select 's-' || n, {club} from generate_series(1, 1000) n;
         insert into subscription_status_history
            select 'e-' || n, 's-' || n, 1, '2020-01-01', '2020-01-01' from generate_series(1, 1000) n;
         insert into subscription values ('a', {club}, 'c');
         insert into subscription_status_history
            select kind || n, 'a', status, begins + case when kind = 'r' then interval '366 days' else '0' end, begins, details
            from generate_series(1, 365 * 100) n
            cross join lateral (select timestamp '2020-01-01' + n * interval '864 seconds') pause (begins)
            cross join (values ('p', 3, null), ('r', 1, 'Automatic return schedule')) entry (kind, status, details);
         insert into subscription_status_history values ('x', 'a', 2, '2020-12-31', '2020-12-31')"
    ))
    .await;
    api.run("vacuum analyze subscription, subscription_status_history").await;
    assert_eq!(
        api.ask::<i32>("select status_id from subscription_current_status where subscription_id = 'a'").await,
        2
    );
    let entries = 2 * 365 * 100;
    let mut session = PgConnection::connect(api.database_url.as_str()).await.unwrap();
    let page = "select eligible_subscriptions(null, 101, null, 12000000, 60)";
    let other_page = "select eligible_subscriptions('b', 101, null, 12000000, 60)";
    let mut cost = async |page: &str| {
        let rows = rows_read(&mut session, page).await;
        let before = processor_time(&mut session).await;
        session.execute(AssertSqlSafe(page.to_owned())).await.unwrap();
        (rows, processor_time(&mut session).await - before)
    };
    let (other, page) = (cost(other_page).await, cost(page).await);
    report(&format!(
        "a page of the list reads {} rows in {} ms; with a year of changes at the limit {} in {} ms",
        other.0,
        other.1 / 1_000_000,
        page.0,
        page.1 / 1_000_000
    ));
    // Each entry is read once to find the latest one, and once to judge it. The table's rows are not read.
    assert!(page.0 <= other.0 + 3 * entries, "{page:?} {other:?}");
}
