# SPDX-License-Identifier: Apache-2.0
"""8-bit mail to a host that takes 7-bit mail only: sent as it is, converted or refused, as the transport says."""
import base64
import email
import subprocess

import pytest

from rig.gateway import wait_until
from rig.ports import free_port

dkim = pytest.importorskip("dkim")

ED_SEED = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
ED_RECORD = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

MESSAGE = ("From: a@example.org\r\nTo: b@example.net\r\nSubject: eight\r\nMIME-Version: 1.0\r\n"
           "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nJörg = äöü\r\n").encode()


@pytest.fixture
def scene(gateway, sink):
    def make(how, extensions=("PIPELINING",), flow="[ deliver ]", listener="", message=MESSAGE, more="", top="", key=ED_SEED + b"\n"):
        host = sink(extensions=extensions)
        port = free_port()
        one = gateway(f"""
version: 1
hostname: mx.example.org
servers: {{ next: {{ smtp: "127.0.0.1:{host.port}", tls: none }} }}
trusted_networks: [ 127.0.0.0/8 ]
listeners: {{ relay: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none{listener} }} }}
dkim_keys: {{ key: {{ domain: example.org, selector: ed, key: key }} }}
flows:
  recipient: {{ own: [ accept: {{ when: client in trusted }}, reject ] }}
  content: {{ all: {flow} }}
transports: {{ out: {{ method: server, server: next, eight_bit: {how}, retry: {{ delays: [ 1s ], count: 1 }} }}{more} }}
domains: {{ any: {{ recipients: own, content: all, transport: out }} }}
entitlements: {{ open_relay_support: true }}
{top}
""", ports=[port], start=False)
        (one.folder / "key").write_bytes(key)
        (one.folder / "key").chmod(0o600)
        one.start()
        client = one.client(port)
        client.mail("a@example.org", ["BODY=8BITMIME"])
        client.rcpt("b@example.net")
        assert client.data(message)[0] == 250
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


# ---- what we signed (RFC 6376 5.3: a signature comes after the conversion) ----

LISTENERS = pytest.mark.parametrize("listener", ["", ", processing: queued"], ids=["direct", "queued"])
SIGNED = "[ dkim-sign, deliver ]"


def is_signed(message):
    return dkim.verify(message.data, dnsfunc=lambda name, timeout=5: ED_RECORD)


@LISTENERS
@pytest.mark.parametrize("extensions", [("PIPELINING",), ("PIPELINING", "8BITMIME")], ids=["7-bit host", "8-bit host"])
def test_what_we_signed_is_converted_before(scene, listener, extensions):
    _, host = scene("convert", extensions, SIGNED, listener)
    wait_until(lambda: host.messages, "it arrives")
    taken = host.messages[0]
    assert all(byte < 128 for byte in taken.data)
    assert "BODY=8BITMIME" not in taken.mail_parameters
    assert email.message_from_bytes(taken.data).get_payload(decode=True).decode() == "Jörg = äöü\r\n"
    assert is_signed(taken)


@pytest.fixture(scope="module")
def rsa(tmp_path_factory):
    """A key and its record; for seals there is RSA only (RFC 8617 4.1.3)."""
    path = tmp_path_factory.mktemp("rsa") / "key.pem"
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", path, "2048"], check=True, stderr=subprocess.DEVNULL)
    public = subprocess.run(["openssl", "rsa", "-in", path, "-pubout", "-outform", "DER"], check=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout
    return path.read_bytes(), b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


@LISTENERS
@pytest.mark.parametrize("how, eight", [("convert", False), ("send", True)])
def test_what_we_sealed_is_converted_before(scene, dns, rsa, listener, how, eight):
    """The newest set of ARC fields is for the text as it arrives, so the conversion comes first; without one it is as it was."""
    key, record = rsa
    names = dns(['_dmarc.example.org. TXT "v=DMARC1; p=none"'])
    _, host = scene(how, flow="[ verify, arc-seal: key, deliver ]", listener=listener, key=key,
                    top=f'dns: {{ servers: [ "{names.address}" ] }}')
    wait_until(lambda: host.messages, "it arrives")
    taken = host.messages[0].data
    assert any(byte > 127 for byte in taken) == eight
    assert email.message_from_bytes(taken)["ARC-Seal"], taken
    state, results, reason = dkim.arc_verify(taken, dnsfunc=lambda name, timeout=5: record)
    assert state == dkim.CV_Pass, (reason, results, taken)
    state, _, _ = dkim.arc_verify(taken.replace(b"Subject: eight", b"Subject: nine"), dnsfunc=lambda name, timeout=5: record)
    assert state == dkim.CV_Fail


def test_steps_before_and_behind_the_signature(scene):
    _, host = scene("convert", flow='[ header: { add: "X-Before: 1" }, dkim-sign, header: { add: "X-Behind: 2" }, deliver ]')
    wait_until(lambda: host.messages, "it arrives")
    parsed = email.message_from_bytes(host.messages[0].data)
    assert (parsed["X-Before"], parsed["X-Behind"], parsed["Subject"]) == ("1", "2", "eight")
    assert [name for name, _ in parsed.items()].count("From") == 1
    assert parsed.get_payload(decode=True).decode() == "Jörg = äöü\r\n"
    assert is_signed(host.messages[0])


def test_where_no_transport_converts_it_is_signed_as_it_is(scene):
    _, host = scene("send", flow=SIGNED)
    wait_until(lambda: host.messages, "it arrives")
    assert host.messages[0].body == MESSAGE.partition(b"\r\n\r\n")[2]
    assert is_signed(host.messages[0])


def test_a_signature_of_others_is_not_broken(scene):
    foreign = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=x; h=from; bh=AA==; b=AA==\r\n" + MESSAGE
    one, host = scene("convert", flow=SIGNED, message=foreign)
    event = one.wait("delivery.failed", to="b@example.net")
    assert event["enhanced"] == "5.6.3" and "signature" in event["reply"], event
    assert not [message for message in host.messages if message.recipients == ["b@example.net"]]


@LISTENERS
def test_a_notice_is_not_what_it_tells_of(scene, listener):
    """The message has 8-bit text, and the notice about it none: it is not refused for that."""
    _, host = scene("fail", flow="[ notify: { to: ann@example.net, subject: about it }, discard ]", listener=listener)
    wait_until(lambda: host.messages, "the notice arrives")
    assert host.messages[0].recipients == ["ann@example.net"] and "BODY=8BITMIME" not in host.messages[0].mail_parameters
    assert email.message_from_bytes(host.messages[0].data)["Subject"] == "about it"
