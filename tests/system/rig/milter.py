# SPDX-License-Identifier: Apache-2.0
"""A milter that does as it is told, and writes down what it was told; and the real opendkim."""
import pathlib
import socketserver
import struct
import subprocess
import tempfile
import threading

from .ports import free_port
from .scanners import Daemon, is_open

VERSION = 6
# actions
ADD_HEADERS, CHANGE_BODY, ADD_RCPT, DELETE_RCPT, CHANGE_HEADERS, QUARANTINE, CHANGE_FROM, ADD_RCPT_PAR, SETSYMLIST = (
    1 << n for n in range(9))
EVERYTHING = 0x1FF
# steps
(NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HEADERS, NO_EOH, NR_HEADERS, NO_UNKNOWN, NO_DATA, SKIP, RCPT_REJECTED,
 NR_CONNECT, NR_HELO, NR_MAIL, NR_RCPT, NR_DATA, NR_UNKNOWN, NR_EOH, NR_BODY, LEADING_SPACE) = (1 << n for n in range(21))
MUTE = {"C": NR_CONNECT, "H": NR_HELO, "M": NR_MAIL, "R": NR_RCPT, "T": NR_DATA, "L": NR_HEADERS, "N": NR_EOH, "B": NR_BODY}
ALL_MUTE = sum(MUTE.values())


def text(value):
    return value.encode() + b"\0"


def packet(command, data=b""):
    return struct.pack(">I", len(data) + 1) + command.encode() + data


# what may be said at the end, before the verdict
def add_header(name, value):
    return packet("h", text(name) + text(value))


def insert_header(index, name, value):
    return packet("i", struct.pack(">I", index) + text(name) + text(value))


def change_header(index, name, value):
    return packet("m", struct.pack(">I", index) + text(name) + text(value))


def change_from(address, args=None):
    return packet("e", text(address) + (text(args) if args is not None else b""))


def add_rcpt(address):
    return packet("+", text(address))


def add_rcpt_par(address, args):
    return packet("2", text(address) + text(args))


def delete_rcpt(address):
    return packet("-", text(address))


def body(data):
    return packet("b", data)


def quarantine(reason):
    return packet("q", text(reason))


def reply(words):
    return packet("y", text(words))


CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP_BODY, PROGRESS = map(packet, "cartdsp")


class Heard:
    """One conversation."""

    def __init__(self):
        self.commands = []  # (letter, data), without macros
        self.macros = {}    # by command
        self.body = b""
        self.chunks = []
        self.offer = None

    @property
    def letters(self):
        return "".join(letter for letter, _ in self.commands)

    def of(self, letter):
        return [data for one, data in self.commands if one == letter]

    @property
    def headers(self):
        return [tuple(data[:-1].split(b"\0")) for data in self.of("L")]


class Milter:
    """`answers` has for a command's letter what to send in place of CONTINUE (bytes, or a function of the heard conversation
    and the number of the command that sends by itself); for "E" all of the end."""

    def __init__(self, answers=None, actions=EVERYTHING, steps=0, version=VERSION, symlists=b"", hello=None):
        milter = self
        self.answers, self.heard, self.ended = answers or {}, [], threading.Event()
        self.connections, self.hello = 0, hello
        self.mute = steps  # what it does not answer

        class Handler(socketserver.BaseRequestHandler):
            def read(self, size):
                data = b""
                while len(data) < size:
                    piece = self.request.recv(size - len(data))
                    if not piece:
                        raise EOFError
                    data += piece
                return data

            def handle(self):
                heard = Heard()
                milter.connections += 1
                milter.heard.append(heard)
                try:
                    while True:
                        size, = struct.unpack(">I", self.read(4))
                        data = self.read(size)
                        if not self.take(heard, chr(data[0]), data[1:]):
                            return
                except (EOFError, OSError):
                    pass

            def take(self, heard, letter, data):
                if letter == "O":
                    heard.offer = struct.unpack(">III", data)
                    terms = struct.pack(">III", version, actions & heard.offer[1], steps) + symlists
                    self.request.sendall(packet("O", terms) if milter.hello is None else milter.hello)
                elif letter == "D":
                    parts = data[1:].decode().split("\0")
                    heard.macros.setdefault(chr(data[0]), []).append(dict(zip(parts[::2], parts[1::2])))
                elif letter == "Q":
                    return False
                else:
                    heard.commands.append((letter, data))
                    if letter == "B":
                        heard.body += data
                        heard.chunks.append(len(data))
                    return self.answer(heard, letter)
                return True

            def answer(self, heard, letter):
                answer = milter.answers.get(letter, CONTINUE)
                if callable(answer):
                    answer = answer(heard, len(heard.of(letter)))
                if answer == "hang":
                    milter.ended.wait(300)
                    return False
                if answer == "close":
                    return False
                if isinstance(answer, list):  # pieces, and seconds to wait between them
                    for item in answer:
                        if isinstance(item, bytes):
                            self.request.sendall(item)
                        else:
                            milter.ended.wait(item)
                elif letter == "E" or not milter.mute & MUTE.get(letter, 0):
                    self.request.sendall(answer)
                return True

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", free_port()), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


class OpenDkim(Daemon):
    """Signs for example.org with a key of its own; `record` is what DNS has to say."""

    def __init__(self, canonicalization="relaxed/simple"):
        self.place = tempfile.TemporaryDirectory(prefix="opendkim-")
        folder = pathlib.Path(self.place.name)
        self.port = free_port()
        subprocess.run(["openssl", "genrsa", "-out", folder / "key", "2048"], check=True, capture_output=True)
        public = subprocess.run(["openssl", "rsa", "-in", folder / "key", "-pubout", "-outform", "DER"], check=True,
                                capture_output=True).stdout
        import base64
        self.record = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
        (folder / "conf").write_text(f"""
Socket inet:{self.port}@127.0.0.1
Domain example.org
Selector real
KeyFile {folder}/key
Canonicalization {canonicalization}
Mode s
InternalHosts 127.0.0.1
RequireSafeKeys no
SubDomains no
Syslog no
Background no
PidFile {folder}/pid
""")
        super().__init__(folder, ["/usr/sbin/opendkim", "-f", "-x", folder / "conf"])
        self.wait_for(lambda: is_open(self.port))

    def stop(self):
        self.process.kill()  # asked politely, it takes five seconds
        self.process.wait()
        self.place.cleanup()
