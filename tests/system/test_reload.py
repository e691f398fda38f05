# SPDX-License-Identifier: Apache-2.0
"""The life of the daemon: check, init, reload, drain, crash, privileges."""
import contextlib
import datetime
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port, wait_for_port
from rig.setups import known, reception
from rig.talk import Talk

HEAD = b"Subject: x\r\n\r\n"


@pytest.fixture
def scene(gateway, sink):
    mail = sink(replies={"RCPT": known("anna")})
    mx = free_port()
    one = gateway(reception(mail, mx), ports=[mx])
    one.mail, one.mx = mail, mx
    return one


def change(one, old, new):
    text = one.path.read_text()
    assert old in text
    one.path.write_text(text.replace(old, new))


def postern(*words, **options):
    return subprocess.run([BUILD / "postern", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, **options)


# ---- check ----

def test_check_shows_all_errors(scene):
    """Place, line, caret, cause and fix; all errors of the file in one run; the same to posternd."""
    change(scene, "hostname:", "hostnme:")
    change(scene, "authentication: none", "authentification: none, limits: { size: 10Q, recipients: many }")
    change(scene, "server: mail }", "server: mial }")
    done = postern("check", scene.path)
    assert done.returncode == 1
    for text in ['did you mean "hostname"', 'did you mean "authentication"', 'did you mean "mail"', "10Q", "many"]:
        assert text in done.stdout, done.stdout
    lines = done.stdout.splitlines()
    carets = [(above, line) for above, line in zip(lines, lines[1:]) if re.match(r"\s*\|\s*\^+$", line)]
    assert len(carets) >= 5, done.stdout
    for above, line in carets:
        begin, end = line.index("^"), line.rindex("^") + 1
        assert above[begin:end].strip(), "a caret under nothing"
    assert re.search(rf"{re.escape(str(scene.path))}:\d+:\d+", done.stdout)
    assert "posternd would refuse this file" in done.stdout
    code, problems = scene.check()
    assert code == 1 and len(problems) >= 5


@pytest.mark.parametrize("old, new, words", [
    ("version: 1\n", "version: 1\nversion: 1\n", ["version"]),
    ("version: 1\n", "version: 2\n", ["version"]),
    ("local-users:\n", "local-users:\n      - accpt: { when: authenticated }\n", ['did you mean "accept"']),
    ("when: authenticated or", "when: authentcated or", ['did you mean "authenticated"']),
    ("recipients: local-users", "recipients: local-usrs", ['did you mean "local-users"']),
    ("delays: [ 1s ]", "delays: [ 1x ]", ["1x"]),
    ("transport: to-mail", "transport: to-mial", ['did you mean "to-mail"']),
    ("tls: none, authentication", "tls: offred, authentication", ['did you mean "offered"']),
    ("domains:\n", "domans:\n", ['did you mean "domains"']),
    ("hostname: mx.example.org", "hostname: [ mx.example.org", []),
    ("hostname: mx.example.org", "\thostname: mx.example.org", []),
    ("hostname: mx.example.org", "hostname: &a mx.example.org", []),
])
def test_typos(scene, old, new, words):
    change(scene, old, new)
    done = postern("check", scene.path)
    if new.endswith("&a mx.example.org"):
        assert done.returncode in (0, 1)
        return
    assert done.returncode == 1, done.stdout
    for word in words:
        assert word in done.stdout, done.stdout
    assert not scene.reload(), "a file that does not check was applied"
    assert scene.process.poll() is None
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250


def test_conf_d(scene):
    """Further files with the same keys; a name that is defined twice is an error that shows its file."""
    folder = scene.folder / "conf.d"
    folder.mkdir()
    other = free_port()
    (folder / "second.yaml").write_text(f'listeners:\n  second: {{ listen: [ "127.0.0.1:{other}" ], tls: none, authentication: none }}\n')
    assert scene.reload()
    wait_for_port(other)
    (folder / "third.yaml").write_text('listeners:\n  second: { listen: [ "127.0.0.1:1" ], tls: none, authentication: none }\n')
    done = postern("check", scene.path)
    assert done.returncode == 1 and "third.yaml:2:3" in done.stdout, done.stdout
    assert not scene.reload()


def test_missing_file(scene):
    scene.path.rename(scene.folder / "away.yaml")
    assert not scene.reload()
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.code("NOOP") == 250
    done = postern("check", scene.path)
    assert done.returncode == 1 and str(scene.path) in done.stdout + done.stderr


def test_init(gateway, sink, tmp_path):
    """What init writes checks, and starts with nothing but its ports and paths changed."""
    mail = sink(replies={"RCPT": known("anna")})
    folder = tmp_path / "etc"
    done = postern("init", "relay-authenticated", "--domain", "example.org", "--server", f"127.0.0.1:{mail.port}", "--output", folder)
    assert done.returncode == 0, done.stderr
    done = postern("check", folder / "postern.yaml")
    assert done.returncode == 0 and "0 errors" in done.stdout, done.stdout
    again = postern("init", "relay-authenticated", "--domain", "example.org", "--server", "x:25", "--output", folder)
    assert again.returncode != 0, "it wrote over a file"
    assert os.stat(folder / "tls" / "key.pem").st_mode & 0o007 == 0, "everybody may read the key"
    mx, submission = free_port(), free_port()
    text = (folder / "postern.yaml").read_text()
    text = text.replace("/var/spool/postern", "spool").replace("/run/postern/control.sock", "control.sock")
    text = text.replace("preset: mx,", f'preset: mx, listen: [ "127.0.0.1:{mx}" ],')
    text = text.replace("preset: submission,", f'preset: submission, listen: [ "127.0.0.1:{submission}" ],')
    one = gateway(text, ports=[mx, submission], start=False, folder=folder)
    assert one.check()[0] == 0
    one.start()
    with Talk(mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250
        talk.mail("a@example.net")
        assert talk.code("RCPT TO:<b@example.net>") in (550, 554)
    wait_until(lambda: mail.messages, "it is delivered")


@pytest.mark.parametrize("words", [[], ["nonsense"], ["relay-authenticated"], ["relay-authenticated", "--domain", "x y", "--server", "a:25"],
                                   ["relay-authenticated", "--domain", "example.org", "--server", 'a"b:25']])
def test_init_refuses(tmp_path, words):
    done = postern("init", *words, cwd=tmp_path)
    assert done.returncode == 2 and not list(tmp_path.iterdir()), done.stderr


# ---- reload ----

def test_open_session_keeps_its_configuration(scene):
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        change(scene, "authentication: none", "authentication: none, limits: { size: 4K }")
        assert scene.reload()
        assert talk.data(HEAD + (b"x" * 98 + b"\r\n") * 100)[0] == 250, "the session was touched"
        assert talk.offers("SIZE") == f"SIZE {50 << 20}"
        with Talk(scene.mx, ehlo="c.test") as new:
            assert new.offers("SIZE") == "SIZE 4096"
        assert talk.code("NOOP") == 250
    wait_until(lambda: scene.mail.messages, "it is delivered")


def test_listener_added_and_removed(scene):
    other = free_port()
    change(scene, "flows:", f'  second: {{ listen: [ "127.0.0.1:{other}" ], tls: none, authentication: none }}\nflows:')
    assert scene.reload()
    wait_for_port(other)
    with Talk(other, ehlo="c.test") as talk:
        change(scene, f'  second: {{ listen: [ "127.0.0.1:{other}" ], tls: none, authentication: none }}\n', "")
        assert scene.reload()

        def is_closed():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", other)) != 0
        wait_until(is_closed, "the port is closed")
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250, "an open session goes on"
    with Talk(scene.mx) as talk:
        assert talk.greeting[0] == 220


def test_port_that_is_taken(scene):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        change(scene, "flows:", f'  second: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none }}\nflows:')
        assert not scene.reload(), "a listener without its port was applied"
        with Talk(scene.mx, ehlo="c.test") as talk:
            assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250


def test_many_reloads_under_load(scene):
    """No connection is refused and no mail is lost while the configuration changes."""
    failures, sent, stop = [], [], threading.Event()

    def client():
        while not stop.is_set():
            try:
                with Talk(scene.mx, ehlo="c.test") as talk:
                    code, text = talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")
                    (sent if code == 250 else failures).append(text)
            except (OSError, EOFError, AssertionError) as error:
                failures.append(repr(error))
    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(8):
        scene.path.write_text(re.sub(r"authentication: none[^}]*}", f"authentication: none, hide_client: {str(bool(i % 2)).lower()} }}",
                                     scene.path.read_text(), count=1))
        assert scene.reload()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and sent
    wait_until(lambda: len(scene.mail.messages) == len(sent), "all is delivered")
    scene.wait_empty()


# ---- the end ----

def test_drain(scene):
    """SIGTERM: no new clients, those between messages are told, one inside a message may finish it."""
    idle, busy = Talk(scene.mx, ehlo="c.test"), Talk(scene.mx, ehlo="c.test")
    busy.mail("a@example.net", "anna@example.org")
    assert busy.code("DATA") == 354
    busy.send(HEAD)
    scene.process.send_signal(signal.SIGTERM)
    assert idle.reply()[0] == 421
    assert idle.is_closed()
    busy.send(b"the end\r\n.\r\n")
    assert busy.reply()[0] == 250
    assert scene.process.wait(120) == 0
    # it is in the spool or at the mail server, and the next start settles it
    scene.start()
    wait_until(lambda: scene.mail.messages, "it is delivered")
    scene.wait_empty()


def test_child_is_killed(scene):
    """kill -9 of the working process: it is started again, and no connection is refused meanwhile."""
    scene.crash_expected = True
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250
    refused, stop, served = [], threading.Event(), []

    def client():
        while not stop.is_set():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", scene.mx)) != 0:
                    refused.append(1)
                else:
                    served.append(1)
            time.sleep(0.01)
    thread = threading.Thread(target=client)
    thread.start()
    ready = len(scene.find("daemon.ready"))
    os.kill(scene.child_pid(), signal.SIGKILL)
    event = scene.wait("daemon.child_died")
    assert event["signal"] == 9
    scene.wait("daemon.ready", count=ready + 1)
    stop.set()
    thread.join()
    assert not refused and served
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"y")[0] == 250
    wait_until(lambda: len(scene.mail.messages) >= 2, "both are delivered")
    scene.wait_empty()


def test_five_crashes_pause_delivery(scene):
    """Repeated crashes: mail is still taken, but nothing is tried until somebody looks."""
    scene.crash_expected = True
    for _ in range(5):
        ready = len(scene.find("daemon.ready"))
        os.kill(scene.child_pid(), signal.SIGKILL)
        scene.wait("daemon.ready", count=ready + 1)
    assert "delivery is paused" in scene.ctl("--json", "status", ok=(1,))
    commands = len(scene.mail.commands)
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250
    wait_until(lambda: scene.queue(), "it waits")
    assert not any(line.startswith("DATA") for _, line in scene.mail.commands[commands:])
    # a start by hand is the end of it
    assert scene.stop() == 0
    scene.start()
    wait_until(lambda: scene.mail.messages, "it is delivered")


def test_a_child_that_cannot_start_is_tried_less_and_less_often(scene):
    scene.crash_expected = True
    spool, aside = scene.folder / "spool", scene.folder / "aside"
    spool.rename(aside)
    spool.write_text("no folder")
    os.kill(scene.child_pid(), signal.SIGKILL)
    scene.wait("daemon.child_died", count=5)
    deaths = [datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
              for event in scene.find("daemon.child_died")]
    pauses = [after - before for before, after in zip(deaths, deaths[1:])]
    for least, pause in zip((0.2, 0.4, 0.8, 1.6), pauses):
        assert pause >= least * 0.95, pauses
    ready = len(scene.find("daemon.ready"))
    spool.unlink()
    aside.rename(spool)
    scene.wait("daemon.ready", count=ready + 1)
    spool.rename(aside)
    spool.write_text("no folder")
    os.kill(scene.child_pid(), signal.SIGKILL)
    scene.wait("daemon.child_died", count=len(deaths) + 4)
    assert scene.stop() is not None  # asked to stop in the middle of a pause
    spool.unlink()
    aside.rename(spool)


def test_supervisor_is_killed(scene):
    """The working process never outlives its supervisor: nobody would start it again."""
    scene.crash_expected = True
    child = scene.child_pid()
    os.kill(scene.process.pid, signal.SIGKILL)
    scene.process.wait(120)

    def is_gone():
        try:
            return open(f"/proc/{child}/stat").read().split()[2] == "Z"
        except FileNotFoundError:
            return True
    wait_until(is_gone, "the child is gone")
    scene.process = None


def test_second_daemon_on_one_spool(scene, gateway):
    other = free_port()
    text = scene.path.read_text().replace(str(scene.mx), str(other)).replace("path: spool", f"path: {scene.folder}/spool")
    two = gateway(text, start=False)
    two.start(wait=False)
    assert two.process.wait(120) != 0, "two daemons write one spool"
    two.process = None
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250


# ---- privileges ----

def low_port():
    """One that nobody listens at and only a right of its own opens."""
    for port in range(1023, 600, -1):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port below 1024 is free")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give something up")
