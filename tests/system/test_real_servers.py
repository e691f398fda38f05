# SPDX-License-Identifier: Apache-2.0
"""The guide's cases with real parts: Postfix and Dovecot as your mail server, slapd, a users file, nsd; over each way to
authenticate, on listeners of their own and on one shared port."""
import smtplib

import pytest

from rig.gateway import wait_until
from rig.ldap import PEOPLE, SERVICE, SERVICE_PASSWORD
from rig.ports import free_port

BACKENDS = ["smtp", "file", "ldap"]
LISTENERS = ["own", "shared"]


@pytest.fixture
def scene(request, gateway, mail_server, ldap, sink, dns, tls_files, tmp_path):
    backend, listeners = request.param
    cert, key = tls_files
    mail = mail_server()
    directory = ldap() if backend == "ldap" else None
    world = sink(host="127.0.0.2")
    names = dns(["example.net. MX 10 mx.example.net.", "mx.example.net. A 127.0.0.2"])
    mx, submission, submissions = free_port(), free_port(), free_port()
    (tmp_path / "ldap-password").write_text(SERVICE_PASSWORD + "\n")
    auth = {
        "smtp": "smtp: { server: mail }",
        "file": f"file: {{ path: {tmp_path}/users }}",
        "ldap": 'ldap: { server: directory, filter: "(uid={user})" }',
    }[backend]
    lookup = {
        "smtp": "lookup-smtp: { server: mail }",
        "file": f"lookup-file: {{ path: {tmp_path}/addresses }}",
        "ldap": 'lookup-ldap: { server: directory, filter: "(mail={address})" }',
    }[backend]
    (tmp_path / "addresses").write_text("anna@example.org\nbob@example.org\n")
    own = f"""
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: offered, certificate: main, authentication: none }}
  submission: {{ listen: [ "127.0.0.1:{submission}" ], tls: required, certificate: main,
                 authentication: {{ flow: staff, required: true }} }}
  submissions: {{ listen: [ "127.0.0.1:{submissions}" ], tls: implicit, certificate: main,
                  authentication: {{ flow: staff, required: true }} }}"""
    shared = f"""
  shared: {{ listen: [ "127.0.0.1:{mx}" ], tls: offered, certificate: main,
             authentication: {{ flow: staff, required: false }} }}"""
    config = f"""
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail.port}", tls: verified, ca_file: {cert} }}
  {f'directory: {{ ldap: "{directory.url}", base_dn: "{PEOPLE}", bind_dn: "{SERVICE}", bind_password_file: {tmp_path}/ldap-password }}' if directory else ''}
certificates:
  main: {{ cert: {cert}, key: {key} }}
listeners: {own if listeners == "own" else shared}
flows:
  authentication:
    staff: [ {auth} ]
  recipient:
    users: [ accept: {{ when: authenticated }}, {lookup} ]
transports:
  internet: {{ method: lookup-mx, direction: outbound, port: {world.port}, allow_private: true, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  example.org: {{ recipients: users, transport: {{ server: mail }} }}
  any: {{ preset: relay-authenticated, transport: internet }}
entitlements: {{ open_relay_support: true }}
dns: {{ servers: [ "{names.address}" ] }}
"""
    ports = [mx, submission, submissions] if listeners == "own" else [mx]
    one = gateway(config, ports=[], start=False)
    if backend == "file":
        one.ctl("user", "add", "--file", f"{tmp_path}/users", "anna", stdin="pass-of-user\n")
    one.start()
    one.ports = ports
    one.mail, one.world, one.directory, one.backend = mail, world, directory, backend
    one.mx = mx
    one.submission = submission if listeners == "own" else mx
    return one


def pytest_generate_tests(metafunc):
    if "scene" in metafunc.fixturenames:
        cases = [(backend, listeners) for backend in BACKENDS for listeners in LISTENERS]
        metafunc.parametrize("scene", cases, indirect=True, ids=[f"{b}-{l}" for b, l in cases])


def say(client, sender, recipient, subject="test"):
    code, text = client.mail(sender)
    if code == 250:
        code, text = client.rcpt(recipient)
    if code == 250:
        code, text = client.data(f"From: {sender}\r\nSubject: {subject}\r\n\r\nHello\r\n")
    return code, text.decode()


def login_code(scene):
    """Code of a refused login, or None: a users file is looked at once a second, so a yes may linger."""
    client = scene.client(scene.submission, tls=True)
    try:
        client.login("anna", "pass-of-user")
    except smtplib.SMTPAuthenticationError as refused:
        return refused.smtp_code
    return None


def test_the_cases(scene):
    """One gateway, all seven: starting the servers costs more than the cases."""
    # a stranger to a known user
    code, text = say(scene.client(scene.mx), "a@example.net", "anna@example.org", "one")
    assert code == 250, text
    wait_until(lambda: any(b"Subject: one" in message for message in scene.mail.mailbox("anna")), "anna has it")
    # a stranger to an unknown user
    code, text = say(scene.client(scene.mx), "a@example.net", "nobody@example.org")
    assert code == 550 and text.startswith("5.1.1"), text
    if scene.backend == "smtp":
        assert "nobody@example.org" in text, f"not the mail server's own words: {text}"
    # a stranger to anyone elsewhere
    code, text = say(scene.client(scene.mx), "a@example.net", "b@example.net")
    assert code == 554 and text.startswith("5.7.1"), text
    # a user to anyone at example.org, one who would not pass the lookup too
    user = scene.client(scene.submission, tls=True, login=("anna", "pass-of-user"))
    code, text = say(user, "anna@example.org", "bob@example.org", "four")
    assert code == 250, text
    wait_until(lambda: any(b"Subject: four" in message for message in scene.mail.mailbox("bob")), "bob has it")
    # a user to anyone elsewhere
    code, text = say(user, "anna@example.org", "b@example.net", "five")
    assert code == 250, text
    wait_until(lambda: scene.world.messages, "the world has it")
    assert b"Subject: five" in scene.world.messages[0].data
    # a user without TLS
    clear = scene.client(scene.submission)
    assert not clear.has_extn("auth")
    assert clear.docmd("AUTH", "PLAIN AGFubmEAc2VjcmV0")[0] == 530
    # a wrong password is 535
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        scene.client(scene.submission, tls=True, login=("anna", "wrong"))
    assert refused.value.smtp_code == 535
    scene.wait_empty()
    # every directory unreachable: 454
    if scene.backend == "file":
        (scene.folder.parent / "users").unlink()
    elif scene.backend == "ldap":
        scene.directory.stop()
    else:
        scene.mail.stop()
    assert wait_until(lambda: login_code(scene), "a login is refused") == 454
    assert login_code(scene) == 454
    # and no password was written down anywhere
    assert "pass-of-user" not in str(scene.events)
