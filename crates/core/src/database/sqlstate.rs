//! The meaning of an error of the database. <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use sqlx::{
    error::ErrorKind,
    postgres::{PgDatabaseError, PgSeverity},
};

use crate::Error;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if Trouble::of(&error).is_some() {
            Self::DatabaseUnavailable(Some(error))
        } else if reported(&error).is_some_and(|error| error.code() == "22023") {
            Self::Internal(UnknownTimeZone(error).into())
        } else {
            Self::Internal(error.into())
        }
    }
}

/// Our functions pass on one parameter that PostgreSQL may refuse: a time zone. PostgreSQL's message names it.
#[derive(Debug, thiserror::Error)]
#[error("the server does not know BILLING_TIMEZONE (`billing_timezone`): {0}")]
struct UnknownTimeZone(sqlx::Error);

/// Why a call failed that another try may heal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// The connection, or something that was prepared on it, is unusable. A new one may work.
    Lost,
    /// The server ended the session because of its `idle_session_timeout`.
    EndedIdle,
    /// All connections that the server, the database or the role may have are taken.
    TooManyConnections,
    /// A lock timeout, a deadlock or a serialization failure: rolled back.
    Contention,
    /// A function refused to run at the database's default isolation level.
    NeedsReadCommitted,
}

impl Trouble {
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Some(Self::Lost),
            _ => reported(error).and_then(|error| Self::reported_as(error.severity(), error.code())),
        }
    }

    pub fn leaves_the_connection(self) -> bool {
        match self {
            Self::Contention | Self::NeedsReadCommitted => true,
            Self::Lost | Self::EndedIdle | Self::TooManyConnections => false,
        }
    }

    fn reported_as(severity: PgSeverity, code: &str) -> Option<Self> {
        if matches!(severity, PgSeverity::Fatal | PgSeverity::Panic) {
            // The server ends the session, whatever the code.
            return Some(match code {
                "57P05" => Self::EndedIdle,
                "53300" => Self::TooManyConnections,
                _ => Self::Lost,
            });
        }
        match code {
            "55P03" | "40P01" | "40001" => Some(Self::Contention),
            "25004" => Some(Self::NeedsReadCommitted),
            // The statement was cancelled. · A failover left us on a read-only server. · A statement prepared before a
            // migration changed what it returns. · A pooler lost a prepared statement.
            "57014" | "25006" | "0A000" | "26000" => Some(Self::Lost),
            // Connection exceptions, insufficient resources.
            _ if ["08", "53"].iter().any(|class| code.starts_with(class)) => Some(Self::Lost),
            _ => None,
        }
    }
}

/// The server may have refused to connect because of the start-up options.
pub fn may_refuse_options(error: &sqlx::Error) -> bool {
    // PgBouncer · RDS Proxy · a server that does not know the parameter
    reported(error).is_some_and(|error| matches!(error.code(), "08P01" | "0A000" | "42704"))
}

/// The club or the subscription that a new row refers to was deleted meanwhile.
pub fn is_dangling(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error)
        if matches!(error.kind(), ErrorKind::ForeignKeyViolation)
            && error.constraint().is_none_or(|constraint| !constraint.contains("status_id")))
}

fn reported(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported_as(severity: PgSeverity, codes: &[&str], trouble: Option<Trouble>) {
        for code in codes {
            assert_eq!(Trouble::reported_as(severity, code), trouble, "{severity:?} {code}");
        }
    }

    #[test]
    fn a_fatal_error_of_any_code_is_a_lost_connection() {
        // A hot standby cancels with 40001.
        let codes = ["57P01", "57P03", "08P01", "25P03", "25P04", "28P01", "40001", "42704", "0A000", "XX000", "F0000"];
        for severity in [PgSeverity::Fatal, PgSeverity::Panic] {
            reported_as(severity, &codes, Some(Trouble::Lost));
        }
        reported_as(PgSeverity::Fatal, &["57P05"], Some(Trouble::EndedIdle));
        reported_as(PgSeverity::Fatal, &["53300"], Some(Trouble::TooManyConnections));
    }

    #[test]
    fn of_the_other_errors_only_what_another_try_may_heal_is_tried_again() {
        let codes = ["57014", "25006", "0A000", "26000", "08006", "53100", "53200"];
        reported_as(PgSeverity::Error, &codes, Some(Trouble::Lost));
        reported_as(PgSeverity::Error, &["40001", "40P01", "55P03"], Some(Trouble::Contention));
        reported_as(PgSeverity::Error, &["25004"], Some(Trouble::NeedsReadCommitted));
        reported_as(PgSeverity::Error, &["23503", "23505", "42P01", "22001", "25P02", "42704", "XX000"], None);
    }
}
