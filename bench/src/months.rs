//! Every route, for subscriptions with a month of changes that make the definition of a status read all of them.

use bench::Samples;
use sqlx::{AssertSqlSafe, Executor};

use crate::{
    Bar, Bench, Report, number,
    operation::{Statements, Subject, connect},
    progress, thousands,
};

/// As many as one subscription takes in a month, at 100 a day.
const CHANGES: usize = 3_000;
const HISTORIES: [(&str, &str); 4] = [
    ("month-a", "returns to come, void because of a cancellation below all pauses"),
    ("month-b", "pauses and cancellations, recorded in the reverse order of their dates"),
    ("month-c", "pauses and void returns to come, in turn"),
    ("month-d", "pauses to come that end, one after the other, and one before them that does not"),
];

impl Bench {
    pub async fn months(&self, report: &mut Report) {
        progress("months of changes");
        let url = self.database(0);
        let changes = MONTHS.replace("$CHANGES", &CHANGES.to_string());
        connect(&url).await.execute(sqlx::raw_sql(AssertSqlSafe(changes))).await.expect("four histories");
        let mut statements = Statements::connect(&url).await;
        let (mut rows, mut worst) = (Vec::new(), 0.0_f64);
        for (name, what) in HISTORIES {
            let subject = Subject::of(name);
            let before = format!("{}\u{1}", &name[..name.len() - 1]);
            let mut times = [(); 4].map(|()| Samples::default());
            for round in 0..=self.times(21, 7) {
                let taken = [
                    statements.lookup(&subject).await,
                    statements.claim(&subject).await,
                    statements.page(before.clone()).await,
                ];
                if round > 0 {
                    times.iter_mut().zip(taken).for_each(|(samples, time)| samples.push(time));
                }
            }
            // It changes the history, so it comes last.
            for _ in 0..self.times(21, 7) {
                times[3].push(statements.status(&subject).await);
            }
            let medians = times.map(|samples| samples.p50());
            worst = medians.into_iter().fold(worst, f64::max);
            rows.push([vec![what.to_owned()], medians.map(number).to_vec()].concat());
        }
        let name = format!("the slowest call for {} changes in a month", thousands(CHANGES));
        report.bar(Bar::at_most(name, "ms", worst, None, 50.0));
        report.table(
            "A month of changes, ms",
            "One subscription, as many changes as a stage allows in a month, in the orders that cost the most. The calls of \
             the database, by the functions' own code.",
            &["history", "lookup", "claim", "a page with it", "status"],
            rows,
        );
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
