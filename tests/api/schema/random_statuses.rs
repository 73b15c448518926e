//! The definition of current status, and the list, compared with a plain model. The list decides most subscriptions
//! without the definition.

use std::collections::{BTreeSet, HashMap};

use harness::{Api, Call, random, report};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

const SUBSCRIPTIONS: usize = 4000;
/// The moments are few, so that entries often share one. They are a millisecond apart.
const LAST_MOMENT: i64 = 8;
const RETURN: &str = "Automatic return schedule";

#[derive(Clone, Debug)]
struct Entry {
    id: String,
    status: Option<i32>,
    /// Milliseconds.
    effect: Option<i64>,
    recorded: Option<i64>,
    details: Option<&'static str>,
}

fn entry() -> impl Strategy<Value = Entry> {
    let moment = || prop_oneof![1 => Just(None), 9 => (0..=LAST_MOMENT).prop_map(Some)];
    let status = prop_oneof![6 => Just(Some(1)), 3 => Just(Some(2)), 4 => Just(Some(3)), 1 => Just(None)];
    let details = prop_oneof![2 => Just(None), 1 => Just(Some("by hand")), 4 => Just(Some(RETURN))];
    ("[aBé~]?[0-9a-f]{12}", status, moment(), moment(), details)
        .prop_map(|(id, status, effect, recorded, details)| Entry { id, status, effect, recorded, details })
}

/// The definition, word by word.
fn entry_in_effect(history: &[Entry], now: i64) -> Option<&Entry> {
    let mut in_effect: Vec<_> = history.iter().filter(|entry| entry.effect.is_some_and(|from| from <= now)).collect();
    // `None` is the earliest, and strings are compared by bytes.
    in_effect.sort_by_key(|entry| (entry.effect, entry.recorded, &entry.id));
    let is_return = |entry: &Entry| entry.status == Some(1) && entry.details == Some(RETURN);
    let is_void = |place: usize| {
        let Some(made) = in_effect[place].recorded else { return false };
        let before: Vec<_> = in_effect[..place].iter().filter(|entry| !is_return(entry)).collect();
        let is_newer = |entry: &Entry| entry.recorded.or(entry.effect).is_some_and(|recorded| recorded > made);
        let overtaken = before.last().is_some_and(|latest| is_newer(latest) || latest.status == Some(2));
        let cancelled = before.iter().rfind(|entry| is_newer(entry)).is_some_and(|latest| latest.status == Some(2));
        is_return(in_effect[place]) && (overtaken || cancelled)
    };
    (0..in_effect.len()).rfind(|place| !is_void(*place)).map(|place| in_effect[place])
}

/// The database's word on a subscription at a moment.
#[derive(sqlx::FromRow)]
struct Found {
    id: String,
    entry_id: Option<String>,
    next_status: Option<i32>,
    /// Milliseconds.
    next_from: Option<i64>,
}

fn status(history: &[Entry], now: i64) -> Option<i32> {
    entry_in_effect(history, now).and_then(|entry| entry.status)
}

/// The first moment after `now` at which the status is another one, and that status.
fn next_status(history: &[Entry], now: i64) -> (Option<i32>, Option<i64>) {
    let next = (now + 1..=LAST_MOMENT).find(|later| status(history, *later) != status(history, now));
    (next.and_then(|next| status(history, next)), next)
}

#[tokio::test]
async fn the_list_and_the_definition_agree_with_the_model() {
    let mut random = TestRunner::new_with_rng(Config::default(), random("random statuses").1);
    let population = vec(("[aBé~]?[0-9a-f]{12}", option::weighted(0.9, 1..=3), vec(entry(), 0..8)), SUBSCRIPTIONS);
    let population = population.new_tree(&mut random).unwrap().current();

    let api = Api::start().await;
    for status in 1..=3 {
        let club = api.club().await;
        assert_eq!(club, status);
        api.run(&format!(
            "update club_status_history set effect_date = '-infinity', club_status_id = {status} where club_id = {club}"
        ))
        .await;
    }
    let subscriptions: Vec<_> = population.iter().map(|(id, club, _)| json!({ "id": id, "club": club })).collect();
    let entries: Vec<_> = population
        .iter()
        .flat_map(|(id, _, history)| history.iter().map(move |entry| (id, entry)))
        .map(|(subscription, entry)| {
            json!({
                "id": entry.id, "subscription": subscription, "status": entry.status, "effect": entry.effect,
                "recorded": entry.recorded, "details": entry.details
            })
        })
        .collect();
    let moment = |column: &str| format!("timestamp '2020-01-01' + {column} * interval '1 millisecond'");
    for (insert, rows) in [
        ("subscription (id, club_id) select id, club from r".to_owned(), subscriptions),
        (
            format!(
                "subscription_status_history (id, subscription_id, status_id, effect_date, create_date, details)
                 select id, subscription, status, {}, {}, details from r order by md5(id)",
                moment("effect"),
                moment("recorded")
            ),
            entries,
        ),
    ] {
        let insert = format!(
            "with r as (select * from jsonb_to_recordset($1::text::jsonb) as r(id text, club int, subscription text, status int,
                effect int, recorded int, details text)) insert into {insert}"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert)).bind(json!(rows).to_string()).execute(&api.sql).await.unwrap();
    }

    let (mut doubtful, mut scheduled) = (0, 0);
    for now in -1..=LAST_MOMENT {
        api.set_clock(&format!("({}) at time zone 'UTC'", moment(&format!("({now})")))).await;
        let found: Vec<Found> = sqlx::query_as(
            "select s.id, entry_id, next_status_id as next_status,
                (extract(epoch from next_effect_date - timestamp '2020-01-01') * 1000)::bigint as next_from
             from subscription s
             left join subscription_status current on current.subscription_id = s.id
             cross join lateral subscriptions(s.id, null, null, null, null, 60)",
        )
        .fetch_all(&api.sql)
        .await
        .unwrap();
        let found: HashMap<_, _> = found.into_iter().map(|found| (found.id.clone(), found)).collect();
        let mut eligible = BTreeSet::new();
        for (id, club, history) in &population {
            let entry = entry_in_effect(history, now);
            let found = &found[id];
            assert_eq!(found.entry_id.as_deref(), entry.map(|entry| &*entry.id), "at {now}: {history:?}");
            assert_eq!((found.next_status, found.next_from), next_status(history, now), "after {now}: {history:?}");
            scheduled += usize::from(found.next_from.is_some());
            if entry.is_some_and(|entry| entry.status == Some(1)) {
                eligible.extend(club.filter(|club| *club != 3).map(|_| id.as_str()));
            }
            let last = history
                .iter()
                .filter(|entry| entry.effect.is_some_and(|from| from <= now))
                .max_by_key(|entry| (entry.effect, entry.recorded, &entry.id));
            doubtful += usize::from(last.map(|last| &last.id) != entry.map(|entry| &entry.id));
        }
        assert!(api.eligible().await.iter().eq(&eligible), "at {now}");
        let page = api.call(Call::get("/subscription/eligible").query("limit", "700").query("after", "b")).await;
        let rest: Vec<_> = eligible.range("b\u{1}"..).take(700).collect();
        assert_eq!(page.body, json!(rest), "at {now}");
    }
    report(&format!("random statuses: a void return was passed over {doubtful} times"));
    assert!(doubtful > 100, "too few void returns to tell anything");
    report(&format!("random statuses: the status became another one {scheduled} times"));
    assert!(scheduled > 10_000, "too few scheduled statuses to tell anything");
}
