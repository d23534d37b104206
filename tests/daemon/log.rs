//! What the log says, and what it does not.

use std::{os::unix::fs::PermissionsExt as _, process::Stdio};

use super::host::Host;

/// An address of a guest.
const ADDRESS: &str = "2001:db8::77";

/// What is logged when nft refuses a guest's address, and quotes what it refuses as nft does.
fn refusal(level: &str) -> String {
    let mut host = Host::new();
    let nft = host.files.path().join("nft");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'-f -') ;; *) exec nft \"$@\" ;; esac\n\
         cat >{files}/script; grep -qF {ADDRESS} {files}/script || exec nft \"$@\" <{files}/script\n\
         echo '/dev/stdin:1:1-9: Error: Could not process rule: No buffer space available' >&2\n\
         cat {files}/script >&2; exit 1\n",
        files = host.files.path().display()
    );
    std::fs::write(&nft, script).unwrap();
    std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).unwrap();
    host.more = vec![format!("--nft={}", nft.display()), format!("--log={level}")];
    let log = host.files.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut command = host.command("run", &["br0"]);
    host.agent = Some(command.stderr(Stdio::from(file)).spawn().unwrap());
    host.wait_until_it_answers();
    let change = host.files.path().join("change.yaml");
    let text = format!(
        "nics: [{{id: nic-7, mac: '06:b2:00:00:04:79', interfaces: [{{name: vnet0}}], \
         addresses: [{{address: '{ADDRESS}'}}]}}]"
    );
    std::fs::write(&change, text).unwrap();
    let (done, said) = host.sgctl(&["apply", change.to_str().unwrap()]);
    assert!(
        !done && said.contains("No buffer space available"),
        "{said}"
    );
    host.stop();
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn a_guests_address_is_in_no_log_but_for_debug() {
    let log = refusal("info");
    assert!(log.contains("a change was not programmed"), "{log}");
    assert!(log.contains("No buffer space available"), "{log}");
    assert!(!log.contains("2001:db8"), "{log}");
    let log = refusal("debug");
    assert!(log.contains(ADDRESS), "{log}");
}
