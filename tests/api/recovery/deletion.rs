//! Subscriptions that are deleted while a charge commits.

use sqlx::{AssertSqlSafe, Executor};

use super::*;

/// The clerk may delete, and has no right on a table of ours.
#[tokio::test]
async fn a_charge_that_commits_meanwhile_never_stops_a_deletion() {
    for (level, sees) in [("read committed", true), ("repeatable read", false), ("serializable", false)] {
        for delete in [DELETE, TRUNCATE] {
            let api = Api::start().await;
            let clerk = role(&api, "login").await;
            api.run(&format!(
                "grant select, insert, delete, truncate on subscription, subscription_status_history to {clerk}"
            ))
            .await;
            api.club().await;
            subscribe(&api, &["s"]).await;
            let mut url = api.database_url.clone();
            url.set_username(&clerk).unwrap();
            let mut session = PgConnection::connect(url.as_str()).await.unwrap();

            let begin = format!("begin isolation level {level}; select from subscription");
            session.execute(AssertSqlSafe(begin)).await.unwrap();
            assert!(charges(&api, "s", "1").await);
            session.execute(AssertSqlSafe(format!("{delete}; commit"))).await.unwrap();

            // Above READ COMMITTED the deletion does not see the attempt, which keeps its month: the safe side.
            assert_eq!(api.ask::<bool>("select orphaned from charge_ledger").await, sees, "{level}, {delete}");
            subscribe(&api, &["s"]).await;
            assert_eq!(charges(&api, "s", "2").await, sees, "{level}, {delete}");
            assert_eq!(checker::violations(&api.platform.received(), &api.ledger().await), Vec::<String>::new());
        }
    }
}
