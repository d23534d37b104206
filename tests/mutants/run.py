#!/usr/bin/env python3
"""Takes one rule of the skeleton out at a time and says which test noticed.

    make mutants                        all of them
    make mutants ONLY='guest_na'        those of chains whose name this pattern finds

A rule that no packet of a test ever matched can't be missed by that test, so the suite is run
once with a counter on every rule, and a rule's absence is then tried on the tests that it
counted packets of, the quickest first, until one fails.

What is left out is left out of what the agent sends (tests/mutants/nft), not taken from the
kernel behind its back, which it would mend.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
import skeleton  # noqa: E402

# These the agent fills itself, by the prefix lengths in use.
REFILLED = re.compile(r'prefix_(source|target|destination)$')
# Tests tried at first for a rule's absence, then twice as many; how many of them side by side.
SLICE, THREADS = 6, 3
RULE_LINE = re.compile(r'counter packets (\d+) bytes \d+')


def progress(text):
    print(text, file=sys.stderr, flush=True)


def built(*extra):
    """The programs that cargo makes, by name."""
    command = ['cargo', 'build', '--message-format=json', '--quiet', *extra]
    if 'test' in extra:
        command = ['cargo', 'test', '--no-run', '--message-format=json', '--quiet', '--test', 'traffic']
    output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    found = {}
    for line in output.decode().splitlines():
        message = json.loads(line)
        if message.get('executable'):
            found[message['target']['name']] = message['executable']
    return found


def skeleton_rules(sgagent):
    """Every rule of the skeleton as (family, chain, index, rule)."""
    with tempfile.NamedTemporaryFile('w', suffix='.yaml') as state, \
            tempfile.NamedTemporaryFile('w', suffix='.toml') as config:
        # One NIC, or there is no table of the guests' ports.
        state.write('nics: [{id: n, mac: "06:00:00:00:00:01", interfaces: [{name: vnet0}]}]\n')
        placement = os.environ.get('SGAGENT_TEST_PLACEMENT', 'br_netfilter')
        config.write(f'placement = "{placement}"\n[[bridges]]\nname = "br0"\n')
        state.flush(), config.flush()
        text = subprocess.run([sgagent, 'compile', '--config', config.name, state.name],
                              stdout=subprocess.PIPE, check=True).stdout.decode()
    return [rule for rule in skeleton.rules(text) if not REFILLED.match(rule[1])]


class Suite:
    """The traffic tests."""

    def __init__(self, program):
        self.program = program
        self.environment = dict(os.environ, SGAGENT_TEST_NFT=str(HERE / 'nft'))

    def run(self, tests, environment, limit, threads=THREADS):
        """The tests that failed; all of them if they did not end."""
        command = [self.program, '--exact', *tests, '--test-threads', str(threads)]
        try:
            done = subprocess.run(command, env=dict(self.environment, **environment), cwd=ROOT,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
        except subprocess.TimeoutExpired:
            return list(tests) or ['the suite did not end']
        output = done.stdout.decode(errors='replace')
        failed = re.findall(r'^test (\S+) \.\.\. FAILED$', output, re.M)
        if done.returncode and not failed:
            raise SystemExit(f'the suite ended with {done.returncode}:\n{output[-3000:]}')
        return failed

    def coverage(self):
        """The tests that packets of matched a rule, by (family, chain, index), quickest first."""
        by_rule, seconds = collections.defaultdict(set), collections.Counter()
        with tempfile.TemporaryDirectory() as directory:
            failed = self.run([], {'MUTANT_COVERAGE': '1', 'SGAGENT_TEST_COVERAGE': directory}, 1800)
            if failed:
                raise SystemExit(f'the suite fails with no rule missing: {" ".join(failed)}')
            for file in pathlib.Path(directory).iterdir():
                for host in re.split(r'^# (?=[\d.]+$)', file.read_text(), flags=re.M)[1:]:
                    first, _, listing = host.partition('\n')
                    seconds[file.name] += float(first)
                    for rule in matched(listing):
                        by_rule[rule].add(file.name)
        return {rule: sorted(tests, key=lambda test: seconds[test]) for rule, tests in by_rule.items()}

    def noticed(self, absent, tests):
        """The first tests that fail while rules are absent."""
        mutant = '\n'.join(f'{family} {chain} {index}' for family, chain, index in absent)
        count = SLICE
        while tests:
            now, tests = tests[:count], tests[count:]
            failed = self.run(now, {'MUTANT': mutant}, 300)
            if failed:
                return failed
            count *= 2
        return []


def matched(listing):
    """(family, chain, index) of the rules that counted a packet."""
    for family, chain, index, rule in skeleton.rules(re.sub(r'^table (\w+) sgagent \{.*$',
                                                            r'table \1 sgagent {', listing, flags=re.M)):
        counted = RULE_LINE.search(rule)
        if counted and int(counted[1]):
            yield family, chain, index


def equivalent(rules):
    """What tests/mutants/equivalent says: the reason and the companions of a rule."""
    place = {f'{family} {chain}: {rule}': (family, chain, index) for family, chain, index, rule in rules}
    found, last = {}, None
    for line in (HERE / 'equivalent').read_text().splitlines():
        bare = line.strip()
        if not bare or bare.startswith('#'):
            continue
        if not line.startswith(' '):
            last = place.get(bare)
            found[last] = [[], []]
            unknown = last is None
        elif bare.startswith('with '):
            companion = place.get(bare[5:])
            found[last][1].append(companion)
            unknown = companion is None
        else:
            found[last][0].append(bare)
            unknown = False
        # The other placement's rules are in the same file.
        if unknown and 'SGAGENT_TEST_PLACEMENT' not in os.environ:
            raise SystemExit(f'tests/mutants/equivalent: the skeleton has no rule {bare!r}')
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--only', default='', help='a pattern of chain names')
    only = re.compile(arguments.parse_args().only)
    started = time.monotonic()
    rules = skeleton_rules(built('--bins')['sgagent'])
    excused = equivalent(rules)
    suite = Suite(built('test')['traffic'])
    chosen = [rule for rule in rules if only.search(rule[1])]
    progress(f'{len(chosen)} rules; which tests need which, by one run with counters ...')
    covered = suite.coverage()
    counts, bad = collections.Counter(), []
    for number, (family, chain, index, rule) in enumerate(chosen, 1):
        place = (family, chain, index)
        reason, companions = excused.get(place, ([], []))
        tests = list(dict.fromkeys(sum((covered.get(one, []) for one in [place, *companions]), [])))
        if chain.startswith(('drop_', 'blame', 'charge')):
            # What is dropped is dropped without most of these rules; who counts is the first to ask.
            tests = sorted(tests, key=lambda test: '::counters::' not in test)
        failed = suite.noticed([place, *companions], tests)
        if failed:
            verdict = 'noticed'
            note = f'{failed[0]}' + (f' and {len(failed) - 1} more' if len(failed) > 1 else '')
            if place in excused and not companions:
                verdict, note = 'EXCUSED', f'but noticed by {note}'
        elif place in excused and not companions:
            verdict, note = 'excused', ' '.join(reason)
        else:
            verdict = 'MISSED'
            note = f'by {len(tests)} tests that packets of matched it' if tests else 'no test reaches it'
        counts[verdict] += 1
        line = f'{verdict:8} {family} {chain} {index}: {rule}  <- {note}'
        if verdict.isupper():
            bad.append(line)
        print(line, flush=True)
        progress(f'[{number}/{len(chosen)} {time.monotonic() - started:.0f} s]')
    total = ', '.join(f'{count} {verdict.lower()}' for verdict, count in sorted(counts.items()))
    print(f'\n{len(chosen)} rules of the skeleton taken out one at a time: {total}')
    if bad:
        print('\n'.join(['', 'to be mended:', *bad]))
    sys.exit(bool(bad))


if __name__ == '__main__':
    main()
