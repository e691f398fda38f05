# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes come in, what goes out to logs and terminals is text: one line an event, no control bytes, no forged fields."""
import base64
import json

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk

ESCAPES = [b"\x1b[31mred", b"\x1b]0;title\x07", b"\x9b2J", b"\x1bP0;1|17/ab\x9c", b"\x1b[6n", b"\x08\x08\x08", b"\x7f\x7f", b"\xe2\x80\xaegnp.exe",
           b"\xc2\x9b31m", b"\xff\xfe\xfd", b'","queue_id":"forged', b'"}\r{"event":"auth.ok"', b"\\u001b[31m", b"%s%n%x", b"\xed\xa0\x80"]


@pytest.fixture
def scene(gateway, sink, tls_files):
    mail = sink(tls_files=tls_files, replies={"RCPT": known("anna")}, users={"anna": "secret"})
    mx, submission = free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission,
                            mail_extra=f", tls: verified, ca_file: {tls_files[0]}, timeout: 20s"), ports=[mx, submission])
    one.mail, one.mx, one.submission = mail, mx, submission
    return one


def say_all(one, pieces):
    """Each piece in each place of a conversation; the server must survive and answer with text."""
    for piece in pieces:
        for form in [b"EHLO %s", b"HELO x%s.test", b"NOOP %s", b"MAIL FROM:<%s@example.net>", b"MAIL FROM:<a@example.net> ENVID=%s",
                     b"MAIL FROM:<a@example.net> %s=1", b"%s", b"VRFY %s", b"AUTH %s", b"AUTH PLAIN %s"]:
            with Talk(one.mx, ehlo="c.test") as talk:
                talk.send(form % piece + b"\r\n")
                check_text(talk.rest_of_a_reply())
        with Talk(one.mx, ehlo="c.test") as talk:
            talk.mail("a@example.net")
            for form in [b"RCPT TO:<%s@example.org>", b"RCPT TO:<anna@%s>", b'RCPT TO:<"%s"@example.org>', b"RCPT TO:<anna@example.org> ORCPT=rfc822;%s"]:
                talk.send(form % piece + b"\r\n")
                answer = talk.rest_of_a_reply()
                check_text(answer)
                if not answer or answer.startswith(b"421"):
                    break


def rest_of_a_reply(self):
    try:
        return f"{self.reply()}".encode("utf-8", "surrogateescape")
    except (EOFError, OSError):
        return b""


Talk.rest_of_a_reply = rest_of_a_reply


def check_text(answer):
    assert not any(byte < 32 or byte == 127 for byte in answer), answer


def raw_log(one):
    """Standard output byte for byte: an event a line, nothing in it that a terminal obeys."""
    for line in list(one.raw):
        assert "queue_id" not in json.loads(line), line
        text = line.decode()
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2066" for c in text.removesuffix("\n")), line


def test_all_bytes(scene):
    say_all(scene, [bytes([b]) for b in range(256) if b not in (10, 13)][::5])
    raw_log(scene)


def test_escapes(scene):
    say_all(scene, ESCAPES)
    raw_log(scene)
    assert not scene.find("auth.ok")


def test_login_names(scene):
    for piece in ESCAPES:
        with Talk(scene.submission, ehlo="c.test") as talk:
            talk.starttls()
            token = base64.b64encode(b"\0" + piece + b"\0secret").decode()
            assert talk.say(f"AUTH PLAIN {token}")[0] in (535, 501, 454)
    scene.wait("auth.fail")
    raw_log(scene)


def test_replies_of_the_mail_server(scene):
    """What a server says goes into events, and to the client: as text."""
    for i, piece in enumerate(ESCAPES):
        text = piece.decode("utf-8", "surrogateescape")
        scene.mail.replies[f"RCPT x{i}@example.org"] = lambda _, text=text: f"550 5.1.1 {text}".encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        with Talk(scene.mx, ehlo="c.test") as talk:
            talk.mail("a@example.net")
            talk.send(f"RCPT TO:<x{i}@example.org>\r\n")
            check_text(talk.rest_of_a_reply())
    scene.wait("recipient.reject")
    raw_log(scene)


def test_headers(scene):
    """Hostile headers pass as they are, and never show raw in a log."""
    for piece in ESCAPES:
        with Talk(scene.mx, ehlo="c.test") as talk:
            talk.mail("a@example.net", "anna@example.org")
            talk.data(b"Subject: " + piece.replace(b"\r", b"") + b"\r\nMessage-ID: <" + piece.replace(b"\r", b"") + b">\r\n\r\nx")
    wait_until(lambda: len(scene.mail.messages) == len(ESCAPES), "all are delivered")
    scene.wait_empty()
    raw_log(scene)
    for words in [("queue", "list"), ("status",), ("message", "events", scene.find("message.accepted")[0]["message"])]:
        shown = scene.ctl(*words, ok=(0, 1))
        assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c == "\u202e" for c in shown), shown
