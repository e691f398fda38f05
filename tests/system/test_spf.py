# SPDX-License-Identifier: Apache-2.0
"""Who really sent it: SPF at RCPT, SPF, DKIM and DMARC at the end of data, and what is told of them."""
import email
import email.policy
import email.utils
import re

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rig.dns import CountingRelay
from rig.gateway import wait_until
from rig.ports import free_port

GOOD, BAD = "127.0.0.5", "127.0.0.6"  # clients: named by pass.test's SPF record, and not

ZONE = [
    f'pass.test. TXT "v=spf1 ip4:{GOOD} -all"',
    'pass.test. MX 10 mx.pass.test.', 'mx.pass.test. A 127.0.0.2',
    '_dmarc.pass.test. TXT "v=DMARC1; p=reject; sp=quarantine"',
    'fail.test. TXT "v=spf1 -all exp=why.fail.test"', 'why.fail.test. TXT "%{i} is none of %{d}"',
    'soft.test. TXT "v=spf1 ~all"',
    'broken.test. TXT "v=spf1 nonsense"',
    '_dmarc.quarantine.test. TXT "v=DMARC1; p=quarantine"',
    '_dmarc.none.test. TXT "v=DMARC1; p=none"',
]

FLOWS = """
flows:
  recipient:
    checked: [ spf, accept ]
    noted: [ spf: { fail: note }, match: { when: 'spf == "pass"', matched: accept }, reject: { reply: "550 5.7.1 only pass" } ]
    open: [ accept ]
    relay: [ reject: { reply: "554 5.7.1 No relaying" } ]
  content:
    verified: [ verify, deliver ]
    kept: [ verify: { reject: note, quarantine: hold }, deliver ]
"""


class Scene:
    """checked.test, noted.test, open.test, kept.test: domains with these flows, before one server; `world` is everybody else."""

    def __init__(self, gateway, sink, names, replies=None, listener=""):
        self.mail, self.world, self.port = sink(replies=replies), sink(host="127.0.0.2"), free_port()
        self.gateway = gateway(f"""
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{self.mail.port}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{self.port}" ], tls: none, authentication: none{listener} }} }}
{FLOWS}
transports:
  to-mail: {{ server: mail, retry: {{ delays: [ 1s ], count: 1 }} }}
  internet: {{ method: lookup-mx, direction: outbound, port: {self.world.port}, allow_private: true,
               retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  checked.test: {{ recipients: checked, transport: to-mail }}
  noted.test: {{ recipients: noted, transport: to-mail }}
  open.test: {{ recipients: open, content: verified, transport: to-mail }}
  kept.test: {{ recipients: open, content: kept, transport: to-mail }}
  any: {{ recipients: relay, transport: internet }}
postmaster: postmaster@open.test
entitlements: {{ open_relay_support: true }}
dns: {{ servers: [ "{names}" ] }}
""", ports=[self.port])

    def client(self, source):
        return self.gateway.client(self.port, ehlo="client.test", source_address=(source, 0))

    def rcpt(self, sender, to, source=GOOD):
        client = self.client(source)
        assert client.mail(sender)[0] == 250
        code, text = client.rcpt(to)
        client.quit()
        return code, text.decode()

    def send(self, sender, to, author=None, source=GOOD, data=None):
        """The reply to the data."""
        client = self.client(source)
        assert client.mail(sender)[0] == 250
        assert client.rcpt(to)[0] == 250
        code, text = client.data(data or message(author or sender))
        client.quit()
        return code, text.decode()

    def taken(self, count=1):
        wait_until(lambda: len(self.mail.messages) >= count, f"{count} messages at the mail server")
        return email.message_from_bytes(self.mail.messages[count - 1].data, policy=email.policy.SMTP)

    def results(self, count=1):
        """Authentication-Results of ours, unfolded, as a dictionary of methods."""
        field, = [" ".join(str(value).split()) for value in self.taken(count).get_all("Authentication-Results", [])
                  if str(value).split(";")[0].strip().lower() == "mx.example.org"]
        return dict(part.strip().split("=", 1) for part in field.split(";")[1:])


def message(author, extra=b""):
    return extra + f"From: {author}\r\nTo: you@open.test\r\nSubject: test\r\n\r\nHello\r\n".encode()


@pytest.fixture
def scene(gateway, sink, dns):
    return Scene(gateway, sink, dns(ZONE).address)


