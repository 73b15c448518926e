//! The rules of a bill run that need no network: request_ids, what an answer leads to, and when a run stops.

use std::{fmt, time::Duration};

use serde::Deserialize;
use uuid::Uuid;

/// A subscription is repeated this often, then left. A page that is read, too.
pub const REPEATS: u32 = 8;
/// Subscriptions in a row, after whose `ecommerce_unauthorized` nobody else is charged either.
const UNAUTHORIZED: u32 = 3;
/// The wait before a call is repeated that had no answer, or a `retry-after` that is no number of seconds.
const SOON: Duration = Duration::from_secs(2);

/// The answer to a call, or its absence.
#[derive(Debug)]
pub enum Reply {
    Answer {
        status: u16,
        retry_after: Option<Duration>,
        problem: Problem,
    },
    /// No answer, or half of one, and why: it may have been charged.
    Lost(String),
}

/// The parts of a problem that are read. Any other body counts as an empty one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub code: Option<String>,
    pub request_id: Option<String>,
    pub month: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Done,
    /// Call again after this time, under this request_id if there is one.
    Repeat {
        after: Duration,
        request_id: Option<String>,
    },
    /// Calling again does not help.
    Final,
    /// The call's month is this one. Nothing was sent.
    MonthIsOver(String),
    NotAuthorized,
}

impl Reply {
    pub fn next(&self) -> Next {
        match self {
            Self::Lost(_) => Next::Repeat { after: SOON, request_id: None },
            Self::Answer { status: 200, .. } => Next::Done,
            Self::Answer { status: 401 | 403, .. } => Next::NotAuthorized,
            Self::Answer { problem, .. } if self.has_code("month_mismatch") => {
                Next::MonthIsOver(problem.month.clone().unwrap_or_default())
            }
            Self::Answer { retry_after: Some(after), problem, .. } => {
                Next::Repeat { after: *after, request_id: problem.request_id.clone() }
            }
            Self::Answer { retry_after: None, .. } => Next::Final,
        }
    }

    /// The stable word for it.
    pub fn code(&self) -> String {
        match self {
            Self::Lost(_) => "no_answer".to_owned(),
            Self::Answer { status, problem, .. } => problem.code.clone().unwrap_or_else(|| status.to_string()),
        }
    }

    fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Answer { problem, .. } if problem.code.as_deref() == Some(code))
    }

    /// The platform, or what leads to it, does not work.
    fn is_failure(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Answer { status: 500.., .. })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(formatter, "no answer: {why}"),
            Self::Answer { status, problem: Problem { code: Some(code), .. }, .. } => {
                write!(formatter, "{status} ({code})")
            }
            Self::Answer { status, .. } => write!(formatter, "{status} (without a code)"),
        }
    }
}

/// `retry-after` in seconds.
pub fn retry_after(header: &str) -> Duration {
    header.trim().parse().map_or(SOON, Duration::from_secs)
}

/// The failures since the last charge.
#[derive(Debug, Default)]
pub struct Failures {
    pub in_a_row: u32,
    unauthorized: u32,
}

impl Failures {
    /// Counts an answer. Only `is_first`, the first one for a subscription in the month, can be a failure. What the API
    /// refuses by itself says nothing of the platform.
    pub fn count(&mut self, reply: &Reply, is_first: bool) {
        if reply.next() == Next::Done {
            *self = Self::default();
        } else if reply.has_code("ecommerce_unauthorized") {
            self.unauthorized += 1;
        } else if reply.is_failure() {
            self.unauthorized = 0;
            self.in_a_row += u32::from(is_first);
        }
    }

    pub fn is_unauthorized(&self) -> bool {
        self.unauthorized >= UNAUTHORIZED
    }
}

/// Made from the month, the number of the try and the id alone, so two people who charge the same month use the same one.
pub fn request_id(month: &str, number: usize, id: &str) -> String {
    let month = if number > 1 { format!("{month}~{number}") } else { month.to_owned() };
    // An id has 36 characters at most, so the length of a request_id is always valid.
    if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte)) {
        format!("{month}.{id}")
    } else {
        format!("{month}.{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()))
    }
}

