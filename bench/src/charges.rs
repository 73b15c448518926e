//! Charges per second, with a platform that takes a tenth of a second.

use std::{collections::HashSet, sync::Arc};

use bench::statistics::Samples;
use ecommerce_stub::Behaviour;
use futures_util::future::join_all;

use crate::{
    Bench, ENVIRONMENTS, Report, number,
    operation::{self, Operation, Subject},
    progress,
};

/// How long the platform's stand-in takes for an order.
const PLATFORM_MS: u64 = 100;

impl Bench {
    pub async fn charges(&self, report: &mut Report) {
        progress("charges");
        let database = self.database(self.sizes[1]);
        let mut connection = operation::connect(&database).await;
        let charged: HashSet<String> = sqlx::query_scalar("select subscription_id from charge_attempt")
            .fetch_all(&mut connection)
            .await
            .expect("the ledger")
            .into_iter()
            .collect();
        let mut fresh = operation::eligible_ids(&database).await;
        fresh.retain(|id| !charged.contains(id));
        self.platform.behave(Behaviour { delay_ms: PLATFORM_MS, ..Behaviour::default() });
        let mut environment = self.start("charge", &database).await;
        let client = reqwest::Client::new();
        let (mut ours, mut order) = (Samples::default(), Samples::default());
        let (one_by_one, fresh) = fresh.split_at(self.times(60, 15));
        for id in one_by_one {
            ours.push(environment.succeed(&Operation::Charge.call(&Subject::of(id)).event()).await);
            order.push(self.order(&client).await);
        }
        let mut rows = Vec::new();
        let mut fresh = fresh.chunks(fresh.len() / ENVIRONMENTS.len());
        for environments in ENVIRONMENTS {
            let ids = Arc::new(fresh.next().expect("one for each").to_vec());
            let all = join_all((0..environments).map(|_| self.start("charge", &database))).await;
            let rate = self.rate("charge", all, ids).await;
            let most = environments as f64 * 1000.0 / PLATFORM_MS as f64;
            report.charge_growth.push((environments, rate, most));
            rows.push(vec![environments.to_string(), number(rate), number(most), number(rate / most)]);
        }
        report.table(
            &format!("Charges per second, where the platform takes {PLATFORM_MS} ms"),
            &format!(
                "One by one, a charge takes {} ms (p99 {}) where the bare order takes {} (p99 {}): {} ms are added.",
                number(ours.p50()),
                number(ours.p99()),
                number(order.p50()),
                number(order.p99()),
                number(ours.p50() - order.p50())
            ),
            &["environments", "charges", "at most", "ratio"],
            rows,
        );
    }
}
