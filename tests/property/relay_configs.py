# SPDX-License-Identifier: Apache-2.0
"""Random configurations for the property test of relay safety: small, valid, and as tangled as people make them."""
import json
import pathlib
import random

HERE = pathlib.Path(__file__).absolute().parent

# What conditions speak of, and what the stranger tries: see tests/tools/relay_try.c, which has the same values.
HELOS = ["x.test", "y.test", "mail.x.test"]
SENDERS = ["", "a@a.test", "b@a.test", "c@b.test"]
DOMAINS = ["example.org", "alias.test", "ours.test", "foreign.test", "other.test"]
CLIENTS = ["10.1.2.3", "10.200.0.1", "198.51.100.7", "203.0.113.9", "192.168.4.4"]
TRUSTED = "192.168.0.0/16"


def atom(rng):
    text = rng.choice
    return text([
        lambda: "authenticated", lambda: "trusted", lambda: "client in trusted", lambda: "client not in trusted",
        lambda: "client in office", lambda: "true", lambda: 'user == ""',
        lambda: f"client in [{text(['10.0.0.0/8', '10.0.0.0/9', '10.128.0.0/9', '0.0.0.0/0', '192.168.4.0/24', '198.51.100.0/24'])}]",
        lambda: f"client == {text(CLIENTS)}",
        lambda: f'helo {text(["==", "!="])} "{text(HELOS)}"', lambda: f'helo ~ "{text(["^x", "test$", "^mail"])}"',
        lambda: f'sender {text(["==", "!="])} "{text(SENDERS)}"', lambda: f'sender.domain {text(["==", "!="])} "{text(["a.test", "b.test"])}"',
        lambda: 'sender in [ "a@a.test", "b.test" ]',
        lambda: f'recipient.domain {text(["==", "!="])} "{text(DOMAINS)}"',
        lambda: f'recipient.domain in [ "{text(DOMAINS)}", "{text(DOMAINS)}" ]',
        lambda: f'recipient == "bob@{text(DOMAINS)}"', lambda: 'recipient ~ "^bob"',
        lambda: f'listener == "{text(["one", "two"])}"', lambda: f'tls {text(["==", "!="])} ""',
    ])()


def when(rng, depth=0):
    roll = rng.random()
    if depth > 2 or roll < 0.45:
        return atom(rng)
    if roll < 0.6:
        return f"not ({when(rng, depth + 1)})"
    if roll < 0.65:
        one = atom(rng)
        return f"{one} and not ({one})" if rng.random() < 0.5 else f"{one} or not ({one})"
    return f"({when(rng, depth + 1)}) {rng.choice(['and', 'or'])} ({when(rng, depth + 1)})"


def action(rng, depth):
    roll = rng.random()
    if roll < 0.25 and depth < 3:
        return steps(rng, depth + 1)
    return rng.choice(["next", "next", "accept", "reject", "defer"])


def step(rng, depth):
    kind = rng.choice(["accept", "accept", "reject", "reject", "defer", "match", "match", "lookup-smtp", "limit"])
    keys = {}
    if kind == "match":
        keys = {"when": when(rng), "matched": action(rng, depth), "unmatched": action(rng, depth)}
    elif rng.random() < 0.85:
        keys["when"] = when(rng)
    if kind == "lookup-smtp":
        keys["server"] = "mail"
        for outcome in ("found", "missing", "denied", "error"):
            if rng.random() < 0.4:
                keys[outcome] = action(rng, depth)
    if kind == "limit":
        keys.update({"by": "client", "recipients": "5000/1h"})
        if rng.random() < 0.5:
            keys["then"] = action(rng, depth)
    if rng.random() < 0.06:
        keys["observe"] = True
    return {kind: keys} if keys else kind


def steps(rng, depth=0):
    return [step(rng, depth) for _ in range(rng.randint(1, 4 if depth == 0 else 2))]


def domain(rng, transport, recipients=True):
    keys = {"transport": transport, "allow_open_relay": "a test of the proof"}
    if recipients:
        keys["recipients"] = steps(rng)
    return keys


def configuration(seed):
    """A whole configuration as text. Strangers may relay in it: what the proof says of that are warnings."""
    rng = random.Random(seed)
    listeners = {name: {"listen": f"127.0.0.1:{port}", "tls": "none", "authentication": "none"} for name, port in (("one", 2601), ("two", 2602))}
    if rng.random() < 0.2:
        listeners["two"]["proxy"] = {"from": [rng.choice(["0.0.0.0/0", "203.0.113.5"])]}
    if rng.random() < 0.2:
        listeners["two"]["processing"] = "queued"
    if rng.random() < 0.2:
        listeners["one"]["domains"] = ["any"]
    whole = {
        "version": 1, "hostname": "mx.example.org",
        "servers": {"mail": {"smtp": "127.0.0.1:2600", "tls": "none"}},
        "listeners": listeners,
        "lists": {"office": str(HERE / rng.choice(["office-a.list", "office-b.list"]))},
        "transports": {"to-mail": {"server": "mail"}},
        "domains": {"example.org": {"aliases": ["alias.test"], **domain(rng, rng.choice(["to-mail", "internet"]))},
                    "ours.test": domain(rng, "internet"), "any": domain(rng, rng.choice(["internet", "internet", "to-mail"]))},
        "entitlements": {"open_relay_support": True},
    }
    if rng.random() < 0.6:
        whole["trusted_networks"] = [{"network": TRUSTED, "reason": "a test"}]
    return json.dumps(whole, indent=1)


if __name__ == "__main__":
    import sys
    print(configuration(int(sys.argv[1])))