/// `2026-11`
pub fn is_month(text: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-')
        .is_some_and(|(year, month)| digits(year, 4) && digits(month, 2) && ("01"..="12").contains(&month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_made_from_the_month_the_number_and_the_id_alone() {
        for (number, id, expected) in [
            (1, "57f51d24-8b35-4e4c-b7b0-6eeb53bd1fba", "2026-11.57f51d24-8b35-4e4c-b7b0-6eeb53bd1fba"),
            (1, "a.b_c~d-E", "2026-11.a.b_c~d-E"),
            (2, "a", "2026-11~2.a"),
            (13, "a", "2026-11~13.a"),
            // Not valid in a request_id. These values must never change: a second one would be a second order.
            (1, "a b", "2026-11.1eb8f382-5c00-517a-82c0-c9a6b240e6d5"),
            (1, "é", "2026-11.4c9d8941-1dcb-56d3-9fe5-b5aef28ef637"),
            (1, "a/b", "2026-11.e557c849-a9bd-5c1d-ad6c-db261d9c9e22"),
            (2, "a b", "2026-11~2.1eb8f382-5c00-517a-82c0-c9a6b240e6d5"),
        ] {
            assert_eq!(request_id("2026-11", number, id), expected, "{id}");
        }
    }

    fn answer(status: u16, code: Option<&str>, retry_after: Option<u64>) -> Reply {
        let [request_id, month] = ["named", "2026-12"].map(|text| Some(text.to_owned()));
        let problem = Problem { code: code.map(ToOwned::to_owned), request_id, month };
        Reply::Answer { status, retry_after: retry_after.map(Duration::from_secs), problem }
    }

    #[test]
    fn each_answer_leads_to_one_next_step() {
        let repeat =
            |seconds| Next::Repeat { after: Duration::from_secs(seconds), request_id: Some("named".to_owned()) };
        for (status, code, retry_after, expected) in [
            (200, None, None, Next::Done),
            (401, None, None, Next::NotAuthorized),
            (403, Some("forbidden"), Some(1), Next::NotAuthorized),
            (409, Some("month_mismatch"), None, Next::MonthIsOver("2026-12".to_owned())),
            (409, Some("charge_in_progress"), Some(7), repeat(7)),
            (409, Some("not_chargeable"), None, Next::Final),
            (504, Some("charge_outcome_unknown"), Some(3), repeat(3)),
            (504, Some("charge_outcome_unknown"), None, Next::Final),
            (502, Some("order_rejected"), None, Next::Final),
            (429, None, Some(1), repeat(1)),
            (418, Some("a_new_code"), Some(300), repeat(300)),
            (418, Some("a_new_code"), None, Next::Final),
            (301, None, None, Next::Final),
        ] {
            assert_eq!(answer(status, code, retry_after).next(), expected, "{status} {code:?}");
        }
        let soon = Next::Repeat { after: Duration::from_secs(2), request_id: None };
        assert_eq!(Reply::Lost("reset".to_owned()).next(), soon);
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Duration::from_secs(2));
    }

    #[test]
    fn only_first_answers_about_the_platform_count_as_failures() {
        let charged = || answer(200, None, None);
        let lost = || Reply::Lost("reset".to_owned());
        let unauthorized = || answer(502, Some("ecommerce_unauthorized"), None);
        let rejected = || answer(502, Some("order_rejected"), None);
        let refused = || answer(409, Some("not_chargeable"), None);
        // The answers, which of them are first ones, and what is counted.
        for (replies, is_first, in_a_row, is_unauthorized) in [
            (vec![rejected(), lost(), answer(504, None, None), answer(503, None, Some(1))], true, 4, false),
            (vec![rejected(), lost()], false, 0, false),
            (vec![lost(), refused(), answer(429, None, Some(1)), answer(409, None, Some(1)), lost()], true, 2, false),
            (vec![lost(), lost(), charged()], true, 0, false),
            (vec![unauthorized(), refused(), unauthorized()], true, 0, false),
            (vec![unauthorized(), refused(), unauthorized(), unauthorized()], false, 0, true),
            (vec![unauthorized(), unauthorized(), rejected(), unauthorized()], true, 1, false),
            (vec![unauthorized(), unauthorized(), charged(), unauthorized()], true, 0, false),
        ] {
            let mut failures = Failures::default();
            for reply in &replies {
                failures.count(reply, is_first);
            }
            assert_eq!((failures.in_a_row, failures.is_unauthorized()), (in_a_row, is_unauthorized), "{replies:?}");
        }
    }

    #[test]
    fn a_month_is_four_digits_and_two() {
        assert!(is_month("2026-11"));
        for bad in ["", "2026", "2026-00", "2026-13", "2026-1", "26-11", "2026-11-01", "+026-11"] {
            assert!(!is_month(bad), "{bad}");
        }
    }
}
