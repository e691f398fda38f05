# SPDX-License-Identifier: Apache-2.0
"""
T-B6: canaries in every secret there is - keys of DKIM and TLS, passwords of directories, servers and users, tokens - and what was
written, answered, logged or left in memory is searched for them.
"""
import base64
import os
import pathlib
import re
import resource
import signal
import subprocess

import pytest

from rig.gateway import BUILD, is_dead, wait_until
import rig.ldap
from rig.ldap import PEOPLE, SERVICE
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk, plain
from test_api import ask

PASSWORD, WRONG, FILED, BIND = "canary-Kq7-of-a-user", "canary-Wz3-wrong-guess", "canary-Fy5-in-a-file", "canary-Lb2-of-the-service"


def forms(secret):
    """As it is, and in base64 at each of the three places in a group."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    return [raw] + [base64.b64encode(b"\0" * n + raw + b"\0\0\0")[(4 * n + 2) // 3 + 1:-8] for n in range(3)]


def key_canaries(path):
    """Lines of the file, and the number that is the secret."""
    text = pathlib.Path(path).read_text()
    lines = [line.encode() for line in text.splitlines() if len(line) > 30 and "-----" not in line]
    shown = subprocess.run(["openssl", "pkey", "-in", path, "-noout", "-text"], stdout=subprocess.PIPE, text=True, check=True).stdout
    number = re.search(r"(?:privateExponent|priv):\n((?: +[0-9a-f:]+\n)+)", shown).group(1)
    raw = bytes.fromhex(re.sub(r"[^0-9a-f]", "", number)).lstrip(b"\0")
    return lines[1:3] + [raw[:32], raw[:32][::-1], raw[-24:], raw[-24:][::-1]]


def memory_of(pid):
    """All that the process could read of itself."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, rights, rest = line.split(None, 2)
            if "r" not in rights or "[v" in rest:
                continue
            begin, end = (int(part, 16) for part in span.split("-"))
            try:
                mem.seek(begin)
                yield line, mem.read(end - begin)
            except (OSError, ValueError, OverflowError):
                pass


def found_in_memory(pid, canaries):
    return [(where.split()[-1], canary[:24]) for where, data in memory_of(pid) for canary in canaries if canary in data]


@pytest.fixture
def scene(gateway, sink, tls_files, ldap, tmp_path, monkeypatch):
    monkeypatch.setattr(rig.ldap, "SERVICE_PASSWORD", BIND)
    keys = tmp_path / "keys"
    keys.mkdir()
    for name, kind in (("dkim", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), ("old", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])):
        subprocess.run(["openssl", "genpkey", *kind, "-out", keys / name], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["openssl", "req", "-x509", "-key", keys / "old", "-subj", "/CN=old.test", "-days", "30", "-out", keys / "old.crt"], check=True)
    (keys / "bind").write_text(BIND + "\n")
    os.chmod(keys / "bind", 0o600)
    subprocess.run([BUILD / "postern", "user", "add", "--file", keys / "users", "fay"], input=FILED + "\n", text=True, check=True)
    mail = sink(tls_files=tls_files, replies={"RCPT": known("anna"), "DATA": lambda line: "554 5.6.0 no" if mail.rude else ""}, users={"anna": PASSWORD})
    mail.rude = False
    directory = ldap()
    mx, submission, api, other = free_port(), free_port(), free_port(), free_port()
    text = reception(mail, mx, certificate=tls_files, submission=submission, mail_extra=f", tls: verified, ca_file: {tls_files[0]}, timeout: 20s",
                     steps=f"[ file: {{ path: {keys}/users }}, smtp: {{ server: mail }}, ldap: {{ server: people, filter: \"(uid={{user}})\" }} ]",
                     listeners=f'  aside: {{ listen: [ "127.0.0.1:{other}" ], tls: offered, certificate: former, authentication: none }}',
                     flows="  content:\n    sign:\n      - dkim-sign\n      - deliver", top=f'admin: {{ listen: [ "127.0.0.1:{api}" ] }}')
    text = text.replace("servers:\n", f'servers:\n  people: {{ ldap: "ldap://127.0.0.1:{directory.port}", base_dn: "{PEOPLE}", bind_dn: "{SERVICE}", '
                                      f"bind_password_file: {keys}/bind }}\n")
    text = text.replace("certificates:\n", f"certificates:\n  former: {{ cert: {keys}/old.crt, key: {keys}/old }}\n")
    text = text.replace("\nlisteners:", f"\ndkim_keys:\n  s1: {{ domain: example.org, selector: s1, key: {keys}/dkim }}\nlisteners:", 1)
    text = text.replace("recipients: local-users,", "recipients: local-users, content: sign,")
    one = gateway(text, start=False, ports=[mx, submission, api, other])
    one.mail, one.mx, one.submission, one.api_port, one.other, one.keys, one.text = mail, mx, submission, api, other, keys, text
    return one


