#!/usr/bin/env python3
"""Proves the policy, as far as running it does, and prints one table.

    make proof          all of it; hours
    make proof-short    a part of all of it but the other kernels, the same each time

The model is compared with an oracle and with the kernel (tests/proof), faults are injected while
packets flow (tests/faults), the other projects' cases are run (tests/traffic/judges*), and what
comes from outside is fuzzed (fuzz). What ends badly is told at once with its last lines, all else
goes on, and the exit code is 1 then. The logs are in target/proof.
"""

import argparse
import concurrent.futures
import itertools
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get('CARGO_TARGET_DIR', 'target')
LOGS = TARGET / 'proof'
# The build of the emulated machines: model and oracle take a tenth of the time that dev's take.
OPTIMISED = ['--profile', 'vm']
# Debian's kernel, the placement, the kind of bridge. 6.1, 6.12, and the newest there is.
MACHINES = [
    *itertools.product(['linux-image-amd64', 'linux-image-6.12-amd64', 'linux-image-amd64/trixie-backports'],
                       ['bridge', 'br_netfilter'], ['plain']),
    ('linux-image-6.12-amd64', 'bridge', 'filtering'),
    ('linux-image-6.12-amd64', 'br_netfilter', 'filtering'),
    ('linux-image-6.12-amd64', 'bridge', 'snooping'),
]

FULL = {'agree': 1_000_000, 'packets': 100_000, 'cuts': 100, 'kills': 200, 'applies': 1000, 'fuzz': 600,
        'vm': 2_000}
SHORT = {'agree': 20_000, 'packets': 20_000, 'cuts': 10, 'kills': 20, 'applies': 50, 'fuzz': 20, 'vm': 0}

# What a step prints about itself, and the words for the sums of its numbers.
AGREE = (r'proof: agree: (\d+) datagrams compared, (\d+) mismatches', '{:,} datagrams, {} mismatches')
KERNEL = (r'proof: kernel .*: (\d+) datagrams, (\d+) replies and errors, (\d+) verdicts .* (\d+) mismatches',
          '{:,} datagrams and {:,} replies and errors sent, {:,} verdicts, {} mismatches')
CUT = (r'proof: cut: (\d+) flows cut correctly, (\d+) kept, (\d+) wrongly',
       '{:,} cut correctly, {:,} kept, {} wrongly')
FAULTS = (r'faults: .*: (\d+) faults injected, (\d+) packets sent, (\d+) forbidden passed, (\d+) permitted lost',
          '{:,} injected, {:,} packets sent, {} forbidden passed, {} permitted lost')
RESULT = (r'test result: \w+\. (\d+) passed; (\d+) failed', '{:,} passed, {} failed')
FUZZ = (r'"executions": (\d+), .*"findings": (\d+)', '{:,} inputs, {} findings')


def say(text):
    print(text, file=sys.stderr, flush=True)


class Proof:
    """What was run, and what it said."""

    def __init__(self, random, only):
        self.started = self.built = time.monotonic()
        self.only = re.compile(only)
        self.rows, self.failed = {}, []
        self.random = {'SGAGENT_PROOF_RANDOM': '1'} if random else {}

    def wants(self, name):
        return bool(self.only.search(name))

    def step(self, name, command, says=None, **variables):
        """Runs a command with these variables; its output is kept, and what it says becomes a row.

        One that ends with an error, or does not say what it has to, has failed. What says nothing
        is done whatever is asked for: others need it.
        """
        if says and not self.wants(name):
            return
        began = time.monotonic()
        say(f'==== {name} ...')
        log = LOGS / (re.sub(r'\W+', '-', name) + '.log')
        environment = os.environ | self.random | {key: str(value) for key, value in variables.items()}
        with log.open('w') as out:
            code = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT).returncode
        text = log.read_text(errors='replace')
        good = code == 0
        if says:
            pattern, words = says
            found = [map(int, match.groups()) for match in re.finditer(pattern, text)]
            good &= bool(found)
            self.rows[name] = words.format(*map(sum, zip(*found))) if found else 'said nothing'
        if not good:
            self.failed.append(name)
            say('\n'.join(text.splitlines()[-40:]))
        say(f'==== {name}: {"done" if good else f"FAILED ({code})"} in {time.monotonic() - began:.0f} s')

    def table(self):
        width = max(map(len, self.rows), default=0)
        lines = [f'{name:{width}}  {what}' for name, what in self.rows.items()]
        minutes = f'{(time.monotonic() - self.built) / 60:.0f} minutes, built in {(self.built - self.started) / 60:.0f}'
        if self.failed:
            ended = 'NOT PROVEN: ' + ', '.join(self.failed)
        else:
            ended = 'all as it must be' if self.rows else 'NOT PROVEN: nothing was run'
        return '\n'.join([*lines, f'{ended} ({minutes})'])


