# SPDX-License-Identifier: Apache-2.0
"""
Hosts that are odd or hostile: each says just one thing that it should not. What must come of it: the next host, a retry or a
failure; one copy at the most; the words of the host in the story; and never a wait without end.
"""
import contextlib
import socket
import ssl
import threading
import time

import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound

MESSAGE = b"Subject: odd\r\n\r\nHello\r\n"


class Odd:
    """A server of one deed. `deed(talk, stage)` is called before each usual answer ("banner", verbs, "end"); True: it answered itself."""

    def __init__(self, deed, offers=(), tls_files=None, inside=None):
        self.deed, self.offers, self.inside = deed, offers, offers if inside is None else inside
        self.taken, self.heard, self.sessions = [], [], 0
        self.context = None
        if tls_files:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*map(str, tls_files))
        self.door = socket.create_server(("127.0.0.1", 0), backlog=32)
        self.port = self.door.getsockname()[1]
        self.open = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock = self.door.accept()[0]
                self.sessions += 1
                self.open.append(sock)
                threading.Thread(target=self.run, args=(OddTalk(self, sock),), daemon=True).start()

    def run(self, talk):
        with contextlib.suppress(OSError, EOFError, ValueError):
            talk.serve()
        talk.close()

    def close(self):
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class OddTalk:
    def __init__(self, odd, sock):
        self.odd, self.sock, self.buffer, self.tls = odd, sock, b"", False

    def close(self):
        self.sock.close()

    def say(self, text):
        self.sock.sendall(text.encode() if isinstance(text, str) else text)

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode("latin-1")

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError
        self.buffer += piece

    def usual(self, stage, line):
        odd = self.odd
        if stage == "EHLO":
            offers = ["odd.test", *(odd.inside if self.tls else odd.offers), *(["STARTTLS"] if odd.context and not self.tls else [])]
            self.say("".join(f"250{' ' if one is offers[-1] else '-'}{one}\r\n" for one in offers))
        elif stage == "STARTTLS":
            self.say("220 go\r\n")
            self.sock = odd.context.wrap_socket(self.sock, server_side=True)
            self.tls, self.buffer = True, b""
        else:
            self.say({"banner": "220 odd.test ESMTP", "DATA": "354 go", "QUIT": "221 bye", "end": "250 taken", "BDAT": "250 taken"}.get(stage, "250 ok") + "\r\n")

    def serve(self):
        odd = self.odd
        if not odd.deed(self, "banner"):
            self.usual("banner", "")
        while True:
            line = self.line()
            verb = line.split(" ")[0].upper()
            odd.heard.append(line)
            if verb == "BDAT":
                size = int(line.split(" ")[1])
                while len(self.buffer) < size:
                    self.more()
                self.buffer = self.buffer[size:]
            if not odd.deed(self, verb):
                self.usual(verb, line)
                if verb == "BDAT" and "LAST" in line.upper():
                    odd.taken.append(line)
                if verb == "DATA":
                    while b"\r\n.\r\n" not in self.buffer:
                        self.more()
                    self.buffer = self.buffer.partition(b"\r\n.\r\n")[2]
                    if not odd.deed(self, "end"):
                        odd.taken.append(line)
                        self.usual("end", line)
            if verb == "QUIT":
                return


def says(stage, text, then=None):
    """In place of the usual answer of this stage."""
    def deed(talk, at):
        if at != stage:
            return False
        talk.say(text)
        if then:
            then(talk)
        return True
    return deed


def hang_up(talk):
    raise EOFError


def ever(stage, piece, pause=0.05):
    """It never comes to an end."""
    def deed(talk, at):
        if at != stage:
            return False
        while True:
            talk.say(piece)
            time.sleep(pause)
    return deed


def before(stage, text):
    """Said before it is asked: behind the answer before it."""
    def deed(talk, at):
        if at == stage:
            talk.say(("354 go\r\n" if at == "DATA" else "250 ok\r\n") + text)  # in one piece: what comes later is an answer
            return True
        return False
    return deed


def slow(stage, seconds):
    def deed(talk, at):
        if at == stage:
            time.sleep(seconds)
        return False
    return deed


