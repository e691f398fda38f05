# SPDX-License-Identifier: Apache-2.0
"""Messages that are hard to keep: what arrives is what was sent, octet for octet, with flows that look at every byte and without."""
import base64
import random
import re

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.talk import Talk

CONFIG = """
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{sink}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none{listener} }} }}
flows:
  recipient: {{ open: [ accept ] }}
  content:
    plain: [ deliver ]
    looks:
      - attachment: {{ forbidden: note, disguised: note, limit: note }}
      - match: {{ body: [ "(?i)never to be found" ], header: "(?i)never to be found", matched: reject }}
      - match: {{ when: 'header("Subject") == "no such thing"', matched: reject }}
      - deliver
    marks: [ attachment: {{ forbidden: note, disguised: note, limit: note }}, header: "X-Checked: yes", deliver ]
transports: {{ to-mail: {{ server: mail }} }}
domains:
  plain.test: {{ recipients: open, content: plain, transport: to-mail }}
  looks.test: {{ recipients: open, content: looks, transport: to-mail }}
  marks.test: {{ recipients: open, content: marks, transport: to-mail }}
"""
MIME = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
NOISE = random.Random(7).randbytes(200_000)

CORPUS = {
    "no body": b"Subject: x\r\n\r\n",
    "no empty line": b"Subject: x\r\n",
    "no header": b"\r\nbody\r\n",
    "no final line end": b"Subject: x\r\n\r\nno end",
    "empty lines at its end": b"Subject: x\r\n\r\nx\r\n\r\n\r\n\r\n",
    "dots": b"Subject: x\r\n\r\n.\r\n..\r\n...\r\n.x\r\n. \r\n\r\n.\r\n",
    "a dot at once": b"Subject: x\r\n\r\n.",
    "eight bits": b"Subject: \xe4\xf6\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "all bytes that may stand in a line": b"Subject: x\r\n\r\n" + bytes(b for b in range(1, 256) if b not in b"\r\n") + b"\r\n",
    "lines of 998": b"Subject: x\r\n\r\n" + (b"x" * 998 + b"\r\n") * 20,
    "blanks at ends of lines": b"Subject: x \t \r\n folded \r\n\t\r\n\r\nx \t\r\n \r\n\t\r\n",
    "odd fields": b"Subject:x\r\nX-A :b\r\nX-B:\r\nno field at all\r\nX-C: d\r\n\r\nx\r\n",
    "fields twice": b"Subject: a\r\nSubject: b\r\nFrom: a@b.test\r\nFrom: c@d.test\r\n\r\nx\r\n",
    "mbox": b"From a@b.test Mon Jan  1 00:00:00 2024\r\nSubject: x\r\n\r\nFrom here\r\n>From there\r\n",
    "broken base64": MIME + b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n===A=\r\n*\r\n--b--\r\n",
    "broken quoted-printable": MIME + b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=\r\n=X=\r\n=3\r\n--b--\r\n",
    "boundaries that are none": MIME + b"--b x\r\n--b\r\n\r\n--bb\r\n --b\r\n--b",
    "never closed": MIME + b"--b\r\n\r\nx",
    "text behind the end": MIME + b"preamble\r\n--b\r\n\r\nx\r\n--b--\r\nepilogue\r\n--b\r\n\r\ny\r\n",
    "a program": MIME + b"--b\r\nContent-Disposition: attachment; filename=\"a.pdf.exe\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                 + base64.encodebytes(b"MZ\0" + NOISE).replace(b"\n", b"\r\n") + b"--b--\r\n",
    "charsets that do not fit": b"Content-Type: text/plain; charset=utf-16\r\n\r\n\xff\xfe\xd8\x01x\r\n",
    "UTF-7 and escapes": b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n\x1b$B+ADw-\x1b(B\x0e\x0f\r\n",
    "a large one": b"Subject: x\r\n\r\n" + base64.encodebytes(NOISE * 10).replace(b"\n", b"\r\n"),
    "bare CR": b"Subject: x\r\n\r\na\rb\r\n",
    "bare LF": b"Subject: x\r\n\r\na\nb\r\n",
    "LF CR": b"Subject: x\r\n\r\na\n\rb\r\n",
    "CR CR LF": b"Subject: x\r\n\r\na\r\r\nb\r\n",
    "NUL": b"Subject: x\r\n\r\na\0b\r\n",
    "bare LF in the header": b"Subject: x\nX-A: b\r\n\r\nx\r\n",
}


def lone(text, byte):
    return re.search({"lf": rb"(?<!\r)\n", "cr": rb"\r(?!\n)", "nul": rb"\0"}[byte], text)


@pytest.fixture
def scene(gateway, sink):
    def make(listener="", way="DATA"):
        mail, port = sink(extensions=("PIPELINING", "8BITMIME", "SIZE 0") + ("CHUNKING",) * (way == "BDAT")), free_port()
        one = gateway(CONFIG.format(sink=mail.port, port=port, listener=listener), ports=[port])
        one.mail, one.port = mail, port
        return one
    return make


def send(one, domain, text, way):
    with Talk(one.port, ehlo="c.test") as talk:
        talk.mail("a@example.net", f"b@{domain}")
        if way == "DATA":
            assert talk.code("DATA") == 354
            stuffed = re.sub(rb"(?m)^\.", b"..", text) if b"\r" in text else text
            talk.send(stuffed + (b"" if text.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        else:
            talk.send(b"BDAT %d LAST\r\n" % len(text) + text)
        return talk.reply()


def as_arrived(text):
    """A message ends with a line end; nothing else is added."""
    return text if text.endswith(b"\r\n") else text + b"\r\n"


@pytest.mark.parametrize("way", ["DATA", "BDAT"])
@pytest.mark.parametrize("domain", ["plain.test", "looks.test", "marks.test"])
def test_as_it_was(scene, domain, way):
    one = scene(way=way)
    sent = {}
    for number, (name, text) in enumerate(CORPUS.items()):
        text = b"X-Number: %d\r\n" % number + text
        code, said = send(one, domain, text, way)
        refused = any(lone(text, byte) for byte in ("lf", "cr", "nul"))
        assert code == (550 if refused else 250), (name, said)
        if not refused:
            sent[number] = (name, as_arrived(text))
    wait_until(lambda: len(one.mail.messages) >= len(sent), "all have arrived")
    for taken in one.mail.messages:
        at = taken.data.index(b"X-Number: ")
        name, text = sent.pop(int(taken.data[at + 10:].split(b"\r\n")[0]))
        top = re.split(rb"\r\n(?![ \t])", taken.data[:at])
        assert taken.data[at:] == text, name
        assert any(command.startswith(way) for command in taken.commands)
        assert top[-1] == b"" and [field.partition(b":")[0] for field in top[:-1]] == \
            [b"Received"] + [b"X-Checked"] * (domain == "marks.test"), name
    assert not sent
    one.wait_empty()


def test_normalised(scene):
    """Where bare LF is allowed it becomes CRLF, and that is all."""
    one = scene(", line_endings: normalise")
    sent = {}
    for number, (name, text) in enumerate(CORPUS.items()):
        text = b"X-Number: %d\r\n" % number + text
        code, said = send(one, "looks.test", text, "DATA")
        refused = any(lone(text, byte) for byte in ("cr", "nul"))
        assert code == (550 if refused else 250), (name, said)
        if not refused:
            sent[number] = (name, re.sub(rb"(?<!\r)\n", b"\r\n", as_arrived(text)))
    wait_until(lambda: len(one.mail.messages) >= len(sent), "all have arrived")
    for taken in one.mail.messages:
        at = taken.data.index(b"X-Number: ")
        name, text = sent.pop(int(taken.data[at + 10:].split(b"\r\n")[0]))
        assert taken.data[at:] == text, name
    assert not sent
