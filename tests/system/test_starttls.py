# SPDX-License-Identifier: Apache-2.0
"""STARTTLS and implicit TLS: nothing crosses from clear to protected, certificates by name and reloaded."""
import shutil
import socket
import ssl
import subprocess

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import reception
from rig.talk import Talk, plain


def make_certificate(folder, name):
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "30", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"],
                   check=True, stderr=subprocess.DEVNULL)
    return cert, key


@pytest.fixture
def scene(gateway, sink, tls_files):
    mail = sink(users={"anna": "secret"})
    mx, submission, implicit = free_port(), free_port(), free_port()
    listeners = (f'  submissions: {{ listen: [ "127.0.0.1:{implicit}" ], tls: implicit, certificate: main, '
                 "authentication: { flow: staff, required: true } }")
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, listeners=listeners), ports=[mx, submission])
    one.mail, one.mx, one.submission, one.implicit = mail, mx, submission, implicit
    return one


@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"EHLO evil\r\n", b"\0", b"\r\n", b"MAIL FROM:<evil@example.net>\r\n",
                                    b"RSET\r\nMAIL FROM:<evil@example.net>\r\nRCPT TO:<anna@example.org>\r\n"])
@pytest.mark.parametrize("where", ["mx", "submission"])
def test_injection(scene, where, behind):
    """Bytes in the segment of STARTTLS: 554 and the end; they never run inside."""
    with Talk(getattr(scene, where), ehlo="c.test") as talk:
        talk.send(b"STARTTLS\r\n" + behind)
        code, text = talk.reply()
        assert code == 554 and text.startswith("5.5.1"), text
        assert talk.is_closed()
    scene.wait("session.protocol")


