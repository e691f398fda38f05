# SPDX-License-Identifier: Apache-2.0
"""
Every way in which a client is refused and every way in which a message can end, looked at as somebody at the telephone does:
`postern trace REF|ID` must say why. Each case is a row: what happens, and the words without which the story is none.
"""
import random
import re
import socket
import struct

from rig.gateway import wait_until
from rig.hook import Hook
from rig.ports import free_port
from rig.talk import Talk

SCRIPT = """
function content(mail)
  if mail:header("Subject") == "fault" then
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
  narrow: {{ listen: [ "127.0.0.1:{narrow}" ], tls: none, authentication: none, limits: {{ sessions_per_client: 1 }} }}
  hasty: {{ listen: [ "127.0.0.1:{hasty}" ], tls: none, authentication: none, limits: {{ command_timeout: 1s }} }}
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
  away.test: {{ recipients: all, transport: to-mail }}
  gone.test: {{ recipients: all, transport: to-gone }}
  slow.test: {{ recipients: all, transport: to-slow }}
{domains}
"""
CONTENTS = ("reject", "defer", "discard", "hold", "quarantine", "attachment", "script", "http", "match")


class Scene:
    """A gateway with all that refuses; `mail` is the server behind it."""

    def __init__(self, gateway, sink, tls_files, folder):
        self.mail = sink(users={"anna": "secret"}, replies={"RCPT": self.answer})
        self.judge = Hook()
        (folder / "rules.lua").write_text(SCRIPT)
        ports = {name: free_port() for name in ("mx", "narrow", "hasty", "submission", "down", "gone")}
        self.gateway = gateway(CONFIG.format(
            mail=self.mail.port, judge=self.judge.port, cert=tls_files[0], key=tls_files[1], script=folder / "rules.lua", **ports,
            domains="\n".join(f"  {name}.test: {{ recipients: all, content: c-{name}, transport: to-mail }}" for name in CONTENTS)),
            ports=[port for name, port in ports.items() if name != "gone"])
        self.__dict__.update(ports)

    def answer(self, line):
        """What the server behind says to RCPT."""
        name, domain = re.search("<([^@>]*)@([^>]*)>", line).groups()
        if name in self.refusals:
            return self.refusals[name]
        return "" if domain != "example.org" or name in ("anna", "limited") else "550 5.1.1 no such user here"

    refusals = {"full": "452 4.2.2 mailbox is full", "gone": "550 5.1.1 he has left us", "busy": "450 4.2.0 busy now"}

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
    with Talk(one.hasty) as talk:
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


