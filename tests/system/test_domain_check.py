# SPDX-License-Identifier: Apache-2.0
"""What the world sees of our domains (a real nsd), and another key that signs only when DNS shows it."""
import json
import re
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.setups import reception

GOOD = ["mx.example.org. A 192.0.2.1", "1.2.0.192.in-addr.arpa. PTR mx.example.org.", "example.org. MX 10 mx.example.org.",
        'example.org. TXT "v=spf1 ip4:192.0.2.1 -all"', '_dmarc.example.org. TXT "v=DMARC1; p=reject; rua=mailto:d@example.org"']

CONFIG = """version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:25", tls: none }} }}
certificates: {{ main: {{ cert: {cert}, key: {key} }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:2525" ], tls: offered, certificate: main, authentication: none }} }}
dkim_keys:
  # which signs
  first: {{ domain: example.org, selector: first, key: first.pem }}
  second:
    domain: example.org   # größer
    selector: second
    key: second.pem
    active: false
domains:
  example.org: {{ recipients: {{ preset: local-users, server: mail }}, transport: {{ server: mail }} }}
dns: {{ servers: [ "{dns}" ] }}
spool: {{ path: spool }}
"""


def postern(folder, *words, ok=(0,)):
    done = subprocess.run([BUILD / "postern", *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode in ok, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture
def world(tmp_path, dns, tls_files):
    """A function: world(RECORDS, published=[...]) is the folder of a configuration under a root zone of these records."""
    def make(records, published=("first", "second")):
        keys = {}
        for name in ("first", "second"):
            keys[name] = postern(tmp_path, "dkim", "generate", "--domain", "example.org", "--selector", name, f"{name}.pem").stdout
        cert, key = tls_files
        names = dns([*records, *(keys[name].strip() for name in published)])
        (tmp_path / "postern.yaml").write_text(CONFIG.format(dns=names.address, cert=cert, key=key))
        return tmp_path
    return make


def findings(folder, *words, ok=(0,)):
    done = postern(folder, "--json", "domain", "check", "postern.yaml", *words, ok=ok)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(items, check):
    return [item for item in items if item["check"] == check]


def test_a_domain_in_order(world):
    folder = world(GOOD)
    items = findings(folder)
    assert {item["state"] for item in items} == {"ok"}, items
    assert {item["check"] for item in items} == {"MX", "SPF", "DKIM", "DMARC", "PTR", "TLS"}
    text = postern(folder, "domain", "check", "postern.yaml").stdout
    assert text.startswith("example.org\n  ok   MX     10 mx.example.org is this gateway\n")


@pytest.mark.parametrize("gone, added, check, state, says, record", [
    ("MX", [], "MX", "fail", "nobody is told", "example.org. IN MX 10 mx.example.org."),
    ("MX", ["example.org. MX 0 ."], "MX", "fail", "takes no mail", "example.org. IN MX 10 mx.example.org."),
    ("MX", ["example.org. MX 5 other.example.net.", "other.example.net. A 192.0.2.77"], "MX", "warn", "none of them", "MX 10 mx"),
    ("MX", ["example.org. MX 5 gone.example.net."], "MX", "fail", "has no address", None),
    ("spf1", [], "SPF", "fail", "no record", '"v=spf1 ip4:192.0.2.1 mx -all"'),
    ("spf1", ['example.org. TXT "v=spf1 ip4:192.0.2.9 -all"'], "SPF", "fail", "fail to it", '"v=spf1 ip4:192.0.2.1 ip4:192.0.2.9 -all"'),
    ("spf1", ['example.org. TXT "v=spf1 -all"', 'example.org. TXT "v=spf1 mx -all"'], "SPF", "fail", "several", None),
    ("spf1", ['example.org. TXT "v=spf1 bogus:x -all"'], "SPF", "fail", "broken", None),
    ("spf1", ['example.org. TXT "v=spf1 +all"'], "SPF", "fail", "everybody", None),
    ("spf1", ['example.org. TXT "v=spf1 mx ?all"'], "SPF", "warn", "?all", None),
    ("DMARC1", [], "DMARC", "fail", "no record", '_dmarc.example.org. IN TXT "v=DMARC1; p=none; rua=mailto:dmarc-reports@example.org"'),
    ("DMARC1", ['_dmarc.example.org. TXT "v=DMARC1; p=none; rua=mailto:d@example.org"'], "DMARC", "warn", "reports only", "p=quarantine"),
    ("DMARC1", ['_dmarc.example.org. TXT "v=DMARC1; p=reject"'], "DMARC", "warn", "never hear", None),
    ("DMARC1", ['_dmarc.example.org. TXT "v=DMARC1; p=rejected"'], "DMARC", "fail", "no valid policy", "p=none"),
    ("PTR", [], "PTR", "fail", "no name", None),
    ("PTR", ["1.2.0.192.in-addr.arpa. PTR host.example.net.", "host.example.net. A 192.0.2.1"], "PTR", "warn", "greets as", None),
    ("PTR", ["1.2.0.192.in-addr.arpa. PTR mx2.example.org.", "mx2.example.org. A 192.0.2.2"], "PTR", "fail", "no name", None),
])
def test_each_red_line_says_what_to_publish(world, gone, added, check, state, says, record):
    records = [line for line in GOOD if gone not in line] + added
    items = findings(world(records), ok=(0, 1))
    found = [item for item in of(items, check) if item["state"] == state]
    assert any(says in item["text"] for item in found), items
    if record:
        assert any(record in item.get("record", "") for item in found), found
    assert {item["state"] for item in items if item["check"] not in (check, "SPF" if check == "MX" else "")} == {"ok"}, items


def test_a_key_that_signs_and_is_not_published(world):
    folder = world(GOOD, published=["second"])
    broken = [item for item in of(findings(folder, ok=(1,)), "DKIM") if item["state"] == "fail"]
    assert broken[0]["record"].startswith("first._domainkey.example.org. IN TXT \"v=DKIM1;")


def test_addresses_that_were_asked_for(world):
    items = of(findings(world(GOOD), "--ip", "192.0.2.1,2001:db8::1", ok=(1,)), "SPF")
    assert [item["state"] for item in items] == ["ok", "fail"]
    assert '"v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ip4:192.0.2.1 -all"' in items[1]["record"]


def test_no_answer_is_no_finding(world):
    folder = world(GOOD)
    path = folder / "postern.yaml"
    path.write_text(re.sub(r'dns: \{ servers: \[ "[^"]*" \] \}', 'dns: { servers: [ "127.0.0.1:1" ], timeout: 1s }', path.read_text()))
    items = findings(folder, "--ip", "192.0.2.1", ok=(7,))
    assert {item["state"] for item in items if item["check"] in ("MX", "SPF", "DMARC", "PTR")} == {"no-answer"}


# ---- rotate and revoke ----

def signing(folder):
    return {item["key"]: item["active"] for item in map(json.loads, postern(folder, "--json", "dkim", "list", "postern.yaml").stdout.splitlines())}


def test_signing_moves_once_dns_shows_the_key(world):
    folder = world(GOOD)
    before = (folder / "postern.yaml").read_text()
    shown = postern(folder, "dkim", "rotate", "postern.yaml", "--to", "second").stdout
    assert signing(folder) == {"first": False, "second": True}
    after = (folder / "postern.yaml").read_text()
    assert after == before.replace("active: false", "active: true").replace("first: { domain", "first: { active: false, domain")
    assert "-     active: false\n+     active: true\n" in shown and "# which signs" in after
    # and back: both entries say it now
    postern(folder, "dkim", "rotate", "postern.yaml", "--to", "first")
    assert signing(folder) == {"first": True, "second": False}


def test_an_unpublished_key_never_signs(world):
    folder = world(GOOD, published=["first"])
    before = (folder / "postern.yaml").read_text()
    done = postern(folder, "dkim", "rotate", "postern.yaml", "--to", "second", ok=(7,))
    assert done.stdout.startswith('second._domainkey.example.org. IN TXT "v=DKIM1;') and "missing" in done.stderr
    assert (folder / "postern.yaml").read_text() == before


def test_another_key_at_its_place_never_signs(world):
    folder = world([*GOOD, 'second._domainkey.example.org. TXT "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="'],
                   published=["first"])
    assert "differs" in postern(folder, "dkim", "rotate", "postern.yaml", "--to", "second", ok=(7,)).stderr
    assert signing(folder) == {"first": True, "second": False}


def test_a_key_that_signs_is_not_revoked(world):
    folder = world(GOOD)
    assert "still signs" in postern(folder, "dkim", "revoke", "postern.yaml", "--key", "first", ok=(5,)).stderr
    assert postern(folder, "dkim", "revoke", "postern.yaml", "--key", "second").stdout == \
        'second._domainkey.example.org. IN TXT "v=DKIM1; p="\n'
    assert "no key" in postern(folder, "dkim", "revoke", "postern.yaml", "--key", "third", ok=(1,)).stderr


# --- the daemon looks now and then ---

WATCHED = ["mx.example.org. A 192.0.2.1", "example.org. MX 10 mx.example.org.", 'example.org. TXT "v=spf1 ip4:192.0.2.1 -all"']


def test_the_daemon_looks_now_and_then(gateway, sink, dns):
    """What turns wrong and what turns right again: an event, a number, the list; what has no answer changes nothing."""
    names = dns([*WATCHED, '_dmarc.example.org. TXT "v=DMARC1; p=reject; rua=mailto:d@example.org"'])
    mx = free_port()
    one = gateway(reception(sink(), mx, names=names, top="domain_checks: { every: 1s }").replace(
        "dns: {", "dns: { timeout: 500ms,"), ports=[mx])

    def unhealthy():
        found = re.findall(r'^postern_domains_unhealthy\{check="(\w+)"\} (\d+)', one.ctl("metrics"), re.M)
        assert [check for check, _ in found] == ["mx", "spf", "dkim", "dmarc"]
        return {check for check, number in found if number != "0"}
    wait_until(lambda: one.ctl_json("domain", "list")[0]["dmarc"] == "healthy", "it was looked at")
    assert unhealthy() == set() and not one.find("domain.unhealthy") and not one.find("domain.healthy")
    names.change([*WATCHED[:2], 'example.org. TXT "v=spf1 ip4:192.0.2.77 -all"'])
    gone = one.wait("domain.unhealthy", check="dmarc")
    assert gone["domain"] == "example.org" and "no record" in gone["detail"] and "v=DMARC1" in gone["expected"]
    assert one.wait("domain.unhealthy", check="spf")["expected"] == 'example.org. IN TXT "v=spf1 ip4:192.0.2.1 ip4:192.0.2.77 -all"'
    assert unhealthy() == {"spf", "dmarc"}
    (listed,) = one.ctl_json("domain", "list", ok=(1,))
    assert [problem["check"] for problem in listed["problems"]] == ["spf", "dmarc"] and listed["mx"] == "healthy"
    assert "1 with something wrong in DNS" in one.ctl("status")
    names.stop()
    looked = listed["looked"]
    wait_until(lambda: one.ctl_json("domain", "list", ok=(1,))[0]["looked"] > looked, "it was looked at without an answer")
    assert unhealthy() == {"spf", "dmarc"} and len(one.find("domain.unhealthy")) == 2 and not one.find("domain.healthy")
    names.change([*WATCHED, '_dmarc.example.org. TXT "v=DMARC1; p=reject; rua=mailto:d@example.org"'])
    assert one.wait("domain.healthy", check="spf") and one.wait("domain.healthy", check="dmarc")
    assert unhealthy() == set()


def test_nobody_looks_where_nobody_is_asked_to(gateway, sink, dns):
    names = dns(["x. A 192.0.2.1"])
    mx = free_port()
    one = gateway(reception(sink(), mx, names=names, top="domain_checks: { every: 1s, checks: [ mx ] }"), ports=[mx])
    wait_until(lambda: one.ctl_json("domain", "list", ok=(0, 1))[0]["mx"] == "unhealthy", "it was looked at")
    one.wait("domain.unhealthy")
    assert {event["check"] for event in one.find("domain.unhealthy")} == {"mx"}
    one.path.write_text(one.path.read_text().replace("every: 1s", "every: 0s"))
    one.reload()
    wait_until(lambda: one.ctl_json("domain", "list", ok=(0, 1)) == [], "nothing is known any more", seconds=90)
