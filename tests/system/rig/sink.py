# SPDX-License-Identifier: Apache-2.0
"""A receiving server that says exactly what the test wants, and keeps exactly what it got."""
import dataclasses
import os
import socket
import socketserver
import ssl
import threading
import time

from .ports import free_port

# Seconds that a sink keeps who sends mail waiting after it has it: a test that looks at the gateway too early fails, for sure (docs/TESTING.md).
LAG = float(os.environ.get("POSTERN_TEST_LAG", 0))


@dataclasses.dataclass
class Taken:
    """A message as it arrived: bytes after undoing the dots, nothing else changed."""
    sender: str
    mail_parameters: str
    recipients: list
    rcpt_parameters: list
    data: bytes
    helo: str
    tls: bool
    login: str
    commands: list
    connection: int
    time: float

    @property
    def body(self):
        return self.data.partition(b"\r\n\r\n")[2]


class Sink:
    """
    Replies are looked up in `replies`: keys "banner", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT",
    "DATA", "BDAT", "end", "RSET", "QUIT" or "RCPT user@host" give a reply text ("450 4.2.0 busy"), a list of such
    (one after the other, the last stays), a function of the command line, or None: hang up without a word.
    `extensions` are the EHLO lines. With `path`, at a Unix socket. With `lmtp=True`, LHLO and a reply a recipient after the data.
    """

    def __init__(self, host="127.0.0.1", port=None, extensions=("PIPELINING", "8BITMIME", "SIZE 0", "ENHANCEDSTATUSCODES",
                                                              "DSN", "SMTPUTF8"),
                 tls_files=None, replies=None, users=None, lmtp=False, break_tls=False, path=None):
        self.replies = dict(replies or {})
        self.extensions = list(extensions)
        self.users = users or {}
        self.messages = []
        self.commands = []  # (connection, line) of all connections
        self.times = []  # when each of them came
        self.connections = 0
        self.lmtp = lmtp
        self.break_tls = break_tls  # agree to STARTTLS, then answer the handshake with rubbish
        self.lock = threading.Lock()
        self.context = None
        if tls_files:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*map(str, tls_files))
        sink = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    _Conversation(sink, self.request).run()
                except (OSError, EOFError, ValueError):
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 256
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        class UnixServer(Server):
            address_family = socket.AF_UNIX

            def server_bind(self):  # which would look up the name of a port
                self.socket.bind(self.server_address)

        self.server = UnixServer(str(path), Handler) if path else Server((host, port or free_port(host)), Handler)
        self.host, self.port = (str(path), 0) if path else self.server.server_address[:2]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def reply(self, *keys, line=""):
        """The scripted reply for the first of `keys` that is there; "" if none is."""
        with self.lock:
            key = next((key for key in keys if key in self.replies), None)
            value = self.replies[key] if key else ""
            if isinstance(value, list):
                value = value.pop(0) if len(value) > 1 else value[0]
        return value(line) if callable(value) else value  # which may take its time