def test_privileges(gateway, sink, tmp_path_factory):
    """As root with `user: nobody`: the working process has no rights, and leaves no core."""
    import pathlib
    import tempfile
    folder = pathlib.Path(tempfile.mkdtemp(prefix="postern-"))
    folder.chmod(0o755)
    try:
        mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
        one = gateway(reception(mail, mx, top="user: nobody\ncontrol: { socket: run/control.sock }"), ports=[mx], folder=folder)
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{one.child_pid()}/status").read().splitlines() if ":\t" in line)
        nobody = subprocess.run(["id", "-u", "nobody"], stdout=subprocess.PIPE, text=True).stdout.strip()
        assert status["Uid"].split() == [nobody] * 4, status["Uid"]
        assert "0" not in status["Gid"].split() and status["Groups"].split() in ([], [status["Gid"].split()[0]])
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"]:
            assert int(status[name], 16) == 0, (name, status[name])
        assert status["NoNewPrivs"].strip() == "1"
        above = dict(line.split(":\t", 1) for line in open(f"/proc/{one.process.pid}/status").read().splitlines() if ":\t" in line)
        assert above["Uid"].split() == [nobody] * 4 and "0" not in above["Gid"].split(), "the supervisor is not root either"
        assert [int(above[name], 16) for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"]] == [0, 1 << 10, 1 << 10, 0], "it may bind ports"
        limits = open(f"/proc/{one.child_pid()}/limits").read()
        assert re.search(r"Max core file size\s+0\s", limits), limits
        with Talk(mx, ehlo="c.test") as talk:
            assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250
        wait_until(lambda: mail.messages, "it is delivered")
        # a reload may add a listener, though the child may not bind low ports itself
        other = low_port()
        change(one, "flows:", f'  second: {{ listen: [ "127.0.0.1:{other}" ], tls: none, authentication: none }}\nflows:')
        assert one.reload()
        wait_for_port(other)
        # and what dies is started again by a supervisor that is not root
        one.crash_expected = True
        os.kill(one.child_pid(), signal.SIGKILL)
        one.wait("daemon.ready", count=2)
        with Talk(mx, ehlo="c.test") as talk:
            assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250
        one.finish()
        one.process = None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give something away")
def test_no_folder_of_others_is_given_away(gateway, sink):
    """A control socket in /run or beside the configuration: the folder does not become the user's."""
    import pathlib
    import tempfile
    folder = pathlib.Path(tempfile.mkdtemp(prefix="postern-"))
    folder.chmod(0o755)
    try:
        shared, empty = folder / "run", folder / "empty"
        shared.mkdir()
        shared.chmod(0o1777)
        (shared / "of-somebody-else").write_text("x")
        empty.mkdir()
        mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
        one = gateway(reception(mail, mx, top=f"user: nobody\nspool: {{ path: {empty} }}\ncontrol: {{ socket: {shared}/control.sock }}"),
                      ports=[mx], folder=folder, start=False)
        one.start()
        owner = one.process.pid and os.stat(f"/proc/{one.child_pid()}").st_uid
        assert owner != 0 and (shared / "control.sock").stat().st_uid == owner
        assert shared.stat().st_uid == folder.stat().st_uid == 0, "the folder of others was given away"
        assert empty.stat().st_uid == owner, "what was made for it by hand is its own"
        one.finish()
        one.process = None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_confined(gateway, sink, tmp_path_factory):
    """
    No program can be started and no path outside be read: a reload that names another folder is refused and says why; a
    restart reaches it, and so does a process that was asked not to confine itself.
    """
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "names").write_text("example.net\n")
    one = gateway(reception(mail, mx), ports=[mx])
    status = open(f"/proc/{one.child_pid()}/status").read()
    assert re.search(r"^Seccomp:\s+2$", status, re.M), status
    confined = one.wait("daemon.confined")
    before = one.path.read_text()
    one.path.write_text(before + f"lists:\n  names: {{ path: {elsewhere}/names }}\n")
    assert one.check()[0] == 0
    if confined["value"] == "system calls and paths":
        assert not one.reload()
        problem = str(one.find("config.problem", reason="confined"))
        assert f"{elsewhere}/names lies outside" in problem and "restart" in problem, one.find("config.problem")
    one.finish()
    one.start()
    assert len(one.find("daemon.ready")) == 2 and one.reload()
    one.finish()
    one.path.write_text(before)
    one.options = ["--unconfined"]
    one.start()
    status = open(f"/proc/{one.child_pid()}/status").read()
    assert re.search(r"^Seccomp:\s+0$", status, re.M), status
    assert "not confined" in one.wait("daemon.warning")["detail"]
    one.path.write_text(before + f"lists:\n  names: {{ path: {elsewhere}/names }}\n")
    assert one.reload()