def build(proof):
    """Packages, crates and the programs first: what runs in namespaces has no network."""
    proof.step('set-up', ['tests/setup.sh'])
    programs = ['cargo', 'test', '--no-run', *OPTIMISED, '--test']
    proof.step('build', [*programs, 'proof', '--test', 'traffic', '--test', 'link'])
    if proof.wants('faults'):
        proof.step('build of faults', [*programs, 'faults', '--features', 'failpoints'])
    if proof.wants('fuzzing'):
        proof.step('build of fuzzing', ['make', 'fuzz', 'FUZZ=--build'])
    proof.built = time.monotonic()


def here(proof, much):
    """What this kernel can do."""
    test = ['tests/run.sh', 'cargo', 'test', '--offline', *OPTIMISED, '--test']
    proof.step('model and oracle', [*test, 'proof', '--', 'agree', '--nocapture'], AGREE,
               SGAGENT_PROOF_AGREE=much['agree'])
    for kind in ['plain', 'snooping'][:1 if much is SHORT else 2]:
        name = f'Linux {platform.release()} br_netfilter {kind}'
        proof.step(name, [*test, 'proof', '--', 'kernel_does', '--nocapture'], KERNEL,
                   SGAGENT_PROOF_PACKETS=much['packets'], SGAGENT_TEST_BRIDGE=kind)
        if much is FULL:
            proof.step(f'{name} tests', [*test, 'traffic', '--test', 'link'], RESULT, SGAGENT_TEST_BRIDGE=kind)
    proof.step('flows', [*test, 'proof', '--', 'cut_what', '--nocapture'], CUT, SGAGENT_PROOF_CUTS=much['cuts'])
    proof.step('judges', [*test, 'traffic', '--', 'judges'], RESULT)
    proof.step('faults', ['make', 'faults', 'PROFILE=vm', f'KILLS={much["kills"]}', f'APPLIES={much["applies"]}'],
               FAULTS)
    proof.step('fuzzing', ['make', 'fuzz', f'SECONDS={much["fuzz"]}', 'FUZZ=--json'], FUZZ)


def machines(proof, much):
    """Other kernels. An emulated machine has one processor: it works beside the rest."""
    proof.step('set-up of the emulator', ['tests/setup.sh', '--vm'])
    for kernel, placement, kind in MACHINES:
        machine = {'SGAGENT_VM_KERNEL': kernel, 'SGAGENT_VM_SECONDS': 3 * 3600, 'SGAGENT_TEST_BRIDGE': kind}
        run, name = ['tests/vm/test.sh', placement], f'{kernel} {placement} {kind}'
        proof.step(name, [*run, '--proof'], KERNEL, SGAGENT_PROOF_PACKETS=much['vm'], **machine)
        proof.step(f'{name} tests', run, RESULT, **machine)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--short', action='store_true', help='a part of it')
    arguments.add_argument('--only', default='', metavar='PATTERN', help='the rows that this regular expression finds')
    arguments = arguments.parse_args()
    much = SHORT if arguments.short else FULL
    LOGS.mkdir(parents=True, exist_ok=True)
    proof = Proof(much is FULL, arguments.only)
    build(proof)
    with concurrent.futures.ThreadPoolExecutor() as lanes:
        ended = [lanes.submit(lane, proof, much) for lane in ([here] if much is SHORT else [here, machines])]
    for lane in ended:
        lane.result()
    print(proof.table())
    sys.exit(bool(proof.failed) or not proof.rows)


if __name__ == '__main__':
    main()
