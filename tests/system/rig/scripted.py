# SPDX-License-Identifier: Apache-2.0
"""A receiving server that keeps to a script instead of to SMTP, and writes down what it heard inside and outside of TLS."""
import selectors
import socket
import ssl
import threading

from .ports import free_port

CONTENT = "content"  # in the place of a line: a message, up to its dot


class Script:
    """
    `says`: replies in place of the usual ones, by verb and "greeting"; "TLS:verb" for those inside of TLS, where it differs.
    A reply may have several lines, and more bytes than it should. `offers`, `inside`: lines of the EHLO reply, outside and inside.
    `shakes`: after STARTTLS it makes a handshake; else it goes on in clear. `late`: bytes in clear that it sends as soon as the
    client has begun its handshake.
    """

    def __init__(self, says=None, offers=("STARTTLS",), inside=("AUTH PLAIN",), shakes=True, late=b""):
        self.says, self.offers, self.inside, self.shakes, self.late = dict(says or {}), offers, inside, shakes, late


class Scripted:
    """Some servers, one a script: ports[i] is that of scripts[i], and heard[i] a list of (is_tls, line, connection) for all time."""

    def __init__(self, scripts, tls_files):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*map(str, tls_files))
        self.heard = [[] for _ in scripts]
        self.connections = [0] * len(scripts)
        self.selector = selectors.DefaultSelector()
        self.sockets = []
        self.ends, ours = socket.socketpair()
        self.selector.register(ours, selectors.EVENT_READ, None)
        for number, script in enumerate(scripts):
            one = socket.create_server(("127.0.0.1", free_port()), backlog=64)
            self.sockets.append(one)
            self.selector.register(one, selectors.EVENT_READ, (number, script))
        self.ports = [one.getsockname()[1] for one in self.sockets]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def close(self):
        self.ends.close()
        self.thread.join()
        for one in self.sockets:
            one.close()

    def _accept(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                number, script = key.data
                peer, _ = key.fileobj.accept()
                self.connections[number] += 1
                talk = _Talk(script, peer, self.context, self.heard[number], self.connections[number])
                threading.Thread(target=talk.run, daemon=True).start()


class _Talk:
    def __init__(self, script, sock, context, heard, connection):
        self.script, self.sock, self.context, self.heard, self.connection = script, sock, context, heard, connection
        self.buffer, self.tls = b"", False
        sock.settimeout(300)

    def run(self):
        try:
            self.say(self.script.says.get("greeting", "220 odd.test ESMTP"))
            while self.answer(self.line()):
                pass
        except (OSError, EOFError):
            pass
        finally:
            self.sock.close()

    def say(self, text):
        self.sock.sendall(text.encode() + b"\r\n")

    def until(self, mark):
        while mark not in self.buffer:
            piece = self.sock.recv(65536)
            if not piece:
                if self.buffer:
                    self.note(repr(self.buffer))
                raise EOFError
            self.buffer += piece
            if not self.tls and self.buffer.startswith(b"\x16\x03"):  # a handshake is no line, as a server that reads lines says
                self.buffer = mark
        text, _, self.buffer = self.buffer.partition(mark)
        return text

    def note(self, line):
        self.heard.append((self.tls, line, self.connection))

    def line(self):
        line = self.until(b"\r\n").decode("latin-1")
        self.note(line)
        return line

    def offered(self):
        lines = ["odd.test", *(self.script.inside if self.tls else self.script.offers)]
        return "\r\n".join(f"250{' ' if line is lines[-1] else '-'}{line}" for line in lines)

    def answer(self, line):
        verb = line.split(" ")[0].upper()
        usual = {"EHLO": self.offered(), "HELO": "250 odd.test", "STARTTLS": "220 go", "DATA": "354 go", "QUIT": "221 bye",
                 "AUTH": "235 yes", "MAIL": "250 ok", "RCPT": "250 ok", "RSET": "250 ok", "NOOP": "250 ok"}
        says = self.script.says
        text = (says.get("TLS:" + verb) if self.tls else None) or (verb in says and not self.tls and says[verb]) or \
            usual.get(verb, "500 what?")
        self.say(text)
        if verb == "DATA" and text.startswith("354"):
            self.until(b"\r\n.\r\n")
            self.note(CONTENT)
            self.say("250 taken")
        elif verb == "STARTTLS" and self.script.shakes and not self.tls and text.startswith("220"):
            self.shake()
        return verb != "QUIT"

    def shake(self):
        if self.script.late:
            self.sock.recv(1, socket.MSG_PEEK)  # the client's first bytes: it read our reply
            self.sock.sendall(self.script.late)
        self.sock = self.context.wrap_socket(self.sock, server_side=True)
        self.tls, self.buffer = True, b""
