# SPDX-License-Identifier: Apache-2.0
"""Attachments over the wire: what is found in real archives, what bombs do not do, and what happens to the process that opens them."""
import base64
import bz2
import gzip
import io
import lzma
import os
import pathlib
import re
import signal
import struct
import subprocess
import tarfile
import threading
import zipfile
import zlib

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.talk import Talk

CONFIG = """
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{sink}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none{listener} }} }}
quarantines: {{ odd: {{ keep: 30d }} }}
flows:
  recipient: {{ open: [ accept ] }}
  content:
    plain: [ deliver ]
    strict:
      - attachment: {{ macro: {{ reject: "554 5.7.1 no macros" }}, encrypted: {{ quarantine: odd }}, unreadable: hold }}
      - deliver
    usual: [ attachment, match: {{ body: [ "(?i)never to be found" ], matched: reject }}, deliver ]
content: {{ limits: {{ memory: 64M, decoded: 100M, parts: 2000 }} }}
transports: {{ to-mail: {{ server: mail }} }}
domains:
  plain.test: {{ recipients: open, content: plain, transport: to-mail }}
  strict.test: {{ recipients: open, content: strict, transport: to-mail }}
  usual.test: {{ recipients: open, content: usual, transport: to-mail }}
"""
PROGRAM = b"MZ\x90\0\x03\0\0\0\x04\0\0\0" + bytes(100)
SAMPLES = pathlib.Path("/usr/share/clamav-testfiles")


@pytest.fixture
def scene(gateway, sink):
    def make(listener=""):
        mail, port = sink(), free_port()
        one = gateway(CONFIG.format(sink=mail.port, port=port, listener=listener), ports=[port])
        one.mail, one.port = mail, port
        return one
    return make


def zipped(members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):  # a link
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def secret(folder, name, content):
    (folder / name).write_bytes(content)
    subprocess.run(["zip", "-q", "-P", "secret", "s.zip", name], cwd=folder, check=True)
    return (folder / "s.zip").read_bytes()


def attached(name, content, subject="x"):
    return (f"From: a@example.net\r\nTo: b@example.org\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\n\r\nhello\r\n--B\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\r\n").encode() \
        + base64.encodebytes(content).replace(b"\n", b"\r\n") + b"--B--\r\n"


def send(one, message, domain="usual.test"):
    client = one.client(one.port)
    assert client.mail("a@example.net")[0] == 250 and client.rcpt(f"b@{domain}")[0] == 250
    code, text = client.data(message)
    client.quit()
    return code, text.decode()


def told(one, text):
    """(outcome, detail) of the block's step for the message that got this reply."""
    message = re.search(r"(?:ref|queued as) ([0-9A-Za-z-]+)", text).group(1)

    def steps():
        return [event for event in one.ctl_json("message", "events", message, ok=(0, 1))
                if event["event"] == "flow.step" and event["block"] == "attachment"]
    step = wait_until(steps, "the step is in the trace")[-1]
    return step["outcome"], step.get("detail", "")


def look(one, name, content, domain="usual.test"):
    code, text = send(one, attached(name, content), domain)
    return (code, *told(one, text))


# ---- what is found ----

def test_outcomes(scene, tmp_path):
    one = scene()
    document = zipped([("[Content_Types].xml", b"<?xml version='1.0'?>"), ("word/vbaProject.bin", b"x")])
    cases = [
        ("a.txt", b"hello", 250, "clean", ""),
        ("a.exe", PROGRAM, 554, "forbidden", "a.exe: a name of what runs when it is opened"),
        ("a.zip", zipped([("b.txt", b"x"), ("c.scr", b"x")]), 554, "forbidden", "c.scr in a.zip: a name of what runs when it is opened"),
        ("a.zip", zipped([("in.zip", zipped([("in.tgz", tarred([("b.txt", PROGRAM)]))]))]), 554, "forbidden", "b.txt in a.zip: of a forbidden type"),
        ("a.gz", gzip.compress(PROGRAM), 554, "forbidden", "a in a.gz: of a forbidden type"),
        ("a.xz", lzma.compress(zipped([("x.js", b"x")])), 554, "forbidden", "x.js in a.xz: a name of what runs when it is opened"),
        ("a.docm", document, 554, "macro", "a.docm: macros"),
        ("a.zip", secret(tmp_path, "b.txt", b"hello"), 250, "encrypted", None),
        ("a.zip", b"no archive at all", 250, "unreadable", None),
        ("a.jpg", b"%PDF-1.4 hello", 250, "mismatch", "a.jpg: not what it says that it is"),
    ]
    for name, content, code, outcome, detail in cases:
        got = look(one, name, content, "strict.test")
        assert got[:2] == (code, outcome) and (detail is None or got[2] == detail), (name, got)
    wait_until(lambda: len(one.mail.messages) == 2, "what is clean arrives")
    wait_until(lambda: len(one.queue()) == 2, "one is held, one in quarantine")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs clamav-testfiles (tools/packages test)")
