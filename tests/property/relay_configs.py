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


class Dice(random.Random):
    """Numbers, and the kinds of steps that shall be frequent."""
    favoured = ()


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


def rewrite(rng):
    """Of names that the client chose, to listed domains and others; and of whole addresses, which is a forwarding."""
    fixed = "alias-of-nobody"
    old = DOMAINS + (4 * ["example.org"] if rng.favoured else [])
    new = DOMAINS + ["away.test"] + (4 * ["ours.test", "away.test"] if rng.favoured else [])
    rules = [
        lambda: (f"@{rng.choice(old)}", f"@{rng.choice(new)}"),
        lambda: (f"bob@{rng.choice(old)}", f"{fixed}@{rng.choice(new)}"),
        lambda: (f"~^(.+)@{rng.choice(['ours', 'alias', 'foreign'])}[.]test$", f"$1@{rng.choice(new)}"),
        lambda: ("~^(b.*)@(.+)$", rng.choice(["$1@$2", "$1@example.org", "$1@away.test"])),
    ]
    return {"recipient": dict(rng.choice(rules)() for _ in range(rng.randint(1, 2)))}


def script(rng, functions):
    """decides.lua names no function that gives recipients, moves.lua does; both choose transports."""
    name, function = rng.choice(functions)
    keys = {"file": str(HERE / name), "function": function}
    if rng.random() < 0.3 or function.endswith("routes"):
        keys["transports"] = rng.sample(["to-mail", "internet", "elsewhere"], rng.randint(1, 3))
    if rng.random() < 0.3:
        keys["any_domain"] = True
    return keys


RECIPIENT_SCRIPTS = [("decides.lua", "accepts"), ("decides.lua", "by_helo"), ("decides.lua", "routes"), ("moves.lua", "to_ours"),
                     ("moves.lua", "to_alias"), ("moves.lua", "away"), ("moves.lua", "by_sender"), ("decides.lua", "hidden")]
CONTENT_SCRIPTS = [("decides.lua", "content_delivers"), ("decides.lua", "content_routes"), ("moves.lua", "content_to_ours"),
                   ("moves.lua", "content_away")]


ASKS = {"spf": ["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"], "greylist": ["unknown", "error"],
        "lookup-file": ["found", "missing", "error"]}


def step(rng, depth):
    kind = rng.choice(["accept", "accept", "accept", "reject", "reject", "defer", "match", "match", "lookup-smtp", "limit", "route",
                       "rewrite", "script", "asks", "asks", *8 * rng.favoured])
    keys = {}
    if kind in ("route", "rewrite", "script") and rng.random() < (0 if kind in rng.favoured else 0.5):
        kind = "accept"
    if kind == "asks":
        kind, outcomes = rng.choice(list(ASKS.items()))
        keys = {outcome: action(rng, depth) for outcome in outcomes if rng.random() < 0.4}
        if kind == "lookup-file":
            keys["path"] = str(HERE / "known.list")
    if kind == "script":
        keys = script(rng, RECIPIENT_SCRIPTS)
        if rng.random() < 0.7:
            keys["accept"] = action(rng, depth)
    if kind == "route":
        keys["transport"] = rng.choice(["to-mail", "internet", "elsewhere"])
    if kind == "rewrite":
        keys = rewrite(rng)
    if kind == "match":
        keys = {"when": when(rng), "matched": action(rng, depth), "unmatched": action(rng, depth)}
    elif rng.random() < (0.3 if rng.favoured else 0.85):
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


def content_atom(rng):
    return rng.choice([
        lambda: atom(rng), lambda: atom(rng), lambda: f'header("X-Kind") {rng.choice(["==", "!="])} "{rng.choice(["one", "two"])}"',
        lambda: f"size {rng.choice(['>', '<'])} {rng.choice([10, 1000])}", lambda: f"recipients {rng.choice(['>', '<='])} 1",
        lambda: f'any(recipient.domain == "{rng.choice(DOMAINS)}")', lambda: f'all(recipient ~ "^{rng.choice(["bob", "ann"])}")',
        lambda: 'dmarc == "fail"', lambda: "score > 5",
    ])()


def without_recipient(text):
    """One recipient has no place in a content flow: it is for all of them."""
    return "true" if "recipient" in text and not text.startswith(("any(", "all(", "recipients")) else text


