# SPDX-License-Identifier: Apache-2.0
"""Blocks of our own over the wire: dnsbl, greylist, srs, disclaimer, sender-match."""
import email
import email.policy
import itertools

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.talk import Talk

CONFIG = """
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail}", tls: none }}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: none, authentication: none, xclient: {{ from: [ 127.0.0.1 ] }}{listener} }}
  submission: {{ listen: [ "127.0.0.1:{submission}" ], tls: required, authentication: users }}
certificates:
  default: {{ cert: {tls[0]}, key: {tls[1]} }}
flows:
  authentication:
    users: [ smtp: mail ]
  recipient:
    asked: [ {recipient}accept ]
  content:
    asked: [ {content}deliver ]
transports:
  to-mail: {{ method: server, server: mail, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  example.org: {{ recipients: asked, content: asked, transport: to-mail }}
  srs.example.org: {{ recipients: asked, content: asked, transport: to-mail }}
  far.example: {{ recipients: asked, content: asked, transport: to-mail }}
{more}
"""


@pytest.fixture
def blocks(gateway, sink, tls_files):
    """blocks(recipient="STEP, ", content="STEP, ") is a gateway with them before its verdicts."""
    def make(recipient="", content="", more="", listener=""):
        mail, mx, submission = sink(extensions=["AUTH PLAIN", "8BITMIME"], users={"anna": "secret"}), free_port(), free_port()
        one = gateway(CONFIG.format(mail=mail.port, mx=mx, submission=submission, recipient=recipient, content=content, more=more, listener=listener,
                                    tls=tls_files), ports=[mx, submission])
        one.mail, one.mx, one.submission = mail, mx, submission
        return one
    return make


def from_client(one, address, name="[UNAVAILABLE]"):
    """A connection of a client that is at `address`."""
    talk = Talk(one.mx, ehlo="c.test")
    assert talk.code(f"XCLIENT ADDR={address} NAME={name}") == 220
    talk.ehlo("c.test")
    return talk


def delivered(one, count=1):
    wait_until(lambda: len(one.mail.messages) >= count, "it is delivered")
    return one.mail.messages[count - 1]


def parsed(message):
    return email.message_from_bytes(message.data, policy=email.policy.SMTP)


# ---- dnsbl: nobody asks about documentation's networks, so these are public addresses ----

ZONES = ["7.9.9.9.one.test. A 127.0.0.2", '7.9.9.9.one.test. TXT "see http://one.test/9.9.9.7"',
         "8.9.9.9.one.test. A 127.0.0.10", "7.9.9.9.two.test. A 127.0.0.3", "9.9.9.9.one.test. A 192.0.2.1",
         "10.9.9.9.one.test. A 127.255.255.254", "spam.test.names.test. A 127.0.1.2",
         "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.a.2.one.test. A 127.0.0.2"]


def test_block_lists(blocks, dns):
    names = dns(ZONES)
    one = blocks('dnsbl: { lists: [ "one.test=2-9", two.test ] }, dnsbl: { lists: names.test, about: sender }, ',
                 more=f'dns: {{ servers: [ "{names.address}" ] }}')
    # 8: another code than the ones that count; 9, 10: no answers of a list at all; 11: on none
    for address, code in (("9.9.9.7", 554), ("9.9.9.8", 250), ("9.9.9.9", 250), ("9.9.9.10", 250), ("9.9.9.11", 250),
                          ("IPv6:2a02::1", 554), ("IPv6:2a02::2", 250), ("127.0.0.9", 250)):
        with from_client(one, address) as talk:
            assert talk.code("MAIL FROM:<a@fine.test>") == 250
            got, text = talk.say("RCPT TO:<x@example.org>")
            assert got in ((550, 554) if code == 554 else (250,)), (address, text)
            if address == "9.9.9.7":
                assert "http://one.test/9.9.9.7" in text
    with from_client(one, "9.9.9.11") as talk:
        assert talk.code("MAIL FROM:<a@spam.test>") == 250
        assert talk.code("RCPT TO:<x@example.org>") in (550, 554)