def test_samples(scene):
    """The same harmless program in everything that ClamAV's authors thought of."""
    one = scene()
    expected = {"clam.exe": "forbidden", "clam.zip": "forbidden", "clam.7z": "forbidden", "clam.cab": "forbidden", "clam.tar.gz": "forbidden",
                "clam.exe.bz2": "forbidden", "clam.bz2.zip": "forbidden", "clam.d64.zip": "forbidden", "clam.impl.zip": "forbidden",
                "clam.newc.cpio": "forbidden", "clam.odc.cpio": "forbidden", "clam.bin-be.cpio": "forbidden", "clam.bin-le.cpio": "forbidden",
                "clam.chm": "forbidden", "clam-upx.exe": "forbidden", "clam.arj": "unreadable", "clam.tnef": "forbidden",
                "clam.exe.szdd": "unreadable", "clam.exe.binhex": "unreadable"}
    got = {}
    for name in expected:
        # under a name that says nothing, so that the content alone counts
        got[name] = look(one, "sample", (SAMPLES / name).read_bytes())[1]
    assert got == expected


def test_queued(scene):
    """With processing: queued the same is found, from the queue."""
    one = scene(", processing: queued")
    for name, content in [("a.zip", zipped([("x.exe", b"x")])), ("a.zip", zipped([("x.txt", b"x")])), ("a.gz", gzip.compress(bytes(20 << 20)))]:
        code, text = send(one, attached(name, content))
        assert code == 250
        wanted = {"x.exe": "forbidden", "x.txt": "clean"}.get(zipped_name(content), "limit")
        assert told(one, text)[0] == wanted
    wait_until(lambda: len(one.mail.messages) == 1, "what is clean arrives")


def zipped_name(content):
    return zipfile.ZipFile(io.BytesIO(content)).namelist()[0] if content.startswith(b"PK") else ""


# ---- bombs ----

def nested(depth, content=b"x"):
    for _ in range(depth):
        content = zipped([("in.zip", content)])
    return content


def fan(levels, width):
    """Archives of archives of the same archive, as in 42.zip."""
    content = zipped([("0", bytes(8 << 20))])
    for _ in range(levels):
        content = zipped([(f"{i}.zip", content) for i in range(width)])
    return content


