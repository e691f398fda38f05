# SPDX-License-Identifier: Apache-2.0
"""The command under pressure: typos, things that are no ids, another daemon's socket, letters that are not English."""
import os
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.setups import known, reception


@pytest.fixture
def scene(gateway, sink, tls_files):
    mail, mx, submission = sink(replies={"RCPT": known("anna")}, users={"anna": "secret"}), free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission), ports=[mx, submission])
    one.mx, one.submission = mx, submission
    return one


def run(*words, socket="/nonexistent/socket", **environment):
    return subprocess.run([BUILD / "postern", "--socket", socket, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, timeout=60,
                          env={key: value for key, value in os.environ.items() if not key.startswith("L")} | environment)


@pytest.mark.parametrize("words, said", [
    (["fnid", "today"], "did you mean find?"), (["quue", "list"], "did you mean queue?"), (["queue", "lst"], "did you mean queue list?"),
    (["config", "shwo"], "did you mean config show?"), (["trace"], "too few arguments; usage: postern trace ID|REF [--raw]"),
    (["trace", "../../etc"], "neither an id nor a ref"), (["trace", ""], "neither an id nor a ref"), (["trace", "a/b?c=d"], "neither an id nor a ref"),
    (["message", "events", "\x1b[31m"], "neither an id nor a ref"), (["status", "x"], "too many arguments; usage: postern status"),
    (["find", "--nosuch"], "unknown option --nosuch"), (["apply", "--confrim", "10m"], "unknown option --confrim; did you mean --confirm?"),
    (["trace", "--rwa", "x"], "did you mean --raw?"), (["queue", "list", "--jsn"], "did you mean --json?")])
def test_what_was_meant(words, said):
    """Exit code 2 and one line: what is wrong, and what to type; nothing on standard output."""
    done = run(*words)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1 and not done.stdout, done
    assert "\x1b" not in done.stderr


def test_the_daemon_at_another_socket_names_the_configuration(scene):
    """Whoever names a socket asks about that gateway: its file is looked at, not that of another."""
    socket = scene.folder / "control.sock"
    assert str(scene.path) in run("explain", "anna@example.org", socket=socket).stdout
    assert run("check", socket=socket).returncode == 0
    assert f"# {scene.path.name}" in run("config", "show", "--effective", socket=socket).stdout or \
        str(scene.path) in run("config", "show", "--effective", socket=socket).stdout
    assert "/etc/postern/postern.yaml" in run("check").stdout + run("check").stderr


def test_letters_and_logins(scene):
    """A subject in another language is shown as it is where the terminal can, and what steers it never."""
    subject = "=?utf-8?q?Gr=C3=BC=C3=9Fe_=E2=80=AEevil_=1B[31m?="
    with scene.client(scene.submission, tls=True, login=("anna", "secret")) as client:
        client.sendmail("anna@example.org", ["anna@example.org"], f"Subject: {subject}\r\n\r\nx\r\n")
    with scene.client(scene.submission, tls=True) as client:
        assert client.docmd("AUTH PLAIN AGFubmEAd3Jvbmc=")[0] == 535  # anna, wrong
    message = scene.wait("message.accepted")["message"]
    socket = scene.folder / "control.sock"
    story = wait_until(lambda: run("trace", message, socket=socket, LANG="de_DE.UTF-8").stdout, "the story")
    assert "Grüße" in story and "\u202e" not in story and "\x1b" not in story
    plain = run("trace", message, socket=socket, LC_ALL="C", LANG="de_DE.UTF-8").stdout
    assert "Gr\\xc3\\xbc" in plain and plain.isascii()
    rows = wait_until(lambda: [row for row in run("find", "today", socket=socket).stdout.splitlines() if "login anna" in row], "the login")
    assert "refused" in rows[0] and "<>" not in rows[0]
    assert [row for row in run("find", "today", socket=socket).stdout.splitlines() if row.endswith("the gateway itself")]
