# SPDX-License-Identifier: Apache-2.0
"""
Every way in which a client is refused and every way in which a message can end, looked at as somebody at the telephone does:
`postern trace REF|ID` must say why. Each case is a row: what happens, and the words without which the story is none.
"""
import re
import smtplib
import socket
import struct

import pytest

from rig.gateway import wait_until
from rig.hook import Hook
from rig.ports import free_port
from rig.talk import Talk

SCRIPT = """
function content(mail)
  if mail.subject == "fault" then
    error("the table is gone")
  end
  return "reject", "554 5.7.1 The script says no"
end
"""

CONFIG = """
version: 1
hostname: mx.example.org
postmaster: anna@example.org
trusted_networks: [ 127.0.0.9 ]
servers:
  mail: {{ smtp: "127.0.0.1:{mail}", tls: none }}
  users: {{ smtp: "127.0.0.1:{mail}", tls: none }}
  gone: {{ smtp: "127.0.0.1:{gone}", tls: none }}
  judge: {{ http: "http://127.0.0.1:{judge}/" }}
certificates:
  main: {{ cert: {cert}, key: {key} }}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: offered, certificate: main, authentication: none,
             limits: {{ size: 20K, recipients: 3, hops: 5, errors: 3 }} }}
  narrow: {{ listen: [ "127.0.0.1:{narrow}" ], tls: none, authentication: none, limits: {{ sessions_per_client: 1, command_timeout: 1s }} }}
  submission: {{ listen: [ "127.0.0.1:{submission}" ], tls: required, certificate: main, authentication: {{ flow: staff, required: true }} }}
  down: {{ listen: [ "127.0.0.1:{down}" ], tls: none, allow_cleartext_auth: true, authentication: {{ flow: broken, required: true }} }}
flows:
  authentication:
    staff: [ smtp: {{ id: ask-mail, server: users }} ]
    broken: [ smtp: {{ id: ask-gone, server: gone }} ]
  recipient:
    local-users:
      - greylist: {{ id: come-again, delay: 1h, when: recipient == "grey@example.org" }}
      - limit: {{ id: few, by: client, recipients: 1/1h, when: recipient == "limited@example.org" }}
      - reject: {{ id: never-him, reply: "550 5.7.1 Not him", when: recipient == "never@example.org" }}
      - defer: {{ id: not-now, reply: "451 4.7.1 Not now", when: recipient == "later@example.org" }}
      - lookup-smtp: {{ id: ask-gone, server: gone, when: recipient == "unsure@example.org" }}
      - lookup-smtp: {{ id: ask-mail, server: mail }}
    all: [ accept ]
  content:
    c-reject: [ reject: {{ id: no-good, reply: "550 5.7.1 We do not want that" }} ]
    c-defer: [ defer: {{ id: not-yet, reply: "451 4.7.1 Ask again" }} ]
    c-discard: [ discard: {{ id: away }} ]
    c-hold: [ hold: {{ id: wait, reason: "somebody looks first" }}, deliver ]
    c-quarantine: [ quarantine: {{ id: aside, name: spam, reason: "looks like spam" }}, deliver ]
    c-attachment: [ attachment: {{ id: files }}, deliver ]
    c-script: [ script: {{ id: own-rules, file: "{script}" }}, deliver ]
    c-http: [ http: {{ id: judge, server: judge }}, deliver ]
    c-match: [ match: {{ id: bad-words, header: [ "(?i)^Subject: .*pills" ], matched: reject }}, deliver ]
transports:
  to-mail: {{ method: server, server: mail, retry: {{ delays: [ 1h ], count: 5 }} }}
  to-gone: {{ method: server, server: gone, retry: {{ delays: [ 1s ], count: 1 }} }}
  to-slow: {{ method: server, server: gone, retry: {{ delays: [ 1h ], count: 5 }} }}
quarantines: {{ spam: {{ keep: 30d }} }}
domains:
  example.org: {{ recipients: local-users, transport: to-mail }}
  gone.test: {{ recipients: all, transport: to-gone }}
  slow.test: {{ recipients: all, transport: to-slow }}
{domains}
"""
CONTENTS = ("reject", "defer", "discard", "hold", "quarantine", "attachment", "script", "http", "match")


