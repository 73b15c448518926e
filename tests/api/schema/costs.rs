//! The rows that a call reads grow with its result only, even if the planner's statistics are wrong.

use std::time::{Duration, Instant};

use harness::{Api, report};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

const MANY: usize = 4000;

/// Subscriptions that paused with an automatic return. Every tenth was cancelled during the pause.
fn load(subscriptions: usize) -> String {
    load_after(0, subscriptions)
}

fn load_after(first: usize, last: usize) -> String {
    format!(
        "insert into subscription (id, club_id, customer_store_id)
            select md5(n::text), 1 + n % 2, 'c-' || n from generate_series({first} + 1, {last}) n;
         insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
            select md5(n || '-' || place), md5(n::text), status, date '2020-01-01' + effect, date '2020-01-01' + recorded, details
            from generate_series({first} + 1, {last}) n
            cross join (values
                (1, 1, 0, 0, null), (2, 3, 10, 10, null), (3, 1, 40, 10, 'Automatic return schedule'), (4, 2, 20, 20, null)
            ) entry (place, status, effect, recorded, details)
            where place < 4 or n % 10 = 0;"
    )
}

/// Two months of charges of these subscriptions. One in a hundred was rejected and charged later, one in a hundred rejected,
/// and one in fifty orphaned.
fn charges(subscriptions: usize) -> String {
    charges_after(0, subscriptions)
}

fn charges_after(first: usize, last: usize) -> String {
    format!(
        "insert into charge_attempt (
             id, subscription_id, billing_month, request_id, customer_id, sku_id, state, token, claimed_at, deadline
         )
         select md5(n || month || place)::uuid, md5(n::text), month::date, month || place || n, 'c', 1, state,
             gen_random_uuid(), now(), now()
         from generate_series({first} + 1, {last}) n
         cross join (values ('2026-10-01'), ('2026-11-01')) month (month)
         cross join lateral (values
             (1, case when n % 100 < 2 then 'rejected' else 'charged' end), (2, 'charged')
         ) attempt (place, state)
         where place = 1 or n % 100 = 0;
         insert into orphan_note
         select md5(n || month || 1)::uuid
         from generate_series({first} + 1, {last}) n, (values ('2026-10-01'), ('2026-11-01')) month (month)
         where n % 50 = 0;"
    )
}

/// Two clubs, and the clock in the later month of `charges()`.
async fn api_with_clubs() -> Api {
    let api = Api::start().await;
    api.set_clock("timestamptz '2026-11-15'").await;
    for _ in 0..2 {
        api.club().await;
    }
    api
}

async fn connect(api: &Api) -> PgConnection {
    PgConnection::connect(api.database_url.as_str()).await.unwrap()
}

/// Runs this load, and has the database analysed before it is committed: the statistics have none of its rows.
async fn analyse_amid(api: &Api, load: &str) {
    let mut loader = connect(api).await;
    let mut transaction = loader.begin().await.unwrap();
    transaction.execute(AssertSqlSafe(load.to_owned())).await.unwrap();
    api.run("analyze").await;
    transaction.commit().await.unwrap();
}

