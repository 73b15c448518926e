//! The start of an environment and its first answer, directly and through the pooler.

use std::collections::HashMap;

use bench::Samples;

use crate::{
    Bar, Bench, Report, number,
    operation::{ELIGIBLE, Operation, Subject, ids},
    progress, succeed,
};

#[derive(Default)]
struct Starts {
    next: Samples,
    direct: Samples,
    pooled: Samples,
}

impl Bench {
    pub async fn cold(&self, report: &mut Report) {
        progress("cold starts");
        let name = format!("head_{}", self.sizes[0]);
        let ids = ids(&self.url(&name), ELIGIBLE).await;
        let rounds = self.times(200, 30);
        let (for_direct, for_pooled) = ids.split_at(rounds);
        let mut functions = Operation::DIFFERENT.map(|operation| (operation.function(), operation)).to_vec();
        functions.push(("bare", Operation::Eligible));
        let mut starts: HashMap<&str, Starts> = HashMap::new();
        for (direct, pooled) in for_direct.iter().zip(for_pooled) {
            for (function, operation) in &functions {
                let starts = starts.entry(function).or_default();
                for (samples, url, subject) in
                    [(&mut starts.direct, self.url(&name), direct), (&mut starts.pooled, self.pooled(&name), pooled)]
                {
                    let environment = self.start(function, &url).await;
                    let answered = succeed(&environment, &operation.call(&Subject::of(subject)).event()).await.answered;
                    samples.push(answered - environment.started);
                    starts.next.push(environment.first_next().await);
                }
            }
        }
        let mut rows = Vec::new();
        let bare = &starts["bare"];
        for (function, _) in functions {
            let Starts { next, direct, pooled } = &starts[function];
            if function != "bare" {
                let name = format!("cold start to `/next`: {function}");
                report.bar(Bar::at_most_of_floor(name, "ms", next.p50(), bare.next.p50(), 1.3));
            }
            rows.push(vec![
                function.to_owned(),
                number(next.p50()),
                number(next.p99()),
                number(direct.p50()),
                number(direct.p99()),
                number(direct.p50() / bare.direct.p50()),
                number(pooled.p50()),
                number(pooled.p99()),
                number(pooled.p50() / bare.pooled.p50()),
            ]);
        }
        report.table(
            "Cold start, ms from the start of the process",
            "To the first answer includes connecting to the database and the request itself; charge's includes the platform.",
            &[
                "function",
                "to `/next`, p50",
                "p99",
                "to the first answer, p50",
                "p99",
                "to bare's",
                "through PgBouncer, p50",
                "p99",
                "to bare's",
            ],
            rows,
        );
    }
}