def overlapping(count):
    """Files that lie in each other: each one's bytes are the header of the next, as a block that is not compressed, and all of the next."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = bytes(1 << 20)
    packed, entries = packer.compress(content) + packer.flush(), []
    for i in reversed(range(count)):
        common = struct.pack("<HHHHHLLLHH", 20, 0, 8, 0, 33, zlib.crc32(content), len(packed), len(content), 4, 0)
        local = b"PK\x03\x04" + common + b"%04d" % i
        entries.append((common, b"%04d" % i, len(packed)))
        packed = struct.pack("<BHH", 0, len(local), len(local) ^ 0xffff) + local + packed
        content = local + content
    packed = packed[5:]  # nobody quotes the first header
    directory = b"".join(b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHLL", 0, 0, 0, 0, len(packed) - size - 34) + name
                         for common, name, size in reversed(entries))
    return packed + directory + b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, count, count, len(directory), len(packed), 0)


BOMBS = {
    "gzip 1000:1": lambda: ("a.gz", gzip.compress(bytes(20 << 20))),
    "bzip2": lambda: ("a.bz2", bz2.compress(bytes(20 << 20))),
    "xz": lambda: ("a.xz", lzma.compress(bytes(20 << 20), preset=0)),
    "gzip in gzip in gzip": lambda: ("a.gz", gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"x"))))))),
    "nested 20 deep": lambda: ("a.zip", nested(20)),
    "nested 200 deep": lambda: ("a.zip", nested(200)),
    "like 42.zip": lambda: ("a.zip", fan(3, 16)),
    "overlapping": lambda: ("a.zip", overlapping(200)),
    "a hundred thousand entries": lambda: ("a.zip", empty_files(100_000)),
    "a sparse tape": lambda: ("a.tar", sparse()),
}


def empty_files(count):
    """zipfile takes its time for as many."""
    common = struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 33, 0, 0, 0, 6, 0)
    local = b"".join(b"PK\x03\x04" + common + b"%06d" % i for i in range(count))
    directory = b"".join(b"PK\x01\x02\x14\x00" + common + struct.pack("<HHHLL", 0, 0, 0, 0, i * 36) + b"%06d" % i for i in range(count))
    return local + directory + b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, count & 0xffff, count & 0xffff, len(directory), len(local), 0)


def sparse():
    """An old GNU sparse file that says to have half a petabyte of nothing before its bytes."""
    def large(number):
        return b"\x80" + number.to_bytes(11, "big")
    header = bytearray(512)
    header[0:1], header[100:108], header[108:124] = b"x", b"0000644\0", b"0000000\0" * 2
    header[124:136], header[136:148], header[156:157] = large(512), large(0), b"S"
    header[257:265] = b"ustar  \0"
    header[386:398], header[398:410] = large(1 << 49), large(512)
    header[483:495] = large((1 << 49) + 512)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header) + b"x" * 512 + bytes(1024)


def peak(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmHWM")) * 1024


def test_bombs(scene):
    """Each is found out, and the gateway is none the larger for it."""
    one = scene()
    send(one, attached("a.zip", zipped([("x", b"x")])))
    before = peak(one.child_pid())
    for name, make in BOMBS.items():
        file, content = make()
        code, outcome, detail = look(one, file, content)
        print(f"{name:28} {len(content):8} bytes: {detail}")
        assert (code, outcome) == (554, "limit"), (name, code, outcome, detail)
    if "sanitize" not in BUILD.name:
        assert peak(one.child_pid()) - before < 64 << 20
    assert send(one, attached("a.zip", zipped([("x", b"x")])))[0] == 250


def test_others_are_served(scene):
    """While bombs are looked into, mail of others flows."""
    one = scene()
    bomb = attached("a.zip", fan(3, 16))
    codes = []
    bombers = [threading.Thread(target=lambda: codes.append(send(one, bomb)[0])) for _ in range(8)]
    for each in bombers:
        each.start()
    for number in range(20):
        assert send(one, attached("a.txt", b"hello", str(number)), "plain.test")[0] == 250
    wait_until(lambda: len(one.mail.messages) == 20, "mail of others arrives")
    for each in bombers:
        each.join(120)
    assert codes == [554] * 8


def test_hostile_names(scene, tmp_path):
    """Names go nowhere: no file is made, no command is run, no line of a log is forged."""
    one = scene()
    canary = tmp_path / "canary"
    names = [f"../../../../../..{canary}", str(canary), f"`touch {canary}`", f"$(touch {canary})", f"a;touch {canary};.txt", "a\nb",
             '","event":"forged', "\x1b[2J", "\u202egpj.exe", "x" * 60000, "CON", "a\\..\\b"]
    for make in (zipped, tarred):
        code, outcome, detail = look(one, "a.zip", make([(name, b"x") for name in names]))
        assert (code, outcome) == (554, "forbidden"), (outcome, detail)
        assert not any(ord(c) < 32 or c == "\u202e" for c in detail)
    code, outcome, _ = look(one, "a.tar", tarred([("link", "/etc/passwd"), ("link/x", b"x"), (str(canary), b"x")], "w"))
    assert (code, outcome) == (250, "clean")
    for name in ("a\\\"b.exe", "=?utf-8?q?a=0D=0Ab=2Eexe?=", "../../a.exe", "\u202egpj.exe"):
        assert look(one, name, b"x")[1] in ("forbidden", "disguised")
    assert not canary.exists() and not one.find("forged")


# ---- messages made to cost ----

def in_parts(count):
    return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\nx\r\n" * count


def in_depth(count):
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(count))


COSTLY = {
    "50,000 nested parts": (in_depth(50_000), (554, "limit")),
    "50,000 nested messages": (b"Content-Type: message/rfc822\r\n\r\n" * 50_000, (554, "limit")),
    "65,535 parts": (in_parts(65_535), (554, "limit")),
    "100,000 boundaries of nothing": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 100_000, (554, "limit")),
    "a header of a part without an end": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain;" +
                                          b"\r\n x=y;" * 300_000 + b"\r\n\r\n--b--\r\n", None),
    "a boundary of 900 bytes": (b"Content-Type: multipart/mixed; boundary=" + b"b" * 900 + b"\r\n\r\n" + (b"--" + b"b" * 900 + b"\r\n") * 1000, None),
    "100,000 fields": (b"X-A: b\r\n" * 100_000 + b"\r\nx", (554, None)),
    "a field of 2 MB": (b"Subject: a" + b"\r\n b" * 500_000 + b"\r\n\r\nx", (552, None)),
    "a hundred thousand recipients": (b"To: " + b",\r\n ".join(b"a%d@b.test" % i for i in range(100_000)) + b"\r\n\r\nx", (552, None)),
    "encoded words": (b"".join(b"Subject: " + b"=?x?q?y " * 110 + b"\r\n" for _ in range(90)) + b"\r\nx", None),
    "names in pieces": (b"Content-Disposition: attachment;" + b"".join(b"\r\n filename*%d*=a;" % i for i in range(9999)) + b"\r\n\r\nx", (554, "disguised")),
    "comments in comments": (b"Content-Type: " + b"(" * 900 + b"\r\n\r\nx", None),
    "base64 without sense": (b"Content-Disposition: attachment; filename=a.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"=A=\r\n" * 400_000, None),
    "quoted-printable without sense": (b"Content-Disposition: attachment; filename=a.bin\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
                                       b"=\r\n=3=\r\n==\r\n" * 200_000, None),
    "tags without end": (b"Content-Type: text/html\r\n\r\n" + b"<a <!-- &#x &\r\n" * 100_000, None),
}


def test_costly_messages(scene):
    """Whatever a message is made of, it is answered, and the next one is, too."""
    one = scene(", limits: { size: 50M }")
    send(one, attached("a.zip", zipped([("x", b"x")])))
    before = peak(one.child_pid())
    for name, (message, wanted) in COSTLY.items():
        with Talk(one.port, ehlo="c.test") as talk:
            talk.mail("a@example.net", "b@usual.test")
            code, text = talk.data(message)
        print(f"{name:36} {len(message):8} bytes: {code} {text}")
        assert code in (250, 554, 552, 550, 451), (name, code)
        if wanted:
            assert code == wanted[0], (name, code, text)
            assert not wanted[1] or told(one, text)[0] == wanted[1], (name, text)
    if "sanitize" not in BUILD.name:
        assert peak(one.child_pid()) - before < 128 << 20
    assert send(one, attached("a.txt", b"x"))[0] == 250


# ---- the process ----

def unpacker_of(one):
    out = subprocess.run(["pgrep", "-x", "-P", str(one.process.pid), "postern-unpack"], stdout=subprocess.PIPE, text=True).stdout.split()
    return int(out[0]) if out else None


def test_process(scene):
    """It has no privileges and holds nothing; it is killed, and another one goes on at the same door."""
    one = scene()
    first = wait_until(lambda: unpacker_of(one), "it is there")
    status = pathlib.Path(f"/proc/{first}/status").read_text()
    assert "NoNewPrivs:\t1" in status and ("CapEff:\t0000000000000000" in status or os.geteuid() == 0)
    sockets = [os.readlink(f"/proc/{first}/fd/{fd}") for fd in os.listdir(f"/proc/{first}/fd")]
    assert sum(name.startswith("socket:") for name in sockets) <= 1 + sum(
        os.readlink(f"/proc/{one.process.pid}/fd/{fd}").startswith("socket:") for fd in (0, 1, 2)), sockets
    os.kill(first, signal.SIGKILL)
    assert look(one, "a.zip", zipped([("x.exe", b"x")]))[:2] == (554, "forbidden")
    assert unpacker_of(one) not in (None, first)
    assert any("archives ended" in event["detail"] for event in one.find("daemon.warning"))
    child = one.child_pid()
    one.crash_expected = True
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: one.find("daemon.child_died") and one.child_pid() not in (None, child), "another child is there")
    wait_until(lambda: len(one.find("daemon.ready")) == 2, "and takes mail")
    assert look(one, "a.zip", zipped([("x.exe", b"x")]))[:2] == (554, "forbidden")
    second = unpacker_of(one)
    one.stop()
    wait_until(lambda: not pathlib.Path(f"/proc/{second}").exists(), "it ends with the gateway")