/// The number of rows and index entries that this statement makes the server read.
pub async fn rows_read(connection: &mut PgConnection, statement: &str) -> i64 {
    const READ: &str = "select sum(pg_stat_get_xact_tuples_returned(oid))::bigint from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'i')";
    let mut transaction = connection.begin().await.unwrap();
    // The counters may include earlier calls of this session.
    let before: i64 = sqlx::query_scalar(READ).fetch_one(&mut *transaction).await.unwrap();
    transaction
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap_or_else(|error| panic!("{error}: {statement}"));
    let after: i64 = sqlx::query_scalar(READ).fetch_one(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    after - before
}

/// The rows that the list reads, those of a page of it, and the most that another call reads: each that changes something.
async fn calls(connection: &mut PgConnection, subscription: &str) -> [i64; 3] {
    let list = rows_read(connection, "select eligible_subscriptions(null, null, null, 12000000, 60)").await;
    let page = rows_read(connection, "select eligible_subscriptions(null, 101, null, 12000000, 60)").await;
    let mut most = 0;
    for call in [
        "select subscribe(1, 'a customer', 'a subscription', 'an entry', 60)".to_owned(),
        format!(
            "select record_status('{subscription}', null, 3, null, null, null, 30, null, null, null, 'UTC', 'a change', null, 60)"
        ),
        format!(
            "select claim_charge('{subscription}', 'o', gen_random_uuid(), gen_random_uuid(), 'UTC', 19, true, null, 60)"
        ),
        // A month that is open, and stays so.
        "select settle_charge(live_attempt_id, token, 'rejected', 402::smallint, null, null)
         from gen_random_uuid() token,
             claim_charge(md5('1'), 'o', gen_random_uuid(), token, 'UTC', 19, true, null, 60)"
            .to_owned(),
    ] {
        most = most.max(rows_read(connection, &call).await);
    }
    [list, page, most]
}

/// The most rows that a lookup reads: of a subscription, of a customer, of the active clubs.
async fn lookups(connection: &mut PgConnection, subscription: &str, customer: &str) -> i64 {
    let mut most = 0;
    for call in [
        format!("select subscriptions('{subscription}', null, null, null, null, 60)"),
        format!("select subscriptions('{subscription}', '{customer}', null, null, null, 60)"),
        format!("select subscriptions(null, '{customer}', null, null, null, 60)"),
        "select active_clubs()".to_owned(),
    ] {
        most = most.max(rows_read(connection, &call).await);
    }
    most
}

#[tokio::test]
async fn wrong_statistics_make_no_plan_quadratic() {
    let some = "(select id from subscription order by id limit 1)";
    let mut analysed = [0; 3];
    for what in [
        "analysed",
        "never analysed",
        "analysed when empty",
        "analysed amid a load",
        "analysed when there were many",
        "planned on ten analysed rows",
    ] {
        let api = api_with_clubs().await;
        let loaded = format!("{} {}", load(MANY), charges(MANY));
        // It plans its statements before there are any rows.
        let mut old_session = connect(&api).await;
        calls(&mut old_session, "nobody").await;
        lookups(&mut old_session, "nobody", "nobody").await;
        match what {
            "analysed" => api.run(&format!("{loaded} analyze")).await,
            "analysed when empty" => api.run(&format!("analyze; {loaded}")).await,
            "analysed amid a load" => analyse_amid(&api, &loaded).await,
            "analysed when there were many" => {
                api.run(&format!(
                    "{loaded} analyze; delete from charge_attempt; delete from subscription_status_history;
                     delete from subscription"
                ))
                .await;
                api.run(&format!("{} {}", load(10), charges(10))).await;
            }
            "planned on ten analysed rows" => {
                api.run(&format!("{} {} analyze", load(10), charges(10))).await;
                let subscription: String = api.ask(some).await;
                calls(&mut old_session, &subscription).await;
                lookups(&mut old_session, &subscription, "c-1").await;
                api.run(&format!("{} {}", load_after(10, MANY), charges_after(10, MANY))).await;
            }
            _ => api.run(&loaded).await,
        }
        let subscription: String = api.ask(some).await;
        let in_old = calls(&mut old_session, &subscription).await;
        let mut new_session = connect(&api).await;
        let in_new = calls(&mut new_session, &subscription).await;
        let customer: String =
            api.ask(&format!("select customer_store_id from subscription where id = '{subscription}'")).await;
        for session in [&mut old_session, &mut new_session] {
            let most = lookups(session, &subscription, &customer).await;
            report(&format!("rows read, {what}: by a lookup at most {most}"));
            assert!(most <= 50, "{what}: {most}");
        }
        report(&format!("rows read, {what}: by the list, a page, another call at most: {in_new:?} and {in_old:?}"));
        if what == "analysed" {
            analysed = in_new;
        }
        for [list, page, most] in [in_old, in_new] {
            assert!(list <= analysed[0] * 3 / 2, "{what}: {list} where {analysed:?} would do");
            assert!(page <= analysed[0], "{what}: {page} where {analysed:?} would do");
            // Deleted rows under the same keys are counted too.
            assert!(most <= 80, "{what}: {most}");
        }
    }
}

/// The rows that reading charges takes: everybody who is due, 100 of them, a page of the month, one subscription's in it, the
/// counts, one subscription's months, the count of unresolved charges.
async fn charge_reads(connection: &mut PgConnection, subscription: &str) -> [i64; 7] {
    let page = |of: &str, at_most: usize| {
        format!("select charges_of_month('2026-11-01', null, {of}, false, null, null, null, {at_most}, 4000000)")
    };
    let mut read = [0; 7];
    for (read, call) in read.iter_mut().zip([
        "select eligible_subscriptions(null, null, '2026-11-01', 12000000, 60)".to_owned(),
        "select eligible_subscriptions(null, 101, '2026-11-01', 12000000, 60)".to_owned(),
        page("null", 1001),
        page(&format!("'{subscription}'"), 1001),
        "select count_charges('2026-11-01')".to_owned(),
        format!("select charges_of_subscription('{subscription}', null)"),
        "select count_unresolved_charges()".to_owned(),
    ]) {
        *read = rows_read(connection, &call).await;
    }
    read
}

/// The shortest of three times.
async fn fastest(connection: &mut PgConnection, call: &str) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        connection.execute(AssertSqlSafe(call.to_owned())).await.unwrap();
        shortest = shortest.min(began.elapsed());
    }
    shortest
}

