# SPDX-License-Identifier: Apache-2.0
"""`postern explain` and `postern test`: what is told without the network is what the daemon does."""
import json
import re
import smtplib
import subprocess

import pytest

from rig.gateway import BUILD
from rig.ports import free_port


def postern(*words, ok=(0,), cwd=None):
    result = subprocess.run([BUILD / "postern", *map(str, words)], text=True, capture_output=True, cwd=cwd)
    assert result.returncode in ok, f"postern {words}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout + result.stderr


@pytest.fixture
def written(tmp_path):
    """What `postern init` writes."""
    postern("init", "relay-authenticated", "--domain", "example.org", "--server", "mail.example.org:25", "--output", tmp_path)
    return tmp_path


# ---- flow tests ----


def test_the_seven_cases_come_with_the_file_and_are_green(written):
    text = postern("test", "--config", written / "postern.yaml")
    assert text.count("\n  ok ") == 7 and text.endswith("7 passed, 0 failed\n")
    # the same by the name of the test alone
    assert postern("test", written / "tests/relay.test.yaml").endswith("7 passed, 0 failed\n")
    assert "7 passed" in postern("test", "tests/relay.test.yaml", cwd=written)


def test_a_changed_flow_is_found_with_file_and_line(written):
    path = written / "postern.yaml"
    path.write_text(path.read_text().replace("- smtp: { server: mail } ", "- smtp: { server: mail, error: reject } "))
    text = postern("test", "--config", path, ok=(1,))
    assert "6 passed, 1 failed" in text
    lines = (written / "tests/relay.test.yaml").read_text().splitlines()
    line, column = map(int, re.search(r"relay\.test\.yaml:(\d+):(\d+)  reply: expected \"454 4\.7\.0\", got \"535 5", text).groups())
    assert lines[line - 1][column - 1:].startswith('"454 4.7.0"')
    assert "by step 2-smtp (mail: stated to be down)" in text


def test_results_as_json(written):
    test = written / "one.test.yaml"
    test.write_text("""
given: { servers: { mail: { recipients: [ "@example.org" ] } } }
tests:
  - name: right
    session: { listener: inbound }
    mail: { from: "", to: anybody@example.org }
    expect: { recipient: accept, step: 2-lookup-smtp, content_step: deliver, reply: "250" }
  - name: wrong
    given: { servers: { mail: denies } }
    session: { listener: inbound }
    mail: { from: "", to: anybody@example.org }
    expect: { recipient: accept, reply: "451 4.7", transport: "server:mail" }
""")
    right, wrong = map(json.loads, postern("--json", "test", "--config", written / "postern.yaml", test, ok=(1,)).splitlines())
    assert right["passed"] and not right["differences"] and right["recipient"] == "accept"
    assert not wrong["passed"] and wrong["recipient"] == "defer"
    # 4.7 is not the beginning of 4.7.1
    assert [one["key"] for one in wrong["differences"]] == ["recipient", "transport", "reply"]
    assert wrong["differences"][0]["place"].endswith("one.test.yaml:12:26")


