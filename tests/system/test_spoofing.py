# SPDX-License-Identifier: Apache-2.0
"""Composition attacks: a stranger whose own domain is in order tries to pass for legit.test, whose policy is reject. The table says
what each trick gets, exactly; none may get a DMARC pass in legit.test's name."""
import base64
import re

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import reception
from rig.talk import Talk

ATTACKER = "127.0.0.6"  # in the SPF record of attack.test alone

ZONE = [
    'legit.test. TXT "v=spf1 ip4:192.0.2.1 -all"', '_dmarc.legit.test. TXT "v=DMARC1; p=reject"',
    f'attack.test. TXT "v=spf1 ip4:{ATTACKER} -all"', '_dmarc.attack.test. TXT "v=DMARC1; p=none"',
    f'*.attack.test. TXT "v=spf1 ip4:{ATTACKER} -all"',
]

CONFIG = """
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{sink}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none }} }}
flows:
  recipient: {{ open: [ accept ] }}
  content: {{ checked: [ verify, deliver ] }}
transports: {{ to-mail: {{ server: mail }} }}
domains: {{ open.test: {{ recipients: open, content: checked, transport: to-mail }} }}
dns: {{ servers: [ "{names}" ] }}
"""

L, A = b"admin@legit.test", b"a@attack.test"
PLAIN = b"From: Admin <" + L + b">\r\n"
WHO = "To: you@open.test\r\nSubject: invoice\r\n".encode()

# name: (HELO, MAIL FROM, fields of the author, reply to MAIL or None, reply to the data, what DMARC is; of a refusal: how it
# begins if it is not DMARC's)
ENVELOPES = {
    "no such subdomain": ("attack.test", "a@none.legit.test", PLAIN, None, 550, None),
    "empty sender, HELO of the attacker": ("attack.test", "", PLAIN, None, 550, None),
    "empty sender, HELO of the other": ("legit.test", "", PLAIN, None, 550, None),
    "HELO is a literal": ("[127.0.0.6]", "", PLAIN, None, 550, None),
    "comment in the sender": ("attack.test", "(a@legit.test", PLAIN, 501, None, None),
    "comment in the domain": ("attack.test", "a@legit.test(.attack.test", PLAIN, 501, None, None),
    "apostrophe in the domain": ("attack.test", "a@legit.test'.attack.test", PLAIN, 501, None, None),
    "two at signs": ("attack.test", "a@legit.test@attack.test", PLAIN, None, 550, None),
    "quoted at sign": ("attack.test", '"a@legit.test"@attack.test', PLAIN, None, 550, None),
    "route": ("attack.test", "@legit.test,@any.test:a@attack.test", PLAIN, None, 550, None),
    "percent": ("attack.test", "a%legit.test@attack.test", PLAIN, None, 550, None),
    "subdomain of the attacker": ("legit.test.attack.test", "a@legit.test.attack.test", PLAIN, None, 550, None),
    "dot at the end": ("attack.test", "a@legit.test.", PLAIN, 501, None, None),
}