/// A search of all charges for each id would read no more rows than a hash of them.
#[tokio::test]
async fn who_is_due_is_found_as_fast_as_everybody() {
    let api = api_with_clubs().await;
    api.run(&format!("{} {} analyze", load(15_000), charges(15_000))).await;
    let mut session = connect(&api).await;
    let mut list = async |month: &str| {
        fastest(&mut session, &format!("select eligible_subscriptions(null, null, {month}, 12000000, 60)")).await
    };
    let (whole, due) = (list("null").await, list("'2026-11-01'").await);
    report(&format!("15,000 subscriptions: {whole:?}; who is due of them: {due:?}"));
    assert!(due <= 10 * whole, "{due:?} in place of {whole:?}");
}

#[tokio::test]
async fn wrong_statistics_make_no_read_of_charges_quadratic() {
    const MANY: usize = 15_000;
    for what in ["analysed", "never analysed", "analysed when empty", "analysed when there were many"] {
        let api = api_with_clubs().await;
        let mut old_session = connect(&api).await;
        charge_reads(&mut old_session, "nobody").await;
        let loaded = format!("{} {}", load(MANY), charges(MANY));
        match what {
            "analysed" => api.run(&format!("{loaded} analyze")).await,
            "analysed when empty" => api.run(&format!("analyze; {loaded}")).await,
            "analysed when there were many" => {
                api.run(&format!(
                    "{loaded} analyze; truncate subscription_status_history, subscription, charge_attempt"
                ))
                .await;
                api.run(&format!("{} {}", load(100), charges(100))).await;
            }
            _ => api.run(&loaded).await,
        }
        let many = api.ask::<i64>("select count(*) from subscription").await;
        let subscription: String = api.ask("select id from subscription where id = md5('100')").await;
        let whole = rows_read(&mut old_session, "select eligible_subscriptions(null, null, null, 12000000, 60)").await;
        for session in [old_session, connect(&api).await] {
            let mut session = session;
            let read @ [due, due_page, page, one, counts, months, unresolved] =
                charge_reads(&mut session, &subscription).await;
            report(&format!(
                "rows read of {many} subscriptions and two months, {what}: {read:?}, by the whole list {whole}"
            ));
            assert!(due <= 2 * whole, "{what}: everybody who is due");
            // Nearly all are charged, so it looks at all.
            assert!(due_page <= 2 * whole, "{what}: a page of who is due");
            assert!(page <= 3 * 1001 + 100, "{what}: a page of the month");
            assert!(one <= 30, "{what}: one subscription's attempts of the month");
            // Each attempt, each note, and a few lookups for each attempt that has ended without a charge.
            assert!(counts <= many * 4 / 3 + 1000, "{what}: the counts");
            assert!(months <= 30, "{what}: one subscription's months");
            assert!(unresolved <= 30, "{what}: the count of unresolved charges");
        }
    }
}

