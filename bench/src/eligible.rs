//! The list of all subscriptions of a database, at three sizes.

use std::time::Duration;

use bench::{environment::Environment, statistics::Samples};
use harness::Call;
use serde_json::Value;

use crate::{
    Bar, Bench, Report, number,
    operation::{Floor, eligible_ids, page},
    progress, thousands,
};

pub const PAGE: u32 = 100_000;
/// The number of ids that fit into one answer of Lambda, about.
const WHOLE_LIST: usize = 150_000;

impl Bench {
    pub async fn eligible(&self, report: &mut Report) {
        let (mut rows, mut growth) = (Vec::new(), Vec::new());
        for &size in &self.sizes {
            progress(&format!("eligible of {}", thousands(size)));
            let database = self.database(size);
            let ids = eligible_ids(&database).await;
            let mut least = Floor::connect(&database).await;
            let whole = ids.len() <= WHOLE_LIST;
            let last_page = ids.len().saturating_sub(PAGE as usize).checked_sub(1).map(|place| ids[place].as_str());

            let mut for_pages = self.start("eligible", &database).await;
            let mut for_whole = self.start("eligible", &database).await;
            let [mut pages, mut first, mut last, mut list, mut floor, mut ids_only] =
                [(); 6].map(|()| Samples::default());
            for round in 0..=self.times(11, 4) {
                let (total, count, of_first) = read_pages(&mut for_pages).await;
                assert_eq!(count, ids.len());
                let of_last = for_pages.succeed(&page(PAGE, last_page).event()).await;
                let of_whole = if whole {
                    Some(for_whole.succeed(&Call::get("/subscription/eligible").event()).await)
                } else {
                    None
                };
                let of_floor = least.read_entries(size).await;
                let of_ids_only = least.read_ids(size).await;
                // The first round reads the tables into memory.
                if round > 0 {
                    pages.push(total);
                    first.push(of_first);
                    last.push(of_last);
                    floor.push(of_floor);
                    ids_only.push(of_ids_only);
                    of_whole.into_iter().for_each(|time| list.push(time));
                }
            }
            let memory = for_pages.peak_memory();
            growth.push((size, pages.p50(), floor.p50()));
            rows.push(vec![
                thousands(size),
                thousands(ids.len()),
                if whole { number(list.p50()) } else { "too large".to_owned() },
                number(pages.p50()),
                number(floor.p50()),
                number(pages.p50() / floor.p50()),
                number(ids_only.p50()),
                number(pages.p50() / ids_only.p50()),
                number(first.p50()),
                number(last.p50()),
                number(last.p99()),
                if whole { number(for_whole.peak_memory()) } else { String::new() },
                number(memory),
            ]);
            if size == self.largest() {
                let of_page = thousands(ids.len().min(PAGE as usize));
                let name = format!("eligible of {}, page by page", thousands(size));
                report.bar(Bar::at_most_of_floor(name, "ms", pages.p50(), floor.p50(), 3.0));
                let name = format!("its last {of_page} against its first");
                report.bar(Bar::at_most_of_floor(name, "ms", last.p50(), first.p50(), 1.2));
                let name = format!("peak memory for a page of {of_page}");
                report.bar(Bar::at_most(name, "MB", memory, None, 60.0));
            }
        }
        report.table(
            "Eligible, ms",
            "The floor reads every entry in effect once, by an index, and sends an id of each subscription, through the same driver. \
             The second ratio is to `select id from subscription`.",
            &[
                "subscriptions",
                "eligible",
                "whole list",
                "page by page",
                "floor",
                "ratio",
                "select id",
                "to select id",
                "first page",
                "last page",
                "p99",
                "memory of the whole list, MB",
                "of pages, MB",
            ],
            rows,
        );
        report.eligible_growth = growth;
    }
}

/// Reads all pages: the time of all, the number of ids, the time of the first.
async fn read_pages(environment: &mut Environment) -> (Duration, usize, Duration) {
    let (mut total, mut count, mut first) = (Duration::ZERO, 0, None);
    let mut after: Option<String> = None;
    loop {
        let (time, payload) = environment.invoke(&page(PAGE, after.as_deref()).event()).await;
        total += time;
        first.get_or_insert(time);
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
