//! The agent of a test: its death and its return, its disk, and what its health says.

use std::time::{Duration, Instant};

use sgagent::pb;

use crate::support::net::{Net, slowness};

/// How long the agent may take over something that is no fault of others.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts it anew with these variables; whether it came up.
pub(super) fn restart(net: &mut Net, environment: &[(&str, String)]) -> bool {
    net.agent.kill();
    net.agent.spawn(&net.namespace, &[], environment);
    net.agent.wait_until_ready().is_ok()
}

/// Waits until it has ended.
pub(super) fn wait_for_end(net: &mut Net) {
    let deadline = Instant::now() + PATIENCE * slowness();
    while net.agent.ended().is_none() {
        assert!(
            Instant::now() < deadline,
            "it lives on:\n{}",
            net.agent.log()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What it says of itself once it says this of its health; `words` are of the reason.
pub(super) fn wait_for_health(net: &Net, healthy: bool, words: &str) -> pb::GetStatusResponse {
    let deadline = Instant::now() + PATIENCE * slowness();
    loop {
        let status = net.agent_status();
        if status.healthy == healthy && status.unhealthy_reason.contains(words) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:?}\n{}", net.agent.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Puts its state on a disk of its own, which is empty, of so many MiB; starts it on that.
pub(super) fn own_disk(net: &mut Net, size: u32) {
    net.agent.stop();
    let state = net.agent.path("state").display().to_string();
    let options = format!("size={size}m");
    net.namespace
        .command(&format!("mount -t tmpfs -o {options} none {state}"));
    net.agent.start(&net.namespace);
}

/// Fills that disk, but for what its files have room for.
pub(super) fn fill_disk(net: &Net) {
    let rest = net.agent.path("state").join("rest");
    net.namespace.run(move || {
        let zeros = vec![0; 1 << 16];
        let mut file = std::fs::File::create(rest).unwrap();
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
    });
}

pub(super) fn empty_disk(net: &Net) {
    let rest = net.agent.path("state").join("rest");
    net.namespace
        .run(move || std::fs::remove_file(rest).unwrap());
}

/// More NICs than a full disk has room for; they have no interfaces.
pub(super) fn large_change() -> pb::ApplyRequest {
    let mut request = pb::ApplyRequest::default();
    for i in 0..1500 {
        let by = pb::interface_selector::By::Name(format!("vnet{}", 100 + i));
        request.nics.push(pb::Nic {
            id: format!("large-{i}"),
            mac: format!("06:b2:00:01:{:02x}:{:02x}", i >> 8, i & 255),
            interfaces: vec![pb::InterfaceSelector { by: Some(by) }],
            ..pb::Nic::default()
        });
    }
    request
}

/// What grpc.health.v1 says.
pub(super) fn serving(net: &Net) -> bool {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let request = HealthCheckRequest::default();
    let answer = net
        .agent
        .ask(async |channel| HealthClient::new(channel).check(request).await);
    match answer.unwrap().status() {
        ServingStatus::Serving => true,
        ServingStatus::NotServing => false,
        other @ (ServingStatus::Unknown | ServingStatus::ServiceUnknown) => panic!("{other:?}"),
    }
}