class _Conversation:
    def __init__(self, sink, sock):
        self.sink, self.sock = sink, sock
        self.buffer = b""
        self.tls = False
        self.login = self.helo = ""
        self.commands = []
        with sink.lock:
            sink.connections += 1
            self.number = sink.connections
        self.reset()

    def reset(self):
        self.sender, self.mail_parameters, self.recipients, self.rcpt_parameters, self.chunks = None, "", [], [], []

    def send(self, text):
        self.sock.sendall(text.encode() + b"\r\n")

    def line(self):
        while b"\r\n" not in self.buffer:
            piece = self.sock.recv(65536)
            if not piece:
                raise EOFError
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def more(self):
        piece = self.sock.recv(262144)
        if not piece:
            raise EOFError
        return piece

    def exactly(self, size):
        buffer = bytearray(self.buffer)
        while len(buffer) < size:
            buffer += self.more()
        self.buffer = bytes(buffer[size:])
        return bytes(buffer[:size])

    def dotted(self):
        """Everything up to the line with only a dot, without the dots that hide others."""
        buffer = bytearray(b"\r\n" + self.buffer)
        at = 0
        while (end := buffer.find(b"\r\n.\r\n", at)) < 0:
            at = max(0, len(buffer) - 4)
            buffer += self.more()
        self.buffer = bytes(buffer[end + 5:])
        return bytes(buffer[:end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    def chosen(self, default, *keys, line=""):
        """The scripted reply or the default; None: hang up."""
        text = self.sink.reply(*keys, line=line)
        return text if text is None else text or default

    def say(self, text):
        if text is None:
            raise EOFError
        self.send(text)

    def answer(self, default, *keys, line=""):
        """Send the scripted reply or the default; its code, or hang up."""
        text = self.chosen(default, *keys, line=line)
        self.say(text)
        return int(text[:3])

    def run(self):
        if self.answer("220 sink.test ESMTP", "banner") >= 400:
            return
        while True:
            raw = self.line()
            line = raw.decode("utf-8", "surrogateescape")
            with self.sink.lock:
                self.commands.append(line)
                self.sink.commands.append((self.number, line))
                self.sink.times.append(time.time())
            verb = line.split(" ")[0].upper()
            getattr(self, f"do_{verb}", self.unknown)(line)

    def unknown(self, line):
        self.answer("502 5.5.2 what?", line.split(" ")[0].upper())

    def hello(self, line, verb):
        self.helo = line.partition(" ")[2]
        text = self.sink.reply(verb, line=line)
        if text is None:
            raise EOFError
        if text:
            self.send(text)
            return
        extensions = list(self.sink.extensions)
        if self.sink.context and not self.tls:
            extensions.append("STARTTLS")
        if self.sink.users:
            extensions.append("AUTH PLAIN LOGIN")
        lines = ["sink.test"] + extensions
        for i, item in enumerate(lines):
            self.send(f"250{' ' if i == len(lines) - 1 else '-'}{item}")

    def do_EHLO(self, line):
        self.hello(line, "EHLO")

    def do_LHLO(self, line):
        self.hello(line, "LHLO")

    def do_HELO(self, line):
        self.helo = line.partition(" ")[2]
        self.answer("250 sink.test", "HELO")

    def do_STARTTLS(self, line):
        if self.answer("220 2.0.0 go", "STARTTLS") == 220:
            if self.sink.break_tls:
                self.sock.recv(4096)
                self.sock.sendall(b"this is no handshake\r\n")
                raise EOFError
            self.sock = self.sink.context.wrap_socket(self.sock, server_side=True)
            self.tls = True
            self.buffer = b""

    def do_AUTH(self, line):
        import base64
        words = line.split(" ")
        if words[1].upper() == "PLAIN":
            if len(words) < 3:
                self.send("334 ")
                words.append(self.line().decode())
            _, login, password = base64.b64decode(words[2]).decode().split("\0")
        else:
            self.send("334 VXNlcm5hbWU6")
            login = base64.b64decode(self.line()).decode()
            self.send("334 UGFzc3dvcmQ6")
            password = base64.b64decode(self.line()).decode()
        good = self.sink.users.get(login) == password
        if self.answer("235 2.7.0 ok" if good else "535 5.7.8 no", "AUTH") == 235:
            self.login = login

    def do_MAIL(self, line):
        self.reset()
        if self.answer("250 2.1.0 ok", "MAIL", line=line) == 250:
            address, _, self.mail_parameters = line[10:].partition(">")
            self.sender = address.lstrip("<")

    def do_RCPT(self, line):
        address, _, parameters = line[8:].partition(">")
        address = address.lstrip("<")
        if self.answer("250 2.1.5 ok", f"RCPT {address}", "RCPT", line=line) == 250:
            self.recipients.append(address)
            self.rcpt_parameters.append(parameters.strip())

    def finish(self, data):
        taken = Taken(self.sender, self.mail_parameters.strip(), self.recipients, self.rcpt_parameters, data, self.helo,
                      self.tls, self.login, list(self.commands), self.number, time.time())
        if self.sink.lmtp:
            replies = [(one, self.chosen(f"250 2.0.0 <{one}> kept", f"end {one}", "end")) for one in self.recipients]
            taken.recipients = [one for one, reply in replies if reply and reply.startswith("250")]
        else:
            replies = [(None, self.chosen("250 2.0.0 taken", "end"))]
        if any(reply and reply.startswith("250") for _, reply in replies):
            with self.sink.lock:
                self.sink.messages.append(taken)  # before the reply: who has read it may look
        self.reset()
        if LAG:
            time.sleep(LAG)
        for _, reply in replies:
            self.say(reply)

    def do_DATA(self, line):
        if not self.recipients:
            self.send("503 5.5.1 no recipients")
            return
        if self.answer("354 go", "DATA") != 354:
            return
        self.finish(self.dotted())

    def do_BDAT(self, line):
        words = line.split(" ")
        self.chunks.append(self.exactly(int(words[1])))
        if len(words) > 2 and words[2].upper() == "LAST":
            self.finish(b"".join(self.chunks))
        else:
            self.answer("250 2.0.0 chunk", "BDAT")

    def do_RSET(self, line):
        self.reset()
        self.answer("250 2.0.0 ok", "RSET")

    def do_NOOP(self, line):
        self.answer("250 2.0.0 ok", "NOOP")

    def do_QUIT(self, line):
        self.answer("221 2.0.0 bye", "QUIT")
        raise EOFError