@pytest.mark.parametrize("text, complaint", [
    ("tests: [ { nam: x } ]", 'did you mean "name"?'),
    ("test: []", 'did you mean "tests"?'),
    ("tests: [ { name: x, session: { listener: inbund }, expect: { auth: accept } } ]", 'did you mean "inbound"?'),
    ("tests: [ { name: x, session: { listener: inbound }, expect: { auth: acept } } ]", 'did you mean "accept"?'),
    ("tests: [ { name: x, session: { listener: inbound }, expect: {} } ]", "expects nothing"),
    ("tests: [ { name: x, session: { listener: inbound }, expect: { reason: relay_denid } } ]", 'did you mean "relay_denied"?'),
    ("tests: [ { name: x, session: { listener: inbound, client: here }, expect: { auth: accept } } ]", "is no IP address"),
    ("given: { servers: { mial: down } }\ntests: []", 'did you mean "mail"?'),
    ("given: { servers: { mail: dwon } }\ntests: []", 'did you mean "down"?'),
    ("tests: {}", "a list of"),
    ("tests: [ { name: x, sesion: { listener: inbound }, expect: { auth: acept } } ]", 'did you mean "session"?'),
    ("tests: [ { name: x, sesion: { listener: inbound }, expect: { auth: acept } } ]", 'did you mean "accept"?'),
    ("tests: [ { name: x, session: { listener: inbund }, exect: { auth: accept } } ]", 'did you mean "inbound"?'),
    ("tests: [", "bad.test.yaml:"),
])
def test_faults_of_a_test_file_are_told_with_their_place(written, text, complaint):
    path = written / "bad.test.yaml"
    path.write_text(text + "\n")
    answer = postern("test", "--config", written / "postern.yaml", path, ok=(1,))
    assert complaint in answer and "bad.test.yaml:" in answer
    assert "0 passed, 0 failed; a test file has errors" in answer


def test_a_missing_file_is_no_success(written):
    assert "cannot read" in postern("test", "--config", written / "postern.yaml", written / "none.test.yaml", ok=(1,))
    (written / "tests/relay.test.yaml").unlink()
    assert "no tests" in postern("test", "--config", written / "postern.yaml", ok=(1,))


# ---- the same as the daemon ----


CASES = [  # listener, login, sender, recipient
    ("inbound", None, "a@world.test", "anna@example.org"),
    ("inbound", None, "a@world.test", "nobody@example.org"),
    ("inbound", None, "a@world.test", "b@elsewhere.test"),
    ("inbound", None, "a@world.test", "postmaster"),
    ("inbound", None, "a@blocked.test", "anna@example.org"),
    ("inbound", None, "a@world.test", "large@example.org"),
    ("inbound", None, "a@world.test", "no one@"),
    ("inbound", None, "@nobody", "anna@example.org"),
    ("inbound", None, "a@[192.0.2.1]", "anna@example.org"),
    ("inbound", None, "a@world.test", "b%elsewhere.test@example.org"),
    ("inbound", None, "a@world.test", "anna@[192.0.2.1]"),
    ("inbound", None, "", "anna@example.org"),
    ("inbound", ("anna", "secret"), "anna@example.org", "anna@example.org"),
    ("submission", None, "anna@example.org", "anna@example.org"),
    ("submission", ("anna", "secret"), "anna@example.org", "b@elsewhere.test"),
    ("submission", ("anna", "wrong"), "anna@example.org", "b@elsewhere.test"),
    ("submission", ("bob", "secret"), "anna@example.org", "b@elsewhere.test"),
]


@pytest.fixture
def scene(gateway, sink, tls_files):
    known = ("anna@", "large@", "postmaster@")
    mail = sink(tls_files=tls_files, users={"anna": "secret"},
                replies={"RCPT": lambda line: "" if any(one in line.lower() for one in known)
                         else "550 5.1.1 Recipient address unknown"})
    inbound, submission = free_port(), free_port()
    cert, key = tls_files
    one = gateway(f"""
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{mail.port}", tls: verified, ca_file: {cert} }} }}
certificates: {{ main: {{ cert: {cert}, key: {key} }} }}
listeners:
  inbound: {{ listen: "127.0.0.1:{inbound}", tls: offered, certificate: main, authentication: none }}
  submission: {{ listen: "127.0.0.1:{submission}", tls: required, certificate: main,
                 authentication: {{ flow: staff, required: true }} }}
flows:
  authentication:
    staff: [ smtp: {{ server: mail }} ]
  recipient:
    ours:
      - accept: {{ when: authenticated }}
      - reject: {{ when: 'sender.domain == "blocked.test"', reply: "550 5.7.1 We do not like you" }}
      - lookup-smtp: {{ server: mail }}
  content:
    careful: [ reject: {{ when: 'any(recipient == "large@example.org")', reply: "554 5.6.0 Not that one" }}, deliver ]
transports:
  internet: {{ method: discard }}
domains:
  example.org: {{ recipients: ours, content: careful, transport: {{ server: mail }} }}
  any: {{ preset: relay-authenticated, transport: internet }}
entitlements: {{ open_relay_support: true }}
""", ports=[inbound, submission])
    one.inbound, one.submission = inbound, submission
    return one


