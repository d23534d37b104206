//! What is wrong with a NIC, in messages of the API.

use super::read;
use crate::{
    agent::{Check, Diagnosis, Found},
    pb,
};

/// What was found.
pub(in crate::grpc) fn diagnosed(diagnosis: Diagnosis) -> pb::DiagnoseResponse {
    let Diagnosis {
        checks,
        recent,
        recent_ms,
    } = diagnosis;
    let checks: Vec<_> = checks.into_iter().map(check).collect();
    let wrong = |check: &&pb::Check| check.result() == pb::CheckResult::Wrong;
    pb::DiagnoseResponse {
        first_wrong: checks.iter().find(wrong).cloned(),
        checks,
        recent_drops: read::drop_counts(&recent),
        recent_ms,
    }
}

fn check(check: Check) -> pb::Check {
    let Check {
        name,
        found,
        text,
        hint,
    } = check;
    let result = match found {
        Found::Ok => pb::CheckResult::Ok,
        Found::Wrong => pb::CheckResult::Wrong,
        Found::Unknown => pb::CheckResult::Unknown,
    };
    pb::Check {
        name: name.to_owned(),
        result: result.into(),
        text,
        hint: hint.unwrap_or_default(),
    }
}
