//! A host of its own for the daemon.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub(crate) const SGAGENT: &str = env!("CARGO_BIN_EXE_sgagent");
pub(crate) const SGCTL: &str = env!("CARGO_BIN_EXE_sgctl");

/// A network namespace with a managed bridge, an unmanaged one and rules of others.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) files: TempDir,
    pub(crate) agent: Option<Child>,
    /// Options of the daemon besides.
    pub(crate) more: Vec<String>,
}

impl Host {
    pub(crate) fn new() -> Self {
        static HOSTS: AtomicU32 = AtomicU32::new(0);
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("sgd{}-{number}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let host = Self {
            name,
            files: tempfile::tempdir().unwrap(),
            agent: None,
            more: Vec::new(),
        };
        host.sh("sysctl -qw net.bridge.bridge-nf-call-ip6tables=0
             ip link set lo up
             for b in br0 br9; do ip link add $b type bridge; ip link set $b up; done
             ip tuntap add uplink0 mode tap; ip link set uplink0 master br0
             for v in vnet0 vnet9; do ip tuntap add $v mode tap; ip link set $v address 02:00:00:00:00:01; done
             ip link set vnet0 master br0; ip link set vnet9 master br9
             nft add table inet theirs
             nft 'add chain inet theirs c { type filter hook input priority 0; }'
             nft add rule inet theirs c ct mark 7 accept
             nft add table bridge theirs
             nft 'add set bridge theirs s { type ifname; elements = { vnet0 }; }'");
        host
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        run("ip", &["netns", "exec", &self.name, "sh", "-ec", script])
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.files.path().join("sgagent.sock")
    }

    pub(crate) fn options(&self, bridges: &[&str]) -> Vec<String> {
        let state = self.files.path().join("state");
        let mut options = vec![
            format!("--unix-socket={}", self.socket().display()),
            format!("--state-dir={}", state.display()),
            // What the tables are must not depend on the kernel.
            "--placement=br_netfilter".to_owned(),
        ];
        options.extend(
            bridges
                .iter()
                .map(|b| format!("--bridge=adopted=true,name={b},uplink=uplink0")),
        );
        options.extend(self.more.iter().cloned());
        options
    }

    pub(crate) fn command(&self, command: &str, bridges: &[&str]) -> Command {
        let mut started = Command::new("ip");
        started.args(["netns", "exec", &self.name, SGAGENT, command]);
        started.args(self.options(bridges)).stderr(Stdio::piped());
        started
    }

    pub(crate) fn start(&mut self, bridges: &[&str]) {
        self.agent = Some(
            self.command("run", bridges)
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        self.wait_until_it_answers();
    }

    pub(crate) fn wait_until_it_answers(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.sgctl(&["status"]).0 {
            assert!(Instant::now() < until, "the agent does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn stop(&mut self) {
        let mut agent = self.agent.take().unwrap();
        run("kill", &["-TERM", &agent.id().to_string()]);
        assert!(agent.wait().unwrap().success());
    }

    pub(crate) fn sgctl(&self, args: &[&str]) -> (bool, String) {
        self.sgctl_by(&[], args)
    }

    /// Behind these words, which may make it somebody else's.
    pub(crate) fn sgctl_by(&self, words: &[&str], args: &[&str]) -> (bool, String) {
        let mut line = words.iter().copied().chain([SGCTL]);
        let output = Command::new(line.next().unwrap())
            .args(line)
            .arg("--socket")
            .arg(self.socket())
            .args(args)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    /// Everything outside our tables that we could have touched.
    pub(crate) fn settings(&self) -> String {
        self.sh(
            "for b in br0 br9; do ip -d link show $b | grep -o 'no_linklocal_learn .\\|nf_call_ip6tables .'; done
             sysctl net.netfilter.nf_conntrack_frag6_timeout net.netfilter.nf_conntrack_frag6_high_thresh
             sysctl -a 2>/dev/null | grep bridge-nf
             nft list table inet theirs; nft list table bridge theirs",
        )
    }

    pub(crate) fn tables(&self) -> String {
        self.sh("nft list tables | sort")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        run("ip", &["netns", "del", &self.name]);
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn nic(files: &Path) -> String {
    let file = files.join("nic.yaml");
    let text = "nics: [{id: n, mac: '06:b2:00:00:04:79', interfaces: [{name: vnet0}]}]";
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}
