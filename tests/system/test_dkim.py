# SPDX-License-Identifier: Apache-2.0
"""DKIM and ARC beside a stranger, dkimpy: what we sign it verifies, and the other way round."""
import base64
import json
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port

dkim = pytest.importorskip("dkim")

ED_SEED = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
ED_RECORD = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Selector: (file, record, private key as dkimpy takes it)."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "ed").write_bytes(ED_SEED + b"\n")
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", folder / "rsa", "2048"], check=True,
                   stderr=subprocess.DEVNULL)
    public = subprocess.run(["openssl", "rsa", "-in", folder / "rsa", "-pubout", "-outform", "DER"], check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    rsa_record = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
    for name in ("ed", "rsa"):
        (folder / name).chmod(0o600)
    return {"ed": (folder / "ed", ED_RECORD, ED_SEED), "rsa": (folder / "rsa", rsa_record,
                                                             (folder / "rsa").read_bytes())}


def records(keys):
    return {f"{selector}._domainkey.example.org": record for selector, (_, record, _) in keys.items()}


def answer_from(zone):
    """dkimpy's way to ask DNS."""
    return lambda name, timeout=5: zone.get(name.decode().rstrip("."), "").encode() or None


MESSAGES = {
    "plain": b"From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: hello\r\n"
             b"Date: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello\r\n",
    "no body": b"From: ann@example.org\r\nSubject: nothing\r\n\r\n",
    "empty lines": b"From: ann@example.org\r\nSubject: x\r\n\r\na\r\n\r\n\r\n\r\n",
    "only empty lines": b"From: ann@example.org\r\nSubject: x\r\n\r\n\r\n\r\n",
    "blanks": b"From:   ann@example.org  \r\nSubject: \t many\t \tblanks \r\n  and a fold\t\r\n\r\n"
              b" leading \t and  inner\t\r\ntrailing  \t\r\n \r\n\t\r\n",
    "no final line end": b"From: ann@example.org\r\nSubject: x\r\n\r\nno end",
    "eight bit": "From: Änn <ann@example.org>\r\nSubject: Grüße\r\n\r\nschön, 日本\r\n".encode(),
    "fields twice": b"Received: by a\r\nReceived: by b\r\nFrom: ann@example.org\r\nTo: a\r\nTo: b\r\n"
                    b"SUBJECT: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n\r\nx\r\n",
    "long": b"From: ann@example.org\r\nSubject: long\r\n\r\n" + b"A line of a letter, not short.\r\n" * 20000,
    "dots": b"From: ann@example.org\r\nSubject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
}
CANONS = ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"]


def write_messages(folder):
    files = {}
    for number, (name, text) in enumerate(MESSAGES.items()):
        files[name] = folder / str(number)
        files[name].write_bytes(text)
    return files


@pytest.mark.parametrize("selector", ["ed", "rsa"])
@pytest.mark.parametrize("canon", CANONS)
def test_we_sign_they_verify(keys, tmp_path, selector, canon):
    files = write_messages(tmp_path)
    subprocess.run([BUILD / "dkim-tool", "sign", "example.org", selector, keys[selector][0], canon, *files.values()],
                   check=True)
    for name, path in files.items():
        signed = path.with_suffix(".signed").read_bytes()
        assert dkim.verify(signed, dnsfunc=answer_from(records(keys))), f"{name} {canon}"
        assert not dkim.verify(signed + b"more\r\n", dnsfunc=answer_from(records(keys))), name


@pytest.mark.parametrize("selector", ["ed", "rsa"])
@pytest.mark.parametrize("canon", CANONS)
def test_they_sign_we_verify(keys, tmp_path, selector, canon):
    zone = tmp_path / "zone"
    zone.write_text("".join(f"{name}\t{record}\n" for name, record in records(keys).items()))
    algorithm = b"ed25519-sha256" if selector == "ed" else b"rsa-sha256"
    expected = {}
    for number, (name, text) in enumerate(MESSAGES.items()):
        field = dkim.sign(text, selector.encode(), b"example.org", keys[selector][2], signature_algorithm=algorithm,
                          canonicalize=tuple(canon.encode().split(b"/")))
        for what, extra, result in (("whole", b"", "pass"), ("longer", b"more\r\n", "fail")):
            path = tmp_path / f"{number}.{what}"
            path.write_bytes(field + text + extra)
            expected[str(path)] = f"{name} {what}", result
    done = subprocess.run([BUILD / "dkim-tool", "verify", zone, *expected], check=True, stdout=subprocess.PIPE,
                          text=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(expected)
    for path, result, *rest in lines:
        assert result == expected[path][1], (expected[path][0], rest)


def test_their_seal_passes(keys, tmp_path):
    zone = tmp_path / "zone"
    zone.write_text("".join(f"{name}\t{record}\n" for name, record in records(keys).items()))
    text = b"Authentication-Results: lists.example.org; spf=pass smtp.mailfrom=a@example.net\r\n" + MESSAGES["plain"]
    pytest.importorskip("authres")
    fields = dkim.arc_sign(text, b"rsa", b"example.org", keys["rsa"][2], b"lists.example.org")
    assert fields
    sealed = b"".join(fields) + text
    (tmp_path / "good").write_bytes(sealed)
    (tmp_path / "bad").write_bytes(sealed.replace(b"Hello\r\n", b"Hullo\r\n"))
    done = subprocess.run([BUILD / "dkim-tool", "verify", zone, tmp_path / "good", tmp_path / "bad"], check=True,
                          stdout=subprocess.PIPE, text=True)
    assert [line.split("\t")[2] for line in done.stdout.splitlines()] == ["arc=pass", "arc=fail"]


# ---- through the gateway ----

@pytest.fixture
def scene(gateway, sink, dns, tls_files, keys):
    mail = sink(tls_files=tls_files, users={"anna": "secret"})
    world = sink(host="127.0.0.2")
    names = dns(["example.net. MX 10 mx.example.net.", "mx.example.net. A 127.0.0.2"])
    mx, submission = free_port(), free_port()
    cert, key = tls_files
    config = f"""
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail.port}", tls: verified, ca_file: {cert} }}
certificates:
  main: {{ cert: {cert}, key: {key} }}
dkim_keys:
  ed: {{ domain: example.org, selector: ed, key: {keys["ed"][0]} }}
  rsa: {{ domain: example.org, selector: rsa, key: {keys["rsa"][0]} }}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: offered, certificate: main, authentication: none }}
  submission: {{ listen: [ "127.0.0.1:{submission}" ], tls: required, certificate: main,
                 authentication: {{ flow: staff, required: true }} }}
flows:
  authentication:
    staff: [ smtp: {{ server: mail }} ]
  content:
    outbound: [ header: "X-Checked: yes", dkim-sign, deliver ]
transports:
  internet: {{ method: lookup-mx, direction: outbound, port: {world.port}, allow_private: true }}
domains:
  example.org: {{ recipients: {{ preset: local-users, server: mail }}, content: outbound, transport: {{ server: mail }} }}
  any: {{ recipients: relay-authenticated, content: outbound, transport: internet }}
entitlements: {{ open_relay_support: true }}
dns: {{ servers: [ "{names.address}" ] }}
"""
    one = gateway(config, ports=[mx, submission])
    one.mail, one.world, one.mx, one.submission = mail, world, mx, submission
    return one


def send(client, sender, recipient, text):
    assert client.mail(sender)[0] == 250 and client.rcpt(recipient)[0] == 250
    code, reply = client.data(text)
    assert code == 250, reply


def test_mail_of_users_is_signed(scene, keys):
    client = scene.client(scene.submission, tls=True, login=("anna", "secret"))
    for name in ("plain", "blanks", "fields twice", "dots", "long"):
        send(client, "ann@example.org", "bob@example.net", MESSAGES[name])
    wait_until(lambda: len(scene.world.messages) == 5, "all have arrived")
    for taken in scene.world.messages:
        header, _, _ = taken.data.partition(b"\r\n\r\n")
        assert header.lower().count(b"dkim-signature:") == 2
        one = dkim.DKIM(taken.data)
        for number in (0, 1):
            assert one.verify(number, dnsfunc=answer_from(records(keys)))
        forged = dkim.DKIM(b"From: eve@example.com\r\n" + taken.data)
        assert not forged.verify(0, dnsfunc=answer_from(records(keys)))


def test_mail_of_strangers_is_not(scene):
    send(scene.client(scene.mx), "x@example.net", "anna@example.org", MESSAGES["plain"])
    wait_until(lambda: scene.mail.messages, "it has arrived")
    assert b"dkim-signature" not in scene.mail.messages[0].data.lower()
    assert b"X-Checked: yes" in scene.mail.messages[0].data


# ---- the command ----

def postern(*arguments):
    done = subprocess.run([BUILD / "postern", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_generate(tmp_path):
    code, out, err = postern("dkim", "generate", "--domain", "Example.org", "--selector", "s1", tmp_path / "one")
    assert code == 0 and out.startswith('s1._domainkey.example.org. IN TXT "v=DKIM1; k=ed25519; p=')
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o640 and "PRIVATE KEY" in (tmp_path / "one").read_text()
    assert "PRIVATE" not in out + err
    before = (tmp_path / "one").read_bytes()
    assert postern("dkim", "generate", "--domain", "example.org", tmp_path / "one")[0] == 1, "it was overwritten"
    assert (tmp_path / "one").read_bytes() == before
    code, out, _ = postern("--json", "dkim", "generate", "--domain", "example.org", "--rsa", tmp_path / "two")
    record = json.loads(out)
    assert code == 0 and all(len(text) <= 255 for text in record["strings"]) and len(record["strings"]) == 2
    assert "".join(record["strings"]) == record["value"]


def test_status(keys, dns, tmp_path):
    def txt(name, record):
        parts = [record[at:at + 200] for at in range(0, len(record), 200)]
        return f"{name}. TXT " + " ".join(f'"{part}"' for part in parts)

    names = dns([txt("ed._domainkey.example.org", keys["ed"][1]), txt("rsa._domainkey.example.org", keys["rsa"][1]),
                 txt("rsa._domainkey.example.net", keys["rsa"][1].replace("p=MIIB", "p=MIIC"))])
    config = tmp_path / "postern.yaml"

    def status(*arguments, **more):
        listed = {"ed": ("example.org", "ed", True), "rsa": ("example.org", "rsa", True), **more}
        config.write_text("version: 1\nhostname: mx.example.org\ndkim_keys:\n" + "".join(
            f"  {name}: {{ domain: {domain}, selector: {selector}, key: {keys[selector][0]}, "
            f"active: {str(active).lower()} }}\n" for name, (domain, selector, active) in listed.items()) +
            f"listeners:\n  inbound: {{ listen: [ \"127.0.0.1:2525\" ], authentication: none }}\n"
            f"domains:\n  example.org: {{ recipients: [ accept ], transport: nowhere }}\n"
            f"transports: {{ nowhere: {{ method: discard }} }}\n"
            f"dns: {{ servers: [ \"{names.address}\" ] }}\nspool: {{ path: spool }}\n")
        code, out, err = postern("--json", "dkim", "status", config, *arguments)
        return code, {line["key"]: line["dns"] for line in map(json.loads, out.splitlines())}, err

    assert status() == (0, {"ed": "published", "rsa": "published"}, "")
    assert status(other=("example.net", "rsa", True))[:2] == (1, {"ed": "published", "rsa": "published",
                                                                "other": "differs"})
    waits = {"next": ("example.net", "ed", False)}
    assert status(**waits)[:2] == (0, {"ed": "published", "rsa": "published", "next": "missing"})
    assert status("--wait", "0", **waits)[0] == 1
    assert status("--domain", "example.org", "--wait", "0", **waits)[0] == 0
