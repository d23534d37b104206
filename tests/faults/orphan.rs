//! An `nft` that outlives its agent. What it was started for was not acknowledged; by the time it
//! gets to its work, something else may have been.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::nft::{Fake, with};
use super::served::{restart, wait_for_health};
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::{Net, slowness};

/// So long what the orphan might do is watched for.
const WATCHED: Duration = Duration::from_secs(2);

#[test]
fn an_nft_that_outlives_its_agent() {
    let fake = Fake::new();
    let mut net = with(&fake);
    let mut wanted = Wanted::first();
    // The next change is that of a rule.
    for _ in 0..3 {
        let next = wanted.next();
        next.push(Some(wanted), &net).unwrap();
        wanted = next;
    }
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    traffic.doing("the agent is killed, its nft waits");
    let asked = wanted.next();
    fake.behave("waits");
    kill_while_it_waits(&net, &fake, || asked.push(Some(wanted), &net));
    traffic.doing("another agent, the nft waits still");
    assert!(restart(&mut net, &[]), "{}", net.agent.log());
    assert_eq!(Wanted::told_by(&net), wanted);
    wanted.is_in_force(&mut traffic, 0);
    traffic.doing("the nft goes on");
    fake.go();
    let started = Instant::now();
    let mut round = 1;
    while started.elapsed() < WATCHED {
        // What was never acknowledged never comes into force.
        wanted.is_in_force(&mut traffic, round);
        round += 1;
    }
    let status = wait_for_health(&net, true, "");
    assert!(status.drifts.is_empty(), "{status:?}");
    asked.push(Some(wanted), &net).unwrap();
    asked.is_in_force(&mut traffic, 0x2000);
    traffic.finish("an_nft_that_outlives_its_agent", 1);
}

fn kill_while_it_waits(
    net: &Net,
    fake: &Fake,
    push: impl FnOnce() -> Result<(), tonic::Status> + Send,
) {
    let pid = Pid::from_raw(net.agent.pid().try_into().unwrap());
    std::thread::scope(|scope| {
        let pushed = scope.spawn(push);
        let deadline = Instant::now() + Duration::from_secs(10) * slowness();
        while !fake.waits() {
            assert!(Instant::now() < deadline, "no nft is started");
            std::thread::sleep(Duration::from_millis(1));
        }
        kill(pid, Signal::SIGKILL).unwrap();
        assert!(pushed.join().unwrap().is_err(), "nobody can have answered");
    });
}
