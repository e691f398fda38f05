# SPDX-License-Identifier: Apache-2.0
"""Verdicts of SPF, DKIM and DMARC beside rspamd's: real messages, given authors and signatures, in twenty situations."""
import base64
import re
import subprocess

import pytest

from corpus import judge, messages
from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from stranger_rspamd import Rspamd

GOOD, BAD = "127.0.0.5", "127.0.0.6"  # clients: named by the SPF records, and not
EACH = 4  # messages a situation

ZONE = [
    f'reject.test. TXT "v=spf1 ip4:{GOOD} -all"', '_dmarc.reject.test. TXT "v=DMARC1; p=reject"',
    f'sub.reject.test. TXT "v=spf1 ip4:{GOOD} -all"',
    f'strict.test. TXT "v=spf1 ip4:{GOOD} -all"', '_dmarc.strict.test. TXT "v=DMARC1; p=quarantine; adkim=s; aspf=s"',
    f'sub.strict.test. TXT "v=spf1 ip4:{GOOD} ~all"',
    f'none.test. TXT "v=spf1 a:host.none.test ?all"', f'host.none.test. A {GOOD}', '_dmarc.none.test. TXT "v=DMARC1; p=none"',
    f'softer.test. TXT "v=spf1 mx ~all"', 'softer.test. MX 5 mx.softer.test.', f'mx.softer.test. A {GOOD}',
    '_dmarc.softer.test. TXT "v=DMARC1; p=reject; sp=none"',
    f'open.test. TXT "v=spf1 include:reject.test redirect=softer.test"',
    'broken.test. TXT "v=spf1 ip4:1.2.3 -all"', '_dmarc.broken.test. TXT "v=DMARC1; p=whatever"',
    'twice.test. TXT "v=spf1 -all"', 'twice.test. TXT "v=spf1 +all"', '_dmarc.twice.test. TXT "v=DMARC1; p=reject"',
    '_dmarc.twice.test. TXT "v=DMARC1; p=none"',
]

# name: domain of From, of MAIL FROM ("" is <>), who signs with which key, client, done to the message after signing
SITUATIONS = {
    "all well": ("reject.test", "reject.test", "reject.test", "rsa", GOOD, ""),
    "all well, ed25519": ("reject.test", "reject.test", "reject.test", "ed25519", GOOD, ""),
    "spf alone": ("reject.test", "reject.test", "", "", GOOD, ""),
    "dkim alone": ("reject.test", "reject.test", "reject.test", "rsa", BAD, ""),
    "neither": ("reject.test", "reject.test", "", "", BAD, ""),
    "altered, neither": ("reject.test", "reject.test", "reject.test", "rsa", BAD, "body"),
    "altered, spf": ("reject.test", "reject.test", "reject.test", "rsa", GOOD, "subject"),
    "other signer": ("reject.test", "softer.test", "softer.test", "rsa", GOOD, ""),
    "subdomain, relaxed": ("sub.reject.test", "reject.test", "reject.test", "rsa", BAD, ""),
    "subdomain sends": ("reject.test", "sub.reject.test", "", "", GOOD, ""),
    "subdomain, strict": ("sub.strict.test", "strict.test", "strict.test", "rsa", GOOD, ""),
    "exact, strict": ("strict.test", "strict.test", "strict.test", "ed25519", BAD, ""),
    "p=none": ("none.test", "none.test", "", "", BAD, ""),
    "a record": ("none.test", "none.test", "", "", GOOD, ""),
    "sp=none": ("sub.softer.test", "reject.test", "", "", GOOD, ""),
    "softfail": ("softer.test", "softer.test", "", "", BAD, ""),
    "include, redirect": ("softer.test", "open.test", "", "", GOOD, ""),
    "broken records": ("broken.test", "broken.test", "", "", GOOD, ""),
    "two records": ("twice.test", "twice.test", "", "", GOOD, ""),
    "no records": ("nothing.test", "nothing.test", "nothing.test", "rsa", GOOD, ""),
    "empty sender": ("reject.test", "", "", "", GOOD, ""),
    "no key": ("reject.test", "reject.test", "nokey.test", "rsa", BAD, ""),
}


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    """Key files, and their records for the zone."""
    folder = tmp_path_factory.mktemp("keys")
    subprocess.run(["openssl", "genrsa", "-out", folder / "rsa", "2048"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "ed25519"], check=True)
    records = []
    for name in ("rsa", "ed25519"):
        (folder / name).chmod(0o600)
        der = subprocess.run(["openssl", "pkey", "-in", folder / name, "-pubout", "-outform", "DER"], check=True,
                             stdout=subprocess.PIPE).stdout
        text = f"v=DKIM1; k={name}; p=" + base64.b64encode(der[-32:] if name == "ed25519" else der).decode()
        quoted = " ".join(f'"{text[i:i + 200]}"' for i in range(0, len(text), 200))
        records += [f"{name}._domainkey.{domain} TXT {quoted}"
                    for domain in ("reject.test.", "strict.test.", "softer.test.", "nothing.test.")]
    return folder, records


