# SPDX-License-Identifier: Apache-2.0
"""`postern explain` against the truth: random flows, random sessions, and whatever the daemon then does was said to be possible.

Where explain names one verdict, it is that one; where it names one transport and no rewriting, the mail goes there. The grammar is
that of tests/property/relay.py."""
import json
import pathlib
import random
import re
import subprocess
import sys

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.talk import Talk

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "property"))
import relay_configs  # noqa: E402

LISTENERS, ROUNDS, SESSIONS = 20, 3, 3
CLIENTS = [*relay_configs.CLIENTS, "192.168.9.9", "2001:db8::1"]
DOMAINS = ["example.org", "alias.test", "ours.test", "foreign.test", "other.test"]


FATES = {"message.held": "hold", "message.discarded": "discard"}


def write(ports, seed, mail_port, names, mx_port):
    """Domains have content flows, each listener has recipient flows of its own; a front end says who comes."""
    rng = relay_configs.Dice(seed)

    def recipients(i):
        """A third chooses a transport and takes all that comes so far."""
        if i % 3:
            return relay_configs.steps(rng)
        route = {"transport": rng.choice(["to-mail", "elsewhere"]), **({"when": relay_configs.when(rng)} if rng.random() < 0.7 else {})}
        return [{"route": route}, "accept"]
    listeners = {f"l{i}": {"listen": f"127.0.0.1:{port}", "tls": "none", "authentication": "none", "proxy": {"from": ["127.0.0.1"]},
                           "recipients": recipients(i)} for i, port in enumerate(ports)}
    by_mx = {"method": "lookup-mx", "port": mx_port, "allow_private": True, "direction": "outbound"}

    def domain(transport):
        keys = {"transport": transport, "allow_open_relay": "a test of explain"}
        if rng.random() < 0.7:
            keys["content"] = relay_configs.content_steps(rng)
        return keys
    return json.dumps({
        "version": 1, "hostname": "mx.example.org", "servers": {"mail": {"smtp": f"127.0.0.1:{mail_port}", "tls": "none"}},
        "listeners": listeners, "lists": {"office": str(relay_configs.HERE / "office-a.list")},
        "transports": {"to-mail": {"server": "mail"}, "internet": by_mx, "elsewhere": by_mx},
        "trusted_networks": [{"network": relay_configs.TRUSTED, "reason": "a test"}], "dns": {"servers": [names.address]},
        "domains": {"example.org": {"aliases": ["alias.test"], **domain("to-mail")}, "ours.test": domain("internet"), "any": domain("internet")},
        "spool": {"path": "spool"}, "control": {"socket": "control.sock"}, "entitlements": {"open_relay_support": True}}, indent=1)


def explain(one, listener, client, sender, address):
    done = subprocess.run([BUILD / "postern", "--json", "explain", address, "--config", one.path, "--listener", listener, "--client", client,
                           "--from", sender], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode in (0, 1, 7), done.stderr
    return json.loads(done.stdout)


def really(port, client, helo, sender, address):
    """(verdict of RCPT, verdict of the message or None, its id or None)."""
    family = "TCP6" if ":" in client else "TCP4"
    before = f"PROXY {family} {client} {'::1' if ':' in client else '127.0.0.1'} 40000 25\r\n"
    with Talk(port, ehlo=helo, before=before.encode()) as talk:
        assert talk.code(f"MAIL FROM:<{sender}>") == 250
        code = talk.code(f"RCPT TO:<{address}>")
        verdict = {2: "accept", 4: "defer", 5: "reject"}[code // 100]
        if verdict != "accept":
            return verdict, None, None
        assert talk.code("DATA") == 354
        talk.send("Subject: x\r\nX-Kind: one\r\n\r\nx\r\n.\r\n")
        code, text = talk.reply()
        found = re.search(r"queued as (\w+)", text)
        return verdict, {2: "taken", 4: "defer", 5: "reject"}[code // 100], found and found[1]


def went(one, message):
    """What became of an accepted message: its fate, and the transport of what was delivered."""
    def look():
        for event in list(one.events):
            if event.get("message") == message and (event["event"] in FATES or event["event"].startswith("delivery.") and event.get("transport")):
                return event
        return None
    event = wait_until(look, f"{message} has a fate")
    return FATES.get(event["event"], "deliver"), event.get("transport")


def compare(one, case, said, did):
    """Words for what explain did not foresee; how much there was to compare."""
    verdict, content, message = did
    may = said["recipients"]["may"]
    if verdict not in may and not (verdict == "defer" and said["rewritten_by"]):  # no listener domain takes the new address
        return f"{case}: RCPT {verdict}, explain says {may}"
    if content is None:
        return None
    if said["rewritten_by"]:
        return None  # it is another address by now, which explain tells
    may = said["content"]["may"]
    if content != "taken":
        return None if content in may else f"{case}: DATA {content}, explain says {may}"
    fate, transport = went(one, message)
    if fate not in may:
        return f"{case}: {fate}, explain says {may}"
    ways = [way["name"] for way in [said["transport"], *said["or_transports"]]]
    return None if transport is None or transport in ways else f"{case}: by {transport}, explain says {ways}"


def test_what_happens_was_explained(gateway, sink, dns):
    mail, world = sink(replies={"RCPT": lambda line: "" if "bob" in line else "550 5.1.1 Nobody of that name"}), sink(host="127.0.0.2")
    names = dns([line for domain in [*DOMAINS, "away.test"] for line in (f"{domain}. MX 10 mx.example.net.", f"x.{domain}. A 127.0.0.2")]
                + ["mx.example.net. A 127.0.0.2"])
    ports = [free_port() for _ in range(LISTENERS)]
    one = gateway(write(ports, 0, mail.port, names, world.port), start=False)
    one.ports = ports
    rng, wrong, decided, delivered, routed, cases = random.Random(11), [], 0, 0, 0, 0
    for seed in range(ROUNDS):
        one.path.write_text(write(ports, seed, mail.port, names, world.port))
        if seed:
            assert one.reload()
        else:
            one.start()
        for i, port in enumerate(ports):
            for _ in range(SESSIONS):
                client, helo, sender = rng.choice(CLIENTS), rng.choice(relay_configs.HELOS), rng.choice(relay_configs.SENDERS)
                address = f"{rng.choice(['bob', 'ann'])}@{rng.choice(DOMAINS)}"
                said = explain(one, f"l{i}", client, sender, address)
                did = really(port, client, helo, sender, address)
                found = compare(one, (seed, f"l{i}", client, helo, sender, address), said, did)
                wrong += [found] if found else []
                cases += 1
                decided += len(said["recipients"]["may"]) == 1
                delivered += did[1] == "taken"
                routed += did[1] == "taken" and said["transport"]["name"] != ("to-mail" if said["domain"] == "example.org" else "internet")
    print(f"{cases} sessions: explain named one verdict for {decided}, {delivered} messages were taken, {routed} by a route that is certain")
    assert not wrong, "\n".join(wrong)
    assert decided > cases // 4 and delivered > cases // 6 and routed > 5, "too little was tested"
