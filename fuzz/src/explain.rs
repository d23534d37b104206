//! Frames, explained by the rules of an ordinary host: never a panic, never an answer without a
//! reason, and never a packet of somebody else's address.

use std::{
    net::Ipv6Addr,
    sync::{Arc, LazyLock},
};

use sgagent::{
    model::{Direction, Permission},
    policy::{
        Explainer, FlowState, Numbering, Origin, Question, Verdict, compile, packets, summary,
    },
    ruleset::{Learned, NicRules, Ruleset},
};

use crate::{agent::Agent, host, requests, source::Source};

static RULES: LazyLock<(Arc<Ruleset>, Explainer)> = LazyLock::new(|| {
    let mut agent = Agent::new(host::ordinary());
    agent.apply(requests::ordinary());
    let located = Arc::new(host::ordinary().into());
    let ruleset = compile(agent.desired(), &located, &mut Numbering::default()).ruleset;
    let explainer = Explainer::new(&ruleset);
    (ruleset, explainer)
});

/// One frame or several, in any direction, in any flow.
pub fn explain(data: &[u8]) {
    let (ruleset, explainer) = &*RULES;
    let mut source = Source::new(data);
    let ways = source.octet();
    let frames: Vec<Vec<u8>> = std::iter::from_fn(|| source.piece().map(<[u8]>::to_vec))
        .take(8)
        .collect();
    if frames.is_empty() {
        return;
    }
    let all: usize = packets(&frames).iter().map(Vec::len).sum();
    assert_eq!(all, frames.len(), "each frame is of one packet");
    for frame in &frames {
        assert!(!summary(frame).is_empty());
    }
    for (number, nic) in &ruleset.nics {
        let Some(interface) = nic.interfaces.keys().next() else {
            continue;
        };
        let direction = if ways & 1 == 0 {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let said = explainer.explain(&Question {
            nic: *number,
            interface,
            direction,
            origin: [Origin::Uplink, Origin::Nic, Origin::Host, Origin::Uplink]
                [usize::from(ways >> 1 & 3)],
            frames: &frames,
            flow: [
                FlowState::None,
                FlowState::Established,
                FlowState::Related,
                FlowState::None,
            ][usize::from(ways >> 3 & 3)],
            learned: &Learned::default(),
            br_netfilter: ways & 32 == 0,
            checksums: ways & 64 == 0,
        });
        let said = said.expect("the NIC is bound");
        assert!(!said.row.is_empty() && !said.text.is_empty());
        if said.verdict == Verdict::Accept && direction == Direction::Egress {
            frames.iter().for_each(|frame| is_own(nic, frame));
        }
    }
}

/// What leaves a NIC is from its own MAC, and IPv6 from its own address or from none.
fn is_own(nic: &NicRules, frame: &[u8]) {
    let macs = std::iter::once(&nic.mac).chain(&nic.virtual_macs);
    assert!(
        macs.into_iter()
            .any(|mac| frame.get(6..12) == Some(&mac.octets()))
    );
    if frame.get(12..14) != Some(&[0x86, 0xdd]) {
        return;
    }
    let octets: [u8; 16] = frame[22..38].try_into().expect("16 octets");
    let source = Ipv6Addr::from(octets);
    let mut prefixes = nic.delegated.iter().chain(&nic.on_link_prefix);
    assert!(
        source.is_unspecified()
            || nic.permissions.contains(&Permission::AnySource)
            || nic.on_link.contains(&source)
            || prefixes.any(|prefix| prefix.contains(source))
            || (nic.any_link_local && source.is_unicast_link_local()),
        "{source} is not its own"
    );
}
