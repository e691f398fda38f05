# SPDX-License-Identifier: Apache-2.0
"""A client that says exactly the bytes it is told to, and reads replies line by line."""
import base64
import socket
import ssl

from .gateway import CLIENT_TLS, PATIENCE


def plain(login, password, authzid=""):
    """What follows AUTH PLAIN."""
    return base64.b64encode(f"{authzid}\0{login}\0{password}".encode()).decode()


class Talk:
    """A connection. `say` sends a line and gives (code, text); lines of a reply are joined by \\n."""

    def __init__(self, port, host="127.0.0.1", implicit=False, greeting=True, ehlo=None, before=b"", sni=None,
                 source=None, timeout=PATIENCE):
        self.sock = socket.create_connection((host, port), timeout, source_address=source and (source, 0))
        self.buffer = b""
        if before:
            self.sock.sendall(before)
        if implicit:
            self.wrap(sni)
        self.greeting = self.reply() if greeting else None
        if ehlo:
            self.ehlo(ehlo)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def wrap(self, sni=None):
        self.sock = CLIENT_TLS.wrap_socket(self.sock, server_hostname=sni)

    def peer_names(self):
        """DNS names of the certificate that the server showed, by openssl's reading of it."""
        import subprocess
        pem = ssl.DER_cert_to_PEM_cert(self.sock.getpeercert(True))
        out = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, text=True, stdout=subprocess.PIPE)
        return out.stdout.strip()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def line(self):
        while b"\n" not in self.buffer:
            piece = self.sock.recv(65536)
            if not piece:
                raise EOFError(self.buffer)
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        assert line.endswith(b"\r"), f"a bare LF in a reply: {line}"
        return line[:-1].decode()

    def reply(self):
        lines = []
        while True:
            line = self.line()
            lines.append(line[4:])
            if line[3:4] != "-":
                return int(line[:3]), "\n".join(lines)

    def say(self, line):
        self.send(line if isinstance(line, bytes) else line.encode() + b"\r\n")
        return self.reply()

    def code(self, line):
        return self.say(line)[0]

    def ehlo(self, name="client.test"):
        code, text = self.say(f"EHLO {name}")
        assert code == 250, text
        self.extensions = text.split("\n")[1:]
        return self.extensions

    def offers(self, word):
        return next((line for line in self.extensions if line.split(" ")[0] == word), None)

    def starttls(self, ehlo="client.test", sni=None):
        assert self.code("STARTTLS") == 220
        self.wrap(sni)
        if ehlo:
            self.ehlo(ehlo)
        return self

    def login(self, login, password):
        return self.say(f"AUTH PLAIN {plain(login, password)}")

    def mail(self, sender="a@example.net", *recipients, parameters=""):
        """MAIL and RCPTs that must all be taken."""
        code, text = self.say(f"MAIL FROM:<{sender}>{parameters}")
        assert code == 250, text
        for recipient in recipients:
            code, text = self.say(f"RCPT TO:<{recipient}>")
            assert code == 250, text
        return self

    def data(self, content, end=b"\r\n.\r\n"):
        assert self.code("DATA") == 354
        self.send(content + end)
        return self.reply()

    def is_closed(self):
        """The server hangs up; whatever it says before is thrown away."""
        try:
            while True:
                if not self.sock.recv(65536):
                    return True
        except (TimeoutError, socket.timeout):
            return False
        except OSError:
            return True

    def rest(self):
        """Everything until the server hangs up."""
        data, self.buffer = self.buffer, b""
        while True:
            try:
                piece = self.sock.recv(65536)
            except ConnectionError:
                return data
            if not piece:
                return data
            data += piece
