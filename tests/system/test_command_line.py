# SPDX-License-Identifier: Apache-2.0
"""The command under pressure: typos, things that are no ids, another daemon's socket, letters that are not English."""
import os
import re
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
                          stdin=subprocess.DEVNULL, timeout=120,
                          env={key: value for key, value in os.environ.items() if not key.startswith("L")} | environment)


@pytest.mark.parametrize("words, said", [
    (["fnid", "today"], "did you mean find?"), (["quue", "list"], "did you mean queue?"), (["queue", "lst"], "did you mean queue list?"),
    (["config", "shwo"], "did you mean config show?"), (["trace"], "too few arguments; usage: postern trace ID|REF [--story] [--raw]"),
    (["trace", "../../etc"], "neither an id nor a ref"), (["trace", ""], "neither an id nor a ref"), (["trace", "a/b?c=d"], "neither an id nor a ref"),
    (["message", "events", "\x1b[31m"], "neither an id nor a ref"), (["status", "x"], "too many arguments; usage: postern status"),
    (["find", "--nosuch"], "unknown option --nosuch; usage: postern find"), (["queue", "list", "--sate", "held"], "did you mean --state?"),
    (["queue", "drop", "--dryrun"], "did you mean --dry-run?"), (["queue", "list"], "no daemon at /nonexistent/socket"),
    (["tail"], "no daemon at /nonexistent/socket"), (["send", "--to", "anna"], '"anna" has no domain')])
def test_what_was_meant(words, said):
    """Exit code 2 and one line: what is wrong, and what to type; nothing on standard output."""
    done = run(*words)
    assert done.returncode == (3 if "no daemon" in said else 2) and said in done.stderr and len(done.stderr.splitlines()) == 1 and not done.stdout, done
    assert "\x1b" not in done.stderr


def test_help_fits_the_terminal():
    """Everything, a noun, a verb: on standard output, in 80 columns; what takes selectors says which."""
    everything = run("--help")
    assert everything.returncode == 0 and not everything.stderr and everything.stdout == run("help").stdout
    assert (run().returncode, run().stdout, run().stderr) == (2, "", everything.stdout)
    nouns = re.findall(r"^  ([a-z]+) +(?:([a-z]+(?:, [a-z]+)*)$)?", everything.stdout, re.M)
    assert len(nouns) > 25
    commands = [[noun, *verb] for noun, verbs in nouns for verb in ([[v] for v in verbs.split(", ")] if "," in verbs else [[]])]
    assert ["queue", "hold"] in commands and ["status"] in commands
    for words in [[], *commands, *[[noun] for noun, _ in nouns]]:
        shown = run(*words, "--help")
        assert shown.returncode == 0 and not shown.stderr, words
        assert not [line for line in shown.stdout.splitlines() if len(line) > 80], words
        assert ("--older AGE" in shown.stdout) == ("SELECTORS" in shown.stdout), words
    assert "--subject TEXT" in run("quarantine", "list", "--help").stdout and "--state" not in run("quarantine", "list", "--help").stdout
    assert "fail and tell" not in run("queue", "--help").stdout and "give up and tell the sender" in run("queue", "--help").stdout


def test_a_configuration_is_named_in_one_way(tmp_path):
    """As the last argument or by --config, whatever the command."""
    path = tmp_path / "postern.yaml"
    assert run("init", "relay-authenticated", "--domain", "example.org", "--server", "127.0.0.1:9", "--output", tmp_path).returncode == 0
    for words in (["check"], ["explain", "anna@example.org"], ["session"], ["config", "show", "--effective"], ["dkim", "list"], ["dkim", "status"]):
        alone, named, joined = run(*words, path), run(*words, "--config", path), run(*words, f"--config={path}")
        assert alone.returncode == 0 and (alone.stdout, alone.stderr) == (named.stdout, named.stderr) == (joined.stdout, joined.stderr), words
    assert "no dkim_keys" in run("dkim", "list", path).stderr
    assert run("check", "--config").returncode == 2


@pytest.mark.parametrize("before, after, fix", [
    ("preset: mx,", "preset: smtp,", "known here: mx, submission, submissions"), ("preset: mx,", "preset: mxx,", 'did you mean "mx"?'),
    ("preset: local-users,", "preset: nobody,", "known here: local-users, relay-authenticated"), ("version: 1", "version: 2", '"version" must be 1')])
def test_a_wrong_word_is_told_with_the_right_ones(tmp_path, before, after, fix):
    run("init", "relay-authenticated", "--domain", "example.org", "--server", "127.0.0.1:9", "--output", tmp_path)
    path = tmp_path / "postern.yaml"
    path.write_text(path.read_text().replace(before, after))
    done = run("check", path)
    assert done.returncode == 1 and fix in done.stdout, done.stdout


def test_a_daemon_started_beside_its_file_names_the_whole_path(scene):
    """What status and config diff look at is the file itself, from wherever they are called."""
    scene.stop()
    whole, scene.path = scene.path, os.path.relpath(scene.path)
    scene.start()
    assert os.path.isabs(scene.status()["config"]) and os.path.samefile(scene.status()["config"], whole)
    done = scene.run_ctl("config", "diff")
    assert done.returncode == 0 and f"no difference between r1 and {scene.status()['config']}" in done.stderr
    scene.path = whole


def test_a_notice_is_no_recipient_of_its_message(scene):
    """find names whom a message went to; to whom its notification goes stands in the story of that."""
    with scene.client(scene.submission, tls=True, login=("anna", "secret")) as client:
        client.sendmail("anna@example.org", ["nobody@example.org"], "Subject: x\r\n\r\nx\r\n")
    message = scene.wait("dsn.sent")["message"]
    found = wait_until(lambda: [item for item in scene.ctl_json("find", message, ok=(0, 1)) if item.get("verdict") == "failed"], "the story")
    assert found[0]["to"] == ["nobody@example.org"] and found[0]["event"]
    assert "there is no event message.nonsense" in scene.run_ctl("find", "event:message.nonsense").stderr
    assert "5.7.1" in story_of_refusal(scene)


def story_of_refusal(scene):
    with scene.client(scene.mx) as client:
        client.docmd("MAIL FROM:<a@world.test>")
        code, text = client.docmd("RCPT TO:<b@elsewhere.test>")
    scene.wait("recipient.reject")
    ref = re.search(rb"\(ref (\w+)\)", text)[1].decode()
    told = wait_until(lambda: scene.run_ctl("trace", ref).stdout, "the story")
    assert f"    {code} {text.decode()}\n" in told, (text, told)
    return told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("words", [["status"], ["tail"], ["queue", "drop", "--all"]])
def test_who_may_not_is_told_so(scene, words):
    """A socket that is not for him: neither that nothing runs, nor what curl calls it."""
    command = f"exec {BUILD}/postern --socket {scene.folder}/control.sock {' '.join(words)}"
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", command], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120)
    if "postern: not found" in done.stderr or done.returncode == 126:
        pytest.skip("nobody else reaches the program")
    assert done.returncode == 4 and "you may not use" in done.stderr and "no daemon" not in done.stderr and not done.stdout


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
    assert [row for row in run("find", "today", socket=socket).stdout.splitlines() if "the gateway itself: " in row]
