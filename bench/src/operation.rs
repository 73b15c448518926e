//! The operations that are measured: as an event for the function, as the least SQL, and as the function's own calls of the
//! database.

use std::time::{Duration, Instant};

use chrono_tz::Tz;
use club_core::{
    caller::Caller,
    clock::Budget,
    database::Database,
    model::{Status, SubscriptionId},
    subscription::{EligiblePage, StatusChange, Subscription},
};
use futures_util::TryStreamExt;
use harness::Call;
use serde_json::json;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions, query, query_scalar};
use uuid::Uuid;

/// Ids of a small page.
const SMALL_PAGE: u32 = 100;
const CLUB: i32 = 1;
/// More than any call takes.
const TIME: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Subscribe,
    Status,
    /// A subscription by its id.
    Lookup,
    /// A page of [`SMALL_PAGE`] ids.
    Eligible,
    Charge,
    /// The repeat of a charge.
    Replay,
}

impl Operation {
    /// One operation of each function.
    pub const DIFFERENT: [Self; 5] = [Self::Subscribe, Self::Status, Self::Lookup, Self::Eligible, Self::Charge];
    pub const ALL: [Self; 6] =
        [Self::Subscribe, Self::Status, Self::Lookup, Self::Eligible, Self::Charge, Self::Replay];

    pub fn function(self) -> &'static str {
        self.call(&Subject::of("a-subscription")).function()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Status => "status",
            Self::Lookup => "lookup",
            Self::Eligible => "eligible, a page of 100",
            Self::Charge => "charge",
            Self::Replay => "charge, replayed",
        }
    }

    /// A call that succeeds.
    pub fn call(self, subject: &Subject) -> Call {
        match self {
            Self::Subscribe => Call::subscribe(CLUB, &Uuid::new_v4().to_string()),
            Self::Status => Call::post(
                format!("/subscription/{}/status", subject.subscription_id),
                json!({ "status_id": 1, "details": "as it was" }),
            ),
            Self::Lookup => Call::get(format!("/subscription/{}", subject.subscription_id)),
            Self::Eligible => page(SMALL_PAGE, None),
            Self::Charge | Self::Replay => Call::charge(&subject.subscription_id, &subject.request_id),
        }
    }
}

pub fn page(limit: u32, after: Option<&str>) -> Call {
    let call = Call::get("/subscription/eligible").query("limit", &limit.to_string());
    after.into_iter().fold(call, |call, after| call.query("after", after))
}

/// The subject of one call. Each operation uses the part that it needs.
#[derive(Clone)]
pub struct Subject {
    pub subscription_id: String,
    pub request_id: String,
    /// The attempt of a charge that is replayed.
    pub attempt_id: Uuid,
}

impl Subject {
    pub fn of(subscription_id: &str) -> Self {
        Self {
            subscription_id: subscription_id.to_owned(),
            request_id: Uuid::new_v4().to_string(),
            attempt_id: Uuid::new_v4(),
        }
    }
}

fn options(url: &str) -> PgConnectOptions {
    // PgBouncer refuses this start-up parameter.
    url.parse::<PgConnectOptions>().expect("a URL").extra_float_digits(None)
}

pub async fn connect(url: &str) -> PgConnection {
    options(url).connect().await.expect("the database")
}

pub const ELIGIBLE: &str = "select unnest(eligible_subscriptions(null, null, null, null, 600))";

/// The ids that this query selects.
pub async fn ids(url: &str, query: &'static str) -> Vec<String> {
    query_scalar(query).fetch_all(&mut connect(url).await).await.expect("ids")
}

/// The least SQL that could do the work, on a connection without any settings.
pub struct Floor(PgConnection);

impl Floor {
    pub async fn connect(url: &str) -> Self {
        Self(connect(url).await)
    }

