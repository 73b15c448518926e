//! The list of all subscriptions of a database, page by page, at three sizes.

use std::time::Duration;

use bench::Samples;
use harness::{Environment, runtime_api::Invoked};
use serde_json::Value;

use crate::{
    Bar, Bench, Report, megabytes, number,
    operation::{ELIGIBLE, Floor, ids, page},
    progress, succeed, thousands, time,
};

const PAGE: u32 = 100_000;

impl Bench {
    pub async fn eligible(&self, report: &mut Report) {
        let mut rows = Vec::new();
        for &size in &self.sizes {
            progress(&format!("eligible of {}", thousands(size)));
            let database = self.database(size);
            // Earlier measurements have added some.
            let subscriptions = ids(&database, "select id from subscription").await.len();
            let ids = ids(&database, ELIGIBLE).await;
            let mut least = Floor::connect(&database).await;
            let last_page = ids.len().saturating_sub(PAGE as usize).checked_sub(1).map(|place| ids[place].as_str());
            let environment = self.start("eligible", &database).await;
            let [mut all, mut first, mut last, mut floor, mut ids_only] = [(); 5].map(|()| Samples::default());
            for round in 0..=self.times(11, 4) {
                let (of_all, count, of_first) = read_pages(&environment).await;
                assert_eq!(count, ids.len());
                let of_last = time(&environment, &page(PAGE, last_page).event()).await;
                let (of_floor, of_ids_only) =
                    (least.read_entries(subscriptions).await, least.read_ids(subscriptions).await);
                // The first round reads the tables into memory.
                if round > 0 {
                    all.push(of_all);
                    first.push(of_first);
                    last.push(of_last);
                    floor.push(of_floor);
                    ids_only.push(of_ids_only);
                }
            }
            let memory = megabytes(environment.peak_memory());
            rows.push(vec![
                thousands(size),
                thousands(ids.len()),
                number(all.p50()),
                number(floor.p50()),
                number(all.p50() / floor.p50()),
                number(ids_only.p50()),
                number(first.p50()),
                number(last.p50()),
                number(memory),
            ]);
            if size == self.largest() {
                let of_page = thousands(ids.len().min(PAGE as usize));
                let name = format!("eligible of {}, page by page", thousands(size));
                report.bar(Bar::at_most_of_floor(name, "ms", all.p50(), floor.p50(), 3.0));
                let name = format!("its last {of_page} against its first");
                report.bar(Bar::at_most_of_floor(name, "ms", last.p50(), first.p50(), 1.2));
                let name = format!("peak memory for a page of {of_page}");
                report.bar(Bar::at_most(name, "MB", memory, None, 60.0));
            }
        }
        report.table(
            "Eligible, ms",
            "In pages of 100,000. The floor reads every entry in effect once, by an index, and sends an id of each \
             subscription, through the same driver.",
            &[
                "subscriptions",
                "eligible",
                "all pages",
                "floor",
                "ratio",
                "`select id`",
                "first page",
                "last page",
                "memory, MB",
            ],
            rows,
        );
    }
}

/// Reads all pages: the time of all, the number of ids, the time of the first.
async fn read_pages(environment: &Environment) -> (Duration, usize, Duration) {
    let (mut total, mut count, mut first) = (Duration::ZERO, 0, None);
    let mut after: Option<String> = None;
    loop {
        let invoked = succeed(environment, &page(PAGE, after.as_deref()).event()).await;
        total += invoked.time();
        first.get_or_insert(invoked.time());
        let Invoked { payload: Ok(payload), .. } = invoked else { unreachable!("a success") };
        let answer: Value = serde_json::from_slice(&payload).expect("an answer");
        let ids: Vec<String> = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("a list of ids");
        count += ids.len();
        let more = ["headers", "multiValueHeaders"].iter().any(|headers| !answer[headers]["link"].is_null());
        match ids.into_iter().next_back().filter(|_| more) {
            None => return (total, count, first.unwrap_or_default()),
            last => after = last,
        }
    }
}