class Scene:
    """A gateway with all that refuses; `mail` is the server behind it."""

    def __init__(self, gateway, sink, tls_files, folder):
        self.mail = sink(users={"anna": "secret"}, replies={"RCPT": self.answer, "end": self.end})
        self.judge = Hook()
        (folder / "rules.lua").write_text(SCRIPT)
        ports = {name: free_port() for name in ("mx", "narrow", "submission", "down", "gone")}
        self.gateway = gateway(CONFIG.format(
            mail=self.mail.port, judge=self.judge.port, cert=tls_files[0], key=tls_files[1], script=folder / "rules.lua", **ports,
            domains="\n".join(f"  {name}.test: {{ recipients: all, content: c-{name}, transport: to-mail }}" for name in CONTENTS)),
            ports=[port for name, port in ports.items() if name != "gone"])
        self.__dict__.update(ports)
        self.words = "250 2.0.0 taken"

    def answer(self, line):
        """What the server behind says to RCPT; a test changes its words."""
        if re.search("<(anna|moved|full|busy|odd|held)@", line) or not line.lower().endswith("@example.org>") and "@example.org" not in line:
            name = re.search("<([^@>]*)", line).group(1)
            return self.refusals.get(name, "")
        return "550 5.1.1 no such user here"

    refusals = {}

    def end(self, _):
        return self.words

    # ---- what happens ----

    def refused(self, talk, line, code=None):
        """The ref in the reply to a line."""
        got, text = talk.say(line)
        assert got >= 400 and (code is None or got == code), (line, got, text)
        return ref_in(text)

    def at_rcpt(self, to, code, sender="a@far.test"):
        with Talk(self.mx, ehlo="client.test") as talk:
            talk.mail(sender)
            return self.refused(talk, f"RCPT TO:<{to}>", code)

    def at_data(self, to, code, data=b"Subject: hello\r\n\r\nx\r\n"):
        with Talk(self.mx, ehlo="client.test") as talk:
            talk.mail("a@far.test", to)
            got, text = talk.data(data)
            assert got == code, (got, text)
            return ref_in(text)

    def taken(self, to, data=b"Subject: hello\r\n\r\nx\r\n", sender="a@far.test"):
        with Talk(self.mx, ehlo="client.test") as talk:
            talk.mail(sender, to)
            code, text = talk.data(data)
            assert code == 250, text
            return text.rpartition("queued as ")[2]


def ref_in(text):
    found = re.search(r"\(ref ([0-9A-Z]{8})\)", text.replace("\n", " "))
    assert found, f"no ref: {text!r}"
    return found.group(1)


CASES = {}


def case(*words):
    """A row: the function does it and gives the id or ref; `words` must be in its story."""
    def add(function):
        CASES[function.__name__] = (function, words)
        return function
    return add


# ---- before there is a message ----

@case("Too many connections", "sessions_per_client", "narrow", "127.0.0.1")
def too_many_connections(one):
    wait_until(lambda: one.gateway.status()["sessions"] == 0, "nobody is connected")
    with Talk(one.narrow):
        with Talk(one.narrow, greeting=False) as second:
            code, text = second.reply()
            assert code == 421
            return ref_in(text)


@case("Timeout", "command_timeout")
def silent_client(one):
    with Talk(one.narrow) as talk:
        code, text = talk.reply()
        assert code == 421
        return ref_in(text)


@case("session.tls_failed", "127.0.0.1")
def tls_failure(one):
    before = len(one.gateway.find("session.tls_failed"))
    with Talk(one.mx, ehlo="client.test") as talk:
        assert talk.code("STARTTLS") == 220
        talk.send(b"this is no handshake\r\n" * 20)
        talk.is_closed()
    return one.gateway.wait("session.tls_failed", count=before + 1)["session"]


@case("Send EHLO first", "MAIL")
def mail_before_ehlo(one):
    with Talk(one.mx) as talk:
        return one.refused(talk, "MAIL FROM:<a@far.test>", 503)


