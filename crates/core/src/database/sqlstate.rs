//! What an error of the database means. <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use sqlx::error::ErrorKind;

use crate::Error;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_lost(&error) || is_contention(&error) || needs_read_committed(&error) {
            Self::DatabaseUnavailable(Some(error))
        } else {
            Self::Internal(error.into())
        }
    }
}

/// The connection is unusable. A new one may work.
pub fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        _ => has_code(error, is_lost_code),
    }
}

/// A lock timeout, a deadlock or a serialization failure: rolled back, and worth another try.
pub fn is_contention(error: &sqlx::Error) -> bool {
    has_code(error, is_contention_code)
}

/// A function refused to run at the database's default isolation level.
pub fn needs_read_committed(error: &sqlx::Error) -> bool {
    has_code(error, |code| code == "25004")
}

/// The club or the subscription that a new row refers to was deleted meanwhile.
pub fn is_dangling(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error)
        if matches!(error.kind(), ErrorKind::ForeignKeyViolation)
            && error.constraint().is_none_or(|constraint| !constraint.contains("status_id")))
}

fn has_code(error: &sqlx::Error, is_it: impl Fn(&str) -> bool) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| is_it(&code)))
}

fn is_lost_code(code: &str) -> bool {
    // connection exceptions · insufficient resources · operator intervention (a shutdown, a cancelled statement)
    ["08", "53", "57"].iter().any(|class| code.starts_with(class))
        // A failover left us on a read-only server.
        || code == "25006"
        // A statement prepared before a migration changed what it returns; a pooler lost a prepared statement.
        || matches!(code, "0A000" | "26000")
}

fn is_contention_code(code: &str) -> bool {
    matches!(code, "55P03" | "40P01" | "40001")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_try_may_heal_is_tried_again() {
        for code in ["57P01", "57P03", "57014", "08006", "08P01", "53300", "25006", "0A000", "26000"] {
            assert!(is_lost_code(code) && !is_contention_code(code), "{code}");
        }
        for code in ["40001", "40P01", "55P03"] {
            assert!(is_contention_code(code) && !is_lost_code(code), "{code}");
        }
        for code in ["23503", "23505", "42P01", "22001", "25P02", "25004", "XX000"] {
            assert!(!is_lost_code(code) && !is_contention_code(code), "{code}");
        }
    }
}