def with_author(text, domain):
    """The message with one From field, of the domain, and without what else an author could be read from."""
    head, gap, body = text.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", head)
    fields = [field for field in fields if not re.match(rb"(from|sender|dkim-signature|authentication-results)\s*:", field, re.I)
              and re.match(rb"[!-9;-~]+:", field)]
    return b"\r\n".join([b"From: Author <author@" + domain.encode() + b">", *fields]) + gap + body


def prepared(folder, keys):
    """[(name, situation, text)]: each situation with messages of its own."""
    texts = list(messages(len(SITUATIONS) * EACH))[:len(SITUATIONS) * EACH]
    out = []
    for number, (_, name, text) in enumerate(texts):
        situation = list(SITUATIONS)[number % len(SITUATIONS)]
        author, _, signer, key, _, deed = SITUATIONS[situation]
        text = with_author(text, author)
        if signer:
            path = folder / str(number)
            path.write_bytes(text)
            subprocess.run([BUILD / "dkim-tool", "sign", signer, key, keys / key, "relaxed/relaxed", path], check=True)
            text = path.with_suffix(".signed").read_bytes()
        if deed == "body":
            text += b"more\r\n"
        elif deed == "subject":
            text = text.replace(b"\r\nFrom: Author", b"\r\nFrom: Another", 1)
        out.append((name, situation, text))
    return out


CONFIG = """
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{sink}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none }} }}
flows:
  recipient: {{ open: [ accept ] }}
  content:
    told: [ verify: {{ reject: note, quarantine: note, permerror: note, temperror: note }}, deliver ]
transports: {{ to-mail: {{ server: mail }} }}
domains: {{ open.test: {{ recipients: open, content: told, transport: to-mail }} }}
dns: {{ servers: [ "{names}" ] }}
"""


def our_verdict(data):
    """In the words that rspamd's are put in, from the field that we wrote."""
    field = re.search(rb"^Authentication-Results: mx\.example\.org;((?:[^\r]|\r\n[ \t])*)", data, re.M).group(1).decode()
    got = {"spf": "", "dkim": "", "dmarc": ""}
    for part in " ".join(field.split()).split(";"):
        method, _, rest = part.strip().partition("=")
        if method in got:
            got[method] = rest.split()[0]
            asked = re.search(r"\(p=\w+ dis=(\w+)", rest)
            if method == "dmarc" and got[method] == "fail":
                got[method] += f" {asked.group(1)}"
    return got


def test_beside_rspamd(gateway, sink, dns, signing, tmp_path):
    keys, records = signing
    names = dns(ZONE + records)
    mail, port = sink(), free_port()
    one = gateway(CONFIG.format(sink=mail.port, port=port, names=names.address), ports=[port])
    rspamd = Rspamd(tmp_path, names)
    found, looked_at, verdicts = {}, set(), set()
    try:
        for count, (name, situation, text) in enumerate(prepared(tmp_path, keys), 1):
            _, domain, _, _, client, _ = SITUATIONS[situation]
            sender = f"sender@{domain}" if domain else ""
            smtp = one.client(port, ehlo="reject.test", source_address=(client, 0))
            assert smtp.mail(sender)[0] == 250 and smtp.rcpt("you@open.test")[0] == 250
            code, said = smtp.data(text)
            assert code == 250, (situation, name, said)
            smtp.quit()
            wait_until(lambda: len(mail.messages) == count, "the message is at the mail server")
            ours = our_verdict(mail.messages[-1].data)
            theirs = rspamd.verdict(text, client, "reject.test", sender)
            for method in ("spf", "dkim", "dmarc"):
                line = f"verdict\trspamd\t{method}\t{situation}\t{name}"
                looked_at.add(line)
                verdicts.add((method, ours[method]))
                if ours[method] != theirs[method]:
                    found[line] = f"ours {ours[method]}, theirs {theirs[method]}"
    finally:
        rspamd.stop()
    judge(found, looked_at, "verdict\trspamd\t")
    assert len(looked_at) == 3 * EACH * len(SITUATIONS)
    assert {("spf", word) for word in ("pass", "fail", "softfail", "neutral", "none", "permerror")} <= verdicts
    assert {("dkim", word) for word in ("pass", "fail", "none")} <= verdicts
    assert {("dmarc", word) for word in ("pass", "none", "fail none", "fail quarantine", "fail reject")} <= verdicts
