//! One subscription with a very long history.

use std::time::{Duration, Instant};

use bench::statistics::Samples;
use sqlx::{PgConnection, query_scalar};

use crate::{
    Bar, Bench, Report,
    databases::{EMPTY, FEW_CLUBS, populate, run},
    eligible::PAGE,
    number,
    operation::{Operation, Statements, Subject, connect},
    progress, thousands,
};

const LENGTHS: [usize; 3] = [5_000, 10_000, 20_000];
const SUBSCRIPTIONS: usize = 60_000;
/// As many as one subscription takes in a month, at 100 a day.
const CHANGES: usize = 3_000;
const WITHOUT: &str = "histories_without";
const WITH: &str = "histories_with";

impl Bench {
    pub async fn histories(&self, report: &mut Report) {
        progress("long histories");
        let without = self.create_database(WITHOUT, EMPTY).await;
        let mut connection = connect(&without).await;
        populate(&mut connection, SUBSCRIPTIONS, FEW_CLUBS).await;
        run(&mut connection, "vacuum analyze").await;
        drop(connection);
        let with = self.create_database(WITH, WITHOUT).await;
        let mut connection = connect(&with).await;

        let (mut rows, mut statuses) = (Vec::new(), Vec::new());
        for length in LENGTHS {
            run(&mut connection, &long_history(length)).await;
            run(&mut connection, "vacuum analyze").await;
            let subject = Subject::of(&name(length));
            let mut statements = Statements::connect(&with).await;
            let (mut status, mut claim) = (Samples::default(), Samples::default());
            for round in 0..=self.times(50, 15) {
                let taken = [current_status(&mut connection, &subject).await, statements.refuse(&subject).await];
                if round > 0 {
                    status.push(taken[0]);
                    claim.push(taken[1]);
                }
            }
            rows.push(vec![
                thousands(length),
                number(status.p50()),
                number(status.p99()),
                number(claim.p50()),
                number(claim.p99()),
            ]);
            statuses.push(status.p50());
        }
        let [shortest, _, longest] = LENGTHS;
        let [fewest, .., most] = *statuses.as_slice() else { unreachable!("there are three lengths") };
        let name = format!("status of a subscription with {} entries", thousands(longest));
        report.bar(Bar::at_most(name, "ms", most, None, 50.0));
        // The cost may grow in proportion to the entries.
        let in_step = fewest * (longest as f64 / shortest as f64);
        let name = format!("its growth from {} entries, against theirs", thousands(shortest));
        report.bar(Bar::at_most_of_floor(name, "ms", most, in_step, 1.5));

        self.months(&with, &mut connection, report).await;

        // The bar is about one long history, so the list has only the longest.
        run(&mut connection, &remove_shorter(longest)).await;
        let (mut list_with, mut list_without) = (Statements::connect(&with).await, Statements::connect(&without).await);
        let (mut of_with, mut of_without) = (Samples::default(), Samples::default());
        for round in 0..=self.times(21, 7) {
            let taken = [list_with.page(None, PAGE).await, list_without.page(None, PAGE).await];
            if round > 0 {
                of_with.push(taken[0]);
                of_without.push(taken[1]);
            }
        }
        let name = format!("the list of {} with it against without it", thousands(SUBSCRIPTIONS));
        report.bar(Bar::at_most_of_floor(name, "ms", of_with.p50(), of_without.p50(), 1.5));
        report.table(
            "A long history, ms",
            "Pauses, as many automatic returns, and a cancellation in the midst of them. The claim asks for the status too; here \
             it has no time to call out, and writes nothing.",
            &["entries", "status, p50", "p99", "claim, p50", "p99"],
            rows,
        );
        drop((connection, list_with, list_without));
        for database in [WITH, WITHOUT] {
            self.drop_database(database).await;
        }
    }
}