@case("Command not recognized", "FROBNICATE")
def unknown_command(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        return one.refused(talk, "FROBNICATE now", 500)


@case("without waiting", "protocol")
def pipelined_too_early(one):
    with Talk(one.mx, greeting=False, before=b"EHLO x\r\nMAIL FROM:<a@far.test>\r\n") as talk:
        rest = talk.rest().decode()
    return ref_in(rest)


@case("Authentication failed", "auth_failed", "anna", "ask-mail", "535 5.7.8")
def wrong_password(one):
    with Talk(one.submission, ehlo="client.test") as talk:
        talk.starttls()
        code, text = talk.login("anna", "wrong")
        assert code == 535
        return ref_in(text)


@case("Temporary", "ask-gone", "refused", "454")
def directory_is_down(one):
    with Talk(one.down, ehlo="client.test") as talk:
        code, text = talk.login("anna", "secret")
        assert code == 454
        return ref_in(text)


@case("Authentication required", "submission")
def mail_without_login(one):
    with Talk(one.submission, ehlo="client.test") as talk:
        talk.starttls()
        return one.refused(talk, "MAIL FROM:<a@example.org>", 530)


@case("STARTTLS", "submission", "tls_required")
def login_without_tls(one):
    with Talk(one.submission, ehlo="client.test") as talk:
        return one.refused(talk, "AUTH PLAIN AGEAYgBj", 530)


# ---- MAIL ----

@case("too big", "552", "size")
def size_declared(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        return one.refused(talk, "MAIL FROM:<a@far.test> SIZE=30000", 552)


@case("501", "MAIL")
def bad_sender(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        return one.refused(talk, "MAIL FROM:<a@@far.test>", 501)


# ---- RCPT ----

@case("Refused at RCPT", "recipient_unknown", "ask-mail", "no such user here", "nobody@example.org", "a@far.test")
def unknown_recipient(one):
    return one.at_rcpt("nobody@example.org", 550)


@case("relay_denied", "Relaying denied", "x@elsewhere.test", "no domain")
def relaying(one):
    return one.at_rcpt("x@elsewhere.test", 550)


@case("Deferred at RCPT", "greylist", "come-again")
def greylisted(one):
    return one.at_rcpt("grey@example.org", 451)


@case("rate_limit", "few", "limited@example.org")
def over_a_limit(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        talk.mail("a@far.test")
        talk.say("RCPT TO:<limited@example.org>")
        return one.refused(talk, "RCPT TO:<limited@example.org>", 452)


@case("Not him", "never-him")
def refused_by_a_rule(one):
    return one.at_rcpt("never@example.org", 550)


@case("Deferred at RCPT", "Not now", "not-now")
def deferred_by_a_rule(one):
    return one.at_rcpt("later@example.org", 451)


@case("Deferred at RCPT", "ask-gone", "refused")
def recipient_backend_down(one):
    return one.at_rcpt("unsure@example.org", 451)


@case("Too many recipients", "recipients")
def too_many_recipients(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        talk.mail("a@far.test", "x@gone.test", "y@gone.test", "z@gone.test")
        return one.refused(talk, "RCPT TO:<more@gone.test>", 452)


@case("another transaction", "x@hold.test")
def other_content_flow(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        talk.mail("a@far.test", "x@gone.test")
        return one.refused(talk, "RCPT TO:<x@hold.test>", 452)


# ---- DATA ----

@case("We do not want that", "no-good", "c-reject", "x@reject.test")
def rejected(one):
    return one.at_data("x@reject.test", 550)


@case("Ask again", "not-yet", "Deferred")
def deferred_after_data(one):
    return one.at_data("x@defer.test", 451)


@case("files", "evil.exe", "x@attachment.test")
def attachment(one):
    return one.at_data("x@attachment.test", 554, b"Subject: bill\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=evil.exe\r\n"
                       b"Content-Disposition: attachment; filename=evil.exe\r\n\r\nMZ\r\n")


@case("The script says no", "own-rules")
def script_rejects(one):
    return one.at_data("x@script.test", 554)


@case("own-rules", "the table is gone", "rules.lua:4")
def script_fails(one):
    return one.at_data("x@script.test", 451, b"Subject: fault\r\n\r\nx\r\n")


@case("judge", "Not with us")
def service_refuses(one):
    one.judge.answer = {"outcome": "reject", "reply": "554 5.7.1 Not with us"}
    return one.at_data("x@http.test", 554)


@case("bad-words", "x@match.test")
def pattern_fits(one):
    return one.at_data("x@match.test", 554, b"Subject: cheap pills\r\n\r\nx\r\n")


@case("Message too big", "size", "20480")
def size_while_receiving(one):
    return one.at_data("x@gone.test", 552, b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 400)


@case("mail loop", "loop", "hops")
def mail_loop(one):
    return one.at_data("x@gone.test", 554, b"Received: from a by b; now\r\n" * 6 + b"Subject: x\r\n\r\nx\r\n")


@case("Bare <LF>", "x@gone.test")
def bare_line_feed(one):
    return one.at_data("x@gone.test", 550, b"Subject: x\r\n\r\nx\ny\r\n")


@case("connection lost", "anna@example.org")
def hung_up_within_data(one):
    before = len(one.gateway.find("recipient.accept"))
    with Talk(one.mx, ehlo="client.test") as talk:
        talk.mail("a@far.test", "anna@example.org")
        talk.code("DATA")
        talk.send(b"Subject: half\r\n\r\nonly a pi")
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return one.gateway.wait("recipient.accept", count=before + 1)["message"]


# ---- taken, and then ----

@case("sent", "they said: 250", "transfer", "anna@example.org")
def delivered(one):
    message = one.taken("anna@example.org")
    one.gateway.wait("message.done", message=message)
    return message


@case("discarded", "away")
def discarded(one):
    return one.taken("x@discard.test")


@case("held", "wait", "somebody looks first")
def held(one):
    return one.taken("x@hold.test")


@case("quarantine", "aside", "looks like spam", "spam")
def quarantined(one):
    return one.taken("x@quarantine.test")


@case("deferred", "452", "mailbox is full", "next try", "gives up", "greeting")
def deferred(one):
    one.refusals["full"] = "452 4.2.2 mailbox is full"
    message = one.taken("full@example.org".replace("example.org", "defer2.test")) if False else one.taken("full@example.org")
    one.gateway.wait("delivery.deferred", message=message)
    return message


def look(one, word):
    return one.gateway.ctl("trace", word)


def test_every_ending(gateway, sink, tls_files, tmp_path):
    one = Scene(gateway, sink, tls_files, tmp_path)
    missing = []
    for name, (function, words) in CASES.items():
        word = None
        try:
            word = function(one)
            text = look(one, word)
        except Exception as problem:
            text = f"{type(problem).__name__}: {problem}"
        print(f"\n======== {name} {word}\n{text}")
        for expected in words:
            if expected not in text:
                missing.append((name, expected))
    print(missing)
    assert not missing