def really(scene, listener, login, sender, recipient):
    """The last reply of the daemon, without the ref and the queue id."""
    client = scene.client(getattr(scene, listener), tls=listener == "submission")
    try:
        if login:
            client.login(*login, initial_response_ok=True)
        reply = client.docmd(f"MAIL FROM:<{sender}>")
        if reply[0] == 250:
            reply = client.docmd(f"RCPT TO:<{recipient}>")
        if reply[0] == 250:
            reply = client.data(b"Subject: test\r\n\r\nHello\r\n")
    except smtplib.SMTPAuthenticationError as error:
        reply = (error.smtp_code, error.smtp_error)
    except smtplib.SMTPNotSupportedError:
        return "502 5.5.1"  # the client did not even try
    text = reply[1].decode()
    return f"{reply[0]} " + re.sub(r" \(ref \w+\)$|, queued as \w+$", "", text)


def test_a_rehearsal_says_what_the_daemon_says(scene):
    """Every case is sent to the daemon, and its replies are what the flow tests expect."""
    lines = ["given: { servers: { mail: { recipients: [ anna@example.org, large@example.org ], logins: { anna: secret } } } }",
             "tests:"]
    for listener, login, sender, recipient in CASES:
        session = {"listener": listener, "tls": listener == "submission"}
        if login:
            session |= {"user": login[0], "password": login[1]}
        lines.append("- " + json.dumps({
            "name": f"{listener} {login} {sender} {recipient}", "session": session,
            "mail": {"from": sender, "to": recipient},
            "expect": {"reply": really(scene, listener, login, sender, recipient)}}))
    path = scene.folder / "daemon.test.yaml"
    path.write_text("\n".join(lines) + "\n")
    answer = postern("test", "--config", scene.path, path, ok=(0, 1))
    assert f"{len(CASES)} passed, 0 failed" in answer, answer


# ---- explain ----


def explain(written, *words, ok=(0,)):
    return postern("explain", "--config", written / "postern.yaml", *words, ok=ok)


def test_a_known_domain_is_shown_with_each_answer_of_the_backend(written):
    text = explain(written, "anna@Example.ORG")
    for part in ("listener inbound, a stranger", "domain example.org", "1-accept           skipped: its condition is false",
                 "2-lookup-smtp      found      -> accept", "missing    -> reject  550 5.1.1 Recipient address unknown",
                 "error      -> defer  451 4.4.3", "transport server:mail", "next hop   mail.example.org:25",
                 "TLS        when the server offers it", "after 5m, 15m, 30m, 1h, 2h; gives up 3h 50m", "it can be accepted"):
        assert part in text, text


@pytest.mark.parametrize("words, code, part", [
    (["b@elsewhere.test"], 1, "554 5.7.1 Relay access denied"),
    (["b@elsewhere.test", "--user", "anna"], 0, "the MX hosts of elsewhere.test, port 25"),
    (["b@elsewhere.test", "--listener", "submission"], 1, "530 5.7.0 Authentication required"),
    (["b@elsewhere.test", "--listener", "inbound", "--user", "anna"], 1, "502 5.5.1"),
    (["postmaster"], 0, "mail for postmaster goes to postmaster@example.org"),
    (["b@elsewhere.test", "--listener", "inbuond"], 2, "there are: inbound submission"),
    (["anna"], 1, "501 5.1.3 Address needs a domain"),
    (["b%elsewhere.test@example.org"], 1, "550 5.1.3 Routed addresses are not accepted"),
    (["anna@[192.0.2.1]"], 1, "550 5.1.2 Address literals are not accepted"),
    (["not an address@"], 2, "is no address"),
    (["b@elsewhere.test", "--client", "nowhere"], 2, "is no IP address"),
])
def test_exit_code_and_words(written, words, code, part):
    assert part in explain(written, *words, ok=(code,))


