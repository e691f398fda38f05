#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
The proof of relay safety against the truth: random configurations are proven, and tried as a stranger through the
compiled flows. Whatever relays must have been proven to.

    tests/property/relay.py [--count N] [--seed N] [--tries N] [--red]

With --red the proof is broken on purpose (it mistakes negation), and the test fails if that is not found.
"""
import argparse
import os
import pathlib
import subprocess
import sys

from relay_configs import configuration

BUILD = pathlib.Path(os.environ.get("POSTERN_BUILD", pathlib.Path(__file__).parents[2] / "build")).absolute()


def parse(part, words):
    return [tuple(item.split(" ")[:words]) for item in part.split(",") if item]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=800)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--tries", type=int, default=120)
    options.add_argument("--red", action="store_true")
    options = options.parse_args()
    seeds = range(options.seed, options.seed + options.count)
    texts = [configuration(seed).encode() for seed in seeds]
    stream = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    command = [BUILD / "relay-try", str(options.tries), str(options.seed)] + (["--red"] if options.red else [])
    done = subprocess.run(command, input=stream, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(texts), "a configuration was left out"
    missed, proven, relayed = [], 0, 0
    for seed, line in zip(seeds, lines):
        proof, truth = line.split("|")
        said, did = set(parse(proof, 2)), {}
        for item in truth.split(","):
            if item:
                did.setdefault(tuple(item.split(" ")[:2]), item)
        proven += len(said)
        relayed += len(said & did.keys())
        missed += [(seed, did[pair]) for pair in did.keys() - said]
    for seed, witness in missed[:10]:
        print(f"MISSED  seed {seed}: {witness}   (tests/property/relay_configs.py {seed})")
    alarms = proven - relayed
    print(f"{len(texts)} configurations: {proven} pairs of listener and domain proven open, {relayed} of them made to relay, "
          f"{alarms} not ({100 * alarms / max(proven, 1):.1f} % false alarms, or not found in {options.tries} tries); {len(missed)} missed")
    if not proven or not relayed:
        print("nothing was tested")
        return 1
    return int(bool(missed) != options.red)


sys.exit(main())
