//! One subscription with a very long history.

use std::time::{Duration, Instant};

use bench::statistics::Samples;
use sqlx::{PgConnection, query_scalar};

use crate::{
    Bar, Bench, Report,
    databases::{EMPTY, FEW_CLUBS, populate, run},
    eligible::PAGE,
    number,
    operation::{Statements, Subject, connect},
    progress, thousands,
};

const LENGTHS: [usize; 3] = [5_000, 10_000, 20_000];
const SUBSCRIPTIONS: usize = 60_000;
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