impl Bench {
    /// Every route, for subscriptions with a month of changes that make the definition read all of them.
    async fn months(&self, url: &str, connection: &mut PgConnection, report: &mut Report) {
        run(connection, &MONTHS.replace("$CHANGES", &CHANGES.to_string())).await;
        let mut statements = Statements::connect(url).await;
        let (mut rows, mut worst) = (Vec::new(), 0.0_f64);
        for (name, what) in [
            ("month-a", "returns to come, void because of a cancellation below all pauses"),
            ("month-b", "pauses and cancellations, recorded in the reverse order of their dates"),
            ("month-c", "pauses and void returns to come, in turn"),
            ("month-d", "pauses to come that end, one after the other, and one before them that does not"),
        ] {
            let subject = Subject::of(name);
            let before = format!("{}\u{1}", &name[..name.len() - 1]);
            let [mut lookup, mut claim, mut page, mut status] = [(); 4].map(|()| Samples::default());
            for round in 0..=self.times(21, 7) {
                let taken = [
                    statements.run(Operation::Lookup, &subject).await,
                    statements.refuse(&subject).await,
                    statements.page(Some(&before), 100).await,
                ];
                if round > 0 {
                    let all = [&mut lookup, &mut claim, &mut page];
                    all.into_iter().zip(taken).for_each(|(samples, time)| samples.push(time));
                }
            }
            // It changes the history, so it comes last.
            for _ in 0..self.times(21, 7) {
                status.push(statements.run(Operation::Status, &subject).await);
            }
            let medians = [lookup, claim, page, status].map(|samples| samples.p50());
            worst = medians.into_iter().fold(worst, f64::max);
            rows.push([vec![what.to_owned()], medians.map(number).to_vec()].concat());
        }
        let name = format!("the slowest route for {} changes in a month", thousands(CHANGES));
        report.bar(Bar::at_most(name, "ms", worst, None, 50.0));
        report.table(
            "A month of changes, ms",
            "One subscription, as many changes as a stage allows in a month, in the orders that cost the most.",
            &["history", "lookup", "claim", "a page with it", "status"],
            rows,
        );
        run(
            connection,
            "delete from subscription_status_history where subscription_id like 'month-%';
             delete from subscription where id like 'month-%'",
        )
        .await;
    }
}

const MONTHS: &str = "
    insert into subscription (id, club_id, customer_store_id)
        select 'month-' || letter, 1, letter from unnest(array['a', 'b', 'c', 'd']) letter;
    insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
        select row_number() over () || '-of-a-month', 'month-' || letter, status, now + effect * interval '1 s',
            now - interval '2 days' + recorded * interval '1 s', case when is_return then automatic_return_details() end
        from (select utc_now() as now) clock, (
            select 'a' as letter, 3 as status, n - 900000 as effect, -n as recorded, false as is_return
                from generate_series(1, $CHANGES) n
            union all select 'a', 1, n - 800000, -n, true from generate_series(1, $CHANGES) n
            union all select 'a', 1, n + 900000, 1, true from generate_series(1, 100) n
            union all select 'a', 2, -1000000, 2, false
            union all select 'a', 3, -1, -$CHANGES, false
            union all select 'b', case when n % 2 = 0 then 3 else 2 end, n - 900000, -n, false from generate_series(1, $CHANGES) n
            union all select 'b', 1, n - 800000, 0.5 - n, true from generate_series(1, $CHANGES) n
            union all select 'b', 3, -800000, -$CHANGES, false
            union all select 'c', 3, 2 * n - 3600, 0, false from generate_series(1, $CHANGES) n
            union all select 'c', 1, 2 * n + 86400, -1, true from generate_series(1, $CHANGES) n
            union all select 'c', 2, -1000000, 1, false
            union all select 'd', 3, 2 * n, n, false from generate_series(1, $CHANGES / 2) n
            union all select 'd', 1, 2 * n + 1, n, true from generate_series(1, $CHANGES / 2) n
            union all select 'd', 3, -1, $CHANGES, false
        ) entry;
    analyze subscription_status_history;";

fn name(length: usize) -> String {
    format!("long-{length:05}")
}

/// The list needs the definition of current status here: the latest entry is a return, recorded before other entries.
fn long_history(length: usize) -> String {
    let name = name(length);
    format!(
        "insert into subscription (id, club_id, customer_store_id, create_date)
         values ('{name}', 1, 'customer-{name}', utc_now() - interval '100 days');
         insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
         select '{name}-' || n, '{name}',
             case when n % 2 = 1 then 1 when n = {length} / 2 then 2 else 3 end,
             start + interval '1 minute' * case when n % 2 = 1 then n + 4 else n end,
             start + interval '1 minute' * (n - n % 2),
             case when n % 2 = 1 then automatic_return_details() end
         from generate_series(0, {length} - 1) n, (select utc_now() - interval '90 days' as start) days;"
    )
}

fn remove_shorter(longest: usize) -> String {
    let longest = name(longest);
    format!(
        "delete from subscription_status_history where subscription_id like 'long-%' and subscription_id <> '{longest}';
         delete from subscription where id like 'long-%' and id <> '{longest}';"
    )
}

async fn current_status(connection: &mut PgConnection, subject: &Subject) -> Duration {
    let started = Instant::now();
    query_scalar::<_, i32>("select status_id from subscription_status where subscription_id = $1 limit 1")
        .bind(&subject.subscription_id)
        .fetch_one(connection)
        .await
        .expect("the status");
    started.elapsed()
}
