//! The same calls on a database whose statistics are missing or wrong, and on an analysed copy of it.

use std::time::Duration;

use bench::statistics::Samples;
use sqlx::Connection;

use crate::{
    Bar, Bench, Report,
    databases::{EMPTY, FEW_CLUBS, populate, run, run_once},
    eligible::PAGE,
    number,
    operation::{Operation, Statements, Subject, connect},
    progress, thousands,
};

const MISLED: &str = "misled";
const ANALYSED: &str = "analysed";
const SIZES: [usize; 2] = [8_000, 60_000];
const MILLION: usize = 1_000_000;
/// The subscriptions that are left after the deletion.
const FEW: usize = 10;
/// A session plans a statement for its parameters five times. Then it may reuse one plan.
const PLANNED: usize = 5;
const CALLS: usize = 12;

/// How the statistics came to be wrong.
#[derive(Clone, Copy, PartialEq)]
enum Statistics {
    NeverAnalysed,
    AnalysedWhenEmpty,
    AnalysedAmidLoad,
    /// The session planned its statements while the tables were empty.
    PlannedWhenEmpty,
    /// Analysed before all but a few subscriptions were deleted.
    OfMany,
}

#[derive(Clone, Copy)]
enum Asked {
    WholeList,
    Call(Operation),
    /// A claim that writes nothing.
    Claim,
}

const ASKED: [Asked; 6] = [
    Asked::WholeList,
    Asked::Call(Operation::Eligible),
    Asked::Claim,
    Asked::Call(Operation::Subscribe),
    Asked::Call(Operation::Status),
    Asked::Call(Operation::Lookup),
];

/// The times of one kind of call.
#[derive(Default)]
struct Times {
    /// The first calls of a connection, and the later ones.
    misled: [Samples; 2],
    analysed: [Samples; 2],
}

impl Statistics {
    fn name(self) -> &'static str {
        match self {
            Self::NeverAnalysed => "never analysed",
            Self::AnalysedWhenEmpty => "analysed when empty",
            Self::AnalysedAmidLoad => "analysed amid an uncommitted load",
            Self::PlannedWhenEmpty => "planned when empty",
            Self::OfMany => "analysed before all but ten were deleted",
        }
    }
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Self::WholeList => "eligible, the whole list",
            Self::Claim => "claim",
            Self::Call(operation) => operation.name(),
        }
    }
}

impl Bench {
    pub async fn plans(&self, report: &mut Report) {
        let mut scenarios = Vec::new();
        let mut sizes = SIZES.to_vec();
        if !self.quick {
            sizes.push(MILLION);
        }
        for &size in &sizes {
            for statistics in [
                Statistics::NeverAnalysed,
                Statistics::AnalysedWhenEmpty,
                Statistics::AnalysedAmidLoad,
                Statistics::PlannedWhenEmpty,
            ] {
                scenarios.push((size, statistics));
            }
        }
        scenarios.push((sizes[sizes.len() - 1], Statistics::OfMany));

        let mut rows = Vec::new();
        let mut worst: [Option<(f64, f64, String)>; ASKED.len()] = Default::default();
        for (size, statistics) in scenarios {
            let scenario = format!("{} of {}", statistics.name(), thousands(size));
            progress(&format!("plans, {scenario}"));
            let mut row = vec![scenario.clone()];
            for (times, worst) in self.scenario(size, statistics).await.into_iter().zip(&mut worst) {
                let (misled, analysed) = times.worse();
                row.extend([number(misled), number(analysed), number(misled / analysed)]);
                if worst.as_ref().is_none_or(|worst| misled / analysed > worst.0 / worst.1) {
                    *worst = Some((misled, analysed, scenario.clone()));
                }
            }
            rows.push(row);
        }
        for (asked, worst) in ASKED.into_iter().zip(worst) {
            let (misled, analysed, scenario) = worst.expect("there are scenarios");
            let name = format!("plans: {}, at worst {scenario}", asked.name());
            report.bar(Bar::at_most_of_floor(name, "ms", misled, analysed, 3.0));
        }
        let mut head = vec!["statistics"];
        for asked in ASKED {
            head.extend([asked.name(), "analysed", "ratio"]);
        }
        report.table(
            "Wrong statistics, ms",
            "The medians of the functions' own statements, next to those on a copy of the same database that was analysed; the \
             worse ratio of a connection's first five calls and its later ones. Autovacuum is off. The claim has no time to call \
             out, and writes nothing.",
            &head,
            rows,
        );
    }