def test_spf_at_rcpt(scene):
    assert scene.rcpt("a@pass.test", "you@checked.test")[0] == 250
    code, text = scene.rcpt("a@pass.test", "you@checked.test", BAD)
    assert code == 550 and text.startswith(f"5.7.23 {BAD} may not send for pass.test") and "(ref " in text
    code, text = scene.rcpt("a@fail.test", "you@checked.test")
    assert code == 550 and f"it says: {GOOD} is none of fail.test" in text
    assert scene.rcpt("a@soft.test", "you@checked.test")[0] == 250
    assert scene.rcpt("a@broken.test", "you@checked.test")[0] == 250
    assert scene.rcpt("a@nothing.test", "you@checked.test")[0] == 250
    assert scene.rcpt("", "you@checked.test")[0] == 250
    assert scene.rcpt("a@fail.test", "postmaster@checked.test")[0] == 250
    assert scene.rcpt("a@pass.test", "you@noted.test")[0] == 250
    code, text = scene.rcpt("a@pass.test", "you@noted.test", BAD)
    assert code == 550 and "only pass" in text
    assert scene.gateway.wait("recipient.reject", reason="spf_fail", count=2)["detail"].startswith("domain of fail.test")


def test_each_transaction_is_judged_anew(scene):
    client = scene.client(GOOD)
    for end in (lambda: client.data(message("a@pass.test")), client.rset, lambda: client.ehlo("again.test")):
        client.mail("a@pass.test")
        assert client.rcpt("you@checked.test")[0] == 250
        end()
        client.mail("a@fail.test")
        assert client.rcpt("you@checked.test")[0] == 550
        client.rset()
    client.quit()


def test_results_are_written_once(scene):
    forged = (b"Authentication-Results: mx.example.org; spf=pass smtp.mailfrom=a@pass.test\r\n"
              b"Authentication-Results:\r\n MX.EXAMPLE.ORG 1; dmarc=pass\r\n"
              b"Authentication-Results: other.test; spf=pass\r\n")
    assert scene.send("a@pass.test", "you@open.test", data=message("b@none.test", forged))[0] == 250
    got = scene.taken()
    assert len(got.get_all("Authentication-Results")) == 2  # ours and that of other.test
    assert got.keys()[0] == "Authentication-Results"  # above Received
    results = scene.results()
    assert results["spf"] == "pass smtp.mailfrom=a@pass.test" and results["dkim"] == "none"
    assert results["dmarc"] == "fail (p=none dis=none) header.from=none.test"


@pytest.mark.parametrize("author,source,outcome", [
    ("b@pass.test", GOOD, "pass"), ("b@pass.test", BAD, "reject"), ("b@sub.pass.test", BAD, "quarantine"),
    ("b@quarantine.test", GOOD, "quarantine"), ("b@none.test", GOOD, "fail"), ("b@nothing.test", GOOD, "none"),
    ("B <b@nothing.test>, b@pass.test", GOOD, "reject"), ("undisclosed:;", GOOD, "permerror")])
def test_dmarc(scene, author, source, outcome):
    code, text = scene.send("a@pass.test", "you@open.test", author, source)
    if outcome == "reject":
        assert code == 550 and text.startswith("5.7.26 ") and "DMARC" in text
        assert scene.gateway.wait("message.rejected")["reason"] == "dmarc_reject"
    else:
        assert code == 250, text
        result = scene.results()["dmarc"]
        assert result.startswith("fail (p=quarantine dis=quarantine)" if outcome == "quarantine" else outcome)


def test_other_actions(scene):
    assert scene.send("a@pass.test", "you@kept.test", "b@pass.test", BAD)[0] == 250
    assert scene.results()["dmarc"] == "fail (p=reject dis=reject) header.from=pass.test"
    assert scene.send("a@pass.test", "you@kept.test", "b@quarantine.test")[0] == 250
    assert [item["state"] for item in scene.gateway.queue()] == ["held"]


def test_from_the_queue(gateway, sink, dns):
    """With processing: queued the checks run when the client has gone, on what was known of it."""
    scene = Scene(gateway, sink, dns(ZONE).address, listener=", processing: queued")
    assert scene.send("a@pass.test", "you@open.test", "b@pass.test")[0] == 250
    results = scene.results()
    assert results["spf"] == "pass smtp.mailfrom=a@pass.test"
    assert results["dmarc"] == "pass (p=reject) header.from=pass.test"
    assert scene.send("a@pass.test", "you@open.test", "b@pass.test", BAD)[0] == 250
    wait_until(lambda: [item["state"] for item in scene.gateway.queue()] == ["held"], "the refused message is held")