#[tokio::test]
async fn each_index_of_the_ledger_saves_a_call_from_reading_all_of_it() {
    let api = api_with_clubs().await;
    // An orphan holds the month of 49, which a claim then gives back.
    api.run(&format!(
        "{} {} insert into orphan_note select id from charge_attempt where subscription_id = md5('49'); analyze",
        load(MANY),
        charges(MANY)
    ))
    .await;
    let subscription: String = api.ask("select md5('49')").await;
    let mut session = connect(&api).await;
    let mut reads = async || {
        let mut reads = charge_reads(&mut session, &subscription).await.to_vec();
        reads.push(calls(&mut session, &subscription).await[2]);
        reads
    };
    let with_all = reads().await;
    let names = "select string_agg(indexrelid::regclass::text, ' ' order by indexrelid)
        from pg_index where indrelid = 'charge_attempt'::regclass and not indisunique";
    for index in api.ask::<String>(names).await.split(' ') {
        let definition: String = api.ask(&format!("select pg_get_indexdef('{index}'::regclass)")).await;
        api.run(&format!("drop index {index}")).await;
        let without = reads().await;
        report(&format!("rows read, without {index}: {without:?} in place of {with_all:?}"));
        let grows = with_all.iter().zip(&without).any(|(with, without)| *without > with + MANY as i64 / 2);
        assert!(grows, "nothing here needs {index}");
        api.run(&definition).await;
    }
}

/// One subscription: pauses, then all of their returns from this date on, and a cancellation that makes every return void.
fn long_history(entries: i64, returns_from: &str) -> String {
    format!(
        "truncate subscription_status_history, subscription;
         insert into subscription values ('s', 1, 'c');
         insert into subscription_status_history
            select 'p-' || n, 's', 3, date '2020-01-01' + n * interval '1 minute', date '2020-01-01' + n * interval '1 minute'
            from generate_series(1, {entries} / 2) n;
         insert into subscription_status_history
            select 'r-' || n, 's', 1, date '{returns_from}' + n * interval '1 minute', date '2020-01-01' + n * interval '1 minute',
                'Automatic return schedule'
            from generate_series(1, {entries} / 2) n;
         insert into subscription_status_history values ('c', 's', 2, '2020-12-31', '2020-12-31')"
    )
}

#[tokio::test]
async fn a_call_reads_a_long_history_only_a_few_times() {
    let api = api_with_clubs().await;
    let mut session = connect(&api).await;
    for entries in [5_000, 10_000, 20_000] {
        api.run(&long_history(entries, "2021-01-01")).await;
        assert_eq!(api.ask::<i32>("select status_id from subscription_current_status").await, 2);
        let [list, _, most] = calls(&mut session, "s").await;
        report(&format!("rows read of {entries} entries: by the list {list}, by another call at most {most}"));
        assert!(list <= 4 * entries && most <= 4 * entries, "{entries}: {list} {most}");
    }
}

#[tokio::test]
async fn a_lookup_looks_at_a_hundred_scheduled_dates_and_reads_the_history_once() {
    let api = api_with_clubs().await;
    let mut session = connect(&api).await;
    const NEXT: &str =
        "select coalesce(next_effect_date::text, 'none') from subscriptions('s', null, null, null, null, 60)";
    for entries in [5_000_i64, 10_000, 20_000] {
        api.run(&long_history(entries, "2999-01-01")).await;
        assert_eq!(api.ask::<String>(NEXT).await, "none");
        // A pause on the hundredth date, and one later.
        api.run("insert into subscription_status_history values ('b', 's', 3, '2999-01-01 01:41', '2020-12-31')").await;
        assert_eq!(api.ask::<String>(NEXT).await, "none");
        api.run("insert into subscription_status_history values ('a', 's', 3, '2999-01-01 01:40', '2020-12-31')").await;
        assert_eq!(api.ask::<String>(NEXT).await, "2999-01-01 01:40:00");
        let most = lookups(&mut session, "s", "c").await;
        report(&format!("rows read of {entries} entries: by a lookup at most {most}"));
        // The pauses, in the index and in the table.
        assert!(most <= entries + 500, "{entries}: {most}");
    }
}

