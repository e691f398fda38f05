# SPDX-License-Identifier: Apache-2.0
"""
The books of a crash test: what was sent, what was acknowledged, what arrived, when.

Every message bears a token of its own in a header and as its last body line. `Load` sends by DATA and BDAT, in
clear and by TLS; `Sinks` receive at three addresses. Nothing is judged by samples: each token is accounted for.
"""
import collections
import contextlib
import hashlib
import itertools
import os
import random
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time

DOMAINS = ("fast.test", "slow.test", "moody.test")
TOKEN = re.compile(rb"X-Token: (\S+)\r\n")
CLIENT_TLS = ssl.create_default_context()
CLIENT_TLS.check_hostname = False
CLIENT_TLS.verify_mode = ssl.CERT_NONE
_ABC = bytes(random.Random(7).choices(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.", k=1 << 20))


def make_message(token, size):
    """A message of about `size` bytes in CRLF lines, some with a leading dot; its body is told from all others."""
    start = random.randrange(len(_ABC) // 2)
    text = _ABC[start:start + size]
    lines = [b"Subject: crash test", b"X-Token: " + token, b""]
    lines += [text[at:at + 70] for at in range(0, len(text), 70)]
    lines += [b".", b"..two dots", b"token " + token, b""]
    return b"\r\n".join(lines)


LARGE_SIZES = (270_000, 500_000)  # more than lies in the log


def body_of(data):
    return data.partition(b"\r\n\r\n")[2]


class Books:
    def __init__(self):
        self.lock = threading.Lock()
        self.numbers = itertools.count()
        self.sent = {}          # token: digest of its body
        self.acknowledged = {}  # token: (time, message id)
        self.refused = collections.Counter()  # code of whatever was not 250
        self.arrived = collections.defaultdict(list)  # (token, recipient): [(time, digest)]
        self.strange = []       # what arrived without a token that we know
        self.notices = collections.defaultdict(list)  # token: times at which its sender was told of a failure
        self.dropped = set()    # tokens that an operator may have dropped
        self.kills = []
        self.newest = None      # token of what was acknowledged last
        self.hiccups, self.closed = [], threading.Event()  # (when, how long)
        threading.Thread(target=self._measure, daemon=True).start()

    def close(self):
        self.closed.set()

    def _measure(self):
        """What this machine does not do at once, as an idle one would: wake up, and write a little."""
        with tempfile.TemporaryFile() as file:
            begin = time.monotonic()
            while not self.closed.wait(0.05):
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
                now = time.monotonic()
                if now - begin > 0.1:
                    self.hiccups.append((now, now - begin - 0.05))
                begin = now

    def _slack(self, at):
        return 5 * max((length for when, length in self.hiccups if at - 2 < when < at + 10), default=0.0)

    def new_token(self):
        return b"t%d-%08x" % (next(self.numbers), random.getrandbits(32))

    def book_kill(self, begin):
        """A kill at some time since `begin` and before now: on a busy machine it takes its time."""
        end = time.monotonic()
        while begin < end:
            self.kills.append(begin)
            begin += 0.5
        self.kills.append(end)

    def lost(self, recipients, tokens=None, queued=()):
        """Acknowledged, and not at the sink for one of the recipients, nor its sender told, and not in `queued`."""
        tokens = list(self.acknowledged) if tokens is None else tokens
        return [(token, recipient) for token in tokens for recipient in recipients
                if (token, recipient) not in self.arrived and token not in queued
                and token not in self.notices and token not in self.dropped]

    def damaged(self):
        return [key for key, copies in self.arrived.items()
                if any(digest != self.sent.get(key[0]) for _, digest in copies)]

    def unexcused(self, within=1.0, late=0.25):
        """
        Second copies, and second notices, although the 250 for the first one does not lie `within` seconds before a
        kill. `late`: what was in the sockets at the kill, this process may book a little after it. Both are for an idle
        machine: one that was seen to sleep or to write for longer at that time gets longer.
        """
        def has_excuse(at):
            slack = self._slack(at)
            return any(-late - slack <= kill - at <= within + slack for kill in self.kills)
        times = {key: [at for at, _ in copies] for key, copies in self.arrived.items()}
        times.update({(token, "notice"): list(told) for token, told in self.notices.items()})
        return [(key, [round(at - taken[0], 3) for at in taken]) for key, taken in times.items()
                if not all(map(has_excuse, taken[:-1]))]

    def duplicates(self):
        return sum(len(copies) - 1 for copies in self.arrived.values())


def tell_progress(number, of):
    """A long run tells now and then how far it is; with `pytest -s` it is seen at once."""
    if number and number % max(of // 50, 20) == 0:
        print(f"{time.strftime('%H:%M:%S')} {number} of {of}", flush=True)


# ---- the sending side ----

class Client:
    """One SMTP client: exact bytes, replies read whole."""

    def __init__(self, port, tls=False, timeout=120):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.expect(220)
        self.command(b"EHLO client.test", 250)
        if tls:
            self.command(b"STARTTLS", 220)
            self.socket = CLIENT_TLS.wrap_socket(self.socket)
            self.file = self.socket.makefile("rb")
            self.command(b"EHLO client.test", 250)

    def reply(self):
        while True:
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                raise EOFError("hung up")
            if line[3:4] != b"-":
                return int(line[:3]), line.decode("latin-1").strip()

    def expect(self, code):
        got, text = self.reply()
        if got != code:
            raise Refused(got, text)
        return text

    def command(self, line, code):
        self.socket.sendall(line + b"\r\n")
        return self.expect(code)

    def send(self, message, recipients, bdat=False, sender=b"sender@client.test"):
        """The text of the final 250."""
        self.socket.sendall(b"MAIL FROM:<%s>\r\n" % sender +
                            b"".join(b"RCPT TO:<%s>\r\n" % r.encode() for r in recipients))
        replies = [self.reply() for _ in range(len(recipients) + 1)]
        bad = [reply for reply in replies if reply[0] != 250]
        if bad:
            self.command(b"RSET", 250)
            raise Refused(*bad[0])
        if bdat:
            cut = random.randrange(1, len(message))
            self.socket.sendall(b"BDAT %d\r\n" % cut + message[:cut] +
                                b"BDAT %d LAST\r\n" % (len(message) - cut) + message[cut:])
            self.expect(250)
        else:
            self.command(b"DATA", 354)
            stuffed = message.replace(b"\r\n.", b"\r\n..")
            self.socket.sendall(stuffed + b".\r\n")
        return self.expect(250)

    def close(self):
        self.file.close()
        self.socket.close()


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code} {text}")
        self.code = code


class Load:
    """Clients that send until stop(); they come back after each break. `large`: the share of messages whose bodies have files
    of their own."""

    def __init__(self, books, port, clients=8, sizes=(1000, 200_000), recipients=None, pause=0.0, large=0.0):
        self.books, self.port, self.sizes, self.pause, self.large = books, port, sizes, pause, large
        self.recipients = recipients or [f"u@{domain}" for domain in DOMAINS]
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        tls, bdat = number % 4 in (1, 3), number % 4 in (2, 3)
        client = None
        while not self.stopping.is_set():
            try:
                client = client or Client(self.port, tls)
                sizes = LARGE_SIZES if random.random() < self.large else self.sizes
                send_one(self.books, client, random.randrange(*sizes), self.recipients, bdat)
            except Refused as refused:
                with self.books.lock:
                    self.books.refused[refused.code] += 1
                if refused.code != 250:
                    self.stopping.wait(0.01)
                if refused.code == 421:
                    client = None
            except (OSError, EOFError, ValueError):
                client = None
                self.stopping.wait(0.02)
            self.stopping.wait(self.pause)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs"


def send_one(books, client, size, recipients, bdat=False, token=None, sender=b"sender@fast.test"):
    """Send a message and write it into the books; its token."""
    token = token or books.new_token()
    message = make_message(token, size)
    with books.lock:
        books.sent[token] = hashlib.sha1(body_of(message)).digest()
    text = client.send(message, recipients, bdat, sender)
    with books.lock:
        books.newest = token
        books.acknowledged[token] = time.monotonic(), text.partition("queued as ")[2].split(" ")[0]
    return token


# ---- the receiving side ----

class Sink:
    """
    A receiving server. It writes a message into the books before it says 250. `delay` in seconds before the 250;
    `refuse`: share of messages answered 451 instead; `hook(token, data)` is called before the books are written;
    `answer(token)` gives another answer than 250, or None.
    """

    def __init__(self, books, delay=0.0, refuse=0.0, hook=None):
        self.books, self.delay, self.refuse, self.hook = books, delay, refuse, hook
        self.answer = None
        self.attempts = 0
        self.closing = False
        self.server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.closing = True
        self.server.close()

    def _accept(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        try:
            with peer:
                self._talk(peer)
        except (OSError, EOFError):
            pass

    def _talk(self, peer):
        data, recipients = b"", []
        peer.sendall(b"220 sink.test\r\n")
        while not self.closing:
            line, data = self._until(peer, data, b"\r\n")
            verb = line[:4].upper()
            if verb == b"EHLO":
                peer.sendall(b"250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"RCPT":
                recipients.append(line[9:].partition(b">")[0].decode())
                peer.sendall(b"250 2.1.5 ok\r\n")
            elif verb == b"DATA":
                peer.sendall(b"354 go\r\n")
                message, data = self._until(peer, b"\r\n" + data, b"\r\n.\r\n")
                peer.sendall(self._take(message[2:].replace(b"\r\n..", b"\r\n.") + b"\r\n", recipients))
                recipients = []
            elif verb == b"QUIT":
                peer.sendall(b"221 2.0.0 bye\r\n")
                return
            else:
                recipients = []
                peer.sendall(b"250 2.0.0 ok\r\n")

    @staticmethod
    def _until(peer, data, mark):
        pieces, tail = [], b""
        while True:
            seen = tail + data
            at = seen.find(mark)
            if at >= 0:
                whole = b"".join(pieces) + data
                end = len(whole) - len(seen) + at
                return whole[:end], whole[end + len(mark):]
            pieces.append(data)
            tail = seen[-len(mark) + 1:]
            data = peer.recv(1 << 18)
            if not data:
                raise EOFError

    def _take(self, message, recipients):
        self.attempts += 1
        found = TOKEN.search(message)
        token = found.group(1) if found else b""
        if self.hook:
            self.hook(token, message)
        if self.refuse and random.random() < self.refuse:
            return b"451 4.3.0 not now\r\n"
        if b"multipart/report" in message.partition(b"\r\n\r\n")[0]:
            with self.books.lock:
                self.books.notices[token].append(time.monotonic())
            return b"250 2.0.0 taken\r\n"
        said = self.answer and self.answer(token)
        if said:
            return said
        time.sleep(self.delay)
        digest = hashlib.sha1(body_of(message)).digest()
        with self.books.lock:
            if token not in self.books.sent:
                self.books.strange.append(message[:2000])
            for recipient in recipients:
                self.books.arrived[token, recipient].append((time.monotonic(), digest))
        return b"250 2.0.0 taken\r\n"


# ---- the gateway between them ----

def small_segments(spool="spool"):
    """For `more`: log files so small that those whose mail is delivered are used again within a test."""
    return f"spool: {{ path: {spool}, segment_size: 1M }}"


def used_segments(spool):
    """How many log files were another one before."""
    used = 0
    for path in (spool / "log").glob("*.log"):
        with contextlib.suppress(FileNotFoundError):  # files go while the gateway runs
            head = path.open("rb").read(33)
            used += len(head) == 33 and head[32] & 1
    return used


def used_bodies(spool):
    """How many files of large bodies were another one's before: they are older than what their headers say."""
    used = 0
    for path in (spool / "bodies").glob("*.body"):
        with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
            head = path.open("rb").read(32)
            birth = subprocess.run(["stat", "--format=%.9W", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   text=True, check=True).stdout
            used += len(head) == 32 and int.from_bytes(head[24:], "little") / 1e9 - float(birth) > 0.1
    return used


def configuration(port, sinks, tls_files, spool="spool", retry="1s", more="", expire="5d", content="deliver"):
    """A relay for all clients; the domains of DOMAINS go to the sinks, each by a transport of its own."""
    cert, key = tls_files
    names = range(len(sinks))
    servers = "\n".join(f"  s{n}: {{ smtp: \"127.0.0.1:{sinks[n].port}\", tls: none }}" for n in names)
    transports = "\n".join(f"  t{n}: {{ method: server, server: s{n}, expire: {expire}, retry: {{ delays: [ {retry} ], count: 1000 }} }}"
                           for n in names)
    domains = "\n".join(f"  {DOMAINS[n]}: {{ recipients: all, content: plain, transport: t{n} }}" for n in names)
    return f"""
version: 1
hostname: gateway.test
servers:
{servers}
certificates:
  main: {{ cert: {cert}, key: {key} }}
trusted_networks: [ 127.0.0.0/8 ]
listeners:
  relay: {{ listen: [ "127.0.0.1:{port}" ], tls: offered, certificate: main, authentication: none,
            limits: {{ sessions: 1000, sessions_per_client: 1000, size: 100M }} }}
flows:
  recipient:
    all: [ accept ]
  content:
    plain: [ {content} ]
transports:
{transports}
domains:
{domains}
{more if "spool:" in more else more + f"{chr(10)}spool: {{ path: {spool} }}"}
"""