def use_all(one):
    """Logins that succeed and fail at every directory, over PLAIN and LOGIN; signed mail, a failure that is told, tokens good and bad."""
    for user, password, code in (("anna", PASSWORD, 235), ("anna", WRONG, None), ("fay", FILED, 235), ("fay", WRONG, None), ("nobody", WRONG, None)):
        for mechanism in "PLAIN", "LOGIN":
            with Talk(one.submission, ehlo="c.test") as talk:
                talk.starttls()
                if mechanism == "PLAIN":
                    got = talk.code(f"AUTH PLAIN {plain(user, password)}")
                else:
                    assert talk.code("AUTH LOGIN") == 334 and talk.code(base64.b64encode(user.encode()).decode()) == 334
                    got = talk.code(base64.b64encode(password.encode()).decode())
                assert got == code or (code is None and got in (535, 454)), (user, got)
    with Talk(one.submission, ehlo="c.test") as talk:  # before TLS, and with what is no login
        talk.say(f"AUTH PLAIN {plain('anna', WRONG)}")
        talk.say(f"{WRONG}")
        talk.say(f"EHLO {WRONG}.test")
    with one.client(one.submission, tls=True, login=("fay", FILED)) as client:
        client.sendmail("anna@example.org", ["anna@example.org"], b"From: anna@example.org\r\nSubject: x\r\n\r\nx\r\n")
    wait_until(lambda: one.mail.messages, "signed mail arrived")
    assert b"DKIM-Signature" in one.mail.messages[0].data
    one.mail.rude = True
    with one.client(one.submission, tls=True, login=("fay", FILED)) as client:
        client.sendmail("anna@example.org", ["anna@example.org"], b"From: anna@example.org\r\nSubject: y\r\n\r\ny\r\n")
    one.wait("delivery.failed")
    one.mail.rude = False
    token = one.ctl_json("token", "create", "spy", "--scope", "read")[0]["token"]
    assert ask(one, "GET", "/api/v1/status", token=token)[0] == 200
    assert ask(one, "GET", "/api/v1/status", token=WRONG)[0] == 401
    return token


