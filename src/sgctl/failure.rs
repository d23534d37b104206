//! Why a command did not do what was asked, and how that is told.

use std::{error::Error as _, fmt, io};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The agent refused.
    #[error("{}", Refusal(.0))]
    Refused(Box<Status>),
    /// The file is wrong.
    #[error("{0}")]
    File(String),
    /// There is no way to the agent.
    #[error("cannot reach the agent at {to}: {why}")]
    Unreachable {
        /// The socket or the address.
        to: String,
        /// Why not.
        why: String,
    },
    /// `status --check` or `diagnose` found something, what `wait` waits for is not in force, or
    /// `adopt` would close ports.
    #[error("{0}")]
    NotWell(String),
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The exit code that stands for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Unreachable { .. } => 3,
            Self::NotWell(_) => 4,
            // Whoever read the answer had enough of it.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::File(_) | Self::Output(_) => 2,
        }
    }

    /// What a status of a call to `to` means: a status that the agent sent has no cause
    /// on this side, one that stands for a broken connection has.
    pub fn of(status: Status, to: &str) -> Self {
        if let Some(mut cause) = status.source() {
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            return Self::Unreachable {
                to: to.to_owned(),
                why: cause.to_string(),
            };
        }
        Self::Refused(Box::new(status))
    }
}

/// A status for people: its code, then each fault on its own line.
struct Refusal<'a>(&'a Status);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        write!(f, "the agent refused: {}", code_name(status.code()))?;
        let violations = status
            .get_details_bad_request()
            .map(|details| details.field_violations)
            .unwrap_or_default();
        if violations.is_empty() {
            return write!(f, "\n  {}", status.message());
        }
        for violation in &violations {
            write!(f, "\n  {}: {}", violation.field, violation.description)?;
        }
        // The agent names as many as a status has room for, and then says so.
        if let Some((_, rest)) = status.message().rsplit_once("; and ")
            && rest.ends_with(" more")
        {
            write!(f, "\n  and {rest}")?;
        }
        Ok(())
    }
}

/// The code as gRPC's documentation and every other client spell it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn each_fault_has_its_line() {
        let violations = vec![
            FieldViolation::new("nics[0].mac", "is wrong"),
            FieldViolation::new("nics[1].id", "must not be empty"),
        ];
        let status = Status::with_error_details(
            Code::InvalidArgument,
            "nics[0].mac: is wrong; nics[1].id: must not be empty; and 7 more",
            ErrorDetails::with_bad_request(violations),
        );
        let failure = Failure::of(status, "here");
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(
            failure.to_string(),
            "the agent refused: INVALID_ARGUMENT\n  nics[0].mac: is wrong\n  \
             nics[1].id: must not be empty\n  and 7 more"
        );
        let plain = Failure::of(Status::unavailable("the disk is full"), "here");
        assert_eq!(
            plain.to_string(),
            "the agent refused: UNAVAILABLE\n  the disk is full"
        );
    }

    #[test]
    fn a_broken_connection_is_no_refusal() {
        let status = Status::from_error(Box::new(io::Error::other("gone")));
        let failure = Failure::of(status, "/run/x.sock");
        assert_eq!(failure.exit_code(), 3);
        assert_eq!(
            failure.to_string(),
            "cannot reach the agent at /run/x.sock: gone"
        );
    }
}
