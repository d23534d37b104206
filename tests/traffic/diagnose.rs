//! What is wrong with a NIC is named, on the kernel; and what the README has an operator type works.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use sgagent::pb;

use crate::support::net::{Net, slowness};
use crate::support::plan::{Bridge, Dataplane, dataplane, ip6tables, plan, standard};
use crate::support::who::{A, B, C, Machine, R, STRANGER};

fn diagnose(net: &Net, machine: Machine) -> pb::DiagnoseResponse {
    let nic_id = machine.port.to_owned();
    let request = pb::DiagnoseRequest { nic_id };
    let answer = net
        .agent
        .call(async |mut client| client.diagnose(request).await);
    answer.unwrap()
}

/// The first check that is wrong, and why.
fn wrong(net: &Net, machine: Machine) -> (String, String) {
    let answer = diagnose(net, machine);
    let Some(check) = &answer.first_wrong else {
        panic!("nothing is wrong: {answer:?}");
    };
    (check.name.clone(), check.text.clone())
}

#[test]
fn diagnose_names_what_is_wrong_on_the_way() {
    let unmanaged = Bridge {
        name: "br1",
        managed: false,
        uplinks: vec![],
    };
    let mut net = standard().bridge(unmanaged).start();
    net.passes(&R.advertises(), A);
    let answer = diagnose(&net, A);
    assert_eq!(answer.first_wrong, None, "{answer:?}");
    for check in &answer.checks {
        assert_eq!(check.result(), pb::CheckResult::Ok, "{check:?}");
    }

    net.namespace.command("ip link set vnet0 down");
    let down = "interface vnet0 is down".to_owned();
    assert_eq!(wrong(&net, A), ("interface".to_owned(), down));
    net.namespace.command("ip link set vnet0 up");

    net.unplug(B);
    net.wait_for(B, pb::NicState::Pending);
    let gone = "interface vnet1 does not exist".to_owned();
    assert_eq!(wrong(&net, B), ("interface".to_owned(), gone));

    net.namespace.command("ip link set vnet2 master br1");
    let moved = "interface vnet2 is a port of bridge br1, which the configuration does not manage";
    let moved = ("bridge".to_owned(), moved.to_owned());
    // It leaves the one and joins the other: two events.
    let deadline = Instant::now() + Duration::from_secs(5) * slowness();
    loop {
        net.wait_for(C, pb::NicState::Pending);
        let found = wrong(&net, C);
        if found == moved {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // One change of elements, like any other.
    let log = net.agent.log();
    assert!(!log.contains("could not be changed"), "{log}");
}

#[test]
fn diagnose_names_the_reason_of_drops() {
    let mut net = standard().start();
    assert_eq!(diagnose(&net, A).first_wrong, None);
    for _ in 0..3 {
        net.dropped(&A.to(STRANGER).src(B.ip).ping());
    }
    let answer = diagnose(&net, A);
    let check = answer.first_wrong.unwrap();
    assert_eq!(check.name, "drops");
    assert!(check.text.contains("3 packets were dropped"), "{check:?}");
    assert!(check.text.contains("spoofed-source (G13)"), "{check:?}");
    assert!(!check.hint.is_empty());
    assert!(answer.recent_ms <= 60_000);
    let drops = &answer.recent_drops[0];
    assert_eq!(
        (drops.reason.as_str(), drops.packets),
        ("spoofed-source", 3)
    );
    assert_eq!(diagnose(&net, C).first_wrong, None);
}

/// The agent repairs it once a second, so somebody does it all the time.
#[test]
fn diagnose_names_an_element_that_is_not_in_the_kernel() {
    let net = standard().start();
    let line = match dataplane() {
        Dataplane::Nftables => {
            "while :; do nft delete element bridge sgagent port_in '{ vnet0 }'; done".to_owned()
        }
        Dataplane::Ip6tables => {
            format!(
                "while :; do {} -t raw -F sgagent_source_1; sleep 0.2; done",
                ip6tables()
            )
        }
    };
    let mut vandal = net.namespace.run(move || {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c", &line])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    });
    let wanted = match dataplane() {
        Dataplane::Nftables => "no element vnet0 in port_in of table bridge sgagent",
        Dataplane::Ip6tables => "sgagent_source_1",
    };
    let deadline = Instant::now() + Duration::from_secs(20) * slowness();
    let mut seen = Vec::new();
    loop {
        if let Some(check) = diagnose(&net, A).first_wrong {
            assert_eq!(check.name, "rules", "{check:?}");
            if check.text.starts_with("not in the kernel as wanted: ")
                && check.text.contains(wanted)
            {
                let told = check.hint.contains("nft (pid ");
                assert_eq!(told, dataplane() == Dataplane::Nftables, "{check:?}");
                break;
            }
            seen.push(check.text);
        }
        assert!(Instant::now() < deadline, "{seen:?}");
    }
    vandal.kill().unwrap();
    vandal.wait().unwrap();
}

/// What is between the lines ```` ```LANGUAGE ```` of a section of the README.
fn blocks(section: &str, language: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (_, rest) = readme.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let mut blocks = section.split("```").skip(1).step_by(2);
    let own = blocks
        .by_ref()
        .filter_map(|block| block.strip_prefix(language));
    own.map(|block| block.trim_start_matches('\n').to_owned())
        .collect()
}

/// As a new user would: the README's own file is applied, and what it says to type is typed, in a
/// shell, on a host where the agent listens where the package has it listen.
#[test]
fn the_readmes_commands_work_as_they_are_written() {
    let net = plan().start();
    let socket = net.agent.path("sgagent.sock");
    let root = env!("CARGO_MANIFEST_DIR");
    let venv = format!("{root}/target/test-venv/bin");
    for program in ["grpcurl", "buf"] {
        let path = format!("{venv}/{program}");
        assert!(
            std::path::Path::new(&path).exists(),
            "run tests/setup.sh: {path}"
        );
    }
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_sgctl"));
    let own = own.parent().unwrap().display();
    let path = format!("{own}:{venv}:{}", std::env::var("PATH").unwrap());
    let place = tempfile::tempdir().unwrap();
    let yaml = &blocks("The API by example", "yaml")[0];
    std::fs::write(place.path().join("web.yaml"), yaml).unwrap();
    net.namespace.run(move || {
        let flags = MsFlags::empty();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, None::<&str>).unwrap();
        std::fs::create_dir("/run/sgagent").unwrap();
        std::os::unix::fs::symlink(socket, "/run/sgagent/sgagent.sock").unwrap();
    });
    let commands: Vec<String> = std::iter::once("sgctl apply web.yaml".to_owned())
        .chain(blocks("Look inside", "console").iter().flat_map(|block| {
            let typed = block.lines().filter_map(|line| line.strip_prefix("$ "));
            typed.map(str::to_owned).collect::<Vec<_>>()
        }))
        .collect();
    let (mut variables, mut ran) = (String::new(), 0);
    for command in commands {
        if command.starts_with("S=") {
            variables = command;
            continue;
        }
        let script = format!("{variables}\n{command}\n");
        let (place, path) = (place.path().to_owned(), path.clone());
        let output = net.namespace.run(move || {
            let mut shell = Command::new("sh");
            shell.args(["-c", &script]).current_dir(place);
            let shell = shell.env("PATH", path).stdin(Stdio::null());
            shell.output().unwrap()
        });
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {said}{error}");
        assert!(!said.trim().is_empty(), "{command} prints nothing");
        println!("$ {command}\n{said}");
        ran += 1;
    }
    assert!(ran > 10, "ten commands, and the file: {ran}");
}
