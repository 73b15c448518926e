//! Subscriptions and their statuses.

use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection, error::ErrorKind};
use uuid::Uuid;

use crate::{
    Error,
    database::Query,
    model::{ClubId, CustomerId, Days, Details, Moment, Status, SubscriptionId},
};

/// A subscription to be made. Its ids are made with it, so that trying again recognises an earlier try.
pub struct NewSubscription {
    id: Uuid,
    status_entry_id: Uuid,
    club_id: ClubId,
    pub customer_id: CustomerId,
}

impl NewSubscription {
    pub fn new(club_id: ClubId, customer_id: CustomerId) -> Self {
        Self { id: Uuid::new_v4(), status_entry_id: Uuid::new_v4(), club_id, customer_id }
    }

    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// Subscribes a customer to an ACTIVE club, once per club. The answer is when.
impl Query for NewSubscription {
    type Answer = Moment;

    /// The approved tables have no constraint that says "once", so a lock does: of this club and customer, held to the
    /// end of the transaction. The statement after it reads what was committed before.
    async fn ask(&self, connection: &mut PgConnection) -> Result<Moment, Error> {
        let mut transaction = connection.begin().await?;
        match self.insert_once(&mut transaction).await {
            Ok(outcome) => {
                transaction.commit().await?;
                outcome
            }
            Err(error) => {
                // At once: the lock must not outlast this call in an environment that is frozen.
                let _ = transaction.rollback().await;
                Err(or_if_gone(error, Error::ClubNotFound))
            }
        }
    }
}

impl NewSubscription {
    /// The subscription's beginning, or why there is none.
    async fn insert_once(&self, connection: &mut PgConnection) -> sqlx::Result<Result<Moment, Error>> {
        let (club, customer) = (self.club_id.get(), self.customer_id.as_str());
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, $2))", customer, i64::from(club))
            .execute(&mut *connection)
            .await?;
        let outcome = sqlx::query_file!(
            "sql/subscribe.sql",
            club,
            customer,
            self.id.to_string(),
            self.status_entry_id.to_string()
        )
        .fetch_one(connection)
        .await?;
        Ok(match outcome.create_date {
            Some(create_date) => Ok(create_date.into()),
            None if !outcome.club_found => Err(Error::ClubNotFound),
            None if !outcome.club_active => Err(Error::ClubNotActive),
            None => Err(Error::AlreadySubscribed),
        })
    }
}

/// A status to be recorded, with the automatic return that a pause may bring. Its ids are made with it, so that trying
/// again records it once.
pub struct StatusChange {
    entry_id: Uuid,
    return_entry_id: Uuid,
    pub subscription_id: SubscriptionId,
    pub status: Status,
    /// Default: now.
    pub effect_date: Option<Moment>,
    pub details: Option<Details>,
    /// Days from `effect_date` to the automatic return.
    pub interval: Option<Days>,
}

impl StatusChange {
    pub fn new(subscription_id: SubscriptionId, status: Status) -> Self {
        Self {
            entry_id: Uuid::new_v4(),
            return_entry_id: Uuid::new_v4(),
            subscription_id,
            status,
            effect_date: None,
            details: None,
            interval: None,
        }
    }
}

/// From when a recorded status has effect, and until when, if it returns by itself.
pub struct Recorded {
    pub effect_date: Moment,
    pub automatic_return: Option<Moment>,
}

impl Query for StatusChange {
    type Answer = Recorded;

    async fn ask(&self, connection: &mut PgConnection) -> Result<Recorded, Error> {
        let recorded = sqlx::query_file!(
            "sql/record_status.sql",
            self.subscription_id.as_str(),
            self.status.id(),
            self.effect_date.map(Moment::naive),
            self.details.as_ref().map(Details::as_str),
            self.interval.map(Days::get),
            self.entry_id.to_string(),
            self.return_entry_id.to_string()
        )
        .fetch_one(connection)
        .await
        .map_err(|error| or_if_gone(error, Error::SubscriptionNotFound))?;
        let effect_date = recorded.effect_date.ok_or(Error::SubscriptionNotFound)?;
        Ok(Recorded { effect_date: effect_date.into(), automatic_return: recorded.automatic_return.map(Moment::from) })
    }
}

/// Which part of the list of eligible subscriptions.
#[derive(Default)]
pub struct Page {
    /// Ids after this one, by bytes.
    pub after: Option<String>,
    /// At most so many; all of them if none.
    pub limit: Option<u32>,
}

impl Page {
    pub fn parse(after: Option<String>, limit: Option<String>) -> Result<Self, Error> {
        if after.as_deref().is_some_and(|after| after.contains('\0')) {
            return Err(Error::invalid("after must not contain a NUL character"));
        }
        let limit = limit
            .map(|limit| {
                let digits = limit.bytes().all(|byte| byte.is_ascii_digit());
                let limit = limit.parse().ok().filter(|limit| digits && (1..=LONGEST_PAGE).contains(limit));
                limit.ok_or_else(|| Error::invalid(format!("limit must be a whole number from 1 to {LONGEST_PAGE}")))
            })
            .transpose()?;
        Ok(Self { after, limit })
    }
}

pub struct Eligible {
    /// A JSON array of ids, ascending by bytes.
    pub json: String,
    /// The last id of the page, when more remain.
    pub next_after: Option<String>,
}

const LONGEST_PAGE: u32 = 100_000;

/// The largest answer of a Lambda function is 6 MiB, in which the body is a JSON string: its quotes and backslashes
/// count double. Some room is left for headers.
const LARGEST_BODY: usize = 6 * 1024 * 1024 - 8 * 1024;

/// Subscriptions that are ACTIVE in a club that is ACTIVE or CLOSED.
impl Query for Page {
    type Answer = Eligible;

    /// A page that would be too large for an answer ends early; the whole list is refused if it is.
    async fn ask(&self, connection: &mut PgConnection) -> Result<Eligible, Error> {
        // One more than asked for tells whether more remain.
        let limit = self.limit.map(|limit| i64::from(limit) + 1);
        let mut ids = sqlx::query_file!("sql/eligible.sql", self.after, limit).map(|row| row.id).fetch(connection);

        let mut json = vec![b'['];
        let mut size = "[],".len();
        let mut count = 0;
        let mut last = None;
        let mut next_after = None;
        while let Some(id) = ids.try_next().await? {
            let before = json.len();
            if count > 0 {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, &id).map_err(|error| Error::Internal(error.into()))?;
            let escapes = json[before..].iter().filter(|byte| matches!(byte, b'"' | b'\\')).count();
            size += json.len() - before + escapes;
            if self.limit == Some(count) || size > LARGEST_BODY {
                if self.limit.is_none() {
                    return Err(Error::PageRequired);
                }
                json.truncate(before);
                next_after = last;
                // The rest of the page is read, so that the connection can be used again.
                while ids.try_next().await?.is_some() {}
                break;
            }
            count += 1;
            last = Some(id);
        }
        json.push(b']');
        let json = String::from_utf8(json).map_err(|error| Error::Internal(error.into()))?;
        Ok(Eligible { json, next_after })
    }
}

/// The row that a new one refers to was deleted meanwhile.
fn or_if_gone(error: sqlx::Error, gone: Error) -> Error {
    match &error {
        sqlx::Error::Database(database)
            if matches!(database.kind(), ErrorKind::ForeignKeyViolation)
                && database.constraint().is_none_or(|constraint| !constraint.contains("status_id")) =>
        {
            gone
        }
        _ => error.into(),
    }
}
