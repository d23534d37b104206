# Each target does its own set-up (tests/setup.sh) and needs no root. `make help` lists them.

# Which build the tests and the demo use. `vm` is that of the emulated machines and of the proof: who
# runs those as well builds everything once with it.
PROFILE ?= dev
BUILD := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
TEST := cargo test --profile $(PROFILE)

# The programs, built with what the tests need of other crates: a build without any test would compile
# half of these once more.
BINS := --bins --test architecture

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1	\2/p' Makefile

.PHONY: demo
demo: ## Show the main job on real input: guests, router, attacks (under a minute once built)
	tests/setup.sh --demo
	cargo build $(BINS) --profile $(PROFILE)
	tests/demo/run.sh $(BUILD)

# What needs the network of the machine, crates, is done before the tests get one of their own.
.PHONY: test
test: setup ## Run every test, those against the kernel included
	$(TEST) --no-run
	tests/run.sh $(TEST) --offline --no-fail-fast

# The traffic tests once more, on the other dataplane. What can't hold there is in
# tests/traffic/ip6tables.txt, and has to fail.
.PHONY: test-ip6tables
test-ip6tables: setup ## Run the traffic tests on the dataplane ip6tables
	$(TEST) --no-run --test traffic
	tests/ip6tables.sh "$$($(TEST) --offline --no-run --test traffic --message-format json 2>/dev/null | \
		sed -n 's/.*"name":"traffic".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)"

# Where connection tracking of the bridge is what is to be tested and this kernel has none. What
# differs by placement is in tests/traffic/placement.rs. PLACEMENT=br_netfilter runs the other.
PLACEMENT ?= bridge
.PHONY: test-vm
test-vm: ## Run the kernel's tests on a stock Debian kernel, emulated (slow; PLACEMENT=bridge)
	tests/setup.sh --vm
	tests/vm/test.sh $(PLACEMENT)

# In the same machine, under systemd.
.PHONY: test-systemd
test-systemd: ## Run the packaged unit under systemd, in an emulated machine
	tests/setup.sh --vm
	tests/vm/systemd.sh

.PHONY: deb
deb: ## Make the Debian package, of programs that run with glibc 2.17 and later
	tests/setup.sh --package
	eval "$$(tests/setup.sh --print-env)" && packaging/build deb

.PHONY: rpm
rpm: ## Make the rpm, of the same
	tests/setup.sh --package
	eval "$$(tests/setup.sh --print-env)" && packaging/build rpm

# ONLY is one of the scripts in tests/package: `make test-package ONLY=deb`.
.PHONY: test-package
test-package: ## Install, upgrade and remove the packages on a Debian made by debootstrap (root)
	tests/setup.sh --package-tests
	ONLY='$(ONLY)' tests/package/run.sh

# The package is built where it is older than what it is made from; or made of PROGRAMS=DIRECTORY.
.PHONY: test-host
test-host: ## Take the Debian package through the life of a host, an emulated machine that is rebooted (root)
	tests/setup.sh --package-tests
	tests/setup.sh --vm
	PROGRAMS='$(PROGRAMS)' tests/host/run.sh

# In namespaces: this machine's libvirt is neither read nor asked.
.PHONY: test-libvirt
test-libvirt: ## Start guests of a real libvirt, with its hook and without (root)
	tests/setup.sh --libvirt
	cargo build $(BINS) --profile $(PROFILE)
	tests/run.sh tests/libvirt/run.sh $(BUILD)

# ONLY is a pattern of chains: `make mutants ONLY='guest_n[as]'`.
# The daemons of Xen's store, its own and XenServer's, run without Xen.
.PHONY: test-xen
test-xen: ## Bind guests of Xen by what a real store says of them (Debian, Ubuntu)
	tests/setup.sh --xen
	cargo build $(BINS) --profile $(PROFILE)
	tests/run.sh tests/xen/run.sh $(BUILD)

.PHONY: mutants
mutants: setup ## Take out one rule of the skeleton at a time and say which test notices (about an hour)
	cargo test --no-run --test traffic
	cargo build $(BINS)
	tests/run.sh python3 tests/mutants/run.py --only '$(ONLY)'

# KILLS=200 APPLIES=1000 is the proof. The agent of these tests can be made to die anywhere.
KILLS ?= 20
APPLIES ?= 50
.PHONY: faults
faults: setup ## Kill, starve and confuse the agent while packets flow (2 minutes once built; KILLS=20 APPLIES=50)
	$(TEST) --no-run --features failpoints --test faults
	SGAGENT_FAULTS_KILLS=$(KILLS) SGAGENT_FAULTS_APPLIES=$(APPLIES) \
		tests/run.sh $(TEST) --offline --features failpoints --test faults -- --nocapture

.PHONY: proof
proof: ## Compare model, oracle and kernels, inject faults, fuzz: all of it, one table (hours; ONLY=rows)
	tests/proof/run.py --only '$(ONLY)'

.PHONY: proof-short
proof-short: ## A part of the proof, on this kernel (10 minutes once built)
	tests/proof/run.py --short

# BENCH are options: `make bench BENCH="--only packets --rounds 3"`.
.PHONY: bench
bench: setup ## Measure side by side what packets and changes cost (about 10 minutes once built)
	cargo bench --no-run --bench speed
	tests/run.sh cargo bench --offline --bench speed -- $(BENCH)

# ONLY is a pattern of targets: `make fuzz ONLY=requests SECONDS=600`.
SECONDS ?= 60
.PHONY: fuzz
fuzz: ## Run each fuzz target for SECONDS (60), until the first finding; needs a nightly toolchain
	tests/setup.sh --fuzz
	eval "$$(tests/setup.sh --print-env)" && fuzz/run.py --seconds $(SECONDS) --only '$(ONLY)' $(FUZZ)

# Where the first seeds are from: fuzz/examples/seeds.rs and fuzz/seeds.py.
.PHONY: fuzz-corpus
fuzz-corpus: ## Take what the fuzz targets found worth keeping into fuzz/corpus, minimised
	tests/setup.sh --fuzz
	eval "$$(tests/setup.sh --print-env)" && fuzz/run.py --minimise --only '$(ONLY)'

.PHONY: check
check: ## Formatting, lints and documentation
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

.PHONY: setup
setup: ## Install what the tests and the demo need; without root, under target/
	tests/setup.sh
