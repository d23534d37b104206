#!/usr/bin/env python3
"""Runs the fuzz targets, one on each processor; stops at the first finding, with exit code 1.

    make fuzz                           a minute each
    make fuzz SECONDS=600               ten
    make fuzz ONLY='requests'           those whose name this pattern finds
    fuzz/run.py --json                  a line of JSON for each target on standard output, as it ends
    fuzz/run.py --build                 builds them and ends
    make fuzz-corpus                    takes what was found worth keeping into fuzz/corpus

What the targets find is kept under the target directory, from run to run; the seeds in fuzz/corpus
change by `make fuzz-corpus` only, which leaves out what adds nothing.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = ROOT / os.environ.get('CARGO_TARGET_DIR', 'target')
CARGO = ['cargo', '+nightly', 'fuzz']
# Nothing of ours is `unsafe`: a sanitizer of memory would look at the standard library and a few
# crates. What panics, overflows, takes too long or too much is found without.
PLAIN = ['--sanitizer', 'none']
# Of one input: seconds, and MiB of memory.
LIMITS = ['-timeout=10', '-rss_limit_mb=2048']
# Octets of an input where libFuzzer's 4,096 do not do.
LONGER = {'interfaces': 16384, 'transactions': 16384, 'listings': 16384, 'raw_requests': 8192}
# Octets of seeds in the repository, for each target.
SEEDS = 40 << 10
# Seconds between two lines of progress.
BETWEEN = 10

STATUS = re.compile(r'^#(\d+)\s.*\bcov: (\d+)(?:.*\bcorp: (\d+))?')
UNITS = re.compile(r'^stat::number_of_executed_units: (\d+)')
WRITTEN = re.compile(r'Test unit written to (\S+)')


def say(text):
    print(text, file=sys.stderr, flush=True)


def targets(only):
    manifest = tomllib.loads((HERE / 'Cargo.toml').read_text())
    names = [one['name'] for one in manifest['bin']]
    return [name for name in names if re.search(only, name)]


def found_before(target):
    """Where inputs worth keeping are kept from run to run."""
    folder = TARGET / 'fuzz-corpus' / target
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def seeds(target):
    folder = HERE / 'corpus' / target
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def options(target):
    known = HERE / 'dictionaries' / target
    return [
        *LIMITS,
        f'-max_len={LONGER.get(target, 4096)}', '-len_control=20',
        *([f'-dict={known}'] if known.exists() else []),
    ]


def fuzz(target, seconds):
    """One target's line of the table, and what to do about its finding."""
    kept = found_before(target)
    command = [*CARGO, 'run', *PLAIN, target, str(kept), str(seeds(target)), '--',
               f'-max_total_time={seconds}', '-print_final_stats=1', *options(target)]
    line = {'target': target, 'seconds': 0, 'executions': 0, 'edges': 0, 'corpus': 0, 'findings': 0}
    say(f'{target}: {seconds} s')
    started = shown = time.monotonic()
    told, written = [], None
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          text=True, errors='replace') as running:
        for text in running.stderr:
            told = [*told[-400:], text.rstrip()]
            if status := STATUS.match(text):
                line['executions'], line['edges'] = int(status[1]), int(status[2])
                line['corpus'] = int(status[3] or line['corpus'])
            if units := UNITS.match(text):
                line['executions'] = int(units[1])
            if found := WRITTEN.search(text):
                written = found[1]
            if time.monotonic() - shown > BETWEEN:
                shown = time.monotonic()
                say(f'  {target}: {shown - started:.0f} s, {line["executions"]} executions, '
                    f'{line["edges"]} edges')
    line['seconds'] = round(time.monotonic() - started)
    if running.returncode == 0:
        return line, None
    line['findings'] = 1
    text = '\n'.join(f'    {one}' for one in why(told))
    if written:
        file = os.path.relpath(written, ROOT)
        text += (f'\n{target} found something. Once more:\n'
                 f'    {" ".join([*CARGO, "run", *PLAIN])} {target} {file}\n'
                 f'and with fewer octets:\n    {" ".join([*CARGO, "tmin", *PLAIN])} {target} {file}')
    return line, text


def why(told):
    """What happened, without the way there."""
    for at, one in enumerate(told):
        if 'panicked at' in one or re.match(r'==\d+==\s?ERROR', one):
            until = next((i for i in range(at, len(told)) if 'backtrace' in told[i] or not told[i]), len(told))
            return told[at:min(until, at + 12)]
    return [one for one in told if one][-20:]


def table(lines):
    head = list(lines[0])
    rows = [head, *([str(line[column]) for column in head] for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        cells = [word.ljust(width) if i == 0 else word.rjust(width)
                 for i, (word, width) in enumerate(zip(row, widths))]
        yield '  '.join(cells)


def minimise(target):
    """Takes into the seeds what adds something, the shortest first."""
    with tempfile.TemporaryDirectory() as folder:
        union = pathlib.Path(folder)
        for source in (seeds(target), found_before(target)):
            for file in source.iterdir():
                shutil.copy(file, union)
        subprocess.run([*CARGO, 'cmin', *PLAIN, target, folder, '--', *options(target)],
                       cwd=ROOT, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for file in seeds(target).iterdir():
            file.unlink()
        taken = octets = 0
        files = sorted(union.iterdir(), key=lambda file: (file.stat().st_size, file.name))
        for file in files:
            octets += file.stat().st_size
            if octets > SEEDS:
                break
            shutil.copy(file, seeds(target))
            taken += 1
    say(f'{target}: {taken} of {len(files)} inputs')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--seconds', type=int, default=60)
    parser.add_argument('--only', default='')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--build', action='store_true')
    parser.add_argument('--minimise', action='store_true')
    arguments = parser.parse_args()
    wanted = targets(arguments.only)
    if not wanted:
        sys.exit(f'no target is called like {arguments.only}')
    say('building')
    subprocess.run([*CARGO, 'build', *PLAIN], cwd=ROOT, check=True, stdout=sys.stderr)
    if arguments.build:
        return
    if arguments.minimise:
        for target in wanted:
            minimise(target)
        return
    lines = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(fuzz, target, arguments.seconds): target for target in wanted}
        for one in concurrent.futures.as_completed(running):
            if one.cancelled():
                continue
            line, finding = one.result()
            lines.append(line)
            if arguments.json:
                print(json.dumps(line), flush=True)
            if finding:
                say(finding)
                # Those that run go on to their end.
                pool.shutdown(wait=False, cancel_futures=True)
    if not arguments.json:
        print('\n'.join(table(lines)))
    sys.exit(any(line['findings'] for line in lines))


if __name__ == '__main__':
    main()