def test_conditions_are_decided_by_what_is_given(written):
    path = written / "postern.yaml"
    path.write_text(path.read_text().replace("recipients: { preset: local-users, server: mail }", """recipients: [
    defer: { when: "client in [ 192.0.2.0/24 ]" }, reject: { when: 'sender.domain == "bad.test"' }, accept: { when: 'tls != ""' },
    defer ]"""))
    text = explain(written, "anna@example.org")
    assert text.count("if its condition holds, else goes on") == 3
    assert "it would be deferred" in explain(written, "anna@example.org", "--client", "192.0.2.7", ok=(7,))
    given = ["anna@example.org", "--client", "198.51.100.1"]
    assert "it would be refused" in explain(written, *given, "--from", "x@bad.test", ok=(1,))
    assert "it would be accepted" in explain(written, *given, "--from", "x@good.test", "--tls")
    answer = json.loads(postern("--json", "explain", "anna@example.org", path, "--client", "192.0.2.7", ok=(7,)))
    assert answer["answer"] == "defer" and answer["recipients"]["may"] == ["defer"]


def test_mx_hosts_are_asked_for_only_where_dns_is_wanted(written, dns):
    names = dns(["elsewhere.test. MX 10 mx1.elsewhere.test.", "elsewhere.test. MX 20 mx2.elsewhere.test.",
                 "mx1.elsewhere.test. A 192.0.2.25", "nomail.test. MX 0 ."])
    path = written / "postern.yaml"
    path.write_text(path.read_text() + f'dns: {{ servers: [ "{names.address}" ] }}\n')
    text = explain(written, "b@elsewhere.test", "--user", "anna", "--dns")
    assert re.search(r"10 mx1\.elsewhere\.test 192\.0\.2\.25\n +20 mx2\.elsewhere\.test  has no address\n", text), text
    assert "takes no mail (null MX" in explain(written, "b@nomail.test", "--user", "anna", "--dns")
    assert "mx1" not in explain(written, "b@elsewhere.test", "--user", "anna")


def test_a_broken_configuration_is_told(written):
    (written / "postern.yaml").write_text("version: 2\n")
    assert "postern.yaml:1" in explain(written, "anna@example.org", ok=(2,))


# ---- session ----


def converse(written, lines, *words, ok=0):
    result = subprocess.run([BUILD / "postern", "session", written / "postern.yaml", *map(str, words)],
                            input=lines, text=True, capture_output=True, timeout=120)
    assert result.returncode == ok, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_a_session_is_answered_by_the_configuration(written):
    text = converse(written, "EHLO me.test\nMAIL FROM:<a@b.test>\nRCPT TO:<test@example.org>\nRCPT TO:<no@example.org>\n"
                    "RCPT TO:<x@elsewhere.test>\nDATA\nSubject: x\n\nEHLO is no command here\n.\nSTARTTLS\nNOOP\nQUIT\n",
                    "--listener", "inbound", "--given", written / "tests/relay.test.yaml")
    replies = re.findall(r"^(\d{3} .*)$", text, re.M)
    assert [one[:9] for one in replies] == ["220 mx.ex", "250 DSN", "250 2.1.0", "250 2.1.5", "550 5.1.1", "554 5.7.1",
                                            "354 End d", "250 2.0.0", "250 2.0.0", "221 2.0.0"]
    assert "-- recipient: accept, by step 2-lookup-smtp, domain example.org" in text
    assert "-- content: deliver, by step 1-deliver, transport server:mail" in text
    assert "start again with --tls" in text


