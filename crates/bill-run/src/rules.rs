//! What an answer to a charge means, and what to do next. docs/bill-run.md has the same as a table.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What came back from a charge.
#[derive(Debug)]
pub enum Reply {
    Answer(Answer),
    /// No answer, or half of one: it may have been charged.
    Lost(String),
    /// There are no credentials to sign with, so nothing was sent.
    NoCredentials(String),
}

#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Body,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.status, self.body.code.as_deref().unwrap_or("without a code"))
    }
}

/// What is read of a charge or a problem; a body that is neither is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    pub code: Option<String>,
    pub request_id: Option<String>,
    pub month: Option<String>,
    pub charged_at: Option<String>,
    pub already_charged: Option<bool>,
}

/// How a subscription of the plan stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Charged,
    AlreadyCharged,
    Refused,
    Unknown,
    #[default]
    Left,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::AlreadyCharged => "already_charged",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Left => "left",
        }
    }

    /// Whether another apply of the same plan leaves it alone.
    pub fn is_final(self) -> bool {
        match self {
            Self::Charged | Self::AlreadyCharged | Self::Refused => true,
            Self::Unknown | Self::Left => false,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Done(Outcome),
    /// Another call is charging the subscription: ask again under the same request_id.
    Wait {
        after: Option<Duration>,
    },
    /// The API or the platform cannot answer now: ask again under the same request_id.
    Repeat {
        after: Option<Duration>,
    },
    /// It may have been charged: ask again under this request_id, a few times. After that it is unknown.
    Find {
        request_id: Option<String>,
    },
    /// Nobody else is charged either.
    Stop(Stop),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The call's month is another than the plan's. Nothing was sent.
    MonthIsOver {
        month: String,
    },
    NotAuthorized(String),
}

pub fn next(reply: &Reply) -> Next {
    let answer @ Answer { status, retry_after, body } = match reply {
        Reply::Answer(answer) => answer,
        Reply::Lost(_) => return Next::Repeat { after: None },
        Reply::NoCredentials(why) => return Next::Stop(Stop::NotAuthorized(why.clone())),
    };
    let after = *retry_after;
    match (status, body.code.as_deref()) {
        (200, None) => match body.already_charged {
            Some(true) => Next::Done(Outcome::AlreadyCharged),
            Some(false) => Next::Done(Outcome::Charged),
            // Something else than the API answered.
            None => Next::Find { request_id: None },
        },
        (401 | 403, _) => Next::Stop(Stop::NotAuthorized(format!("the API answers {answer}"))),
        (429 | 503, _) => Next::Repeat { after },
        (409, Some("charge_in_progress")) => Next::Wait { after },
        (409, Some("month_mismatch")) => {
            Next::Stop(Stop::MonthIsOver { month: body.month.clone().unwrap_or_default() })
        }
        (409 | 504, Some("charge_outcome_unknown")) => Next::Find { request_id: body.request_id.clone() },
        (400, Some("invalid_request"))
        | (404, Some("subscription_not_found"))
        | (409, Some("not_chargeable"))
        | (422, Some("request_id_reused"))
        | (502, Some("order_rejected")) => Next::Done(Outcome::Refused),
        // A gateway's timeout, a failure inside, or what no version of the contract says: no certain answer.
        _ => Next::Find { request_id: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: Option<&str>) -> Answer {
        Answer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            body: Body {
                code: code.map(ToOwned::to_owned),
                request_id: Some("named".to_owned()),
                month: Some("2026-12".to_owned()),
                ..Body::default()
            },
        }
    }

    #[test]
    fn every_answer_has_its_rule() {
        let after = Some(Duration::from_secs(7));
        let named = || Next::Find { request_id: Some("named".to_owned()) };
        let uncertain = || Next::Find { request_id: None };
        let refused = || Next::Done(Outcome::Refused);
        for (status, code, expected) in [
            (400, Some("invalid_request"), refused()),
            (404, Some("subscription_not_found"), refused()),
            (409, Some("not_chargeable"), refused()),
            (422, Some("request_id_reused"), refused()),
            (502, Some("order_rejected"), refused()),
            (409, Some("charge_in_progress"), Next::Wait { after }),
            (429, None, Next::Repeat { after }),
            (503, None, Next::Repeat { after }),
            (503, Some("ecommerce_unavailable"), Next::Repeat { after }),
            (503, Some("database_unavailable"), Next::Repeat { after }),
            (409, Some("charge_outcome_unknown"), named()),
            (504, Some("charge_outcome_unknown"), named()),
            (409, Some("month_mismatch"), Next::Stop(Stop::MonthIsOver { month: "2026-12".to_owned() })),
            (401, None, Next::Stop(Stop::NotAuthorized("the API answers 401 (without a code)".to_owned()))),
            (403, None, Next::Stop(Stop::NotAuthorized("the API answers 403 (without a code)".to_owned()))),
            (403, Some("forbidden"), Next::Stop(Stop::NotAuthorized("the API answers 403 (forbidden)".to_owned()))),
            // No certain answer: not the contract's, or not the API's.
            (200, None, uncertain()),
            (200, Some("anything"), uncertain()),
            (201, None, uncertain()),
            (301, None, uncertain()),
            (400, None, uncertain()),
            (404, None, uncertain()),
            (409, None, uncertain()),
            (409, Some("a_new_code"), uncertain()),
            (500, Some("internal_error"), uncertain()),
            (502, None, uncertain()),
            (504, None, uncertain()),
        ] {
            assert_eq!(next(&Reply::Answer(answer(status, code))), expected, "{status} {code:?}");
        }
        assert_eq!(next(&Reply::Lost("reset".to_owned())), Next::Repeat { after: None });
        let stop = Stop::NotAuthorized("none".to_owned());
        assert_eq!(next(&Reply::NoCredentials("none".to_owned())), Next::Stop(stop));
    }

    #[test]
    fn a_charge_says_whether_it_was_there_before() {
        for (already_charged, outcome) in [(true, Outcome::AlreadyCharged), (false, Outcome::Charged)] {
            let body = Body { already_charged: Some(already_charged), ..Body::default() };
            let answer = Answer { status: 200, body, ..Answer::default() };
            assert_eq!(next(&Reply::Answer(answer)), Next::Done(outcome));
        }
    }
}