def half_close(stage):
    """TLS says that nothing more comes, and goes on to read."""
    def deed(talk, at):
        if at == stage and talk.tls:
            with contextlib.suppress(OSError):
                talk.sock.unwrap()
            raise EOFError
        return False
    return deed


def taken_then(then):
    """It has the message, whatever it says."""
    def deed(talk, at):
        if at == "end":
            talk.odd.taken.append("end")
            then(talk)
            return True
        return False
    return deed


LONG = "x" * 65536
# the deed, what Odd is made with, keys of the server (tls) or the transport, and what must come of it: sent, next, deferred, failed (test_delivery.py has more)
CASES = {
    "banner-without-end": (ever("banner", "220-more\r\n", 0.001), {}, "", "next"),
    "banner-of-64k": (says("banner", "220 " + LONG + "\r\n"), {}, "", "next"),
    "banner-without-line-end": (ever("banner", "2", 0.2), {}, "attempt_timeout: 3s", "deferred"),
    "banner-1xx": (says("banner", "120 in a while\r\n"), {}, "", "next"),
    "banner-of-two-codes": (says("banner", "220-odd.test\r\n554 go away\r\n"), {}, "", "next"),
    "banner-of-nul": (says("banner", b"220 \0\0\r\n"), {}, "", "sent"),
    "banner-by-bare-lf": (says("banner", "220 odd.test\n"), {}, "", "sent"),
    "banner-of-http": (says("banner", "HTTP/1.1 400 Bad Request\r\n\r\n", hang_up), {}, "", "next"),
    "ehlo-without-end": (ever("EHLO", "250-X-MORE\r\n", 0.001), {}, "", "next"),
    "ehlo-of-64k": (says("EHLO", "250-odd.test\r\n250 " + LONG + "\r\n"), {}, "", "next"),
    "ehlo-of-1000-offers": (says("EHLO", "".join(f"250-X-{n}\r\n" for n in range(1000)) + "250 OK\r\n"), {}, "", "next"),
    "ehlo-of-two-codes": (says("EHLO", "250-odd.test\r\n550 no\r\n"), {}, "", "next"),
    "mail-1xx": (says("MAIL", "150 wait\r\n"), {}, "", "next"),
    "mail-600": (says("MAIL", "600 what\r\n"), {}, "", "next"),
    "mail-000": (says("MAIL", "000 what\r\n"), {}, "", "next"),
    "mail-354": (says("MAIL", "354 go on\r\n"), {}, "", "next"),
    "mail-empty": (says("MAIL", "\r\n"), {}, "", "next"),
    "rcpt-1xx": (says("RCPT", "150 wait\r\n"), {}, "", "deferred"),
    "rcpt-600": (says("RCPT", "600 what\r\n"), {}, "", "deferred"),
    "rcpt-of-two-codes": (says("RCPT", "250-yes\r\n550 no\r\n"), {}, "", "deferred"),
    "rcpt-without-end": (ever("RCPT", "550-no\r\n", 0.001), {}, "", "deferred"),
    "rcpt-of-64k": (says("RCPT", "550 " + LONG + "\r\n"), {}, "", "deferred"),
    "early-354": (before("RCPT", "354 go on\r\n"), {}, "", "deferred"),
    "early-end": (before("DATA", "250 taken\r\n"), {}, "", "deferred"),
    "early-550": (before("MAIL", "550 no\r\n"), {}, "", "next"),
    "data-600": (says("DATA", "600 what\r\n"), {}, "", "deferred"),
    "data-hang-up": (says("DATA", "354 go\r\n", hang_up), {}, "", "deferred"),
    "data-of-two-codes": (says("DATA", "354-go\r\n554 no\r\n"), {}, "", "deferred"),
    "end-slow": (slow("end", 4), {}, "", "sent"),
    "end-354": (says("end", "354 more\r\n"), {}, "", "deferred"),
    "end-1xx": (says("end", "150 wait\r\n"), {}, "", "deferred"),
    "end-600": (says("end", "600 what\r\n"), {}, "", "deferred"),
    "end-of-64k": (says("end", "554 " + LONG + "\r\n"), {}, "", "deferred"),
    "end-without-end": (ever("end", "250-nearly\r\n", 0.001), {}, "", "deferred"),
    "end-taken-hang-up": (taken_then(hang_up), {}, "", "deferred"),
    "bdat-refused": (says("BDAT", "502 5.5.1 not here\r\n"), {"offers": ("CHUNKING",)}, "", "sent"),
    "bdat-refused-in-one-piece": (says("BDAT", "500 what?\r\n" * 4), {"offers": ("CHUNKING", "PIPELINING")}, "", "sent"),
    "bdat-503": (says("BDAT", "503 5.5.1 not now\r\n"), {"offers": ("CHUNKING",)}, "", "failed"),
    "bdat-later": (says("BDAT", "451 4.3.0 later\r\n"), {"offers": ("CHUNKING",)}, "", "deferred"),
    "bdat-hang-up": (says("BDAT", "", hang_up), {"offers": ("CHUNKING",)}, "", "deferred"),
    "size-rubbish": (says("none", ""), {"offers": ("SIZE many", "8BITMIME")}, "", "sent"),
    "size-negative": (says("none", ""), {"offers": ("SIZE -1",)}, "", "sent"),
    "starttls-454": (says("STARTTLS", "454 4.7.0 not now\r\n"), {"offers": ("STARTTLS",)}, "tls: opportunistic", "sent"),
    "starttls-454-required": (says("STARTTLS", "454 4.7.0 not now\r\n"), {"offers": ("STARTTLS",)}, "tls: required", "next"),
    "shrinks-inside": (says("none", ""), {"offers": ("PIPELINING", "8BITMIME", "CHUNKING", "DSN", "SIZE 10"), "inside": (), "tls_files": True}, "tls: required", "sent"),
    "half-close-at-mail": (half_close("MAIL"), {"tls_files": True}, "tls: required", "next"),
    "half-close-at-data": (half_close("DATA"), {"tls_files": True}, "tls: required", "deferred"),
    "half-close-at-end": (half_close("end"), {"tls_files": True}, "tls: required", "deferred"),
    "quit-without-end": (ever("QUIT", "221-bye\r\n", 0.001), {}, "", "sent"),
}


