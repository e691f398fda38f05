# SPDX-License-Identifier: Apache-2.0
"""Programs that read Postfix's log read ours: pflogsumm counts what was sent, fail2ban sees who attacks."""
import re
import smtplib
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port, wait_for_port
from rig.setups import known, reception
from rig.talk import Talk


@pytest.fixture
def scene(gateway, sink, tmp_path):
    subprocess.run([BUILD / "postern", "user", "add", "--file", tmp_path / "users", "anna"], input="secret\n", text=True,
                   check=True)
    mail = sink(replies={"RCPT": known("anna", "bob", "a", "late")})
    mx = free_port()
    one = gateway(f"""
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{mail.port}", tls: none }} }}
listeners:
  inbound: {{ listen: "127.0.0.1:{mx}", tls: none, authentication: {{ flow: staff, required: false }},
             allow_cleartext_auth: true }}
flows:
  authentication: {{ staff: [ file: {{ path: {tmp_path}/users }} ] }}
transports:
  to-mail: {{ method: server, server: mail, retry: {{ delays: [ 30m ], count: 3 }} }}
domains:
  example.org: {{ recipients: {{ preset: local-users, server: mail }}, transport: to-mail }}
  blind.test: {{ recipients: [ accept ], transport: to-mail }}
  far.test: {{ recipients: [ accept ], transport: to-mail }}
log: {{ to: file, path: mail.log, compat: postfix }}
""", start=False)
    one.log = one.folder / "mail.log"
    one.start(wait=False)
    wait_for_port(mx)
    one.mail, one.mx = mail, mx
    return one


def send(scene, recipients, text="Subject: x\r\nMessage-ID: <m1@far.test>\r\n\r\nx\r\n", login=None):
    refused = []
    with smtplib.SMTP("127.0.0.1", scene.mx, timeout=120) as smtp:
        smtp.ehlo("client.test")
        if login:
            try:
                smtp.login(*login)
            except smtplib.SMTPAuthenticationError:
                return None
        smtp.mail("a@far.test")
        for recipient in recipients:
            if smtp.rcpt(recipient)[0] != 250:
                refused.append(recipient)
        if len(refused) < len(recipients):
            assert smtp.data(text)[0] == 250
    return refused


def traffic(scene):
    """Six messages, seven recipients sent to, one each bounced and deferred; three refusals; logins."""
    for _ in range(4):
        assert send(scene, ["anna@example.org"]) == []
    assert send(scene, ["anna@example.org", "bob@example.org"]) == []
    assert send(scene, ["anna@example.org"], login=("anna", "secret")) == []
    for recipient in ("nobody@example.org", "nobody2@example.org", "x@elsewhere.test"):
        assert send(scene, [recipient]) == [recipient]
    for _ in range(5):
        assert send(scene, ["x"], login=("anna", "wrong")) is None
    assert send(scene, ["unknown@blind.test"], login=("anna", "secret")) == []
    wait_until(lambda: "status=bounced" in scene.log.read_text(), "one bounced")
    wait_until(lambda: scene.log.read_text().count("status=sent") == 8, "all arrived, and the notice")
    scene.mail.replies["DATA"] = lambda _: "451 4.3.0 busy now"
    assert send(scene, ["late@example.org"]) == []
    wait_until(lambda: "status=deferred" in scene.log.read_text(), "one deferred")


def totals(log):
    done = subprocess.run(["pflogsumm", log], text=True, capture_output=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    numbers = {name: int(number) for number, name in
               re.findall(r"^ +(\d+) +(received|delivered|deferred|bounced|rejected|held|discarded|senders|recipients)\b",
                          done.stdout, re.M)}
    return numbers, done.stdout


def matched(log, filter_name):
    done = subprocess.run(["fail2ban-regex", "--print-all-matched", log, filter_name], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = int(re.search(r"Lines: (\d+) lines, \d+ ignored, (\d+) matched", done.stdout)[2])
    return lines, done.stdout


def test_pflogsumm_and_fail2ban(scene):
    traffic(scene)
    numbers, report = totals(scene.log)
    assert numbers["received"] == 8, report    # the notice is not received
    assert numbers["delivered"] == 8, report   # 7 recipients and the notice
    assert numbers["bounced"] == 1 and numbers["deferred"] == 1 and numbers["rejected"] == 3, report
    assert "User unknown in relay recipient table" in report and "Relay access denied" in report
    assert re.search(r"Host or domain name|no such user here", report), report
    assert re.search(r"^ +7 .*a@far\.test", report, re.M) or re.search(r"^ +8 .*a@far\.test", report, re.M), report

    attacks, text = matched(scene.log, "postfix")
    assert attacks == 3, text
    logins, text = matched(scene.log, "postfix[mode=auth]")
    refused = scene.log.read_text().count("authentication failed: authentication failure")
    assert logins == refused >= 5, text
    both, text = matched(scene.log, "postfix[mode=extra]")
    assert both == attacks + logins, text


def test_every_line_is_one_of_postfix(scene):
    traffic(scene)
    scene.stop()
    shape = re.compile(r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d mx postfix/[a-z]+\[\d+\]: [ -~]+$")
    lines = scene.log.read_text().splitlines()
    assert len(lines) > 50
    assert [line for line in lines if not shape.match(line)] == []
    # a session's lines carry one number, and every connection ends
    opened = [line.split("[")[1].split("]")[0] for line in lines if ": connect from " in line]
    closed = [line.split("[")[1].split("]")[0] for line in lines if ": disconnect from " in line]
    assert sorted(opened) == sorted(closed) and len(set(opened)) == len(opened) > 10
    assert sum(": removed" in line for line in lines) == 8  # but for the one that waits


def test_a_confirmed_name_and_helo_stand_in_the_lines(gateway, sink):
    """The name that DNS confirms, with the address behind it, and what the client called itself: fail2ban still finds the address."""
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
    one = gateway(reception(mail, mx, inbound=", proxy: { from: [ 127.0.0.1 ] }",
                            top='dns: { static: { "mx.far.test": [ 9.20.30.40 ] } }\nlog: { to: file, path: mail.log, compat: postfix }'), start=False)
    one.start(wait=False)
    wait_for_port(mx)
    log = one.folder / "mail.log"
    for ip, name in (("9.20.30.40", "mx.far.test"), ("10.1.2.3", "unknown")):
        with Talk(mx, ehlo="i-am.test", before=f"PROXY TCP4 {ip} 127.0.0.1 4711 25\r\n".encode()) as talk:
            talk.mail("a@far.test")
            assert talk.code("RCPT TO:<nobody@example.org>") == 550
        wait_until(lambda: f"reject: RCPT from {name}[{ip}]: 550" in log.read_text(), f"the refusal of {name}")
    lines = [line for line in log.read_text().splitlines() if "reject: RCPT" in line]
    assert all(line.endswith("proto=ESMTP helo=<i-am.test>") for line in lines), lines
