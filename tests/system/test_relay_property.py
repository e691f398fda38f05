# SPDX-License-Identifier: Apache-2.0
"""Random recipient flows on the real daemon: whatever a stranger gets accepted over SMTP, the proof said he could.

Many listeners stand in one configuration, each with flows of its own; a reload brings the next ones. The same grammar as
tests/property/relay.py, which tries thousands through the compiled flows."""
import json
import pathlib
import random
import re
import subprocess
import sys

from rig.gateway import BUILD
from rig.ports import free_port
from rig.talk import Talk

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "property"))
import relay_configs  # noqa: E402

LISTENERS, ROUNDS = 40, 8
SOURCES = ["127.0.0.1", "127.0.9.5"]
CLAIMS = ["127.0.77.1", "10.1.2.3", "203.0.113.9"]  # the first is trusted


def takes_claims(i):
    """Listeners behind a front end that could be anybody: a stranger says himself where he comes from."""
    return i % 5 == 4


def write(ports, seed, mail_port, names, mx_port):
    rng = relay_configs.Dice(seed)
    listeners = {f"l{i}": {"listen": f"127.0.0.1:{port}", "tls": "none", "authentication": "none", "recipients": relay_configs.steps(rng)}
                 for i, port in enumerate(ports)}
    for i in filter(takes_claims, range(len(ports))):
        listeners[f"l{i}"]["proxy"] = {"from": ["0.0.0.0/0"]}
    return json.dumps({
        "version": 1, "hostname": "mx.example.org", "servers": {"mail": {"smtp": f"127.0.0.1:{mail_port}", "tls": "none"}},
        "listeners": listeners, "lists": {"office": str(relay_configs.HERE / "office-a.list")},
        "transports": {"world": {"method": "lookup-mx", "port": mx_port, "allow_private": True},
                       "to-mail": {"server": "mail"}, "internet": {"method": "lookup-mx", "port": mx_port, "allow_private": True}, "elsewhere": {"method": "lookup-mx", "port": mx_port, "allow_private": True}},
        "trusted_networks": [{"network": "127.0.77.0/24", "reason": "a test of the proof"}], "dns": {"servers": [names.address]},
        "domains": {"any": {"transport": "world", "allow_open_relay": "a test of the proof"}},
        "entitlements": {"open_relay_support": True}}, indent=1)


def proven_open(path):
    done = subprocess.run([BUILD / "postern", "check", path], text=True, stdout=subprocess.PIPE, check=True)
    return set(re.findall(r"a stranger can relay through listener (\S+) to any domain", done.stdout))


def relays(port, rng, claims):
    """What a stranger gets accepted in some tries, or None."""
    for _ in range(4):
        helo, sender = rng.choice(relay_configs.HELOS), rng.choice(relay_configs.SENDERS)
        before = f"PROXY TCP4 {rng.choice(CLAIMS)} 127.0.0.1 40000 25\r\n" if claims else ""
        with Talk(port, ehlo=helo, source=rng.choice(SOURCES), before=before.encode()) as talk:
            if talk.code(f"MAIL FROM:<{sender}>") != 250:
                continue
            for address in ("bob@foreign.test", "ann@other.test", "bob@example.org"):
                if talk.code(f"RCPT TO:<{address}>") == 250:
                    return f"{helo} <{sender}> {address}"
    return None


def test_what_relays_was_proven_to(gateway, sink, dns):
    mail, world = sink(), sink(host="127.0.0.2")
    names = dns(["foreign.test. MX 10 mx.example.net.", "mx.example.net. A 127.0.0.2"])
    ports = [free_port() for _ in range(LISTENERS)]
    one = gateway(write(ports, 0, mail.port, names, world.port), start=False)
    one.ports = ports
    rng, proven, relayed, missed, claimed = random.Random(7), 0, 0, [], 0
    for seed in range(ROUNDS):
        one.path.write_text(write(ports, seed, mail.port, names, world.port))
        said = proven_open(one.path)
        if seed:
            assert one.reload()
        else:
            one.start()
        proven += len(said)
        for i, port in enumerate(ports):
            witness = relays(port, rng, takes_claims(i))
            relayed += witness is not None
            claimed += takes_claims(i) and witness is not None
            if witness and f"l{i}" not in said:
                missed.append((seed, f"l{i}", witness))
    print(f"{LISTENERS * ROUNDS} listeners: {proven} proven open, {relayed} made to relay, {100 * (proven - relayed) / proven:.1f} % false "
          f"alarms, or not found in 4 tries; {claimed} of those that believe a client's address")
    assert not missed, missed
    assert relayed > LISTENERS * ROUNDS // 10 and claimed > 5, "too little was tested"


# ---- the sessions that the proof names ----

SESSION = re.compile(r"through listener (\S+) to any domain(?:(?!\nwarning|\nerror).)*?session: (?:claimed )?client (\S+?)(?: named \S+)?, HELO (\S+), no TLS, "
                     r"MAIL FROM:<(.*?)>, RCPT TO:<(.*?)>(?:; where (.*?))?\n", re.DOTALL)
SAYS = {  # what the world around this daemon says
    "lookup-smtp": "missing", "greylist": "unknown", "limit": "under", "spf": "none", "lookup-file": "missing"}


def has_such_a_world(stated):
    return all(SAYS.get(block) == outcome for block, outcome in re.findall(r'(\S+) says "(\S+?)"', stated or ""))


def test_sessions_that_the_proof_names(gateway, sink, dns):
    """What `check` prints as a session that relays is said to the daemon, by a front end that says who comes, and relays."""
    mail, world = sink(replies={"RCPT": lambda line: "550 5.1.1 Nobody of that name"}), sink(host="127.0.0.2")
    names = dns(["mx.example.net. A 127.0.0.2"])
    ports = [free_port() for _ in range(LISTENERS)]
    one = gateway(write(ports, 0, mail.port, names, world.port), start=False)
    one.ports = ports
    said, relayed, refused = 0, 0, []
    for seed in range(100, 104):
        whole = json.loads(write(ports, seed, mail.port, names, world.port))
        for listener in whole["listeners"].values():
            listener["proxy"] = {"from": ["127.0.0.1"]}
        whole.update({"spool": {"path": "spool"}, "control": {"socket": "control.sock"}})
        one.path.write_text(json.dumps(whole, indent=1))
        done = subprocess.run([BUILD / "postern", "check", one.path], text=True, stdout=subprocess.PIPE)
        assert done.returncode == 0, [text for text in done.stdout.split("\n\n") if text.startswith("error")]
        if seed > 100:
            assert one.reload()
        else:
            one.start()
        for name, client, helo, sender, to, stated in SESSION.findall(done.stdout):
            said += 1
            if not has_such_a_world(stated):
                continue
            before = f"PROXY TCP{6 if ':' in client else 4} {client} {'::1' if ':' in client else '127.0.0.1'} 40000 25\r\n"
            with Talk(ports[int(name[1:])], ehlo=helo, before=before.encode()) as talk:
                codes = talk.code(f"MAIL FROM:<{sender}>"), talk.code(f"RCPT TO:<{to}>")
            relayed += codes == (250, 250)
            refused += [(seed, name, client, helo, sender, to, stated, codes)] if codes != (250, 250) else []
    print(f"{said} sessions named, {relayed} of them in a world that there is here, all of them relay")
    assert not refused, refused
    assert said > LISTENERS and relayed > LISTENERS // 2, "too little was tested"
