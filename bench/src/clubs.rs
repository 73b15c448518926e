//! A small page of the list: with many clubs, and with few.

use bench::statistics::Samples;

use crate::{
    Bar, Bench, Report,
    databases::{EMPTY, FEW_CLUBS, populate, run},
    number,
    operation::{SMALL_PAGE, Statements, connect, eligible_ids},
    progress, thousands,
};

const MANY_CLUBS: usize = 5_000;
const SUBSCRIPTIONS: usize = 60_000;

impl Bench {
    pub async fn clubs(&self, report: &mut Report) {
        progress(&format!("pages with {} clubs", thousands(MANY_CLUBS)));
        let mut lists = Vec::new();
        for clubs in [FEW_CLUBS, MANY_CLUBS] {
            let url = self.create_database(&format!("clubs_{clubs}"), EMPTY).await;
            let mut connection = connect(&url).await;
            populate(&mut connection, SUBSCRIPTIONS, clubs).await;
            run(&mut connection, "vacuum analyze").await;
            lists.push((eligible_ids(&url).await, Statements::connect(&url).await, Samples::default()));
        }
        let (rounds, warming) = (self.times(1000, 200), 20);
        for round in 0..rounds + warming {
            for (ids, statements, samples) in &mut lists {
                // From anywhere in the list but its end.
                let after = &ids[round * 31 % (ids.len() - SMALL_PAGE as usize)];
                let time = statements.page(Some(after), SMALL_PAGE).await;
                if round >= warming {
                    samples.push(time);
                }
            }
        }
        let [few, many] = [0, 1].map(|place| &lists[place].2);
        let name = format!("a page of {SMALL_PAGE} with {} clubs against {FEW_CLUBS}", thousands(MANY_CLUBS));
        report.bar(Bar::at_most_of_floor(name, "ms", many.p50(), few.p50(), 1.5));
        report.table(
            "Clubs, ms",
            &format!(
                "A page of {SMALL_PAGE} ids from anywhere in a list of {} subscriptions, asked by the function's own code.",
                thousands(SUBSCRIPTIONS)
            ),
            &["clubs", "p50", "p99"],
            [(FEW_CLUBS, few), (MANY_CLUBS, many)]
                .map(|(clubs, samples)| vec![thousands(clubs), number(samples.p50()), number(samples.p99())])
                .into(),
        );
        drop(lists);
        for clubs in [FEW_CLUBS, MANY_CLUBS] {
            self.drop_database(&format!("clubs_{clubs}")).await;
        }
    }
}