def test_a_session_with_a_login_and_two_ways_out(written):
    text = converse(written, "EHLO me.test\nMAIL FROM:<a@b.test>\nAUTH PLAIN AGFubmEAd3Jvbmc=\nAUTH PLAIN AGFubmEAY29ycmVjdA==\n"
                    "MAIL FROM:<anna@example.org>\nRCPT TO:<new@example.org>\nRCPT TO:<x@elsewhere.test>\nDATA\n\n.\n",
                    "--listener", "submission", "--tls", "--client", "2001:db8::7", "--given", written / "tests/relay.test.yaml")
    for part in ("530 5.7.0 Authentication required", "535 5.7.8", "235 2.7.0", "transport server:mail", "transport internet"):
        assert part in text, text


def test_a_session_before_tls_and_without_answers(written):
    text = converse(written, "EHLO me.test\nMAIL FROM:<a@b.test>\nQUIT\n", "--listener", "submission")
    assert "530 5.7.0 Must issue a STARTTLS command first" in text
    text = converse(written, "EHLO me.test\nMAIL FROM:<a@b.test>\nRCPT TO:<test@example.org>\nQUIT", "--listener", "inbound")
    assert "no backend is asked" in text and "451 4.4.3" in text and "221 " in text
    assert 'there is no listener "inbuond"; there are: ' in converse(written, "", "--listener", "inbuond", ok=2)


# ---- DNS and signatures in flow tests ----


def test_spf_by_stated_dns(written):
    path = written / "postern.yaml"
    path.write_text(path.read_text().replace("recipients: { preset: local-users, server: mail }",
                                             "recipients: [ spf: { fail: reject }, lookup-smtp: { server: mail } ]"))
    test = written / "spf.test.yaml"
    case = """
  - name: %s
    given: { dns: %s }
    session: { listener: inbound, client: %s }
    mail: { from: a@world.test, to: test@example.org }
    expect: { recipient: %s }
"""
    record = "{ world.test: { txt: \"v=spf1 mx -all\", mx: mx.world.test }, mx.world.test: { a: [ 192.0.2.7, \"2001:db8::7\" ] } }"
    test.write_text("given: { servers: { mail: { recipients: test@example.org } } }\ntests:" + "".join([
        case % ("its own host", record, "192.0.2.7", "accept"),
        case % ("its own host by IPv6", record, "\"2001:db8::7\"", "accept"),
        case % ("a forger", record, "192.0.2.8", "reject, reason: spf_fail, step: spf"),
        case % ("no record", "{}", "192.0.2.8", "accept"),
        case % ("a sender whose DNS is down", "{ world.test: down }", "192.0.2.8", "accept"),
    ]))
    answer = postern("test", "--config", path, test, ok=(0, 1))
    assert "5 passed, 0 failed" in answer, answer
    test.write_text("given: { dns: { world.test: { a: nowhere, tx: x } } }\ntests: []\n")
    answer = postern("test", "--config", path, test, ok=(1,))
    assert 'did you mean "txt"?' in answer


def test_a_signature_is_expected(written):
    path = written / "postern.yaml"
    key = written / "dkim.pem"
    postern("dkim", "generate", "--domain", "example.org", "--selector", "s1", key)
    path.write_text(path.read_text().replace("  any: { preset: relay-authenticated }", "  any: { preset: relay-authenticated, content: signed }")
                    .replace("flows:\n", "flows:\n  content: { signed: [ dkim-sign, deliver ] }\n")
                    + f"dkim_keys: {{ one: {{ domain: example.org, selector: s1, key: {key} }} }}\n")
    test = written / "dkim.test.yaml"
    test.write_text("""
given: { servers: { mail: { logins: { anna: correct } } } }
tests:
  - name: signed
    session: { listener: submission, tls: true, user: anna, password: correct }
    mail: { from: anna@example.org, to: b@elsewhere.test }
    expect: { dkim: example.org, content: signed }
  - name: not for another domain
    session: { listener: submission, tls: true, user: anna, password: correct }
    mail: { from: anna@example.org, to: b@elsewhere.test }
    expect: { dkim: example.com }
""")
    answer = postern("test", "--config", path, test, ok=(1,))
    assert "ok      signed" in answer and "1 passed, 1 failed" in answer, answer
