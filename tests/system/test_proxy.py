# SPDX-License-Identifier: Apache-2.0
"""PROXY and XCLIENT: who says who the client is, and what that gives him."""
import ipaddress
import struct

import pytest

from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source):
    family, destination = ("TCP6", "2001:db8::1") if ":" in source else ("TCP4", "192.0.2.1")
    return f"PROXY {family} {source} {destination} 50000 25\r\n".encode()


def v2(source, destination=None, command=1, extra=b""):
    address = ipaddress.ip_address(source)
    destination = ipaddress.ip_address(destination or ("2001:db8::1" if address.version == 6 else "192.0.2.1"))
    body = address.packed + destination.packed + struct.pack("!HH", 50000, 25) + extra
    return SIGNATURE + bytes([0x20 | command, 0x11 if address.version == 4 else 0x21]) + struct.pack("!H", len(body)) + body


@pytest.fixture
def scene(gateway, sink, dns, tls_files):
    mail = sink(replies={"RCPT": known("anna")})
    world = sink(host="127.0.0.2")
    names = dns(["example.net. MX 10 mx.example.net.", "mx.example.net. A 127.0.0.2"])
    proxied, xclient, plain, implicit = free_port(), free_port(), free_port(), free_port()
    cert, key = tls_files
    listeners = f"""
  xclient: {{ listen: [ "127.0.0.1:{xclient}" ], tls: none, authentication: none, xclient: {{ from: [ 127.0.0.1 ] }} }}
  plain: {{ listen: [ "127.0.0.1:{plain}" ], tls: none, authentication: none }}
  implicit: {{ listen: [ "127.0.0.1:{implicit}" ], tls: implicit, certificate: main, authentication: none, proxy: {{ from: [ 127.0.0.1 ] }} }}"""
    text = reception(mail, proxied, world=world, names=names, certificate=tls_files, listeners=listeners,
                     inbound=", proxy: { from: [ 127.0.0.1 ] }",
                     top='trusted_networks: [ 10.0.0.0/8, { network: 127.0.0.0/8, reason: "test" } ]')
    one = gateway(text, start=False)
    one.proxied, one.xclient, one.plain, one.implicit, one.mail = proxied, xclient, plain, implicit, mail
    return one


@pytest.fixture
def running(scene):
    code, problems = scene.check()
    assert code == 0, problems
    scene.start()
    scene.ports = [scene.plain]
    return scene


def may_relay(talk):
    talk.mail("a@example.net")
    return talk.code("RCPT TO:<b@example.net>") == 250


CLIENTS = [("203.0.113.9", False), ("10.1.2.3", True), ("2001:db8::9", False), ("::ffff:10.1.2.3", True), ("::ffff:203.0.113.9", False),
           ("127.0.0.1", False), ("::ffff:127.0.0.1", False)]


@pytest.mark.parametrize("version", [v1, v2])
@pytest.mark.parametrize("client, trusted", CLIENTS)
def test_header(running, version, client, trusted):
    """Rights are those of the address in the header; the proxy's own has none."""
    with Talk(running.proxied, before=version(client), ehlo="c.test") as talk:
        assert may_relay(talk) == trusted
    if not trusted:
        event = running.wait("recipient.reject")
        assert event["client"] == client.removeprefix("::ffff:"), event["client"]


def test_header_then_tls(running):
    with Talk(running.implicit, before=v2("10.1.2.3", extra=b"\x04\0\x03abc"), implicit=True, ehlo="c.test") as talk:
        assert may_relay(talk)
    with Talk(running.proxied, before=v1("10.1.2.3"), ehlo="c.test") as talk:
        talk.starttls()
        assert may_relay(talk)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 10.1.2.3 192.0.2.1 1 2\r\n", v2("10.1.2.3", command=0),
                                    SIGNATURE + b"\x20\0\0\0", SIGNATURE + b"\x21\0\0\0"], ids=range(5))
def test_unknown_is_not_trusted(running, header):
    with Talk(running.proxied, before=header, ehlo="c.test") as talk:
        assert not may_relay(talk)


