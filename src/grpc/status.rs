//! Refusals as gRPC statuses.

use std::fmt::Write as _;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    agent::{ApplyError, ExplainRefusal, ReadError},
    model::{Fault, FaultKind},
};

/// Most faults that one status names.
const MAX_FAULTS: usize = 50;

/// Room in the header block for the message and its details. Clients on gRPC's C core
/// (Python, C++) begin to refuse trailers of more than 8 KiB (`GRPC_ARG_MAX_METADATA_SIZE`).
const MAX_OCTETS: usize = 7_000;

/// What google.rpc.Status and its one detail carry beyond the texts, generously.
const FRAME: usize = 200;

/// The status of a refusal that names every fault, or as many as a status has room for.
pub(super) fn refused(faults: &[Fault]) -> Status {
    let fit = fitting(faults);
    let mut message = String::new();
    for (i, fault) in faults.iter().take(fit).enumerate() {
        let separator = if i == 0 { "" } else { "; " };
        let _ = write!(message, "{separator}{fault}");
    }
    if fit < faults.len() {
        let _ = write!(message, "; and {} more", faults.len() - fit);
    }
    let violations: Vec<_> = faults
        .iter()
        .take(fit)
        .map(|fault| FieldViolation::new(&fault.path, &fault.text))
        .collect();
    Status::with_error_details(
        code(faults),
        message,
        ErrorDetails::with_bad_request(violations),
    )
}

/// The status of a change that was not made.
pub(super) fn not_applied(error: &ApplyError) -> Status {
    match error {
        ApplyError::Faults(faults) => refused(faults),
        ApplyError::Generation { .. } => {
            let message = error.to_string();
            let text = message.strip_prefix("generation: ").unwrap_or(&message);
            let details = ErrorDetails::with_bad_request_violation("generation", text);
            Status::with_error_details(Code::FailedPrecondition, message.as_str(), details)
        }
        ApplyError::Unavailable(why) => Status::unavailable(why),
    }
}

/// The status of a read that the kernel refused.
pub(super) fn not_read(error: &ReadError) -> Status {
    Status::unavailable(&error.0)
}

/// The status of a question about packets that has no answer.
pub(super) fn not_explained(refusal: &ExplainRefusal) -> Status {
    match refusal {
        ExplainRefusal::Fault(fault) => refused(std::slice::from_ref(fault)),
        ExplainRefusal::Unreadable(why) => Status::unavailable(why),
    }
}

/// A single fault of a request that only reads.
pub(super) fn not_found(field: &str, what: &str, id: &str) -> Status {
    let text = format!("there is no {what} {id}");
    refused(&[Fault::new(FaultKind::NotFound, field, text)])
}

/// A request that is wrong in itself stays wrong, so that this weighs most; then what
/// is missing, what contradicts, what is too much.
fn code(faults: &[Fault]) -> Code {
    let kind = faults
        .iter()
        .map(|fault| fault.kind)
        .min()
        .unwrap_or(FaultKind::Invalid);
    match kind {
        FaultKind::Invalid => Code::InvalidArgument,
        FaultKind::NotFound => Code::NotFound,
        FaultKind::Conflict => Code::FailedPrecondition,
        FaultKind::Limit => Code::ResourceExhausted,
    }
}

/// How many of the faults one status has room for.
fn fitting(faults: &[Fault]) -> usize {
    let mut octets = FRAME;
    let fits = |fault: &&Fault| {
        octets += cost(fault);
        octets <= MAX_OCTETS
    };
    // The first is named in any case: its text is bounded by the conversion.
    faults
        .iter()
        .take(MAX_FAULTS)
        .take_while(fits)
        .count()
        .max(1)
        .min(faults.len())
}

/// Octets that a fault takes: percent-encoded in grpc-message, and twice in base64, for
/// google.rpc.Status carries the message and the violation.
fn cost(fault: &Fault) -> usize {
    let line = format!("{fault}; ");
    let escaped = |octet: u8| !octet.is_ascii_graphic() || b"\"#%<>`?{}".contains(&octet);
    let message: usize = line
        .bytes()
        .map(|octet| if escaped(octet) { 3 } else { 1 })
        .sum();
    let violation = tonic_types::pb::bad_request::FieldViolation {
        field: fault.path.clone(),
        description: fault.text.clone(),
        ..Default::default()
    };
    message + (line.len() + violation.encoded_len() + 8).div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind, i: usize) -> Fault {
        Fault::new(
            kind,
            format!("nics[{i}].mac"),
            "\"é\" is no MAC address {}".repeat(3),
        )
    }

    #[test]
    fn the_worst_kind_decides_the_code() {
        use FaultKind::{Conflict, Invalid, Limit, NotFound};
        let code = |kinds: &[FaultKind]| {
            let list: Vec<_> = kinds.iter().map(|kind| fault(*kind, 0)).collect();
            refused(&list).code()
        };
        assert_eq!(
            code(&[Limit, Conflict, NotFound, Invalid]),
            Code::InvalidArgument
        );
        assert_eq!(code(&[Limit, Conflict, NotFound]), Code::NotFound);
        assert_eq!(code(&[Limit, Conflict]), Code::FailedPrecondition);
        assert_eq!(code(&[Limit]), Code::ResourceExhausted);
    }

    #[test]
    fn a_status_fits_into_the_trailers_that_clients_take() {
        for count in [1, 2, 49, 50, 51, 10_000] {
            let faults: Vec<_> = (0..count).map(|i| fault(FaultKind::Invalid, i)).collect();
            let status = refused(&faults);
            let mut headers = tonic::codegen::http::HeaderMap::new();
            status.add_header(&mut headers).unwrap();
            let octets: usize = headers
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 32)
                .sum();
            assert!(octets < 8_000, "{count}: {octets}");
            let named = status
                .get_details_bad_request()
                .unwrap()
                .field_violations
                .len();
            assert!((1..=MAX_FAULTS).contains(&named));
            if named < count {
                let rest = format!("and {} more", count - named);
                assert!(status.message().ends_with(&rest), "{}", status.message());
            }
        }
    }

    #[test]
    fn a_stale_generation_names_both() {
        let status = not_applied(&ApplyError::Generation {
            given: 4,
            in_force: 7,
        });
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains('4') && status.message().contains('7'));
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, "generation");
    }
}