def test_enough_lists_have_it(blocks, dns):
    names = dns(ZONES)
    one = blocks("dnsbl: { lists: [ one.test, two.test ], at_least: 2 }, ", more=f'dns: {{ servers: [ "{names.address}" ] }}')
    for address, codes in (("9.9.9.7", (550, 554)), ("9.9.9.8", (250,))):
        with from_client(one, address) as talk:
            assert talk.code("MAIL FROM:<a@fine.test>") == 250
            assert talk.code("RCPT TO:<x@example.org>") in codes, address


# ---- greylist ----

def rcpt(one, address, sender="a@example.net", to="x@example.org"):
    with from_client(one, address) as talk:
        assert talk.code(f"MAIL FROM:<{sender}>") == 250
        return talk.code(f"RCPT TO:<{to}>")


def test_who_comes_back_is_known_after_a_restart_too(blocks):
    one = blocks("greylist: { delay: 1s, trust_after: 0 }, ")
    assert rcpt(one, "192.0.2.7") in (450, 451)
    wait_until(lambda: rcpt(one, "192.0.2.99") == 250, "it came back, from another address of its network")
    assert rcpt(one, "198.51.100.7") in (450, 451)
    one.stop()
    one.start()
    assert rcpt(one, "192.0.2.7") == 250
    for address, sender, to in (("203.0.113.7", "a@example.net", "x@example.org"), ("192.0.2.7", "b@example.net", "x@example.org"),
                                ("192.0.2.7", "a@example.net", "y@example.org")):
        assert rcpt(one, address, sender, to) in (450, 451), (address, sender, to)
    assert rcpt(one, "192.0.2.7", "b@example.net", "postmaster@example.org") == 250
    assert wait_until(lambda: rcpt(one, "198.51.100.7") == 250, "its first try was before the restart")


def test_a_network_that_comes_back_often_is_trusted(blocks):
    one = blocks("greylist: { delay: 1s, trust_after: 2 }, ")
    senders = ["a@example.net", "b@example.net"]
    for sender in senders:
        assert rcpt(one, "192.0.2.7", sender) in (450, 451)
    for sender in senders:
        wait_until(lambda: rcpt(one, "192.0.2.7", sender) == 250, f"{sender} came back")
    names = itertools.count()  # each of them is new: only the network can be what is known
    wait_until(lambda: rcpt(one, "192.0.2.7", f"new{next(names)}@example.net") == 250, "every worker knows the count")
    assert rcpt(one, "198.51.100.7", "new@example.net") in (450, 451)


# ---- srs ----