@case("Command not recognized", "500 5.5.1")
def unknown_command(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        return one.refused(talk, "FROBNICATE now", 500)


@case("554 5.5.1", "reason protocol")
def pipelined_behind_starttls(one):
    with Talk(one.mx, ehlo="client.test") as talk:
        talk.send(b"STARTTLS\r\nMAIL FROM:<a@far.test>\r\n")
        return ref_in(talk.rest().decode())


@case("Refused: auth.fail", "535 5.7.8 Authentication credentials invalid", "password_wrong", "user anna", "ask-mail", "no ", "AUTH: 535")
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

@case("Message too big", "limit size  value 30000")
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
        return one.refused(talk, "RCPT TO:<limited@example.org>", 450)


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
    return one.at_data("x@match.test", 550, b"Subject: cheap pills\r\n\r\nx\r\n")


@case("Message too big", "limit size", "reason size", "x@gone.test")
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
    with Talk(one.mx, ehlo="client.test") as talk:
        talk.mail("a@far.test", "anna@example.org")
        talk.code("DATA")
        talk.send(b"Subject: half\r\n\r\nonly a pi")
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return one.gateway.wait("message.aborted", why="connection lost")["message"]


# ---- taken, and then ----

@case("sent", "they said: 250 2", "connect", "greeting", "transfer", "anna@example.org", "content flow incoming", "subject hello", "message.done")
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


@case("deferred", "452 4.2.2 mailbox is full", "next try", "gives up", "queue", "transfer", "to-mail", "on a connection that was open")
def deferred(one):
    message = one.taken("full@away.test")
    one.gateway.wait("delivery.deferred", message=message)
    return message


@case("deferred", "cannot connect", "next try", "gives up", "to-slow")
def no_connection(one):
    message = one.taken("x@slow.test")
    one.gateway.wait("delivery.deferred", message=message)
    return message


@case("failed", "550 5.1.1 he has left us", "dsn.sent", "anna@example.org")
def failed(one):
    with Talk(one.submission, ehlo="client.test") as talk:
        talk.starttls()
        assert talk.login("anna", "secret")[0] == 235
        talk.mail("anna@example.org", "gone@away.test")
        message = talk.data(b"Subject: hello\r\n\r\nx\r\n")[1].rpartition("queued as ")[2]
    one.gateway.wait("dsn.sent", message=message)
    return message


@case("expired", "cannot connect", "deferred")
def expired(one):
    message = one.taken("x@gone.test")
    one.gateway.wait("delivery.expired", message=message)
    return message


def acted(one, verb, *more, to="busy@away.test"):
    """A deferred message on which an operator acts."""
    message = one.taken(to)
    one.gateway.wait("delivery.deferred", message=message)
    one.gateway.ctl("queue", verb, message, "--reason", "the customer asked", *more)
    one.gateway.wait("queue.action", message=message)
    return message


@case("queue.action", "verb hold", "why the customer asked", "actor uid 0")
def operator_holds(one):
    return acted(one, "hold")


@case("release", "hold", "the customer asked")
def operator_releases(one):
    message = acted(one, "hold")
    one.gateway.ctl("queue", "release", message, "--reason", "he may")
    return message


@case("retry", "the customer asked")
def operator_retries(one):
    message = acted(one, "retry")
    one.gateway.wait("delivery.deferred", message=message, count=2)
    return message


@case("fail", "the customer asked", "failed", "450 4.2.0 busy now")
def operator_fails(one):
    message = acted(one, "fail")
    one.gateway.wait("delivery.failed", message=message)
    return message


@case("drop", "the customer asked", "dropped")
def operator_drops(one):
    message = acted(one, "drop")
    one.gateway.wait("delivery.dropped", message=message)
    return message


@case("quarantine.released", "sent")
def quarantine_releases(one):
    message = one.taken("x@quarantine.test")
    one.gateway.ctl("quarantine", "release", message, "--reason", "it is good")
    one.gateway.wait("message.done", message=message)
    return message


@case("quarantine.deleted", "it is bad")
def quarantine_deletes(one):
    message = one.taken("x@quarantine.test")
    one.gateway.ctl("quarantine", "delete", message, "--reason", "it is bad")
    one.gateway.wait("quarantine.deleted", message=message)
    return message


@case("Deferred", "contained", "on hold", "anna")
def contained(one):
    with Talk(one.submission, ehlo="client.test") as talk:
        talk.starttls()
        assert talk.login("anna", "secret")[0] == 235
        one.gateway.ctl("contain", "anna", "--reason", "stolen")
        ref = one.refused(talk, "MAIL FROM:<anna@example.org>", 450)
    one.gateway.ctl("incident", "close", "1", "--release", "--reason", "false alarm")
    return ref


@case("sent", "next try", "deferred")
def crash_in_between(one):
    """What was told before a crash and what came after it are one story."""
    one.refusals["late"] = "450 4.2.0 busy now"
    message = one.taken("late@away.test")
    one.gateway.wait("delivery.deferred", message=message)
    look(one, message, ["next try"])
    one.gateway.kill()
    one.gateway.crash_expected = True
    del one.refusals["late"]
    one.gateway.start()
    one.gateway.ctl("queue", "retry", message, ok=(0, 1))  # 1: when it is due was not on disk yet, so it is due
    one.gateway.wait("message.done", message=message)
    return message


def look(one, word, words=()):
    """The story, once these words are in it: an event is in the history a moment after the reply. Without them when they do not come."""
    text = [""]

    def is_told():
        done = one.gateway.run_ctl("trace", word)
        text[0] = done.stdout
        return done.returncode == 0 and all(expected in text[0] for expected in words)

    try:
        wait_until(is_told, f"the story of {word}")
    except AssertionError:
        pass
    return text[0]


# steps, servers, addresses of theirs, flows, transports, files, patterns, backends, reasons of the closed list
INTERNAL = "|".join(["ask-mail", "ask-gone", "never-him", "not-now", "no-good", "own-rules", r"rules\.lua", "the table is gone", "bad-words", r"\(\?i\)",
                     r"127\.0\.0\.1", "cannot connect", "local-users", "c-[a-z]+", "to-mail", "to-gone", r"\bspam\b", "judge",
                     "the customer asked", "[a-z]+_[a-z]+", "uid 0"])


def test_every_ending(gateway, sink, tls_files, tmp_path):
    one = Scene(gateway, sink, tls_files, tmp_path)
    missing = []
    for name, (function, words) in CASES.items():
        word = story = None
        try:
            word = function(one)
            text = look(one, word, words)
            story = one.gateway.ctl("trace", "--story", word)
        except Exception as problem:
            text = f"{type(problem).__name__}: {problem}"
        print(f"\n======== {name} {word}\n{text}\n{story}")
        missing += [(name, expected) for expected in words if expected not in text]
        missing += [(name, expected, "for the sender") for expected in ("On 20", f"Reference: {word}.") if expected not in (story or "")]
        missing += [(name, found.group(), "is not for the sender") for found in re.finditer(INTERNAL, story or "")]
    assert not missing, missing


# ---- every refusal has a ref, and the ref its story ----

VERBS = [b"EHLO c.test", b"HELO c.test", b"EHLO", b"EHLO \x1b[31m", b"NOOP", b"RSET", b"HELP", b"VRFY anna@example.org", b"EXPN all", b"TURN", b"ETRN x",
         b"STARTTLS x", b"AUTH", b"AUTH NONSENSE", b"AUTH PLAIN", b"AUTH PLAIN =", b"AUTH LOGIN", b"AUTH PLAIN AGFubmEAd3Jvbmc=", b"*", b"XCLIENT ADDR=192.0.2.1",
         b"MAIL FROM:<a@far.test>", b"MAIL FROM:<>", b"MAIL FROM:a@far.test", b"MAIL FROM:<a@far.test> SIZE=99999999", b"MAIL FROM:<a@far.test> NONSENSE=1",
         b"MAIL FROM:<\xff@far.test>", b"MAIL", b"RCPT TO:<anna@example.org>", b"RCPT TO:<nobody@example.org>", b"RCPT TO:<x@elsewhere.test>", b"RCPT TO:<later@example.org>",
         b"RCPT TO:<x@@y>", b"RCPT TO:<x@gone.test> NOTIFY=SOMETIMES", b"RCPT TO:<postmaster>", b"RCPT", b"DATA", b"DATA x", b"BDAT 5", b"BDAT 3 LAST\r\nabc", b"BDAT x",
         b"Subject: x\r\n\r\nx\r\n.", b"x\ny\r\n.", b"GET / HTTP/1.1", b"\x16\x03\x01", b"", b"x" * 5000, b"QUIT NOW", b"\xe2\x80\xaeNOOP"]


def talk_nonsense(port, chance, tls):
    """Lines of no sense, one after the other; the replies, each with all its lines."""
    replies = []
    with Talk(port, timeout=10) as talk:
        try:
            if tls:
                talk.ehlo()
                talk.starttls()
            for _ in range(chance.randrange(3, 14)):
                line = chance.choice(VERBS)
                talk.send(line + b"\r\n")
                if not line.startswith((b"BDAT 5", b"Subject", b"x\ny")):
                    replies.append((line, *talk.reply()))
        except (EOFError, OSError):
            pass
    return replies


def test_every_refusal_has_a_ref(gateway, sink, tls_files, tmp_path):
    one = Scene(gateway, sink, tls_files, tmp_path)
    chance = random.Random(4)
    refs, codes = [], set()
    for _ in range(120):
        port, tls = chance.choice([(one.mx, False), (one.mx, True), (one.submission, True), (one.submission, False), (one.down, False)])
        for line, code, text in talk_nonsense(port, chance, tls):
            codes.add(code)
            if code >= 400:
                assert re.search(r" \(ref [0-9A-HJKMNP-TV-Z]{8}\)$", text), (line, code, text)
                refs.append(ref_in(text))
            elif b"LAST" in line and code == 250:
                assert re.search(r"queued as [0-9A-HJKMNP-TV-Z]{26}$", text), text
    assert len(set(refs)) == len(refs) and len(refs) > 150 and len(codes) > 10, (len(refs), codes)
    for ref in chance.sample(refs, 15):
        assert f"ref {ref}" in look(one, ref)
