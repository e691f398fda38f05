# SPDX-License-Identifier: Apache-2.0
"""The guide's cases, over a programmable mail server: what must happen, and what must not be asked."""
import pytest
import smtplib

from rig.ports import free_port
from rig.gateway import wait_until


@pytest.fixture
def scene(gateway, sink, dns, tls_files):
    """Our mail server knows anna; the world is one sink behind an MX record."""
    mail = sink(tls_files=tls_files, users={"anna": "secret"},
                replies={"RCPT": lambda line: "" if "anna@" in line.lower() or "bob@" in line.lower()
                         else "550 5.1.1 no such user here"})
    world = sink(host="127.0.0.2")
    names = dns(["example.net. MX 10 mx.example.net.", "mx.example.net. A 127.0.0.2"])
    mx, submission, submissions = free_port(), free_port(), free_port()
    cert, key = tls_files
    config = f"""
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail.port}", tls: verified, ca_file: {cert} }}
certificates:
  main: {{ cert: {cert}, key: {key} }}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: offered, certificate: main, authentication: none }}
  submission: {{ listen: [ "127.0.0.1:{submission}" ], tls: required, certificate: main,
                 authentication: {{ flow: staff, required: true }} }}
  submissions: {{ listen: [ "127.0.0.1:{submissions}" ], tls: implicit, certificate: main,
                  authentication: {{ flow: staff, required: true }} }}
flows:
  authentication:
    staff: [ smtp: {{ server: mail }} ]
transports:
  internet: {{ method: lookup-mx, direction: outbound, port: {world.port}, allow_private: true, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  example.org: {{ recipients: {{ preset: local-users, server: mail }}, transport: {{ server: mail }} }}
  any: {{ preset: relay-authenticated, transport: internet }}
entitlements: {{ open_relay_support: true }}
dns: {{ servers: [ "{names.address}" ] }}
"""
    one = gateway(config, ports=[mx, submission, submissions])
    one.mail, one.world, one.mx, one.submission, one.submissions = mail, world, mx, submission, submissions
    return one


def say(client, sender, recipient):
    code, text = client.mail(sender)
    if code == 250:
        code, text = client.rcpt(recipient)
    if code == 250:
        code, text = client.data(b"Subject: test\r\n\r\nHello\r\n")
    return code, text.decode()


def test_stranger_to_known_user(scene):
    code, text = say(scene.client(scene.mx), "a@example.net", "anna@example.org")
    assert code == 250 and "queued as" in text
    wait_until(lambda: scene.mail.messages, "the mail server has it")
    assert scene.mail.messages[0].recipients == ["anna@example.org"]
    assert any(line == "MAIL FROM:<>" for _, line in scene.mail.commands), "it was not looked up"
    scene.wait_empty()


def test_stranger_to_unknown_user(scene):
    code, text = say(scene.client(scene.mx), "a@example.net", "nobody@example.org")
    assert code == 550 and text.startswith("5.1.1 no such user here (ref ")
    scene.wait("recipient.reject", reason="recipient_unknown")


def test_stranger_to_anyone_elsewhere(scene):
    code, text = say(scene.client(scene.mx), "a@example.net", "b@example.net")
    assert code == 554 and text.startswith("5.7.1")
    assert not scene.mail.commands, "a lookup was made"


@pytest.mark.parametrize("way", ["submission", "submissions"])
def test_user_to_own_domain(scene, way):
    client = scene.client(getattr(scene, way), tls=way == "submission", implicit=way == "submissions",
                          login=("anna", "secret"))
    asked = len(scene.mail.commands)
    code, text = say(client, "anna@example.org", "nobody@example.org")
    assert code == 250, text
    wait_until(lambda: any(line.startswith("RCPT TO:<nobody") for _, line in scene.mail.commands[asked:]),
               "delivery is tried at the mail server")
    # not looked up: its only RCPT is that of the delivery, from our user
    assert not any(line == "MAIL FROM:<>" for _, line in scene.mail.commands[asked:asked + 3])


@pytest.mark.parametrize("way", ["submission", "submissions"])
def test_user_to_anyone_elsewhere(scene, way):
    client = scene.client(getattr(scene, way), tls=way == "submission", implicit=way == "submissions",
                          login=("anna", "secret"))
    code, text = say(client, "anna@example.org", "b@example.net")
    assert code == 250, text
    wait_until(lambda: scene.world.messages, "the world has it")
    assert scene.world.messages[0].recipients == ["b@example.net"]
    scene.wait_empty()


def test_user_without_tls(scene):
    client = scene.client(scene.submission)
    assert not client.has_extn("auth")
    code, text = client.docmd("AUTH", "PLAIN AGFubmEAc2VjcmV0")
    assert code == 530 and text.startswith(b"5.7.0")
    assert client.mail("anna@example.org")[0] == 530


def test_directory_unreachable(scene):
    scene.mail.close()
    client = scene.client(scene.submission, tls=True)
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.login("anna", "secret")
    assert refused.value.smtp_code == 454 and b"4.7.0" in refused.value.smtp_error


def test_wrong_password(scene):
    client = scene.client(scene.submission, tls=True)
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.login("anna", "guessed")
    assert refused.value.smtp_code == 535
    told = [event for event in scene.events if event.get("reason") != "secret-readable"]
    assert "secret" not in str(told) and "guessed" not in str(scene.wait("auth.fail"))
