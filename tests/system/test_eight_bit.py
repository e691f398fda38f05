# SPDX-License-Identifier: Apache-2.0
"""8-bit mail to a host that takes 7-bit mail only: sent as it is, converted or refused, as the transport says."""
import email

import pytest

from rig.gateway import wait_until
from rig.ports import free_port

MESSAGE = ("From: a@example.org\r\nTo: b@example.net\r\nSubject: eight\r\nMIME-Version: 1.0\r\n"
           "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nJörg = äöü\r\n").encode()


@pytest.fixture
def scene(gateway, sink):
    def make(how, extensions=("PIPELINING",)):
        host = sink(extensions=extensions)
        port = free_port()
        one = gateway(f"""
version: 1
hostname: mx.example.org
servers: {{ next: {{ smtp: "127.0.0.1:{host.port}", tls: none }} }}
trusted_networks: [ 127.0.0.0/8 ]
listeners: {{ relay: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none }} }}
flows: {{ recipient: {{ own: [ accept: {{ when: client in trusted }}, reject ] }} }}
transports: {{ out: {{ method: server, server: next, eight_bit: {how}, retry: {{ delays: [ 1s ], count: 1 }} }} }}
domains: {{ any: {{ recipients: own, transport: out }} }}
entitlements: {{ open_relay_support: true }}
""", ports=[port])
        client = one.client(port)
        client.mail("a@example.org", ["BODY=8BITMIME"])
        client.rcpt("b@example.net")
        assert client.data(MESSAGE)[0] == 250
        return one, host
    return make


def test_send(scene):
    _, host = scene("send")
    wait_until(lambda: host.messages, "it arrives")
    assert host.messages[0].body == MESSAGE.partition(b"\r\n\r\n")[2]


def test_convert(scene):
    _, host = scene("convert")
    wait_until(lambda: host.messages, "it arrives")
    taken = host.messages[0]
    assert all(byte < 128 for byte in taken.data)
    parsed = email.message_from_bytes(taken.data)
    assert parsed["Content-Transfer-Encoding"] == "quoted-printable"
    assert parsed.get_payload(decode=True).decode() == "Jörg = äöü\r\n"


def test_convert_is_not_needed(scene):
    _, host = scene("convert", extensions=("PIPELINING", "8BITMIME"))
    wait_until(lambda: host.messages, "it arrives")
    assert host.messages[0].body == MESSAGE.partition(b"\r\n\r\n")[2]
    assert "BODY=8BITMIME" in host.messages[0].mail_parameters


def test_fail(scene):
    one, host = scene("fail")
    event = one.wait("delivery.failed", to="b@example.net")
    assert event["enhanced"] == "5.6.3"
    assert not [message for message in host.messages if message.recipients == ["b@example.net"]]
