# SPDX-License-Identifier: Apache-2.0
"""Flows that ask a web service: what it is told, what it says, and what becomes of answers that are none."""
import pytest

from rig.gateway import wait_until
from rig.hook import Hook
from rig.ports import free_port
from rig.talk import Talk

CONFIG = """
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail}", tls: none }}
  hook: {{ http: "{scheme}://{host}:{port}/decide?x=1"{options} }}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: none, authentication: none }}
flows:
  recipient:
    asked: [ {recipient}accept ]
  content:
    asked: [ {content}deliver ]
transports:
  to-mail: {{ method: server, server: mail, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  example.org: {{ recipients: asked, content: asked, transport: to-mail }}
"""
MESSAGE = b"From: Ann <a@example.net>\r\nX-Old: 1\r\nTo: anna@example.org\r\nX-Old: 2\r\nSubject: x\r\n\r\nHello\r\n--x--\r\n"


@pytest.fixture
def hook():
    made = []

    def make(*args, **options):
        made.append(Hook(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def asking(gateway, sink):
    """asking(HOOK, content=STEP, recipient=STEP) is a gateway with them before its verdicts."""
    def make(server, content="", recipient="", options="", scheme="http", host="127.0.0.1", start=True):
        mail, mx = sink(), free_port()
        one = gateway(CONFIG.format(mail=mail.port, mx=mx, port=server.port, scheme=scheme, host=host, options=options,
                                    recipient=recipient and recipient + ", ", content=content and content + ", "), ports=[mx], start=start)
        one.mail, one.mx = mail, mx
        return one
    return make


def send(one, message=MESSAGE, recipients=("anna@example.org",)):
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", *recipients)
        return talk.data(message, b".\r\n")


def delivered(one, count=1):
    wait_until(lambda: len(one.mail.messages) >= count, "it is delivered")
    return one.mail.messages[count - 1].data


# ---- what it is told ----

def test_the_facts_of_a_message(asking, hook):
    server = hook()
    one = asking(server, "http: hook")
    assert send(one, recipients=("anna@example.org", "bob@example.org"))[0] == 250
    asked, = server.asked
    assert asked.path == "/decide?x=1" and asked.fields["Host"] == f"127.0.0.1:{server.port}" and asked.message is None
    facts = asked.facts
    assert facts["version"] == 1 and facts["phase"] == "content" and facts["listener"] == "inbound"
    assert facts["client"]["address"] == "127.0.0.1" and facts["client"]["helo"] == "c.test"
    assert facts["sender"] == "a@example.net" and facts["recipients"] == ["anna@example.org", "bob@example.org"]
    assert facts["authenticated"] is False and facts["user"] == "" and facts["size"] > len(MESSAGE)
    assert facts["message"].encode() in delivered(one)


def test_the_facts_are_json_whatever_the_client_is_called(asking, hook):
    server = hook({"outcome": "reject"})
    one = asking(server, recipient="http: hook")
    with Talk(one.mx, ehlo="c.test") as talk:
        assert talk.code(b'MAIL FROM:<"a\\"b"@example.net>\r\n') == 250
        assert talk.code("RCPT TO:<anna@example.org>") == 550
    assert server.asked[0].facts["sender"] == '"a\\"b"@example.net'


@pytest.mark.parametrize("sends", ["header", "whole"])
def test_the_message_in_a_form(asking, hook, sends):
    server = hook()
    one = asking(server, f"http: {{ server: hook, message: {sends} }}")
    large = MESSAGE + b"y" * 70 + b"\r\n" + (b"z" * 70 + b"\r\n") * 20000
    assert send(one, large)[0] == 250
    head, _, body = large.partition(b"\r\n\r\n")
    got_head, _, got_body = server.asked[0].message.partition(b"\r\n\r\n")
    assert got_head.startswith(b"Received: from c.test") and got_head.endswith(head)
    assert got_body == (body if sends == "whole" else b"")


def test_a_password_is_sent_as_a_token(asking, hook, tmp_path):
    server = hook()
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    assert send(asking(server, "http: hook", options=f", password_file: {secret}"))[0] == 250
    assert server.asked[0].fields["Authorization"] == "Bearer s3cret"
    for host, warned in (("127.0.0.1", False), ("192.0.2.7", True)):
        far = asking(server, "http: hook", options=f", password_file: {secret}", host=host, start=False)
        assert any(problem["reason"] == "cleartext-credentials" for problem in far.check()[1]) == warned


def test_https_and_who_it_is(asking, hook, tls_files, tmp_path):
    server = hook(tls_files=tls_files)
    one = asking(server, "http: hook", options=f", ca_file: {tls_files[0]}, timeout: 20s", scheme="https")
    assert send(one)[0] == 250 and server.asked
    one = asking(server, "http: hook", options=", timeout: 20s", scheme="https")  # whom nobody vouches for
    assert send(one)[0] == 451 and len(server.asked) == 1
    assert "certificate" in one.wait("message.deferred")["detail"]


# ---- what it says ----

VERDICTS = [
    ({"outcome": "accept"}, 250, ""), ({"outcome": "reject"}, 550, "5.7.1 Not accepted"),
    ({"outcome": "reject", "reply": "553 5.1.8 never\nagain"}, 553, "5.1.8 never again"),
    ({"outcome": "defer", "reply": "450 4.2.1 in an hour"}, 450, "4.2.1 in an hour"),
    ({"outcome": "defer"}, 451, "4.7.1"), ({"outcome": "discard"}, 250, ""), ({"outcome": "hold", "reason": "odd"}, 250, ""),
    ({"outcome": "quarantine"}, 250, ""), (b"HTTP/1.1 204 No Content\r\n\r\n", 250, ""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"outcom\r\nc;x=y\r\ne\":\"reject\"}\r\n0\r\n\r\n", 550, ""),
    (b"HTTP/1.0 200 OK\r\n\r\n{\"outcome\":\"reject\"}", 550, "")]


def test_verdicts(asking, hook):
    server = hook()
    one = asking(server, "http: hook")
    for server.answer, code, text in VERDICTS:
        got, said = send(one)
        assert got == code and said.startswith(text if code != 250 else ""), (server.answer, said)
    one.wait("message.discarded")
    one.wait("message.held", count=2)
    delivered(one, 2)
    wait_until(lambda: [item["state"] for item in one.queue()] == ["held", "held"], "two are held, and no more")
    assert len(one.mail.messages) == 2


def test_fields_score_and_findings(asking, hook):
    server = hook({"outcome": "accept", "score": 4.5, "findings": [{"name": "RULE", "text": "why"}], "remove_headers": ["x-old"],
                   "add_headers": [{"name": "X-One", "value": "1"}, {"name": "X-Two", "value": "grüß\r\nBcc: x@y.z"}]})
    one = asking(server, 'http: hook, header: { when: score > 4, add: "X-Score: high" }, http: { id: again, server: hook, observe: true }')
    assert send(one)[0] == 250
    head = delivered(one).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[-6:] == [b"X-Score: high", b"X-One: 1", head[-4], b"From: Ann <a@example.net>", b"To: anna@example.org", b"Subject: x"]
    assert head[-4].startswith(b"X-Two: =?utf-8?") and not any(line.startswith(b"Bcc") for line in head)
    assert server.asked[1].facts["findings"] == [{"step": "1-http", "name": "RULE"}] and server.asked[1].facts["score"] == 4.5


def test_recipients_are_asked_about(asking, hook):
    server = hook(lambda asked: {"outcome": "reject", "reply": "550 5.1.1 no such bob"} if asked.facts["recipient"].startswith("bob")
                  else {"outcome": "hold"} if asked.facts["recipient"].startswith("carl") else {"outcome": "accept"})
    one = asking(server, recipient="http: hook")
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        code, text = talk.say("RCPT TO:<Bob@example.org>")
        assert code == 550 and "no such bob" in text
        assert talk.code("RCPT TO:<carl@example.org>") == 451  # what has no meaning here is no answer
        assert talk.data(MESSAGE, b".\r\n")[0] == 250
    assert server.asked[0].facts["phase"] == "recipient" and "recipients" not in server.asked[0].facts
    delivered(one)


# ---- answers that are none ----

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
BAD = {
    "close": "close", "no outcome": {}, "unknown outcome": {"outcome": "yes"}, "a list": [1, 2],
    "garbage": b"\x00\xff\n\r\nrubbish" * 100, "no head": b"HTTP/1.1", "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000,
    "half": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"outcome\": \"accept\"}", "no json": JSON + b"yes",
    "status": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "moved": b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n",
    "deep": JSON + b"[" * 2000 + b"]" * 2000, "large": JSON + b'{"outcome":"accept","x":"' + b"y" * 300000 + b'"}',
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "bad field": {"outcome": "accept", "add_headers": [{"name": "A B", "value": "x"}]},
    "empty field": {"outcome": "accept", "add_headers": [{"name": "A"}]},
    "many fields": {"outcome": "accept", "add_headers": [{"name": "A", "value": "b"}] * 101},
    "long field": {"outcome": "accept", "add_headers": [{"name": "A", "value": "b" * 4000}]},
    "fields no list": {"outcome": "accept", "add_headers": {"A": "b"}}, "score": {"outcome": "accept", "score": "high"},
    "positive reply": {"outcome": "reject", "reply": "250 fine"}, "no reply": {"outcome": "reject", "reply": "go away"},
}


def test_one_that_hangs_is_error(asking, hook):
    one = asking(hook("hang"), "http: hook", options=", timeout: 2s")
    code, text = send(one)
    assert code == 451 and text.startswith("4.3.0"), text
    assert one.wait("message.deferred")["reason"] == "backend_down"


def test_no_answer_is_error(asking, hook):
    server = hook()
    one = asking(server, "http: hook", options=", timeout: 20s")
    for count, (case, server.answer) in enumerate(BAD.items(), 1):
        code, text = send(one)
        assert code == 451 and text.startswith("4.3.0"), (case, text)
        assert one.wait("message.deferred", count=count)["reason"] == "backend_down", case
        server.answer = {"outcome": "reject"}  # an answer, and so no dead one
        assert send(one)[0] == 550
    assert not one.mail.messages


def test_error_may_be_passed_over_and_large_messages_are_not_shown(asking, hook):
    server = hook("close")
    one = asking(server, "http: { server: hook, message: whole, max_size: 2K, error: next, too-big: reject }")
    assert send(one)[0] == 250 and delivered(one)
    assert send(one, MESSAGE + b"x" * 70 + b"\r\n" * 1500)[0] == 552 and len(server.asked) == 1
