# SPDX-License-Identifier: Apache-2.0
"""
What an administrator gets wrong: `postern check` and posternd name the place or the object, the cause, and what to do; posternd
ends with 1 and leaves nothing behind, or runs and has told.
"""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port, wait_for_port
from rig.talk import Talk

TEXT = """version: 1
hostname: mx.example.org
listeners:
  inbound: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none }}
servers:
  mail: {{ smtp: "127.0.0.1:1", tls: none }}
flows:
  recipient:
    local: [ lookup-smtp: {{ server: mail }} ]
transports:
  to-mail: {{ method: server, server: mail }}
domains:
  example.org: {{ recipients: local, transport: to-mail }}
spool: {{ path: spool }}
control: {{ socket: control.sock }}
"""


class Place:
    """A folder with a configuration in it."""

    def __init__(self, folder):
        self.folder, self.port = pathlib.Path(folder), free_port()
        self.text = TEXT.format(port=self.port)
        self.path = self.folder / "postern.yaml"

    def swap(self, old, new):
        assert old in self.text
        self.text = self.text.replace(old, new)

    def add(self, line):
        self.text += line + "\n"

    def file(self, name, content="", mode=0o600):
        path = self.folder / name
        path.write_text(content)
        path.chmod(mode)
        return path

    def key(self, name="k"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
                        "-out", f"{name}.pem", "-days", "30", "-subj", "/CN=mx.example.org"], cwd=self.folder, check=True, stderr=subprocess.DEVNULL)

    def dated(self, start, end):
        """k.pem for k.key, from `start` to `end`."""
        self.key()
        self.file("db")
        self.file("ca", "[ca]\ndefault_ca=x\n[x]\ndatabase=db\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
        for words in (["req", "-new", "-key", "k.key", "-subj", "/CN=mx.example.org", "-out", "k.csr"],
                      ["ca", "-batch", "-selfsign", "-config", "ca", "-keyfile", "k.key", "-in", "k.csr", "-out", "k.pem", "-startdate", start, "-enddate", end]):
            subprocess.run(["openssl", *words], cwd=self.folder, check=True, stderr=subprocess.DEVNULL)

    def certificate(self, cert="k.pem", key="k.key"):
        self.swap("tls: none, auth", "tls: offered, certificate: main, auth")
        self.add(f"certificates: {{ main: {{ cert: {cert}, key: {key} }} }}")

    def secret(self):
        self.swap('1", tls: none }', '1", tls: required, user: a, password_file: secret }')

    def write(self):
        self.path.write_bytes(self.text if isinstance(self.text, bytes) else self.text.encode())

    def check(self):
        done = subprocess.run([BUILD / "postern", "check", self.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        return done.returncode, (done.stdout + done.stderr).decode()

    @contextlib.contextmanager
    def daemon(self):
        """posternd, and its events until it is ready or has ended."""
        process = subprocess.Popen([BUILD / "posternd", "--config", self.path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            events = []
            for line in process.stdout:
                events.append(json.loads(line))
                if events[-1]["event"] == "daemon.ready":
                    break
            else:
                process.wait(30)
            yield process, events
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.stdout.read()
            process.wait(60)
            process.stdout.close()


# ---- mistakes that the check finds: case -> what is done, and what is said ----

def tabs(place):
    place.swap("  inbound", "\tinbound")


def utf16(place):
    place.text = place.text.encode("utf-16")


def latin1(place):
    place.text = place.text.encode() + b"# M\xfcller\n"


def nul(place):
    place.text = place.text.encode() + b"\0\n"


def other_key(place):
    place.key("a")
    place.key("b")
    place.certificate("a.pem", "b.key")


def passphrase(place):
    place.key()
    subprocess.run(["openssl", "ec", "-in", "k.key", "-out", "p.key", "-aes128", "-passout", "pass:abcd"], cwd=place.folder, check=True, stderr=subprocess.DEVNULL)
    place.certificate(key="p.key")


def passphrase_pkcs8(place):
    place.key()
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", "k.key", "-out", "p.key", "-passout", "pass:abcd"], cwd=place.folder, check=True, stderr=subprocess.DEVNULL)
    place.certificate(key="p.key")


def der(place):
    place.key()
    subprocess.run(["openssl", "x509", "-in", "k.pem", "-outform", "der", "-out", "k.der"], cwd=place.folder, check=True)
    place.certificate("k.der")


def swapped(place):
    place.key()
    place.certificate("k.key", "k.pem")


def keyed(**parts):
    def change(place):
        place.key()
        place.certificate(**parts)
    return change


def key_folder(place):
    place.key()
    (place.folder / "kk").mkdir()
    place.certificate(key="kk")


def key_empty(place):
    place.key()
    place.file("kk")
    place.certificate(key="kk")


def key_open(place):
    place.key()
    (place.folder / "k.key").chmod(0o644)
    place.certificate()


def expired(place):
    place.dated("20200101000000Z", "20210101000000Z")
    place.certificate()


def early(place):
    place.dated("20490101000000Z", "20491231000000Z")
    place.certificate()


def secret(content=None, mode=0o600, folder=False):
    def change(place):
        if folder:
            (place.folder / "secret").mkdir()
        elif content is not None:
            place.file("secret", content, mode)
        place.secret()
    return change


def many_addresses(place):
    place.swap(f'"127.0.0.1:{place.port}"', ", ".join(f'"127.1.1.{n}:{place.port}"' for n in range(1, 66)))


def folder_for_domains(place):
    (place.folder / "names").mkdir()
    place.add("domains_file: names")


REFUSED = {
    "empty": (lambda p: setattr(p, "text", ""), [":1:1", '"version" is missing', "there is no listener", "there is no domain"]),
    "tabs": (tabs, [":4:1", "indent with spaces"]),
    "utf-16": (utf16, [":1:1", "not UTF-8", "save the file as UTF-8"]),
    "latin-1": (latin1, [":16:4", "not UTF-8", "save the file as UTF-8"]),
    "nul": (nul, [":16:1", "control character", "take it out"]),
    "missing": (lambda p: setattr(p, "write", lambda: None), ["postern.yaml  cannot be read: No such file"]),
    "a-folder": (lambda p: (p.path.mkdir(), setattr(p, "write", lambda: None)), ["postern.yaml  cannot be read: Is a directory"]),
    "key-twice": (lambda p: p.add("hostname: x.example.org"), [":16:1", "stands here twice", "the first is in line 2"]),
    "hostname-address": (lambda p: p.swap("mx.example.org", "192.0.2.1"), [":2:11", "is not a host name", "write a name"]),
    "other-key": (other_key, [":16:17", "certificate main", "private key mismatch", "name the key that this certificate was made for"]),
    "passphrase": (passphrase, [":16:17", "p.key: the key is encrypted", "openssl pkey -in"]),
    "passphrase-pkcs8": (passphrase_pkcs8, ["p.key: the key is encrypted", "openssl pkey -in"]),
    "der": (der, ["k.der: holds no certificate in PEM form", "-----BEGIN CERTIFICATE-----"]),
    "swapped": (swapped, ["k.key: holds no certificate in PEM form"]),
    "key-missing": (keyed(key="none"), [":16:43", "none: No such file"]),
    "certificate-missing": (keyed(cert="none"), [":16:31", "none: No such file"]),
    "key-folder": (key_folder, ["kk: cannot read: Is a directory"]),
    "key-empty": (key_empty, ["kk: holds no private key in PEM form"]),
    "secret-missing": (secret(), [":6:71", "secret: No such file"]),
    "secret-empty": (secret("\n"), [":6:71", "secret: is not one line"]),
    "secret-lines": (secret("a\nb\n"), [":6:71", "secret: is not one line"]),
    "secret-folder": (secret(folder=True), [":6:71", "secret: Is a directory"]),
    "domains-missing": (lambda p: p.add("domains_file: names"), [":16:15", "names: No such file"]),
    "domains-folder": (folder_for_domains, [":16:15", "names: Is a directory"]),
    "port-0": (lambda p: p.swap(f":{p.port}", ":0"), [":4:24", "is not an address with a port", "write"]),
    "port-large": (lambda p: p.swap(f":{p.port}", ":99999"), [":4:24", "is not an address with a port"]),
    "addresses": (many_addresses, [":4:", "more than 64 listening addresses", "0.0.0.0:25"]),
    "socket-long": (lambda p: p.swap("control.sock", "x" * 150), [":15:20", "at most 107 characters"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    change, words = REFUSED[case]
    place = Place(tmp_path)
    change(place)
    place.write()
    before = sorted(os.listdir(tmp_path))
    code, said = place.check()
    assert code == 1 and "posternd would refuse this file" in said, said
    for word in words:
        assert word in said, (word, said)
    with place.daemon() as (process, events):
        assert process.returncode == 1, events
        problems = [event for event in events if event["event"] == "config.problem" and event["kind"] == "error"]
        assert problems and all(event["file"] == str(place.path) and event["error"] for event in problems), events
    assert sorted(os.listdir(tmp_path)) == before, "something was begun"


# ---- what is only told ----

TOLD = {
    "windows": (lambda p: setattr(p, "text", p.text.replace("\n", "\r\n")), []),
    "byte-order-mark": (lambda p: setattr(p, "text", b"\xef\xbb\xbf" + p.text.encode()), []),
    "hostname-short": (lambda p: p.swap("mx.example.org", "mx"), [":2:11", '"mx" has no domain', "that DNS has"]),
    "hostname-local": (lambda p: p.swap("mx.example.org", "localhost.localdomain"), [":2:11", "no name that another host could look up"]),
    "hostname-underscore": (lambda p: p.swap("mx.example.org", "my_mx.example.org"), [":2:11", 'holds a "_"']),
    "expired": (expired, [":16:17", "the certificate has ended\n", "renew it"]),
    "early": (early, [":16:17", "the certificate is not valid yet", "clock"]),
    "key-readable": (key_open, [":16:43", "k.key: every user of this host may read it", "chmod o="]),
    "secret-readable": (secret("x\n", mode=0o644), [":6:71", "every user of this host may read it", "chmod o="]),
    "silent-resolver": (lambda p: p.add('dns: { servers: [ "127.0.0.1:9" ] }'), []),
}


@pytest.mark.parametrize("case", TOLD)
def test_told(tmp_path, case):
    change, words = TOLD[case]
    place = Place(tmp_path)
    change(place)
    place.write()
    code, said = place.check()
    assert code == 0 and f"0 errors, {1 if words else 0} warning" in said, said
    for word in words:
        assert word in said, (word, said)
    with place.daemon() as (process, events):
        assert process.poll() is None, events
        told = [event for event in events if event["event"] == "config.problem"]
        assert bool(told) == bool(words), events
        with Talk(place.port, ehlo="c.test") as talk:
            talk.mail()
            assert talk.say("RCPT TO:<anna@example.org>")[0] == 451, "the server is down"


# ---- what only the start finds ----

def taken(place, stack):
    stack.enter_context(socket.create_server(("127.0.0.1", place.port)))


def taken_admin(place, stack):
    door = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    place.add(f'admin: {{ listen: [ "127.0.0.1:{door.getsockname()[1]}" ] }}')


def taken_socket(place, stack):
    """Of a daemon of its own spool."""
    other = Place(place.folder / "other")
    other.folder.mkdir()
    other.text = other.text.replace("socket: control.sock", f"socket: {place.folder}/control.sock")
    other.write()
    stack.enter_context(other.daemon())
    place.still = lambda: subprocess.run([BUILD / "postern", "--socket", place.folder / "control.sock", "status"], check=True, stdout=subprocess.DEVNULL)


def taken_spool(place, stack):
    other = Place(place.folder / "other")
    other.folder.mkdir()
    other.text = other.text.replace("path: spool", f"path: {place.folder}/spool")
    other.write()
    stack.enter_context(other.daemon())
    revisions = place.folder / "spool" / "revisions"
    before = {path.name: path.read_bytes() for path in revisions.iterdir()}

    def still():
        assert {path.name: path.read_bytes() for path in revisions.iterdir()} == before, "revisions of the other"
    place.still = still


def precious(place, stack):
    place.file("control.sock", "precious")

    def still():
        assert (place.folder / "control.sock").read_text() == "precious"
    place.still = still


def newer_spool(place, stack):
    """A segment as a later version would write it; nobody may put it aside."""
    place.write()
    with place.daemon():
        pass
    log = place.folder / "spool" / "log"
    head = bytearray(64)
    head[:8], head[8], head[12], head[16], head[24:32] = b"POSTSEG1", 9, 1, 1, (1 << 60).to_bytes(8, "little")
    head[60:] = crc32c(bytes(head[:60])).to_bytes(4, "little")
    segment = log / "0000000000000001.log"
    segment.write_bytes(bytes(head) + bytes(4096))

    def still():
        assert segment.read_bytes()[:64] == head
    place.still = still


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


STARTS = {
    "port-taken": (taken, ["127.0.0.1:", "another process listens there"]),
    "address-of-nobody": (lambda p, s: p.swap("127.0.0.1:" + str(p.port), f"192.0.2.77:{p.port}"), ["192.0.2.77:", "no interface of this host has that address"]),
    "admin-taken": (taken_admin, ["admin.listen: cannot listen on 127.0.0.1:", "another process listens there"]),
    "socket-taken": (taken_socket, ["control.socket: another process listens on", "control.sock"]),
    "socket-precious": (precious, ["control.socket:", "control.sock is there and is no socket"]),
    "socket-nowhere": (lambda p, s: p.swap("control.sock", "/nonexistent/x/control.sock"), ["control.socket: cannot make /nonexistent/x", "No such file"]),
    "spool-taken": (taken_spool, ["spool.path: another posternd uses", "spool"]),
    "spool-newer": (newer_spool, ["log/0000000000000001.log is of version 9", "newer posternd"]),
    "spool-file": (lambda p, s: p.file("spool"), ["spool.path: cannot open the folder", "Not a directory"]),
    "spool-link": (lambda p, s: (p.folder / "spool").symlink_to("nowhere"), ["spool.path: cannot open the folder", "No such file"]),
    "spool-nowhere": (lambda p, s: p.swap("path: spool", "path: /nonexistent/a/spool"), ["spool.path: cannot make /nonexistent/a/spool", "No such file"]),
    "log-folder": (lambda p, s: p.add("log: { to: file, path: / }"), ["log.path: cannot open /", "Is a directory"]),
    "log-nowhere": (lambda p, s: p.add("log: { to: file, path: /nonexistent/x.log }"), ["log.path: cannot open /nonexistent/x.log", "No such file"]),
}


@pytest.mark.parametrize("case", STARTS)
def test_cannot_start(tmp_path, case):
    change, words = STARTS[case]
    place = Place(tmp_path)
    with contextlib.ExitStack() as stack:
        change(place, stack)
        place.write()
        assert place.check()[0] == 0
        with place.daemon() as (process, events):
            assert process.returncode == 1, events
            said = [event["detail"] for event in events if event["event"] == "daemon.error"]
            assert len(said) == 1 and all(word in said[0] for word in words), events
        if hasattr(place, "still"):
            place.still()
        else:
            assert not (tmp_path / "control.sock").exists(), "it was left behind"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
class TestOfRoot:
    """posternd started as root becomes another user, who cannot read what root wrote."""

    def place(self, folder):
        for above in (folder, *folder.parents):
            if above.is_relative_to("/tmp") and above != pathlib.Path("/tmp"):
                above.chmod(0o755)
        place = Place(folder)
        place.swap("control.sock", "run/control.sock")
        place.add("user: nobody")
        return place

    @pytest.mark.parametrize("which, mode, words", [
        ("k.key", 0o600, ["k.key: Permission denied", "let this user read it"]), ("secret", 0o600, ["secret: Permission denied", "let the user that posternd runs as read it"])])
    def test_secrets_of_root(self, tmp_path, which, mode, words):
        place = self.place(tmp_path)
        if which == "secret":
            place.file(which, "x\n", mode)
            place.secret()
        else:
            place.key()
            place.certificate()
        place.write()
        assert place.check()[0] == 0, "root may"
        with place.daemon() as (process, events):
            assert process.returncode == 1, events
            said = [event["error"] + event["why"] for event in events if event["event"] == "config.problem"]
            assert any(all(word in one for word in words) for one in said), events

    def test_a_spool_of_root(self, tmp_path):
        place = self.place(tmp_path)
        (tmp_path / "spool").mkdir(mode=0o700)
        (tmp_path / "spool" / "something").write_text("so that it is not given away")
        place.write()
        with place.daemon() as (process, events):
            assert process.returncode == 1, events
            assert "spool.path: cannot open the folder" in events[-1]["detail"] and "Permission denied" in events[-1]["detail"], events

    def test_a_user_that_is_not_there(self, tmp_path):
        place = Place(tmp_path)
        place.add("user: no-such-user")
        place.write()
        code, said = place.check()
        assert code == 0 and ":16:7" in said and "there is no user no-such-user on this host" in said, said
        with place.daemon() as (process, events):
            assert process.returncode == 1 and "user: there is no user no-such-user" in events[-1]["detail"], events

    def test_no_room(self, tmp_path):
        """It starts, says so, and asks clients to come again; with room it takes mail."""
        place = Place(tmp_path)
        spool = tmp_path / "spool"
        spool.mkdir()
        place.swap("[ lookup-smtp: { server: mail } ]", "[ accept ]")
        place.write()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", spool], stderr=subprocess.DEVNULL).returncode:
            pytest.skip("no right to mount")
        try:
            (spool / "fill").write_bytes(bytes(60 * 1024))
            with contextlib.suppress(OSError), (spool / "fill2").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))
            with place.daemon() as (process, events):
                assert process.poll() is None, events
                assert any("No space left" in str(event) for event in events), events
                with Talk(place.port, ehlo="c.test") as talk:
                    assert talk.code("MAIL FROM:<a@example.net>") == 452
                subprocess.run(["mount", "-o", "remount,size=100m", spool], check=True)
                (spool / "fill").unlink()

                def takes_mail():
                    with Talk(place.port, ehlo="c.test") as talk:
                        return talk.code("MAIL FROM:<a@example.net>") == 250
                wait_until(takes_mail, "there is room again")
        finally:
            subprocess.run(["umount", "-l", spool], check=True)


def test_all_addresses_of_a_reload(gateway):
    """64 addresses, and at a reload 64 others: for a moment both are open."""
    port = free_port()

    def text(from_, to):
        return TEXT.format(port=port).replace(f'"127.0.0.1:{port}"', ", ".join(f'"127.1.{net}.{n}:{port}"' for net in range(from_, to) for n in range(1, 33)))
    one = gateway(text(1, 3))
    for host in ("127.1.1.1", "127.1.2.32"):
        wait_for_port(port, host)
    one.write_config(text(3, 5))
    assert one.reload(), one.find("config.problem")[-3:]
    for host in ("127.1.3.1", "127.1.4.32"):
        with Talk(port, host) as talk:
            assert talk.greeting[0] == 220
    wait_until(lambda: socket.socket().connect_ex(("127.1.1.1", port)), "the old ones are closed")
    one.write_config(text(2, 4))
    assert one.reload(), "half of them are others"