def test_forwarded_and_back(blocks, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a secret of some length\n")
    secret.chmod(0o600)
    srs = f"srs: {{ domain: srs.example.org, secret_file: {secret} }}, "
    one = blocks(srs, srs, more="  any: { recipients: [ reject ], content: asked, transport: to-mail }\n"
                                "entitlements: { open_relay_support: true }")
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("ann@strange.test", "bob@far.example")
        assert talk.data(b"Subject: x\r\n\r\nx\r\n", b".\r\n")[0] == 250
    sender = delivered(one).sender
    assert sender.startswith("SRS0=") and sender.endswith("@srs.example.org") and "=strange.test=ann@" in sender
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("", sender)
        assert talk.data(b"Subject: bounce\r\n\r\nx\r\n", b".\r\n")[0] == 250
    assert delivered(one, 2).recipients == ["ann@strange.test"]
    forged = sender.replace("strange.test", "other.test")
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("")
        assert talk.code(f"RCPT TO:<{forged}>") == 550
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("spammer@example.net")
        assert talk.code(f"RCPT TO:<{sender}>") == 550


# ---- disclaimer ----

TWO_PARTS = (b"From: a@example.net\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=B\r\n\r\n--B\r\n"
             b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n--B\r\nContent-Type: text/html\r\n\r\n"
             b"<html><body><p>x</p></body></html>\r\n--B--\r\n")


@pytest.mark.parametrize("listener", ["", ", processing: queued"], ids=["direct", "queued"])
def test_disclaimers(blocks, listener):
    one = blocks(content='disclaimer: { text: "Grüße & mehr" }, ', listener=listener)
    signed = TWO_PARTS.replace(b"multipart/alternative", b"multipart/signed")
    for number, message in enumerate((b"From: a@example.net\r\n\r\nHello\r\n", TWO_PARTS, signed), 1):
        with Talk(one.mx, ehlo="c.test") as talk:
            talk.mail("a@example.net", "x@example.org", parameters=" BODY=8BITMIME")
            assert talk.data(message, b".\r\n")[0] == 250
        delivered(one, number)
    plain, two, untouched = one.mail.messages
    assert parsed(plain).get_content() == "Hello\r\n\r\nGrüße & mehr\r\n".replace("\r\n", "\n") or \
        "Grüße & mehr" in parsed(plain).get_content()
    text, html = parsed(two).iter_parts()
    assert "Grüße" in text.get_content().splitlines()[0] and text.get_content().rstrip().endswith("Grüße & mehr")
    assert "Grüße &amp; mehr</div>" in html.get_content() and html.get_content().rstrip().endswith("</body></html>")
    assert untouched.body == signed.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("listener", ["", ", processing: queued"], ids=["direct", "queued"])
def test_a_flow_sees_all_of_a_long_header(blocks, listener):
    one = blocks(content="header: { add: 'X-Seen: all', when: 'header(\"X-Last\") == \"end\"' }, ",
                 listener=listener + ", limits: { header_bytes: 1M, header_fields: 20000 }")
    fields = b"".join(b"X-%05d: %s\r\n" % (number, b"x" * 90) for number in range(10381))  # just under 1M, with ours above
    message = b"From: a@example.net\r\n" + fields + b"X-Last: end\r\n\r\nHello\r\n"
    assert 2**20 - 100 < message.index(b"\r\n\r\n") < 2**20
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "x@example.org")
        assert talk.data(message, b".\r\n")[0] == 250
    taken = delivered(one).data
    assert b"\r\nX-Seen: all\r\n" in taken or taken.startswith(b"X-Seen: all\r\n")
    assert taken.endswith(message.partition(b"X-Last")[1] + b": end\r\n\r\nHello\r\n") and taken.count(b"\r\nX-10380: ") == 1


def test_no_second_disclaimer(blocks):
    one = blocks(content="disclaimer: { id: one, text: legal words }, disclaimer: { id: two, text: legal words }, ")
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "x@example.org")
        assert talk.data(b"From: a@example.net\r\n\r\nHello\r\n", b".\r\n")[0] == 250
    assert parsed(delivered(one)).get_content().count("legal words") == 1


# ---- sender-match ----

@pytest.mark.parametrize("options, sender, author, code", [
    ("{}", "anna@example.org", "anna@example.org", 250), ("{}", "bob@example.org", "bob@example.org", 550),
    ("{}", "anna@example.org", "bob@example.org", 550), ("{ header: false }", "anna@example.org", "bob@example.org", 250),
    ("{ also: office@example.org }", "office@example.org", "office@example.org", 250),
    ("{ also: \"@far.example\" }", "any@far.example", "any@far.example", 250),
    ("{ allow: listed-domains }", "bob@example.org", "carl@far.example", 250),
    ("{ allow: listed-domains }", "bob@strange.test", "bob@strange.test", 550)])
def test_users_send_as_themselves(blocks, options, sender, author, code):
    one = blocks(content=f"sender-match: {options}, ")
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.login("anna", "secret")[0] == 235
        talk.mail(sender, "x@far.example")
        assert talk.data(f"From: <{author}>\r\nSubject: x\r\n\r\nx\r\n".encode(), b".\r\n")[0] == code
    if code == 250:
        with Talk(one.mx, ehlo="c.test") as talk:  # who did not log in is compared with nobody
            talk.mail("eve@example.net", "x@example.org")
            assert talk.data(b"From: <bob@example.org>\r\n\r\nx\r\n", b".\r\n")[0] == 250