@pytest.fixture
def odd(tls_files):
    made = []

    def make(deed, **options):
        if options.get("tls_files"):
            options["tls_files"] = tls_files
        made.append(Odd(deed, **options))
        return made[-1]
    yield make
    for one in made:
        one.close()


def test_odd_hosts(gateway, sink, odd, tls_files):
    firsts = [odd(deed, **options) for deed, options, _, _ in CASES.values()]
    seconds = [sink(tls_files=tls_files) for _ in CASES]
    hosts = {f"case{i}": Host([f"127.0.0.1:{firsts[i].port}", seconds[i]], server=keys if keys.startswith("tls") else "tls: none",
                              transport="" if keys.startswith("tls") else keys) for i, (_, _, keys, _) in enumerate(CASES.values())}
    scene = Outbound(gateway, sink, hosts)
    client = scene.gateway.client(scene.port)
    for i in range(len(CASES)):
        scene.send(f"b@case{i}.test", data=MESSAGE, client=client)
    got, words = {}, {}
    for i, name in enumerate(CASES):
        words[name], event = scene.outcome(f"b@case{i}.test", seconds=60)
        got[name] = "next" if words[name] == "sent" and seconds[i].messages else words[name]
        copies = len(firsts[i].taken) + len(seconds[i].messages)
        assert copies <= 1 or name == "end-slow", f"{name}: {copies} copies"
        if words[name] != "sent":
            assert event.get("reply") or event.get("error"), (name, event)
    wanted = {name: outcome for name, (_, _, _, outcome) in CASES.items()}
    assert got == wanted, {name: (got[name], "not", wanted[name]) for name in got if got[name] != wanted[name]}
    for i, (name, (_, _, _, outcome)) in enumerate(CASES.items()):
        if outcome in ("deferred", "failed"):
            assert not seconds[i].commands, f"{name}: the next host was asked"
    waiting = sum(outcome == "deferred" for _, _, _, outcome in CASES.values())
    wait_until(lambda: len(scene.gateway.queue()) == waiting, f"{waiting} wait")
    scene.count("odd")