#[tokio::test]
async fn a_lookup_gives_up_when_its_time_is_over() {
    let api = api_with_clubs().await;
    api.run(
        "insert into subscription values ('s', 1, 'c');
         insert into subscription_status_history values
            ('now', 's', 2, '2020-01-01', '2020-01-01', null)",
    )
    .await;
    let mut session = connect(&api).await;
    let gives_up = session.execute("select subscriptions('s', null, null, null, null, 0)").await.unwrap_err();
    assert_eq!(gives_up.as_database_error().and_then(|error| error.code()).as_deref(), Some("57014"), "{gives_up}");
}

#[tokio::test]
async fn a_customers_list_reads_only_that_customers_rows() {
    let api = api_with_clubs().await;
    api.run(&load(15_000)).await;
    api.run("update subscription set customer_store_id = 'c' where id in (select id from subscription order by id limit 20)").await;
    let mut session = connect(&api).await;
    let read = rows_read(&mut session, "select subscriptions(null, 'c', null, null, null, 60)").await;
    report(&format!("rows read for a customer's 20 subscriptions of 15,000: {read}"));
    assert!(read <= 20 * 12, "{read}");
}

#[tokio::test]
async fn a_page_reads_only_the_latest_status_of_its_clubs() {
    let api = api_with_clubs().await;
    api.run(
        "insert into club (name) select 'club ' || n from generate_series(1, 5000) n;
         insert into club_status_history
            select 'c-' || id, id, 1, '2020-01-01' from club where id > 2;
         insert into club_status_history
            select 'd-' || n, 1 + n % 2, 1, date '2020-01-01' + n / 5 from generate_series(1, 5000) n;",
    )
    .await;
    api.run(&load(MANY)).await;
    let mut session = connect(&api).await;
    let page = rows_read(&mut session, "select eligible_subscriptions(null, 101, null, 12000000, 60)").await;
    report(&format!("rows read for a page of 100 with 5,000 clubs, two with 2,500 statuses: {page}"));
    assert!(page < 2500, "{page}");
}

/// With as many ids of this length, the primary key has one level less than the index in byte order. Without statistics, what
/// the levels of an index cost decides.
#[tokio::test]
async fn a_page_reads_no_other_index_where_that_looks_cheaper() {
    let api = api_with_clubs().await;
    analyse_amid(
        &api,
        "insert into subscription (id, club_id, customer_store_id)
            select gen_random_uuid()::text, 1 + n % 2, 'c-' || n from generate_series(1, 16500) n;
         insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
            select id, id, 1, '2020-01-01', '2020-01-01' from subscription",
    )
    .await;
    let mut session = connect(&api).await;
    let page = rows_read(&mut session, "select eligible_subscriptions(null, 101, null, 12000000, 60)").await;
    let last = rows_read(&mut session, "select eligible_subscriptions('ff', 1001, null, 12000000, 60)").await;
    report(&format!("rows read of 16,500 subscriptions, for a page of 100: {page}, for the last ones: {last}"));
    assert!(page < 2500 && last < 2500, "{page}, {last}");
}

#[tokio::test]
async fn the_list_gives_up_when_its_time_is_over() {
    let api = api_with_clubs().await;
    // Several chunks. The first is read before the time is looked at.
    api.run(&load(25_000)).await;
    let mut session = connect(&api).await;
    let gives_up = session.execute("select eligible_subscriptions(null, null, null, 12000000, 0)").await.unwrap_err();
    assert_eq!(gives_up.as_database_error().and_then(|error| error.code()).as_deref(), Some("57014"), "{gives_up}");
    assert_eq!(api.eligible().await.len(), 25_000 - 2_500);
}