BAD = [b"EHLO c.test\r\n", b"PROXY\r\n", b"PROXY TCP4 10.1.2.3\r\n", b"PROXY TCP4 10.1.2.3 192.0.2.1 1 99999\r\n",
       b"PROXY TCP4 10.1.2.3 192.0.2.1 1 25\n", b"PROXY TCP4 2001:db8::1 192.0.2.1 1 25\r\n", b"PROXY TCP4 10.1.2.300 192.0.2.1 1 25\r\n",
       b"PROXY " + b"x" * 200 + b"\r\n", b"proxy TCP4 10.1.2.3 192.0.2.1 1 25\r\n", SIGNATURE + b"\x31\x11\0\x0c" + b"x" * 12,
       SIGNATURE + b"\x22\x11\0\x0c" + b"x" * 12, SIGNATURE + b"\x21\x11\0\x04abcd", SIGNATURE[:-1] + b"X" + b"\x21\x11\0\x0c" + b"x" * 12,
       SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 3000, b"\0" * 40]


@pytest.mark.parametrize("bytes_", BAD, ids=range(len(BAD)))
def test_bad_headers(running, bytes_):
    """From a proxy a valid header is mandatory: else the end, without a word."""
    with Talk(running.proxied, before=bytes_ + b"EHLO c.test\r\n", greeting=False) as talk:
        assert b"220" not in talk.rest()
    running.wait("session.protocol")


def test_header_from_others(running):
    """Who is no proxy, and says he is: an unknown command, and his own address."""
    with Talk(running.plain) as talk:
        talk.send(v1("10.1.2.3"))
        assert talk.reply()[0] == 500
    with Talk(running.plain, before=v1("203.0.113.9"), greeting=False) as talk:
        assert talk.reply()[0] in (220, 554)


def test_second_header(running):
    """Behind a good one a second one is no header."""
    with Talk(running.proxied, before=v1("203.0.113.9") + v1("10.1.2.3"), greeting=False) as talk:
        assert talk.reply()[0] in (220, 554)
        if talk.greeting or not talk.is_closed():
            assert not may_relay(talk)


# ---- XCLIENT ----

def test_xclient_offer(running):
    with Talk(running.xclient, ehlo="c.test") as talk:
        assert "ADDR" in talk.offers("XCLIENT")
    with Talk(running.plain, ehlo="c.test") as talk:
        assert not talk.offers("XCLIENT")
        assert talk.code("XCLIENT ADDR=10.1.2.3") in (500, 502)
        assert talk.code("NOOP") == 250


def test_front_end_has_no_rights_itself(running):
    with Talk(running.xclient, ehlo="c.test") as talk:
        assert not may_relay(talk), "127.0.0.1 is in a trusted network, but speaks for others"


@pytest.mark.parametrize("address, trusted", [("10.1.2.3", True), ("203.0.113.9", False), ("IPV6:2001:db8::9", False),
                                              ("[UNAVAILABLE]", False), ("[TEMPUNAVAIL]", False), ("127.0.0.1", False)])
def test_xclient_address(running, address, trusted):
    with Talk(running.xclient, ehlo="c.test") as talk:
        assert talk.code(f"XCLIENT ADDR={address} NAME=client.example.net") == 220
        talk.ehlo()
        assert may_relay(talk) == trusted


def test_xclient_login_is_ignored(running):
    with Talk(running.xclient, ehlo="c.test") as talk:
        assert talk.code("XCLIENT ADDR=203.0.113.9 LOGIN=anna") == 220
        talk.ehlo()
        assert not may_relay(talk)


@pytest.mark.parametrize("arguments", ["", "ADDR", "ADDR=", "ADDR=300.1.1.1", "ADDR=203.0.113.9 BAD=1", "PORT=70000", "FOO=BAR",
                                       "ADDR=203.0.113.9+"])
def test_bad_xclient(running, arguments):
    with Talk(running.xclient, ehlo="c.test") as talk:
        assert talk.code(f"XCLIENT {arguments}".strip()) == 501


def test_xclient_inside_a_transaction(running):
    with Talk(running.xclient, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        assert talk.code("XCLIENT ADDR=10.1.2.3") == 503
        assert talk.code("RCPT TO:<b@example.net>") in (550, 554)


def test_proxy_in_trusted_networks_needs_a_reason(scene):
    """The overlap is no accident, or it is an error."""
    text = scene.path.read_text()
    scene.path.write_text(text.replace('{ network: 127.0.0.0/8, reason: "test" }', "127.0.0.0/8"))
    code, problems = scene.check()
    assert code == 1 and any("trusted" in str(problem) for problem in problems), problems