@pytest.fixture(scope="module")
def key():
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                serialization.NoEncryption())
    import base64
    text = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
    return pem, " ".join(f'"{text[i:i + 200]}"' for i in range(0, len(text), 200))


def test_dkim_alone_satisfies_dmarc(gateway, sink, dns, key):
    pem, record = key
    scene = Scene(gateway, sink, dns(ZONE + [f"s1._domainkey.pass.test. TXT {record}"]).address)
    text = message("b@pass.test")
    signed = dkim.sign(text, b"s1", b"pass.test", pem, include_headers=[b"from", b"to", b"subject"]) + text
    assert scene.send("x@nothing.test", "you@open.test", source=BAD, data=signed)[0] == 250
    results = scene.results()
    assert results["spf"].split()[0] == "none"
    assert re.match(r"pass .*header\.d=pass\.test header\.s=s1 header\.a=rsa-sha256 header\.b=", results["dkim"])
    assert results["dmarc"] == "pass (p=reject) header.from=pass.test"
    code, text = scene.send("x@nothing.test", "you@open.test", source=BAD, data=signed.replace(b"Hello", b"Hullo"))
    assert code == 550 and text.startswith("5.7.26 ")


def test_a_verified_stranger_is_told(gateway, sink, dns):
    """Delivery fails for good: a sender that SPF vouches for gets a notification, another one is kept from it."""
    scene = Scene(gateway, sink, dns(ZONE).address, replies={"RCPT": "550 5.1.1 gone"})
    assert scene.send("a@pass.test", "you@open.test")[0] == 250
    wait_until(lambda: scene.world.messages, "the notification")
    assert scene.world.messages[0].sender == "" and scene.world.messages[0].recipients == ["a@pass.test"]
    assert scene.send("a@nothing.test", "you@open.test")[0] == 250
    wait_until(lambda: len(scene.gateway.find("delivery.failed")) >= 2, "both have failed")
    scene.gateway.wait_empty() if not scene.gateway.queue() else None
    assert len(scene.world.messages) == 1


@pytest.fixture
def relay(dns):
    made = []

    def make(records):
        made.append(CountingRelay(dns(records).address))
        return made[-1]

    yield make
    for one in made:
        one.close()


def bomb_zone():
    """Each of ten mx terms has ten hosts; From, the signatures and the tree above all have something to look up."""
    records = ['bomb.test. TXT "v=spf1 ' + " ".join(f"mx:m{i}.bomb.test" for i in range(10)) + ' -all"']
    for i in range(10):
        records += [f"m{i}.bomb.test. MX {k} h{k}.m{i}.bomb.test." for k in range(10)]
        records += [f"h{k}.m{i}.bomb.test. A 192.0.2.{k}" for k in range(10)]
    return records


def test_bomb(gateway, sink, relay):
    counter = relay(ZONE + bomb_zone())
    scene = Scene(gateway, sink, counter.address)
    extra = b"".join(b"DKIM-Signature: v=1; a=rsa-sha256; d=d%d.bomb.test; s=s; h=from; bh=AAAA; b=AAAA\r\n" % i
                     for i in range(30))
    extra += b"".join(b"ARC-Seal: i=%d; a=rsa-sha256; t=1; cv=%s; d=s%d.bomb.test; s=s; b=AAAA\r\n"
                      b"ARC-Message-Signature: i=%d; a=rsa-sha256; d=m%d.bomb.test; s=s; h=from; bh=AAAA; b=AAAA\r\n"
                      b"ARC-Authentication-Results: i=%d; x.test; none\r\n"
                      % (i, b"none" if i == 1 else b"pass", i, i, i, i) for i in range(20, 0, -1))
    authors = [f"a@a.b.c.d.e.f.g.h.x{i}.bomb.test" for i in range(20)]
    # more authors than can be asked about are refused: one of them may be forged
    for count, code, at_least in (20, 550, 20), (1, 250, 0):
        before = len(counter.names)
        answer = scene.send("a@bomb.test", "you@open.test", data=message(", ".join(authors[:count]), extra))
        assert answer[0] == code, answer
        asked = [name for name in counter.names[before:] if name.endswith("test")]
        assert at_least <= len(asked) <= 40, (len(asked), asked)
    assert scene.results()["spf"].startswith("permerror")


def test_one_question_for_many_recipients(gateway, sink, relay):
    counter = relay(ZONE)
    scene = Scene(gateway, sink, counter.address)
    client = scene.client(GOOD)
    client.mail("a@soft.test")
    for i in range(20):
        assert client.rcpt(f"r{i}@checked.test")[0] == 250
    client.quit()
    assert counter.names.count("soft.test") == 1