def said_by(one):
    """Everything that it says when asked, name and bytes."""
    for words in (["status"], ["config", "show"], ["config", "show", "--effective"], ["config", "history"], ["metrics"], ["token", "list"],
                  ["queue", "list"], ["transport", "show", "to-mail"], ["find", "--limit", "100"], ["shadow"], ["check", one.path]):
        for options in ([], ["--json"]):
            done = subprocess.run([BUILD / "postern", "--socket", one.folder / "control.sock", *options, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            yield " ".join(str(word) for word in words), done.stdout
    for item in one.ctl_json("find", "--limit", "100"):
        yield f"trace {item['id']}", one.ctl("trace", "--raw", item.get("ref") or item["id"]).encode()
    yield "stdout", b"".join(one.raw)
    for message in one.mail.messages:
        yield "a message", message.data
    for pid in (one.process.pid, one.child_pid()):
        for name in ("cmdline", "environ"):
            yield f"{name} of {pid}", pathlib.Path(f"/proc/{pid}/{name}").read_bytes()


def test_no_secret_is_written_or_said(scene):
    scene.start()
    token = use_all(scene)
    canaries = [form for secret in (PASSWORD, FILED, BIND, token) for form in forms(secret)]
    canaries += [canary for name in ("dkim", "old") for canary in key_canaries(scene.keys / name)]
    # a wrong password may be another one's right one; but what was no login - a command, a name - is told like any
    wrong = forms(WRONG)[1:]
    for name, data in said_by(scene):
        assert len(data) or "environ" in name or "list" in name or name.startswith(("shadow", "check")), name
        for canary in canaries + wrong:
            assert canary not in data, f"{name} has {canary[:20]!r}"
    scene.stop()
    own = {scene.keys / "dkim", scene.keys / "old", scene.keys / "bind"}
    for path in scene.folder.rglob("*"):
        if path.is_file() and path not in own:
            data = path.read_bytes()
            for canary in canaries + wrong:
                assert canary not in data, f"{path} has {canary[:20]!r}"


def test_files_are_nobody_elses(scene):
    scene.start()
    use_all(scene)
    kept = [path for path in (scene.folder / "spool").rglob("*") if path.is_file()]
    assert {"events.db", "state.db"} <= {path.name for path in kept}
    assert not [path for path in kept if path.stat().st_mode & 0o007]


def start_readable(scene):
    scene.start()
    if "asan" in pathlib.Path(f"/proc/{scene.child_pid()}/maps").read_text():
        pytest.skip("a sanitized process keeps what was freed, and has too much memory to search")


def test_passwords_leave_the_memory(scene):
    start_readable(scene)
    assert found_in_memory(os.getpid(), [WRONG.encode()]), "the search finds what is there"
    use_all(scene)
    canaries = [form for secret in (PASSWORD, FILED) for form in forms(secret)] + forms(WRONG)[1:]
    child = scene.child_pid()
    wait_until(lambda: scene.status()["sessions"] == 0, "nobody is connected")
    wait_until(lambda: not found_in_memory(child, canaries), lambda: f"they are gone: {found_in_memory(child, canaries)}")
    assert not found_in_memory(scene.process.pid, canaries)


def test_keys_that_are_no_longer_used_leave_the_memory(scene):
    start_readable(scene)
    use_all(scene)
    child = scene.child_pid()
    old, dkim = key_canaries(scene.keys / "old"), key_canaries(scene.keys / "dkim")
    assert found_in_memory(child, old) and found_in_memory(child, dkim), "while they are used they are there"
    text = scene.text.replace(f"\ndkim_keys:\n  s1: {{ domain: example.org, selector: s1, key: {scene.keys}/dkim }}", "").replace("      - dkim-sign\n", "")
    text = re.sub(r"  aside: .*\n", "", text)
    text = re.sub(r"  former: .*\n", "", text)
    scene.write_config(text)
    assert scene.reload()
    wait_until(lambda: scene.status()["sessions"] == 0, "nobody is connected")
    for name, canaries in ("dkim", dkim), ("old", old):
        wait_until(lambda: not found_in_memory(child, canaries), lambda: f"{name} is gone: {found_in_memory(child, canaries)}")
    assert not found_in_memory(scene.process.pid, old + dkim)


def test_no_core_is_left(gateway, sink, tmp_path):
    """A process that dies by a signal writes no memory to a disk, whatever the limits allow."""
    if "|" in pathlib.Path("/proc/sys/kernel/core_pattern").read_text():
        pytest.skip("cores go to a program here")
    one = gateway(reception(sink(), free_port()), start=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        witness = subprocess.Popen(["sleep", "60"])
        one.start()
    finally:
        os.chdir(before)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    witness.send_signal(signal.SIGABRT)
    witness.wait()
    child = one.child_pid()
    one.crash_expected = True
    os.kill(child, signal.SIGABRT)
    wait_until(lambda: is_dead(child), "it is dead")
    one.wait("daemon.child_died")
    cores = list(tmp_path.glob("core*")) + list(one.folder.rglob("core*"))
    if hard:
        assert [core for core in cores if "sleep" in core.name or core.stat().st_size < 4 << 20], "the witness left one: the test can fail"
    assert len(cores) <= 1, cores