    async fn scenario(&self, size: usize, statistics: Statistics) -> [Times; ASKED.len()] {
        let misled = self.create_database(MISLED, EMPTY).await;
        let mut loading = connect(&misled).await;
        match statistics {
            Statistics::NeverAnalysed | Statistics::PlannedWhenEmpty => {}
            Statistics::AnalysedWhenEmpty => run(&mut loading, "analyze").await,
            Statistics::AnalysedAmidLoad => run(&mut loading, "begin").await,
            Statistics::OfMany => {}
        }
        let mut planned = Vec::new();
        if statistics == Statistics::PlannedWhenEmpty {
            // The calls need a club and a subscription.
            populate(&mut loading, FEW, FEW_CLUBS).await;
            run(&mut loading, "drop table clock, person").await;
            let subjects = subjects(&misled).await;
            for _ in 0..self.connections() {
                let mut statements = Statements::connect(&misled).await;
                for asked in ASKED {
                    for place in 0..CALLS {
                        statements.ask(asked, &subjects[place % subjects.len()]).await;
                    }
                }
                planned.push(statements);
            }
        }
        populate(&mut loading, size, FEW_CLUBS).await;
        match statistics {
            Statistics::AnalysedAmidLoad => {
                run_once(&misled, "analyze").await;
                run(&mut loading, "commit").await;
            }
            Statistics::OfMany => {
                run(&mut loading, "analyze").await;
                run(&mut loading, &delete_all_but(FEW)).await;
            }
            Statistics::NeverAnalysed | Statistics::AnalysedWhenEmpty | Statistics::PlannedWhenEmpty => {}
        }
        loading.close().await.expect("the database");

        let analysed = if statistics == Statistics::PlannedWhenEmpty {
            // A database with sessions cannot be copied.
            let analysed = self.create_database(ANALYSED, EMPTY).await;
            let mut loading = connect(&analysed).await;
            populate(&mut loading, size, FEW_CLUBS).await;
            loading.close().await.expect("the database");
            analysed
        } else {
            self.create_database(ANALYSED, MISLED).await
        };
        run_once(&analysed, "analyze").await;

        let mut times: [Times; ASKED.len()] = Default::default();
        let (misled_subjects, analysed_subjects) = (subjects(&misled).await, subjects(&analysed).await);
        // The first read brings the tables into memory.
        for url in [&misled, &analysed] {
            Statements::connect(url).await.ask(Asked::WholeList, &misled_subjects[0]).await;
        }
        for connection in 0..self.connections() {
            let mut on_misled = match planned.pop() {
                Some(statements) => statements,
                None => Statements::connect(&misled).await,
            };
            let mut on_analysed = Statements::connect(&analysed).await;
            for (asked, times) in ASKED.into_iter().zip(&mut times) {
                let calls = if matches!(asked, Asked::WholeList) { 1 } else { CALLS };
                for call in 0..calls {
                    let (place, late) = (connection * CALLS + call, usize::from(call >= PLANNED));
                    let subject = &misled_subjects[place % misled_subjects.len()];
                    times.misled[late].push(on_misled.ask(asked, subject).await);
                    let subject = &analysed_subjects[place % analysed_subjects.len()];
                    times.analysed[late].push(on_analysed.ask(asked, subject).await);
                }
            }
        }
        self.drop_database(MISLED).await;
        self.drop_database(ANALYSED).await;
        times
    }

    fn connections(&self) -> usize {
        self.times(7, 3)
    }
}

impl Statements {
    async fn ask(&mut self, asked: Asked, subject: &Subject) -> Duration {
        match asked {
            Asked::WholeList => self.all_pages(PAGE).await,
            Asked::Claim => self.refuse(subject).await,
            Asked::Call(operation) => self.run(operation, subject).await,
        }
    }
}

impl Times {
    /// The medians of the misled and the analysed calls: of the first or the later ones, whichever have the worse ratio.
    fn worse(&self) -> (f64, f64) {
        self.misled
            .iter()
            .zip(&self.analysed)
            .filter(|(misled, _)| misled.count() > 0)
            .map(|(misled, analysed)| (misled.p50(), analysed.p50()))
            .max_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)))
            .expect("there were calls")
    }
}

async fn subjects(url: &str) -> Vec<Subject> {
    let mut connection = connect(url).await;
    let ids: Vec<String> = sqlx::query_scalar("select id from subscription limit 1000")
        .fetch_all(&mut connection)
        .await
        .expect("subscriptions");
    connection.close().await.expect("the database");
    ids.iter().map(|id| Subject::of(id)).collect()
}

fn delete_all_but(few: usize) -> String {
    format!(
        "create temporary table kept as select id from subscription limit {few};
         delete from subscription_status_history where subscription_id not in (select id from kept);
         delete from subscription where id not in (select id from kept);"
    )
}
