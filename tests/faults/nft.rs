//! An `nft` that is missing, hangs, is slow, fails, dies or prints rubbish: what was acknowledged
//! stays in force, whoever asked is told, and so is whoever asks for the health.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tonic::Code;

use super::fixture::{host, start};
use super::kills::push_all;
use super::served::{restart, serving, wait_for_health};
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::Net;

/// A program in place of nft that behaves as a file says.
pub(super) struct Fake {
    directory: tempfile::TempDir,
}

impl Fake {
    pub(super) fn new() -> Self {
        let fake = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fake.behave("well");
        fake.install();
        fake
    }

    /// Where the program is.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("nft")
    }

    /// How it behaves from now on.
    pub(super) fn behave(&self, how: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, how).unwrap();
        std::fs::rename(new, self.directory.path().join("behaviour")).unwrap();
    }

    /// `slow-once` and what follows: the first to come takes the file, the others find none and
    /// behave well.
    fn install(&self) {
        let directory = self.directory.path().display();
        let script = format!(
            "#!/bin/sh\n\
             case \"$(cat {directory}/behaviour)\" in\n\
             well) exec nft \"$@\" ;;\n\
             slow) sleep 1; exec nft \"$@\" ;;\n\
             waits) mv {directory}/behaviour {directory}/taken; echo well > {directory}/behaviour\n\
                 until [ -e {directory}/go ]; do sleep 0.02; done; exec nft \"$@\" ;;\n\
             hangs) exec sleep 600 ;;\n\
             fails) echo 'it fails, says the test' >&2; exit 1 ;;\n\
             dies) kill -9 $$ ;;\n\
             rubbish) head -c 3000 /dev/urandom; head -c 3000 /dev/urandom >&2; exit 0 ;;\n\
             esac\n"
        );
        std::fs::write(self.path(), script).unwrap();
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(), all).unwrap();
    }

    /// Lets the one go on that waits.
    pub(super) fn go(&self) {
        std::fs::write(self.directory.path().join("go"), "").unwrap();
    }

    /// Whether there is one that waits.
    pub(super) fn waits(&self) -> bool {
        self.directory.path().join("taken").exists()
    }
}

/// A host whose agent starts that program, with all that is wanted acknowledged.
pub(super) fn with(fake: &Fake) -> Net {
    let mut plan = host();
    plan.nft = Some(fake.path().display().to_string());
    let mut net = start(plan);
    push_all(&mut net);
    net
}

/// The next change is refused with these words; what was acknowledged stays. Then all is well.
fn refused(net: &Net, traffic: &mut Traffic, wanted: Wanted, words: &str) {
    let started = Instant::now();
    let error = wanted.next().push(Some(wanted), net).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains(words), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    let status = wait_for_health(net, false, words);
    assert!(!serving(net), "{status:?}");
    assert_eq!(Wanted::told_by(net), wanted);
    wanted.is_in_force(
        traffic,
        u16::try_from(started.elapsed().as_millis() % 1000).unwrap(),
    );
    assert!(wanted.flow_lives(traffic));
}

fn goes_on(net: &Net, traffic: &mut Traffic, wanted: Wanted) -> Wanted {
    wait_for_health(net, true, "");
    assert!(serving(net));
    let next = wanted.next();
    next.push(Some(wanted), net).unwrap();
    next.is_in_force(traffic, 2_000 + u16::try_from(next.generation).unwrap());
    next.begin_flow(traffic);
    next
}

#[test]
fn an_nft_that_misbehaves() {
    let fake = Fake::new();
    let mut net = with(&fake);
    let mut wanted = Wanted::first();
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    let bad = [
        ("fails", "it fails, says the test"),
        ("dies", "signal: 9"),
        ("rubbish", "the kernel tells of no transaction"),
        ("missing", "can't start"),
    ];
    for (behaviour, words) in bad {
        traffic.doing(&format!("nft: {behaviour}"));
        let away = fake.path().with_extension("away");
        if behaviour == "missing" {
            std::fs::rename(fake.path(), &away).unwrap();
        } else {
            fake.behave(behaviour);
        }
        refused(&net, &mut traffic, wanted, words);
        // A start that can't program anything is none, or not a healthy one.
        traffic.doing(&format!("start, nft: {behaviour}"));
        if restart(&mut net, &[]) {
            wait_for_health(&net, false, words);
            assert!(!serving(&net));
        } else {
            assert!(net.agent.log().contains(words), "{}", net.agent.log());
        }
        wanted.is_in_force(&mut traffic, 9_000);
        traffic.doing(&format!("after nft: {behaviour}"));
        if behaviour == "missing" {
            std::fs::rename(&away, fake.path()).unwrap();
        }
        fake.behave("well");
        if net.agent.ended().is_some() {
            net.agent.start(&net.namespace);
        }
        wanted = goes_on(&net, &mut traffic, wanted);
    }
    traffic.doing("nft: slow");
    fake.behave("slow");
    let started = Instant::now();
    wanted = goes_on(&net, &mut traffic, wanted);
    assert!(started.elapsed() > Duration::from_secs(1));
    fake.behave("well");
    goes_on(&net, &mut traffic, wanted);
    traffic.finish("an_nft_that_misbehaves", 2 * bad.len() + 1);
}

/// It has 30 s, and what is asked of the agent meanwhile is answered.
#[test]
fn an_nft_that_hangs() {
    let fake = Fake::new();
    let mut net = with(&fake);
    let wanted = Wanted::first();
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    traffic.doing("nft: hangs");
    fake.behave("hangs");
    let started = Instant::now();
    let error = wanted.next().push(Some(wanted), &net).unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert_eq!(Wanted::told_by(&net), wanted);
    wait_for_health(&net, false, "did not finish within 30 s");
    assert!(started.elapsed() < Duration::from_secs(35));
    assert!(!serving(&net));
    wanted.is_in_force(&mut traffic, 0);
    assert!(wanted.flow_lives(&mut traffic));
    // Those that hang are killed with the agent, or soon end by themselves.
    fake.behave("well");
    assert!(restart(&mut net, &[]), "{}", net.agent.log());
    goes_on(&net, &mut traffic, wanted);
    traffic.finish("an_nft_that_hangs", 1);
}