AUTHORS = {
    "itself": (PLAIN, 550, None),
    "two From": (PLAIN + b"From: " + A + b"\r\n", 550, None),
    "two From, the other order": (b"From: " + A + b"\r\n" + PLAIN, 550, None),
    "blank before the colon": (b"From : <" + L + b">\r\nFrom: " + A + b"\r\n", 550, None),
    "blank before the colon, behind": (b"From: " + A + b"\r\nFrom : <" + L + b">\r\n", 550, None),
    "the name is folded": (b"From\r\n : <" + L + b">\r\nFrom: " + A + b"\r\n", 550, None),
    "a blank in front": (b"X-A: b\r\n From: <" + L + b">\r\nFrom: " + A + b"\r\n", 250, "pass"),
    "upper case": (b"FROM: <" + L + b">\r\nfrom: " + A + b"\r\n", 550, None),
    "a list": (b"From: <" + A + b">, <" + L + b">\r\n", 550, None),
    "a list, the other order": (b"From: <" + L + b">, <" + A + b">\r\n", 550, None),
    "group": (b"From: us: " + A + b", " + L + b";\r\n", 550, None),
    "group, then one": (b"From: us:" + L + b";, <" + A + b">\r\n", 550, None),
    "quoted comma outside of quotes": (b"From: <" + L + b">\\,<" + A + b">\r\n", 550, None),
    "two angles": (b"From: <" + L + b"><" + A + b">\r\n", 550, None),
    "text behind the angle": (b"From: <" + A + b">" + L + b"\r\n", 550, None),
    "route": (b"From: <@attack.test,@legit.test:" + L + b">\r\n", 550, None),
    "route of the other": (b"From: <@legit.test:" + A + b">\r\n", 550, None),
    "comment": (b"From: " + A + b"(<" + L + b">)\r\n", 250, "pass"),
    "open comment": (b"From: admin@legit.test(.attack.test\r\n", 550, None),
    "nested comment": (b"From: (x (" + A + b")) <" + L + b">\r\n", 550, None),
    "address as a name": (b'From: "' + L + b'" <' + A + b">\r\n", 250, "pass"),
    "address as a bare name": (b"From: " + L + b" <" + A + b">\r\n", 250, "pass"),
    "encoded address": (b"From: =?utf-8?B?" + base64.b64encode(b"<" + L + b">") + b"?=, <" + A + b">\r\n", 550, None),
    "encoded alone": (b"From: =?utf-8?B?" + base64.b64encode(L) + b"?=\r\n", 550, None),
    "NUL in the address": (b"From: admin@legit.test\0.attack.test\r\n", 550, "5.5.2 NUL"),
    "NUL behind the address": (b"From: <" + L + b">\0<" + A + b">\r\n", 550, "5.5.2 NUL"),
    "eight-bit domain": ("From: admin@legit.test\u3002attack.test\r\n".encode(), 250, "pass"),
    "wide letters": ("From: admin@\uff4c\uff45\uff47\uff49\uff54.test\r\n".encode(), 550, None),
    "dot at the end": (b"From: admin@legit.test.\r\n", 550, None),
    "subdomain": (b"From: admin@mail.legit.test\r\n", 550, None),
    "upper domain": (b"From: admin@test\r\n", 250, "none"),
    "no From, but Sender": (b"Sender: " + A + b"\r\nResent-From: " + L + b"\r\n", 250, "permerror"),
    "no From, but Reply-To": (b"Reply-To: " + L + b"\r\n", 250, "permerror"),
    "folded in the middle": (b"From: <admin@legit.test\r\n .attack.test>\r\n", 250, "pass"),
}


@pytest.fixture(scope="module")
def keys():
    """Private keys and records of both domains."""
    made = {}
    for domain in ("legit.test", "attack.test"):
        private = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        der = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                    serialization.NoEncryption())
        text = "v=DKIM1; p=" + base64.b64encode(der).decode()
        made[domain] = pem, f's._domainkey.{domain}. TXT {" ".join(chr(34) + text[i:i + 200] + chr(34) for i in range(0, len(text), 200))}'
    return made


@pytest.fixture
def scene(gateway, sink, dns, keys):
    mail, port = sink(), free_port()
    names = dns(ZONE + [record for _, record in keys.values()])
    one = gateway(CONFIG.format(sink=mail.port, port=port, names=names.address), ports=[port])
    one.mail, one.port = mail, port
    return one


def say(one, helo, sender, data):
    """(code of MAIL if it was refused, code of the data, text of a refusal or results of ours by method)."""
    with Talk(one.port, ehlo=helo, source=ATTACKER) as talk:
        code, _ = talk.say(f"MAIL FROM:<{sender}> BODY=8BITMIME")
        if code != 250:
            return code, None, None
        assert talk.code("RCPT TO:<you@open.test>") == 250
        before = len(one.mail.messages)
        code, text = talk.data(data)
    if code != 250:
        return None, code, text
    wait_until(lambda: len(one.mail.messages) > before, "the message is at the mail server")
    return None, code, results(one.mail.messages[-1].data)


