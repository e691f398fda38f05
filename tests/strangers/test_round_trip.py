# SPDX-License-Identifier: Apache-2.0
"""Real mail through the gateway: what arrives is what was sent, octet for octet, behind fields of ours at the top alone; a
signature of the sender's still verifies."""
import base64
import re
import subprocess

import pytest

from corpus import HERE, messages
from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.talk import Talk

OURS = rb"(Received|Authentication-Results|DKIM-Signature|X-Checked): "

CONFIG = """
version: 1
hostname: mx.example.org
certificates: {{ main: {{ cert: {cert}, key: {key} }} }}
servers: {{ mail: {{ smtp: "127.0.0.1:{sink}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{port}" ], tls: offered, certificate: main, authentication: none }} }}
dkim_keys: {{ one: {{ domain: gateway.test, selector: s, key: {folder}/ed25519 }} }}
flows:
  recipient: {{ open: [ accept ] }}
  content:
    all: [ verify: {{ reject: note, quarantine: note, permerror: note, temperror: note }}, header: "X-Checked: yes",
           dkim-sign: {{ keys: [ one ], strangers: true }}, deliver ]
transports: {{ to-mail: {{ server: mail }} }}
domains:
  plain.test: {{ recipients: open, transport: to-mail }}
  flow.test: {{ recipients: open, content: all, transport: to-mail }}
dns: {{ servers: [ "{names}" ] }}
"""


@pytest.fixture
def scene(gateway, sink, dns, tls_files, tmp_path):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "ed25519"], check=True)
    (tmp_path / "ed25519").chmod(0o600)
    der = subprocess.run(["openssl", "pkey", "-in", tmp_path / "ed25519", "-pubout", "-outform", "DER"], check=True,
                         stdout=subprocess.PIPE).stdout
    record = "v=DKIM1; k=ed25519; p=" + base64.b64encode(der[-32:]).decode()
    (tmp_path / "zone").write_text("".join(f"s._domainkey.{domain}\t{record}\n" for domain in ("gateway.test", "sender.test")))

    def make(chunking):
        mail = sink(extensions=("PIPELINING", "8BITMIME", "SIZE 0", "SMTPUTF8") + (("CHUNKING",) if chunking else ()))
        port = free_port()
        cert, key = tls_files
        one = gateway(CONFIG.format(cert=cert, key=key, sink=mail.port, port=port, folder=tmp_path, names=dns([]).address),
                      ports=[port])
        one.mail, one.port, one.place = mail, port, tmp_path
        return one

    return make


def signed_texts(folder):
    """[(name, text)] with the sender's signature, simple/simple, where the message can have one."""
    names, out = {}, []
    for number, name, text in messages():
        path = folder / str(number)
        path.write_bytes(text)
        names[str(path)] = name
    said = subprocess.run([BUILD / "dkim-tool", "sign", "sender.test", "s", folder / "ed25519", "simple/simple", *names], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    for path, name in names.items():
        signed = path + ".signed"
        with open(path if path in said else signed, "rb") as file:
            out.append((name, file.read()))
    return out


def send(talk, to, text, bdat):
    """The reply to the data."""
    talk.mail("a@sender.test", f"you@{to}", parameters=" BODY=8BITMIME")
    if not bdat:
        return talk.data(re.sub(rb"(?m)^\.", b"..", text), end=b".\r\n")
    half = len(text) // 2
    talk.send(b"BDAT %d\r\n" % half + text[:half])
    code, said = talk.reply()
    if code != 250:
        return code, said
    talk.send(b"BDAT %d LAST\r\n" % (len(text) - half) + text[half:])
    return talk.reply()


def connect(one, way):
    talk = Talk(one.port, ehlo="client.test")
    return talk.starttls() if way == "TLS" else talk


def may_not_pass(text):
    """No line of SMTP may have these (RFC 5321 2.3.8): whoever sends them is told."""
    return re.search(rb"\r(?!\n)|\0", text)


def ours_alone(top):
    """Everything in `top` is whole fields of ours."""
    fields = re.split(rb"\r\n(?![ \t])", top)
    return fields[-1] == b"" and all(re.match(OURS, field) for field in fields[:-1])


@pytest.mark.parametrize("way,chunking", [("DATA", False), ("BDAT", True), ("TLS", False)])
@pytest.mark.parametrize("domain", ["plain.test", "flow.test"])
def test_round_trip(scene, way, chunking, domain):
    one = scene(chunking)
    texts = signed_texts(one.place)
    talk = connect(one, way)
    for name, text in texts:
        code, said = send(talk, domain, b"X-Name: " + name.encode() + b"\r\n" + text, way == "BDAT")
        assert code == (550 if may_not_pass(text) else 250), (name, said)
        if code == 550:  # what a smuggler might have sent behind it is not listened to
            assert talk.is_closed()
            talk = connect(one, way)
    talk.close()
    texts = [(name, text) for name, text in texts if not may_not_pass(text)]
    wait_until(lambda: len(one.mail.messages) >= len(texts), "all have arrived", 120)
    arrived = {}
    for taken in one.mail.messages:
        top, mark, rest = taken.data.partition(b"X-Name: ")
        name, _, text = rest.partition(b"\r\n")
        assert ours_alone(top), top
        assert name not in arrived
        arrived[name] = (text, taken.data)
        assert any(command.startswith("BDAT") for command in taken.commands) == chunking
    for name, text in texts:
        assert arrived[name.encode()][0] == text, name
    if domain == "flow.test":
        verify(one, texts, arrived)
    one.wait_empty()


def no_author(text):
    """From may not be clear: it has no @, or several (two domains, one in quotes), and dkim-sign passes it over."""
    return re.search(rb"(?im)^from[ \t]*:((?:[^\r]|\r\n[ \t])*)", text).group(1).count(b"@") != 1


def verify(one, texts, arrived):
    """Both signatures of each message: the sender's and ours, by us and by dkimpy."""
    whole = one.place / "arrived"
    whole.mkdir()
    files = []
    for number, (name, text) in enumerate(texts):
        if text.startswith(b"DKIM-Signature:"):
            files.append(whole / str(number))
            files[-1].write_bytes(arrived[name.encode()][1])
    done = subprocess.run([BUILD / "dkim-tool", "verify", one.place / "zone", *files], check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(files) > len(texts) * 0.9
    passed_over = []
    for line in lines:
        assert line.endswith("\tpass sender.test "), line
        if "\tpass gateway.test \t" not in line:
            name, text = texts[int(line.split("\t")[0].rpartition("/")[2])]
            passed_over += [] if no_author(text) else [name]
    assert not passed_over
    done = subprocess.run([HERE / "dkimpy_tool", "verify", one.place / "zone", *files[::5]], check=True, stdout=subprocess.PIPE,
                          text=True)
    assert {line.split("\t")[1] for line in done.stdout.splitlines()} == {"pass"}