def test_state_is_forgotten(scene):
    with Talk(scene.mx, ehlo="before.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        code = talk.code("STARTTLS")
        if code == 220:
            talk.wrap()
            assert talk.code("RCPT TO:<anna@example.org>") == 503
            assert talk.code("DATA") == 503
        else:
            assert code == 503
    with Talk(scene.mx, ehlo="before.test") as talk:
        assert talk.code("STARTTLS") == 220
        talk.wrap()
        assert talk.code("MAIL FROM:<a@example.net>") == 503, "EHLO of before counts"
        talk.ehlo()
        assert talk.code("STARTTLS") in (502, 503)
        assert talk.code("STARTTLS now") in (501, 502, 503)


def test_required(scene):
    """Before TLS nothing but EHLO, NOOP, QUIT and STARTTLS."""
    with Talk(scene.submission, ehlo="c.test") as talk:
        for line in ["MAIL FROM:<a@example.net>", "AUTH PLAIN " + plain("anna", "secret"), "VRFY anna", "RCPT TO:<a@example.net>", "DATA",
                     "RSET"]:
            code, text = talk.say(line)
            assert code == 530, (line, code, text)
        assert talk.code("NOOP") == 250
        assert talk.say(b"BDAT 4 LAST\r\nNOOP")[0] == 530
        talk.starttls()
        assert talk.code("MAIL FROM:<a@example.net>") == 530, "a login is required"


def test_no_handshake(scene):
    """Clear text where a handshake belongs ends the connection and says nothing."""
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.code("STARTTLS") == 220
        talk.send(b"EHLO again\r\nMAIL FROM:<a@example.net>\r\n")
        assert b"250" not in talk.rest()
    scene.wait("session.tls_failed")
    with Talk(scene.implicit, greeting=False) as talk:
        talk.send(b"EHLO clear\r\n")
        assert b"220" not in talk.rest()


def test_close_notify_is_the_end(scene):
    """After the end of TLS no clear byte is read (CVE-2026-45185), in the middle of a chunk too."""
    for inside in [b"", b"BDAT 100 LAST\r\nabc"]:
        with Talk(scene.mx, ehlo="c.test") as talk:
            talk.starttls().mail("a@example.net", "anna@example.org")
            raw = socket.socket(fileno=talk.sock.detach() if False else None) if False else None
            del raw
            if inside:
                talk.send(inside)
            plain_socket = None
            try:
                talk.sock.settimeout(2)
                plain_socket = talk.sock.unwrap()
            except (OSError, ssl.SSLError):
                continue
            try:
                plain_socket.sendall(b"\r\nRSET\r\nQUIT\r\n" + b"x" * 120)
                assert plain_socket.recv(100) == b""
            except OSError:
                pass
            finally:
                plain_socket.close()
    assert not scene.mail.messages
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.code("NOOP") == 250


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(scene, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.code("STARTTLS") == 220
        talk.sock = context.wrap_socket(talk.sock)
        talk.ehlo()


def test_old_versions_are_refused(scene):
    done = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", f"127.0.0.1:{scene.mx}", "-tls1_1", "-cipher",
                           "ALL:@SECLEVEL=0"], input="QUIT\r\n", text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert "alert" in done.stdout and "Cipher is (NONE)" in done.stdout, done.stdout[-500:]


# ---- certificates ----

@pytest.fixture
def two_names(gateway, sink, tmp_path):
    first, second = make_certificate(tmp_path, "mx.example.org"), make_certificate(tmp_path, "mail.example.com")
    mail, mx = sink(), free_port()
    text = reception(mail, mx, certificate=first)
    text = text.replace("certificates:\n", f"certificates:\n  other: {{ cert: {second[0]}, key: {second[1]} }}\n")
    text = text.replace("certificate: main", "certificate: [ main, other ]")
    one = gateway(text, ports=[mx])
    one.mx, one.first, one.second = mx, first, second
    return one


def shown(one, name):
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.starttls(sni=name)
        return talk.peer_names()


@pytest.mark.parametrize("asked, name", [
    ("mx.example.org", "mx.example.org"), ("mail.example.com", "mail.example.com"), ("MAIL.Example.COM", "mail.example.com"),
    (None, "mx.example.org"), ("unknown.example.net", "mx.example.org"), ("x.mail.example.com", "mx.example.org")])
def test_server_name(two_names, asked, name):
    assert shown(two_names, asked).endswith(name)


def test_hostile_server_names(two_names):
    """A name in the handshake is never anything but compared."""
    for name in [b"..", b"a" * 250, b"\\0", b"mx.example.org\0evil", b"../../etc/passwd", b"%s%n", b"\xff\xfe", b"x\r\nEHLO"]:
        with Talk(two_names.mx, ehlo="c.test") as talk:
            assert talk.code("STARTTLS") == 220
            talk.send(client_hello(name))
            answer = talk.sock.recv(5)
            assert answer[:1] in (b"\x15", b"\x16", b""), answer
    assert shown(two_names, "mail.example.com").endswith("mail.example.com")


def client_hello(name):
    """A handshake message with that server name, made by hand: libraries refuse to send most of them."""
    def sized(data, size):
        return len(data).to_bytes(size, "big") + data
    extensions = (b"\0\0" + sized(sized(b"\0" + sized(name, 2), 2), 2) + b"\0\x0a" + sized(sized(b"\0\x17", 2), 2)
                  + b"\0\x0d" + sized(sized(b"\x04\x03", 2), 2) + b"\0\x0b" + sized(b"\x01\0", 2))
    body = b"\x03\x03" + b"r" * 32 + b"\0" + sized(b"\xc0\x2b\xc0\x2c", 2) + b"\x01\0" + sized(extensions, 2)
    return b"\x16\x03\x01" + sized(b"\x01" + sized(body, 3), 2)


def test_certificate_is_replaced(two_names, tmp_path):
    """New files are used without a restart; a broken one is told and the old one stays."""
    folder = tmp_path / "new"
    folder.mkdir()
    cert, key = make_certificate(folder, "new.example.org")
    with Talk(two_names.mx, ehlo="c.test") as open_before:
        open_before.starttls()
        shutil.copy(key, two_names.first[1])
        shutil.copy(cert, two_names.first[0])
        wait_until(lambda: shown(two_names, None).endswith("new.example.org"), "the new certificate is shown")
        assert open_before.code("NOOP") == 250
    failed = len(two_names.find("certificate.failed"))
    two_names.first[0].write_text("-----BEGIN CERTIFICATE-----\nnot one\n")
    two_names.wait("certificate.failed", count=failed + 1)
    assert shown(two_names, None).endswith("new.example.org")