def results(data):
    field, = re.findall(rb"^Authentication-Results: mx\.example\.org;((?:[^\r]|\r\n[ \t])*)", data, re.M)
    out = {}
    for part in " ".join(field.decode().split()).split(";"):
        method, _, rest = part.strip().partition("=")
        out.setdefault(method, rest)
    return out


def problem(name, got, mail, code, verdict):
    """What is not as the table has it, or None."""
    refused, answer, told = got
    good = refused == mail and answer == code
    if good and code == 550:
        good = told.startswith(verdict or "5.7.26 ")
    elif good and code == 250:
        good = told["dmarc"].split()[0] == verdict and (verdict != "pass" or told["dmarc"].endswith(("=attack.test", ".attack.test")))
    return None if good else f"{name}: {got}"


def test_envelopes(scene):
    problems = [problem(name, say(scene, helo, sender, fields + WHO + b"\r\nHello"), mail, code, verdict)
                for name, (helo, sender, fields, mail, code, verdict) in ENVELOPES.items()]
    assert not list(filter(None, problems))


@pytest.mark.parametrize("signed", [False, True], ids=["spf", "spf and dkim"])
def test_authors(scene, keys, signed):
    """The attacker's SPF passes, and its signature where the message can have one."""
    problems, passed = [], 0
    for name, (fields, code, verdict) in AUTHORS.items():
        data = fields + WHO + b"\r\nHello\r\n"
        if signed:
            try:
                data = dkim.sign(data, b"s", b"attack.test", keys["attack.test"][0], include_headers=[b"to", b"subject", b"from"]) + data
            except dkim.DKIMException:
                continue
        got = say(scene, "attack.test", "a@attack.test", data[:-2])
        problems.append(problem(name, got, None, code, verdict))
        passed += got[1] == 250 and got[2]["dkim"].startswith("pass")
    assert not list(filter(None, problems))
    assert not signed or passed, "no signature of the attacker's was good: the test was none"


# ---- signatures of the other's own ----

LETTER = PLAIN + WHO + b"Date: Fri, 27 Nov 2026 10:00:00 +0000\r\n\r\nPlease pay.\r\n"


def signed_letter(keys, names=(b"from", b"to", b"subject", b"date"), selector=b"s", domain=b"legit.test", key="legit.test", **options):
    return dkim.sign(LETTER, selector, domain, keys[key][0], include_headers=list(names), **options) + LETTER


def above(field):
    return lambda data: field + data


def behind(field):
    return lambda data: data.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n", 1)


TWICE = (b"from", b"from", b"to", b"to", b"subject", b"subject", b"date", b"date")  # oversigned

# name: (how legit.test signed, what the attacker did to it, reply, DKIM, DMARC)
REPLAYS = {
    "as it was": ({}, None, 250, "pass", "pass"),
    "the body goes on": ({}, lambda data: data + b"More.\r\n", 550, None, None),
    "another body": ({}, lambda data: data.replace(b"pay.", b"pay me."), 550, None, None),
    "l=, and the body goes on": ({"length": True}, lambda data: data + b"More.\r\n", 550, None, None),
    "a From above": ({}, above(b"From: <a@attack.test>\r\n"), 550, None, None),
    "a From behind": ({}, behind(b"From: <a@attack.test>\r\n"), 550, None, None),
    "a Subject above, oversigned": ({"names": TWICE}, above(b"Subject: another\r\n"), 550, None, None),
    "a Subject behind, oversigned": ({"names": TWICE}, behind(b"Subject: another\r\n"), 550, None, None),
    "a To above, oversigned": ({"names": TWICE}, above(b"To: all@open.test\r\n"), 550, None, None),
    "a Subject behind": ({}, behind(b"Subject: another\r\n"), 550, None, None),
    "results of our own": ({}, above(b"Authentication-Results: mx.example.org; dmarc=pass\r\n"), 250, "pass", "pass"),
    "results of our own, other body": ({}, lambda data: b"Authentication-Results: mx.example.org; dkim=pass; dmarc=pass\r\n"
                                       + data.replace(b"pay.", b"pay me."), 550, None, None),
    "NUL in the selector": ({"selector": b"s.attack.test.\0.any", "key": "attack.test"}, None, 550, "5.5.2 NUL", None),
    "NUL in the domain": ({"domain": b"attack.test.\0.legit.test", "key": "attack.test"}, None, 550, "5.5.2 NUL", None),
    "comment in the domain": ({"domain": b"legit.test(.attack.test", "key": "attack.test"}, None, 550, None, None),
    "apostrophe in the domain": ({"domain": b"legit.test'a.attack.test", "key": "attack.test"}, None, 550, None, None),
    "key of the attacker": ({"key": "attack.test"}, None, 550, None, None),
    "domain of the attacker": ({"domain": b"attack.test", "key": "attack.test"}, None, 550, None, None),
}


