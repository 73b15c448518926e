//! Everything that can go wrong, and the one mapping of it to a status and a code.

use lambda_http::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

/// Seconds after which a call is worth repeating, if nobody says how long it will take.
const RETRY_AFTER: u64 = 2;
/// Nobody waits for longer, whatever the platform says.
const LONGEST_RETRY_AFTER: u64 = 300;
/// The changes of a subscription are counted over this time.
const A_DAY: u64 = 24 * 60 * 60;

/// A refusal or a failure. `Display` is the problem's `detail` and shows nothing internal. `source` is for the log.
#[derive(Debug, Error)]
pub enum Error {
    #[error("{0}")]
    InvalidRequest(String),
    #[error("The whole list does not fit one answer. Ask for it in pages: ?limit=100000, then the rel=\"next\" link.")]
    PageRequired,
    #[error("The body is longer than 16 KiB.")]
    TooLarge,
    #[error("The call is not authenticated as a customer.")]
    Unauthenticated,
    #[error("A customer may act only for their own customer_id.")]
    CustomerMismatch,
    #[error("There is no club with this id.")]
    ClubNotFound,
    #[error("There is no subscription with this id.")]
    SubscriptionNotFound,
    #[error("The club is not active.")]
    ClubNotActive,
    #[error("This customer already has a subscription to this club.")]
    AlreadySubscribed { subscription_id: Option<String> },
    #[error("The subscription is not active in this month.")]
    NothingToSkip,
    #[error("The subscription has too many changes in 24 hours, or too many that are scheduled. Nothing was recorded.")]
    TooManyChanges { retry_after: u64 },
    #[error("The call's month is another than the one that was asked for. Nothing was sent.")]
    MonthMismatch { month: String },
    #[error("Another call is charging this subscription right now.")]
    ChargeInProgress { retry_after: Option<u64> },
    /// Another call's attempt has an unknown outcome.
    #[error("{}", outcome_unknown(*undecidable))]
    EarlierOutcomeUnknown { request_id: String, undecidable: bool },
    #[error("The subscription cannot be charged: it or its club is not active, or it has no customer or no sku.")]
    NotChargeable,
    #[error("This request_id belongs to another subscription, or to a month that is past.")]
    RequestIdReused { month: Option<String> },
    #[error("The e-commerce platform refused the order. The month stays open.")]
    OrderRejected { upstream_status: Option<u16>, upstream_answer: Option<Value> },
    #[error("The e-commerce platform does not accept our credentials. Nothing was ordered.")]
    EcommerceUnauthorized { upstream_status: Option<u16> },
    #[error("The order cannot be placed with the e-commerce platform now. Nothing was charged.")]
    EcommerceUnavailable { retry_after: Option<u64> },
    #[error("A charge with this request_id was sent and its outcome is not known. Repeat it with the same request_id.")]
    ThisOutcomeUnknown { request_id: String, retry_after: Option<u64> },
    #[error("The database is not available.")]
    DatabaseUnavailable(#[source] Option<sqlx::Error>),
    #[error("Something went wrong here.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn outcome_unknown(undecidable: bool) -> &'static str {
    if undecidable {
        "An earlier charge for this month has an unknown outcome, and the subscription cannot be charged now: an \
         operator decides."
    } else {
        "An earlier charge for this month has an unknown outcome. Repeat it with the request_id given here."
    }
}

impl Error {
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::InvalidRequest(detail.into())
    }

    /// The status and the stable word that programs match on. tests/contract/test_document.py reads these lines.
    pub fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::PageRequired => (StatusCode::BAD_REQUEST, "page_required"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::CustomerMismatch => (StatusCode::FORBIDDEN, "customer_mismatch"),
            Self::ClubNotFound => (StatusCode::NOT_FOUND, "club_not_found"),
            Self::SubscriptionNotFound => (StatusCode::NOT_FOUND, "subscription_not_found"),
            Self::ClubNotActive => (StatusCode::CONFLICT, "club_not_active"),
            Self::AlreadySubscribed { .. } => (StatusCode::CONFLICT, "already_subscribed"),
            Self::NothingToSkip => (StatusCode::CONFLICT, "nothing_to_skip"),
            Self::TooManyChanges { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_changes"),
            Self::MonthMismatch { .. } => (StatusCode::CONFLICT, "month_mismatch"),
            Self::ChargeInProgress { .. } => (StatusCode::CONFLICT, "charge_in_progress"),
            Self::EarlierOutcomeUnknown { .. } => (StatusCode::CONFLICT, "charge_outcome_unknown"),
            Self::NotChargeable => (StatusCode::CONFLICT, "not_chargeable"),
            Self::RequestIdReused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "request_id_reused"),
            Self::OrderRejected { .. } => (StatusCode::BAD_GATEWAY, "order_rejected"),
            Self::EcommerceUnauthorized { .. } => (StatusCode::BAD_GATEWAY, "ecommerce_unauthorized"),
            Self::EcommerceUnavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "ecommerce_unavailable"),
            Self::ThisOutcomeUnknown { .. } => (StatusCode::GATEWAY_TIMEOUT, "charge_outcome_unknown"),
            Self::DatabaseUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// The fields that a problem has besides its code. A `retry_after` says that repeating the call can help.
    pub fn extra(&self) -> Extra<'_> {
        let mut extra = Extra::default();
        let after = |seconds: &Option<u64>| Some(seconds.unwrap_or(RETRY_AFTER).clamp(1, LONGEST_RETRY_AFTER));
        match self {
            Self::MonthMismatch { month } => extra.month = Some(month),
            Self::RequestIdReused { month } => extra.month = month.as_deref(),
            Self::ChargeInProgress { retry_after } | Self::EcommerceUnavailable { retry_after } => {
                extra.retry_after = after(retry_after);
            }
            Self::TooManyChanges { retry_after } => extra.retry_after = Some((*retry_after).clamp(1, A_DAY)),
            Self::DatabaseUnavailable(_) => extra.retry_after = after(&None),
            Self::EarlierOutcomeUnknown { request_id, undecidable } => {
                extra.request_id = Some(request_id);
                extra.retry_after = if *undecidable { None } else { after(&None) };
            }
            Self::ThisOutcomeUnknown { request_id, retry_after } => {
                extra.request_id = Some(request_id);
                extra.retry_after = after(retry_after);
            }
            Self::AlreadySubscribed { subscription_id } => extra.subscription_id = subscription_id.as_deref(),
            Self::OrderRejected { upstream_status, upstream_answer } => {
                extra.upstream_status = *upstream_status;
                extra.upstream_answer = upstream_answer.as_ref();
            }
            Self::EcommerceUnauthorized { upstream_status } => extra.upstream_status = *upstream_status,
            Self::InvalidRequest(_)
            | Self::PageRequired
            | Self::TooLarge
            | Self::Unauthenticated
            | Self::CustomerMismatch
            | Self::ClubNotFound
            | Self::SubscriptionNotFound
            | Self::ClubNotActive
            | Self::NothingToSkip
            | Self::NotChargeable
            | Self::Internal(_) => {}
        }
        extra
    }
}

#[derive(Default, Serialize)]
pub struct Extra<'a> {
    /// Seconds after which the same call is worth repeating. A header.
    #[serde(skip)]
    pub retry_after: Option<u64>,
    /// The call's month, or the request_id's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month: Option<&'a str>,
    /// The request_id to repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The subscription that the customer already has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<&'a str>,
    /// The status of the platform's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// The platform's JSON, or its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_answer: Option<&'a Value>,
}
