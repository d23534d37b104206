//! A store that is damaged: truncated, with a bit flipped, or of a newer version. The agent has
//! what was acknowledged, or says what is wrong and leaves the rules as they are.

use std::path::Path;

use super::fixture::{host, start};
use super::kills::push_all;
use super::random::{Random, number};
use super::served::restart;
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::Net;

/// What may be wrong with a file.
#[derive(Debug)]
enum Damage {
    Truncated(usize),
    Flipped { octet: usize, bit: u8 },
    Newer,
}

#[test]
fn a_damaged_store() {
    let flips = number("SGAGENT_FAULTS_KILLS", 20) * 2;
    let mut random = Random::new();
    let mut net = start(host());
    push_all(&mut net);
    let wanted = Wanted::first();
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    let path = net.agent.path("state").join("state.redb");
    let mut outcomes = [0, 0];
    let mut count = 0;
    for by_kill in [false, true] {
        if by_kill {
            net.agent.kill();
        } else {
            net.agent.stop();
        }
        let good = std::fs::read(&path).unwrap();
        for damage in damages(&good, flips / 2, &mut random) {
            traffic.doing(&format!("{damage:?}, killed: {by_kill}"));
            damage.make(&path, &good);
            count += 1;
            let came_up = came_up(&mut net, &damage, wanted);
            outcomes[usize::from(came_up)] += 1;
            if count % 8 == 0 {
                wanted.is_in_force(&mut traffic, count);
                assert!(wanted.flow_lives(&mut traffic));
            }
            net.agent.kill();
        }
        std::fs::write(&path, good).unwrap();
        net.agent.start(&net.namespace);
        assert_eq!(Wanted::told_by(&net), wanted);
    }
    let [refused, whole] = outcomes;
    println!("a damaged store: refused {refused} times, whole all the same {whole} times");
    traffic.finish("a_damaged_store", usize::from(count));
}

fn damages(good: &[u8], flips: usize, random: &mut Random) -> Vec<Damage> {
    let size = good.len();
    let lengths = [0, 1, 100, 4096, size / 2, size - 4096, size - 1];
    let mut all: Vec<_> = lengths.into_iter().map(Damage::Truncated).collect();
    all.push(Damage::Newer);
    // Most of a file of this size is room for more: half of the flips are where something is.
    let used: Vec<_> = (0..size).filter(|at| good[*at] != 0).collect();
    for n in 0..flips {
        let octet = match n % 2 {
            0 => used[random.below(used.len())],
            _ => random.below(size),
        };
        let bit = u8::try_from(random.below(8)).unwrap();
        all.push(Damage::Flipped { octet, bit });
    }
    all
}

impl Damage {
    fn make(&self, path: &Path, good: &[u8]) {
        let mut octets = good.to_vec();
        match self {
            Self::Truncated(length) => octets.truncate(*length),
            Self::Flipped { octet, bit } => octets[*octet] ^= 1 << bit,
            Self::Newer => {}
        }
        std::fs::write(path, octets).unwrap();
        if let Self::Newer = self {
            let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
            let database = redb::Database::open(path).unwrap();
            let transaction = database.begin_write().unwrap();
            let head = br#"{"format":4711,"generation":null,"revision":1}"#;
            let mut table = transaction.open_table(meta).unwrap();
            table.insert("head", &head[..]).unwrap();
            drop(table);
            transaction.commit().unwrap();
        }
    }
}

/// Whether the agent came up; then it has what was acknowledged.
fn came_up(net: &mut Net, damage: &Damage, wanted: Wanted) -> bool {
    let before = net.agent.log().len();
    if restart(net, &[]) {
        assert_eq!(Wanted::told_by(net), wanted, "{damage:?}");
        let counts = net.agent_status().counts.unwrap();
        assert_eq!((counts.nics_active, counts.groups), (4, 4), "{damage:?}");
        return true;
    }
    let log = net.agent.log();
    let said = &log[before..];
    assert!(
        said.contains("the state can't be opened") || said.contains("can't be read"),
        "{damage:?}: {said}"
    );
    assert!(said.contains("state.redb"), "{damage:?}: {said}");
    if let Damage::Newer = damage {
        assert!(
            said.contains("its format is 4711, this version knows"),
            "{said}"
        );
    }
    false
}