    pub async fn run(&mut self, operation: Operation, subject: &Subject) -> Duration {
        let new_id = || Uuid::new_v4().to_string();
        let Self(connection) = self;
        let started = Instant::now();
        match operation {
            Operation::Subscribe => {
                query(
                    "with new as (
                         insert into subscription (id, club_id, customer_store_id, create_date)
                         values ($1, $2, $3, now() at time zone 'UTC')
                     )
                     insert into subscription_status_history (id, subscription_id, status_id, effect_date, create_date)
                     values ($4, $1, 1, now() at time zone 'UTC', now() at time zone 'UTC')",
                )
                .bind(new_id())
                .bind(CLUB)
                .bind(new_id())
                .bind(new_id())
                .execute(connection)
                .await
                .expect("the rows");
            }
            Operation::Status => {
                query(
                    "insert into subscription_status_history
                         (id, subscription_id, status_id, effect_date, create_date, details)
                     values ($1, $2, 1, now() at time zone 'UTC', now() at time zone 'UTC', $3)",
                )
                .bind(new_id())
                .bind(&subject.subscription_id)
                .bind("as it was")
                .execute(connection)
                .await
                .expect("the row");
            }
            Operation::Lookup => {
                query("select id, club_id, customer_store_id, create_date from subscription where id = $1")
                    .bind(&subject.subscription_id)
                    .fetch_one(connection)
                    .await
                    .expect("the subscription");
            }
            Operation::Eligible => {
                let ids: Vec<String> = query_scalar("select id from subscription order by id limit 100")
                    .fetch_all(connection)
                    .await
                    .expect("the ids");
                assert_eq!(ids.len(), 100);
            }
            Operation::Charge => {
                let token = Uuid::new_v4();
                let (verdict, attempt) = claim(connection, subject, token, true).await;
                assert_eq!(verdict, "claimed");
                settle(connection, attempt.expect("an attempt"), token).await;
            }
            Operation::Replay => {
                query("select request_id, billing_month, settled_at, \"order\" from charge_attempt where id = $1")
                    .bind(subject.attempt_id)
                    .fetch_one(connection)
                    .await
                    .expect("the attempt");
            }
        }
        started.elapsed()
    }

    /// Reads the ids of all subscriptions, which are `count`, in any order.
    pub async fn read_ids(&mut self, count: usize) -> Duration {
        self.read("select id from subscription", count).await
    }

    /// Reads each entry in effect once, by an index, and the ids of all subscriptions, which are `count`.
    pub async fn read_entries(&mut self, count: usize) -> Duration {
        self.read(
            r#"select distinct on (subscription_id collate "C") subscription_id
               from subscription_status_history
               where effect_date <= now() at time zone 'UTC'
               order by subscription_id collate "C", effect_date desc, create_date desc nulls last, id collate "C" desc"#,
            count,
        )
        .await
    }

    async fn read(&mut self, statement: &'static str, count: usize) -> Duration {
        let started = Instant::now();
        let mut ids = query_scalar::<_, String>(statement).fetch(&mut self.0);
        let mut found = 0;
        while let Some(id) = ids.try_next().await.expect("the database") {
            found += usize::from(!id.is_empty());
        }
        assert_eq!(found, count);
        started.elapsed()
    }
}

/// The functions' questions about one subscription, asked by their own code. A claim is written here, because
/// charge makes its order after it.
pub struct Statements {
    database: Database,
    connection: PgConnection,
}

impl Statements {
    pub async fn connect(url: &str) -> Self {
        let database = Database::new(options(url), None, None);
        database.connect_ahead().await;
        Self { database, connection: connect(url).await }
    }

    pub async fn lookup(&self, subject: &Subject) -> Duration {
        let started = Instant::now();
        let subscription = SubscriptionId::parse(&subject.subscription_id).expect("an id");
        let found = Subscription::find(&subscription, &Caller::Anyone, &self.database, Budget::new(TIME)).await;
        found.expect("a subscription");
        started.elapsed()
    }

    pub async fn status(&self, subject: &Subject) -> Duration {
        let started = Instant::now();
        let subscription = SubscriptionId::parse(&subject.subscription_id).expect("an id");
        let change = StatusChange::new(Caller::Anyone, Tz::UTC, subscription, Status::Active);
        change.record(&self.database, Budget::new(TIME)).await.expect("an entry");
        started.elapsed()
    }

    /// The small page that begins after this id.
    pub async fn page(&self, after: String) -> Duration {
        let started = Instant::now();
        let page = EligiblePage { after: Some(after), limit: Some(SMALL_PAGE), due: false };
        page.read(&self.database, Tz::UTC, Budget::new(TIME)).await.expect("a page");
        started.elapsed()
    }

    /// A claim that has no time to call out, and writes nothing.
    pub async fn claim(&mut self, subject: &Subject) -> Duration {
        let started = Instant::now();
        claim(&mut self.connection, subject, Uuid::new_v4(), false).await;
        started.elapsed()
    }
}

async fn claim(
    connection: &mut PgConnection,
    subject: &Subject,
    token: Uuid,
    may_call_out: bool,
) -> (String, Option<Uuid>) {
    sqlx::query_as(
        "select verdict, live_attempt_id
         from claim_charge(
             subscription_id => $1, request_id => $2, attempt_id => $3, token => $4, billing_timezone => 'UTC',
             deadline => 19, may_call_out => $5, expected_month => null, seconds => 60
         )",
    )
    .bind(&subject.subscription_id)
    .bind(&subject.request_id)
    .bind(Uuid::new_v4())
    .bind(token)
    .bind(may_call_out)
    .fetch_one(connection)
    .await
    .expect("the claim")
}

async fn settle(connection: &mut PgConnection, attempt_id: Uuid, token: Uuid) {
    query(
        "select state, \"order\", own, billing_month, charged_at, orphaned
         from settle_charge(
             attempt_id => $1, token => $2, state => 'charged', upstream_status => 201::smallint, \"order\" => '{}',
             upstream_answer => null
         )",
    )
    .bind(attempt_id)
    .bind(token)
    .fetch_one(connection)
    .await
    .expect("the settlement");
}
