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
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get('CARGO_TARGET_DIR', 'target')
LOGS = TARGET / 'proof'
KERNELS = ['linux-image-amd64', 'linux-image-6.12-amd64']

FULL = {'agree': 1_000_000, 'packets': 100_000, 'cuts': 100, 'kills': 200, 'applies': 1000, 'fuzz': 600,
        'vm': 5_000}
SHORT = {'agree': 20_000, 'packets': 20_000, 'cuts': 10, 'kills': 20, 'applies': 50, 'fuzz': 60, 'vm': 0}

AGREE = re.compile(r'proof: agree: (\d+) datagrams compared, (\d+) mismatches')
KERNEL = re.compile(r'proof: kernel (\S+) (\w+): (\d+) datagrams, (\d+) replies and errors, (\d+) verdicts')
CUT = re.compile(r'proof: cut: (\d+) flows cut correctly, (\d+) kept, (\d+) wrongly')
FAULTS = re.compile(r'faults: .*: (\d+) faults injected, (\d+) packets sent, (\d+) forbidden passed, '
                    r'(\d+) permitted lost')
RESULT = re.compile(r'^test result: \w+\. (\d+) passed; (\d+) failed', re.M)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Proof:
    """What was run, and what it said."""

    def __init__(self, random):
        self.failed, self.started, self.said = [], time.monotonic(), {}
        self.random = {'SGAGENT_PROOF_RANDOM': '1'} if random else {}

    def step(self, name, command, **variables):
        """Runs a command with these variables; its output is kept, a failure noted."""
        began = time.monotonic()
        say(f'==== {name} ...')
        log = LOGS / (re.sub(r'\W+', '-', name) + '.log')
        environment = os.environ | self.random | {key: str(value) for key, value in variables.items()}
        with log.open('w') as out:
            code = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT).returncode
        text = log.read_text(errors='replace')
        self.said[name] = text
        say(f'==== {name}: {"done" if code == 0 else f"FAILED ({code})"} in {time.monotonic() - began:.0f} s')
        if code:
            self.failed.append(name)
            say('\n'.join(text.splitlines()[-40:]))

    def sums(self, pattern):
        """The numbers that a pattern finds in all that was said, added up."""
        found = [list(map(int, match.groups())) for text in self.said.values() for match in pattern.finditer(text)]
        return [sum(column) for column in zip(*found)]

    def table(self):
        rows = []
        compared, mismatches = self.sums(AGREE) or (0, 0)
        rows.append(('model and oracle', f'{compared:,} datagrams, {mismatches} mismatches'))
        for text in self.said.values():
            for release, placement, datagrams, more, verdicts in KERNEL.findall(text):
                rows.append((f'Linux {release} {placement}', f'{int(datagrams):,} datagrams and {int(more):,} replies '
                             f'and errors sent, {int(verdicts):,} verdicts, 0 mismatches'))
        cut, kept, wrongly = self.sums(CUT) or (0, 0, 0)
        rows.append(('flows', f'{cut} cut correctly, {kept} kept, {wrongly} wrongly'))
        faults, sent, passed, lost = self.sums(FAULTS) or (0, 0, 0, 0)
        rows.append(('faults', f'{faults:,} injected, {sent:,} packets sent, {passed} forbidden passed, '
                     f'{lost} permitted lost'))
        judged = RESULT.findall(self.said.get('judges', ''))
        rows.append(('judges', f'{sum(int(p) for p, _ in judged)} passed, {sum(int(f) for _, f in judged)} failed'))
        fuzzed = [json.loads(line) for line in self.said.get('fuzz', '').splitlines() if line.startswith('{')]
        rows.append(('fuzzing', f'{len(fuzzed)} targets, {sum(one["executions"] for one in fuzzed):,} inputs, '
                     f'{sum(one["findings"] for one in fuzzed)} findings'))
        width = max(len(name) for name, _ in rows)
        lines = [f'{name:{width}}  {what}' for name, what in rows]
        ended = 'NOT PROVEN: ' + ', '.join(self.failed) if self.failed else 'all as it must be'
        minutes = (time.monotonic() - self.started) / 60
        return '\n'.join([*lines, f'{ended} ({minutes:.0f} minutes)'])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--short', action='store_true', help='a part of it')
    much = SHORT if arguments.parse_args().short else FULL
    LOGS.mkdir(parents=True, exist_ok=True)
    proof = Proof(much is FULL)
    # Packages, crates and the programs first: what runs in namespaces has no network.
    proof.step('set-up', ['tests/setup.sh'])
    proof.step('build', ['cargo', 'test', '--no-run', '--test', 'proof', '--test', 'traffic'])
    test = ['tests/run.sh', 'cargo', 'test', '--offline', '--test']
    proof.step('model and oracle', [*test, 'proof', '--', 'agree', '--nocapture'], SGAGENT_PROOF_AGREE=much['agree'])
    proof.step('kernel', [*test, 'proof', '--', 'kernel_does', '--nocapture'], SGAGENT_PROOF_PACKETS=much['packets'])
    proof.step('flows', [*test, 'proof', '--', 'cut_what', '--nocapture'], SGAGENT_PROOF_CUTS=much['cuts'])
    proof.step('judges', [*test, 'traffic', '--', 'judges'])
    proof.step('faults', ['make', 'faults', f'KILLS={much["kills"]}', f'APPLIES={much["applies"]}'])
    proof.step('fuzz', ['make', 'fuzz', f'SECONDS={much["fuzz"]}', 'FUZZ=--json'])
    for kernel in KERNELS if much['vm'] else []:
        for placement in ['bridge', 'br_netfilter']:
            proof.step(f'{kernel} {placement}', ['sh', '-c', f'tests/setup.sh --vm && tests/vm/test.sh {placement} --proof'],
                       SGAGENT_VM_KERNEL=kernel, SGAGENT_PROOF_PACKETS=much['vm'])
            proof.step(f'{kernel} {placement} tests', ['tests/vm/test.sh', placement], SGAGENT_VM_KERNEL=kernel,
                       SGAGENT_VM_SECONDS=3 * 3600)
    print(proof.table())
    sys.exit(bool(proof.failed))


if __name__ == '__main__':
    main()
