//! What the conversion lets through comes back as it was; what it refuses it names.

mod fields;
mod requests;
mod round_trip;

use super::apply;
use crate::{model::Fault, pb};

fn faults(request: pb::ApplyRequest) -> Vec<String> {
    let paths = |list: Vec<Fault>| list.into_iter().map(|fault| fault.path).collect();
    apply(request)
        .map(|_| ())
        .map_err(paths)
        .err()
        .unwrap_or_default()
}

fn with_nic(edit: impl FnOnce(&mut pb::Nic)) -> pb::ApplyRequest {
    let mut nic = pb::Nic {
        id: "a".to_owned(),
        mac: "06:b2:00:00:04:79".to_owned(),
        interfaces: vec![name("vnet0")],
        ..pb::Nic::default()
    };
    edit(&mut nic);
    pb::ApplyRequest {
        nics: vec![nic],
        ..pb::ApplyRequest::default()
    }
}

fn with_rule(edit: impl FnOnce(&mut pb::Rule)) -> pb::ApplyRequest {
    let mut rule = pb::Rule {
        direction: pb::Direction::Ingress.into(),
        protocol: pb::Protocol::Any.into(),
        remote: Some(pb::Remote {
            anyone: true,
            ..pb::Remote::default()
        }),
        ..pb::Rule::default()
    };
    edit(&mut rule);
    let group = pb::Group {
        id: "g".to_owned(),
        rules: vec![rule],
        ..pb::Group::default()
    };
    pb::ApplyRequest {
        groups: vec![group],
        ..pb::ApplyRequest::default()
    }
}

fn name(name: &str) -> pb::InterfaceSelector {
    let by = pb::interface_selector::By::Name(name.to_owned());
    pb::InterfaceSelector { by: Some(by) }
}

fn address(text: &str) -> pb::Address {
    pb::Address {
        address: text.to_owned(),
        shared: false,
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}
