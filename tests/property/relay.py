#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
The proof of relay safety against the truth: random configurations are proven, and tried as a stranger through the
compiled flows. Whatever relays must have been proven to.

    tests/property/relay.py [--count N] [--seed N] [--tries N] [--red all | --red WHAT]

In one configuration of four something that the proof looks for is frequent. With --red the proof is broken on purpose, and the
test fails if that is not found: it mistakes negation, or one thing is not heard of it.
"""
import argparse
import os
import pathlib
import subprocess
import sys

from relay_configs import configuration

BUILD = pathlib.Path(os.environ.get("POSTERN_BUILD", pathlib.Path(__file__).parents[2] / "build")).absolute()
RED = {  # what is not heard of the proof, and what shall be frequent
    "negation": (None, ()),
    "routed": ("-> a transport that looks up MX", ("route", "script")),
    "rewritten": ("-> a domain that is not listed", ("rewrite", "script")),
    "passed-by": ("passed-by", ("rewrite",)),
    "passed-by-script": ("passed-by", ("script",)),
    "claimed": ("-> an address claimed by", ("proxy",)),
}
FREQUENT = [favoured for _, favoured in RED.values() if favoured]


def favoured_of(seed, red):
    if red:
        return RED[red][1]
    return FREQUENT[seed // 4 % len(FREQUENT)] if seed % 4 == 0 else ()


def parse(part, words):
    return [tuple(item.split(" ")[:words]) for item in part.split(",") if item]


def break_proof(red):
    without = RED[red][0] if red else None
    return ["--without", without] if without else ["--red"] if red else []


def run(options, red):
    seeds = range(options.seed, options.seed + options.count)
    texts = [configuration(seed, favoured_of(seed, red)).encode() for seed in seeds]
    stream = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    command = [BUILD / "relay-try", str(options.tries), str(options.seed)] + break_proof(red)
    done = subprocess.run(command, input=stream, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(texts), "a configuration was left out"
    missed, proven, relayed, shown, scripts, hidden = [], 0, 0, 0, 0, []
    for seed, line in zip(seeds, lines):
        proof, truth, sessions = line.split("|")
        said, did, ends = set(parse(proof, 2)), {}, {}
        for item in truth.split(","):
            if item:
                pair = tuple(item.split(" ")[:2])
                whole = (pair[0], pair[1].split(">")[0] + ">*")  # said of all domains that it could be rewritten into
                did.setdefault(whole if ">" in pair[1] and whole in said else pair, item)
        for listener, domain, end in parse(sessions, 3):
            ends.setdefault((listener, domain), set()).add(end)
        proven += len(said)
        shows = {pair for pair in said if "relays" in ends.get(pair, ())}
        shown += len(shows)
        relayed += len(said & (did.keys() | shows))
        hidden += [(seed, *pair, "/".join(sorted(ends.get(pair, ())))) for pair in sorted(said - did.keys() - shows)]
        scripts += len(said - did.keys() - shows) if b'"script"' in texts[seed - options.seed] else 0
        missed += [(seed, did[pair]) for pair in did.keys() - said]
    for seed, witness in missed[:3 if red else 10]:
        print(f"MISSED  seed {seed}: {witness}   (tests/property/relay_configs.py {seed} {' '.join(favoured_of(seed, red))})")
    for seed, listener, domain, end in hidden[:options.show]:
        print(f"ALARM   seed {seed}: {listener} {domain} {end}   (tests/property/relay_configs.py {seed} {' '.join(favoured_of(seed, red))})")
    lied = [pair for pair in hidden if "stays" in pair[3]]
    alarms = proven - relayed
    print(f"{red + ': ' if red else ''}{len(texts)} configurations: {proven} pairs of listener and domain proven open, {shown} by a session that "
          f"relays, {relayed} made to relay by that or in {options.tries} tries, {alarms} not ({100 * alarms / max(proven, 1):.1f} % false alarms, "
          f"or not found; {scripts} of them where there are scripts, whose word is open); {len(missed)} missed", flush=True)
    for seed, listener, domain, _ in lied:
        print(f"STAYS   seed {seed}: {listener} {domain}: the session that the proof names does not relay")
    if not proven or not (relayed or missed):
        print("nothing was tested")
        return False
    return bool(missed) == bool(red) and not lied


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=800)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--tries", type=int, default=120)
    options.add_argument("--show", type=int, default=0, help="print so many of the alarms that nothing was seen of")
    options.add_argument("--red", choices=["all", *RED])
    options = options.parse_args()
    reds = list(RED) if options.red == "all" else [options.red]
    return int(not all([run(options, red) for red in reds]))


sys.exit(main())