def content_steps(rng, depth=0):
    """A list that always ends in a verdict."""
    found = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(["match", "match", "reject", "defer", "discard", "hold", "deliver", "route", "route", "rewrite", "rewrite", "header", "script",
                           *6 * rng.favoured])
        keys = {}
        if kind == "script":
            keys = script(rng, CONTENT_SCRIPTS)
            if rng.random() < 0.5:
                keys["deliver"] = "next"
        if kind == "match" and depth < 2:
            keys = {"when": without_recipient(content_atom(rng)), "matched": rng.choice(["next", content_steps(rng, depth + 1)]),
                    "unmatched": rng.choice(["next", content_steps(rng, depth + 1)])}
            found.append({kind: keys})
            continue
        if kind == "match":
            continue
        if kind == "route":
            keys["transport"] = rng.choice(["to-mail", "internet", "elsewhere"])
        if kind == "rewrite":
            keys = rewrite(rng)
        if kind == "header":
            keys["add"] = f"X-Kind: {rng.choice(['one', 'two'])}"
        if rng.random() < (0.3 if rng.favoured else 0.8) or kind in ("reject", "defer", "discard", "hold", "deliver"):
            keys["when"] = without_recipient(content_atom(rng))
        if rng.random() < 0.06:
            keys["observe"] = True
        found.append({kind: keys} if keys else kind)
    return found + [rng.choice(["deliver", "deliver", "deliver", "reject"])]


def authentication(rng):
    """Logins: no accident makes one succeed but a backend's own yes, whatever becomes of the other outcomes."""
    keys = {"server": "mail"}
    for outcome in ("no", "unknown", "error"):
        if rng.random() < 0.4:
            keys[outcome] = rng.choice(["next", "reject", "defer"])
    found = [{"smtp": keys}]
    if rng.random() < 0.3:
        found.insert(0, {"limit": {"by": "client", "failures": "5000/1h"}})
    if rng.random() < 0.3:
        found.insert(rng.randint(0, len(found)), {"script": {"file": str(HERE / "decides.lua"), "function": rng.choice(["takes_all", "asks_mail"])}})
    if rng.random() < 0.3:
        found.append(rng.choice(["reject", "defer"]))
    return found


def domain(rng, transport, recipients=True):
    keys = {"transport": transport, "allow_open_relay": "a test of the proof"}
    if recipients:
        keys["recipients"] = steps(rng)
    if rng.random() < 0.4:
        keys["content"] = content_steps(rng)
    return keys


def configuration(seed, favoured=()):
    """A whole configuration as text. Strangers may relay in it: what the proof says of that are warnings. With `favoured` kinds
    example.org is where they are, and the other domains refuse strangers."""
    rng = Dice(seed)
    rng.favoured = tuple(kind for kind in favoured if kind != "proxy")
    listeners = {name: {"listen": f"127.0.0.1:{port}", "tls": "none", "authentication": "none"}
                 for name, port in (("one", 2601), ("two", 2602), ("three", 2603))}
    for name in ("two", "three"):
        if rng.random() < (0.9 if "proxy" in favoured else 0.25):
            listeners[name][rng.choice(["proxy", "proxy", "xclient"])] = {
                "from": rng.sample(["0.0.0.0/0", "203.0.113.5", "198.51.100.0/24"], rng.randint(1, 2))}
    for name in ("one", "three"):
        if rng.random() < 0.3:
            listeners[name].update({"authentication": {"flow": "staff", "required": rng.random() < 0.3}, "allow_cleartext_auth": True})
    if rng.random() < 0.2:
        listeners["two"]["processing"] = "queued"
    if rng.random() < 0.2:
        listeners["one"]["domains"] = ["any"]
    whole = {
        "version": 1, "hostname": "mx.example.org",
        "servers": {"mail": {"smtp": "127.0.0.1:2600", "tls": "none"}},
        "listeners": listeners,
        "lists": {"office": str(HERE / rng.choice(["office-a.list", "office-b.list"]))},
        "flows": {"authentication": {"staff": authentication(rng)}},
        "transports": {"to-mail": {"server": "mail"}, "elsewhere": {"method": "lookup-mx", "direction": "outbound"}},
        "domains": {"example.org": {"aliases": ["alias.test"], **domain(rng, rng.choice(["to-mail", "internet"]))},
                    "ours.test": domain(rng, "internet"), "any": domain(rng, rng.choice(["internet", "internet", "to-mail"]))},
        "entitlements": {"open_relay_support": True},
    }
    if rng.favoured:
        whole["domains"]["example.org"]["transport"] = "to-mail"
        whole["domains"]["example.org"]["recipients"].append("accept")
        for name in "ours.test", "any":
            whole["domains"][name].update({"transport": "internet", "recipients": [{"accept": {"when": "authenticated"}}]})
    if rng.random() < 0.6:
        whole["trusted_networks"] = [{"network": TRUSTED, "reason": "a test"}]
    return json.dumps(whole, indent=1)


if __name__ == "__main__":
    import sys
    print(configuration(int(sys.argv[1]), tuple(sys.argv[2:])))