def test_replays(scene, keys):
    """Mail that legit.test signed, in the attacker's hands; and signatures that pretend to be its."""
    problems = []
    for name, (options, deed, code, verdict, dmarc) in REPLAYS.items():
        data = signed_letter(keys, **options)
        data = deed(data) if deed else data
        got = say(scene, "attack.test", "a@attack.test", data.removesuffix(b"\r\n"))
        good = got[1] == code and (code != 550 or got[2].startswith(verdict or "5.7.26 "))
        if good and code == 250:
            good = got[2]["dkim"].split()[0] == verdict and got[2]["dmarc"].split()[0] == dmarc
        problems += [] if good else [f"{name}: {got}"]
    assert not problems


# ---- users ----

OWN = b"From: Anna <anna@example.org>\r\n"

# name: (MAIL FROM, fields of the author, reply)
USERS = {
    "own": ("anna@example.org", OWN, 250),
    "another in the envelope": ("bob@example.org", OWN, 550),
    "another in From": ("anna@example.org", b"From: <bob@example.org>\r\n", 550),
    "two From": ("anna@example.org", OWN + b"From: <bob@example.org>\r\n", 550),
    "two From, the other order": ("anna@example.org", b"From: <bob@example.org>\r\n" + OWN, 550),
    "blank before the colon": ("anna@example.org", b"From : <bob@example.org>\r\n" + OWN, 550),
    "the name is folded": ("anna@example.org", OWN + b"From\r\n : <bob@example.org>\r\n", 550),
    "a list": ("anna@example.org", b"From: <anna@example.org>, <bob@example.org>\r\n", 550),
    "a group": ("anna@example.org", b"From: us: anna@example.org, bob@example.org;\r\n", 550),
    "two angles": ("anna@example.org", b"From: <anna@example.org><bob@example.org>\r\n", 550),
    "a route": ("anna@example.org", b"From: <@bob.test:anna@example.org>\r\n", 550),
    "encoded": ("anna@example.org", b"From: =?utf-8?Q?bob=40example=2Eorg?=, <anna@example.org>\r\n", 550),
    "upper case": ("ANNA@Example.ORG", b"From: <Anna@EXAMPLE.org>\r\n", 250),
    "another domain": ("anna@example.net", b"From: <anna@example.net>\r\n", 550),
}


def test_users(gateway, sink, dns, tls_files):
    """Who logged in writes in nobody else's name, where sender-match is a step."""
    mail, world = sink(users={"anna": "secret"}, tls_files=tls_files), sink(host="127.0.0.2")
    mx, submission = free_port(), free_port()
    names = dns(["far.test. MX 1 mx.far.test.", "mx.far.test. A 127.0.0.2"])
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, world=world, names=names,
                            mail_extra=f", tls: verified, ca_file: {tls_files[0]}",
                            flows="  content: { own: [ sender-match, deliver ] }",
                            any_domain="{ recipients: relay-authenticated, content: own, transport: internet }"),
                  ports=[mx, submission])
    problems = []
    for name, (sender, fields, wanted) in USERS.items():
        with Talk(submission, ehlo="client.test") as talk:
            talk.starttls()
            assert talk.login("anna", "secret")[0] == 235
            talk.mail(sender, "b@far.test")
            code, said = talk.data(fields + b"Subject: x\r\n\r\nHello")
            if code != wanted or (wanted == 550 and not said.startswith("5.7.1 You may not send")):
                problems.append((name, code, said))
    assert not problems
