//! Random changes through the front door, compared with a plain model of what customers mean: a base, and layers over it.
//! The definition of status, the list and the charge must say the same as the model.

use std::collections::HashMap;

use chrono::{DateTime, Days, Duration, Months, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use harness::{Api, Call, random, report};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

const SUBSCRIPTIONS: usize = 60;
const STEPS: usize = 12;
const ZONES: [&str; 5] = ["UTC", "America/Sao_Paulo", "America/Havana", "Asia/Tokyo", "Europe/Berlin"];

type Moment = DateTime<Utc>;

#[derive(Default)]
struct Model {
    /// In the order of recording: a moment, and the status from then on.
    base: Vec<(Moment, i64)>,
    /// From one moment until before another.
    layers: Vec<(Moment, Moment)>,
}

impl Model {
    fn status(&self, at: Moment) -> Option<i64> {
        let latest = self.base.iter().filter(|(from, _)| *from <= at).max_by_key(|(from, _)| *from);
        let base = latest.map(|(_, status)| *status);
        let paused = self.layers.iter().any(|(from, until)| (*from..*until).contains(&at));
        if paused && base != Some(2) { Some(3) } else { base }
    }

    fn set_base(&mut self, from: Moment, status: i64) {
        if status == 1 {
            self.end_layers(from);
        }
        self.base.push((from, status));
    }

    /// Those that cover this moment.
    fn end_layers(&mut self, at: Moment) {
        for (_, until) in self.layers.iter_mut().filter(|(from, until)| (*from..*until).contains(&at)) {
            *until = at;
        }
    }

    fn pause(&mut self, from: Moment, until: Moment) {
        self.end_layers(from);
        self.layers.push((from, until));
    }

    /// The automatic return that is recorded, or nothing if there is nothing to skip.
    fn skip(&mut self, from: Moment, until: Moment) -> Option<Option<Moment>> {
        let moments = self.changes().into_iter().chain([from]).filter(|at| (from..until).contains(at));
        if !moments.into_iter().any(|at| self.status(at) == Some(1)) {
            return None;
        }
        let returns = (self.status(until) == Some(1)).then_some(until);
        self.layers.push((from, until));
        Some(returns)
    }

    /// All moments at which the status may change.
    fn changes(&self) -> Vec<Moment> {
        let layers = self.layers.iter().flat_map(|(from, until)| [*from, *until]);
        self.base.iter().map(|(from, _)| *from).chain(layers).collect()
    }
}

/// A customer's call. Days are counted from the first of the month of the first step.
#[derive(Clone, Debug)]
enum Action {
    Nothing,
    Base {
        status: i64,
        day: Option<u64>,
    },
    Interval {
        day: Option<u64>,
        days: i64,
    },
    Until {
        day: Option<u64>,
        until: u64,
    },
    Skip {
        month: u32,
    },
    /// The next status is replaced by the current one.
    Undo,
}

fn action() -> impl Strategy<Value = Action> {
    // Often the first of a month, so that changes meet.
    let day = || prop_oneof![3 => Just(0), 3 => Just(31), 3 => Just(61), 2 => Just(92), 4 => 0..150_u64];
    let some_day = || prop_oneof![1 => Just(None), 1 => day().prop_map(Some)];
    prop_oneof![
        2 => Just(Action::Nothing),
        4 => (prop_oneof![2 => Just(1), 1 => Just(2), 1 => Just(3)], some_day()).prop_map(|(status, day)| Action::Base { status, day }),
        1 => (some_day(), 1..70_i64).prop_map(|(day, days)| Action::Interval { day, days }),
        2 => (some_day(), day()).prop_map(|(day, until)| Action::Until { day, until }),
        4 => (0..6_u32).prop_map(|month| Action::Skip { month }),
        2 => Just(Action::Undo),
    ]
}

struct World {
    api: Api,
    zone: Tz,
    begin: NaiveDate,
    now: Moment,
}

impl World {
    async fn set_clock(&mut self, now: Moment) {
        self.now = now;
        self.api.set_clock(&format!("'{}'::timestamptz", now.to_rfc3339())).await;
    }

    fn first_moment(&self, day: NaiveDate) -> Moment {
        // Where clocks go forward at midnight, the day begins at one.
        let begins = |hour| self.zone.from_local_datetime(&day.and_hms_opt(hour, 0, 0).unwrap()).earliest();
        begins(0).or_else(|| begins(1)).expect("a first moment").to_utc()
    }

    fn month(&self, month: u32) -> NaiveDate {
        self.begin + Months::new(month)
    }

    /// Calls the API, and tells the model. Answers what was done.
    async fn act(&self, id: &str, action: &Action, model: &mut Model) -> Option<String> {
        let day = |day: u64| self.begin + Days::new(day);
        let from = |number: &Option<u64>| number.map_or(self.now, |number| self.first_moment(day(number)));
        let mut body = match action {
            Action::Nothing => return None,
            Action::Base { status, .. } => json!({ "status_id": status }),
            Action::Interval { days, .. } => json!({ "status_id": 3, "interval": days }),
            Action::Until { until, .. } => json!({ "status_id": 3, "until": day(*until) }),
            Action::Skip { month } => json!({ "status_id": 3, "skip": self.month(*month).format("%Y-%m").to_string() }),
            Action::Undo => {
                let shown = self.api.call(Call::get(format!("/subscription/{id}"))).await;
                let Value::Object(next) = &shown.body["next"] else { return None };
                json!({ "status_id": shown.body["status_id"], "effect_date": next["effect_date"] })
            }
        };
        if let Action::Base { day: Some(number), .. }
        | Action::Interval { day: Some(number), .. }
        | Action::Until { day: Some(number), .. } = action
        {
            body["effect_date"] = json!(day(*number));
        }
        let answer = self.api.status(id, body.clone()).await;
        let expected = match action {
            Action::Nothing => unreachable!("it has returned"),
            Action::Base { status, day } => {
                model.set_base(from(day), *status);
                Some(None)
            }
            Action::Undo => {
                let moment = body["effect_date"].as_str().unwrap().parse().unwrap();
                model.set_base(moment, body["status_id"].as_i64().unwrap());
                Some(None)
            }
            Action::Interval { day, days } => {
                let until = from(day) + Duration::days(*days);
                model.pause(from(day), until);
                Some(Some(until))
            }
            Action::Until { day: begin, until } => {
                let until = self.first_moment(day(*until));
                (until > from(begin)).then(|| {
                    model.pause(from(begin), until);
                    Some(until)
                })
            }
            Action::Skip { month } => {
                let (first, end) = (self.first_moment(self.month(*month)), self.first_moment(self.month(month + 1)));
                if end > self.now { model.skip(first.max(self.now), end) } else { None }
            }
        };
        let done = format!("{} {body} {}", self.now, answer.status);
        match expected {
            Some(returns) => {
                assert_eq!(answer.status, 200, "{done} {answer:?}");
                let found = answer.body["automatic_return"].as_str().map(|moment| moment.parse::<Moment>().unwrap());
                assert_eq!(found, returns, "{done}");
            }
            None => assert!([400, 409].contains(&answer.status), "{done} {answer:?}"),
        }
        Some(done)
    }

    /// The statuses of all subscriptions by the definition: each with the moment from which it holds, for now and later.
    async fn timelines(&self) -> HashMap<String, Vec<(Moment, i64)>> {
        let rows: Vec<(String, Option<NaiveDateTime>, Option<i32>)> = sqlx::query_as(
            "select s.id, t.effect_date, t.status_id
             from subscription s
             cross join lateral unnest(
                 status_timeline(
                     in_status_order(
                         array(select h from subscription_status_history h where h.subscription_id = s.id)
                     ),
                     utc_now()
                 )
             ) t",
        )
        .fetch_all(&self.api.sql)
        .await
        .unwrap();
        let mut timelines: HashMap<_, Vec<_>> = HashMap::new();
        for (id, moment, status) in rows {
            timelines.entry(id).or_default().push((moment.unwrap().and_utc(), i64::from(status.unwrap())));
        }
        timelines
    }
}

#[tokio::test]
async fn the_definition_the_list_and_the_charge_agree_with_what_customers_mean() {
    let (seed, rng) = random("random changes");
    let mut random = TestRunner::new_with_rng(Config::default(), rng);
    let days = prop_oneof![2 => Just(0), 5 => 0..=8_i64];
    let plan = (0..ZONES.len(), 0..12_u32, vec((days, 0..=4_000_i64, vec(action(), SUBSCRIPTIONS)), STEPS));
    let (zone, month, steps) = plan.new_tree(&mut random).unwrap().current();
    let zone = ZONES[zone];
    let begin = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + Months::new(month);

    let api = Api::with(&[("BILLING_TIMEZONE", zone)]).await;
    let mut world = World { api, zone: zone.parse().unwrap(), begin, now: Moment::default() };
    world.set_clock(world.first_moment(begin) - Duration::days(10)).await;
    let mut customers = Vec::new();
    for _ in 0..SUBSCRIPTIONS {
        let id = world.api.subscription().await;
        let mut model = Model::default();
        model.set_base(world.now, 1);
        customers.push((id, model, Vec::new()));
    }

    let mut compared = 0;
    for (days, seconds, actions) in &steps {
        // Sometimes not a moment passes.
        if *days > 0 {
            world.set_clock(world.now + Duration::days(*days) + Duration::seconds(*seconds)).await;
        }
        for ((id, model, done), action) in customers.iter_mut().zip(actions) {
            done.extend(world.act(id, action, model).await);
        }
        let timelines = world.timelines().await;
        for (id, model, done) in &customers {
            let timeline = &timelines[id];
            let moments = timeline.iter().map(|(from, _)| *from).chain(model.changes()).chain([world.now]);
            for at in moments.filter(|at| *at >= world.now) {
                let found = timeline.iter().rfind(|(from, _)| *from <= at).map(|(_, status)| *status);
                assert_eq!(found, model.status(at), "SEED={seed} {zone} {id} at {at}: {done:#?}");
                compared += 1;
            }
        }
    }
    report(&format!("random changes: compared {compared} statuses by the definition, in {zone}"));

    let (mut charged, mut refused) = (0, 0);
    let now = world.now;
    for month in 0..8 {
        let (first, end) = (world.first_moment(world.month(month)), world.first_moment(world.month(month + 1)));
        let within = Duration::seconds((0..(end - first).num_seconds()).new_tree(&mut random).unwrap().current());
        let mut moments = [first, first + within, end - Duration::seconds(1)];
        moments.sort();
        let charge_at = moments[(0..3_usize).new_tree(&mut random).unwrap().current()];
        for at in moments.into_iter().filter(|at| *at > now) {
            world.set_clock(at).await;
            let active = customers.iter().filter(|(_, model, _)| model.status(at) == Some(1));
            let mut active: Vec<_> = active.map(|(id, ..)| id.as_str()).collect();
            active.sort_unstable();
            assert_eq!(world.api.eligible().await, active, "SEED={seed} {zone} at {at}");
            let by_view: Vec<String> = sqlx::query_scalar(
                "select subscription_id from subscription_current_status where status_id = 1
                 order by subscription_id collate \"C\"",
            )
            .fetch_all(&world.api.sql)
            .await
            .unwrap();
            assert_eq!(by_view, active, "SEED={seed} {zone} at {at}");
            if at == charge_at {
                for (id, model, done) in &customers {
                    let answer = world.api.charge(id, &format!("{}.{}", world.month(month), &id[..8])).await;
                    if model.status(at) == Some(1) {
                        assert_eq!(answer.status, 200, "SEED={seed} {zone} {id} at {at} {answer:?}: {done:#?}");
                        charged += 1;
                    } else {
                        answer.refuses(409, "not_chargeable");
                        refused += 1;
                    }
                }
            }
        }
    }
    report(&format!("random changes: {charged} charges, {refused} refusals"));
    assert!(charged > 20 && refused > 20, "too few of either to tell anything");
}
