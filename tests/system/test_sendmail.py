# SPDX-License-Identifier: Apache-2.0
"""sendmail and mailq as programs call them: options, what arrives, sysexits, and that 0 means durable."""
import os
import re
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.setups import known, reception

EX_OK, EX_USAGE, EX_DATAERR, EX_NOUSER, EX_UNAVAILABLE, EX_TEMPFAIL = 0, 64, 65, 67, 69, 75


@pytest.fixture
def scene(gateway, sink, tmp_path):
    mail = sink(replies={"RCPT": known("anna", "bob", "carl", "root")})
    mx = free_port()
    one = gateway(reception(mail, mx).replace("delays: [ 1s ]", "delays: [ 1h ]"), ports=[mx])  # what waits is looked at in peace
    one.mail, one.mx, one.bin = mail, mx, tmp_path
    for name in ("sendmail", "mailq", "newaliases"):
        (tmp_path / name).symlink_to(BUILD / "postern")
    return one


def run(scene, name, *words, stdin="", ok=EX_OK, socket=None, smtp=""):
    env = {**os.environ, "POSTERN_SOCKET": str(socket or scene.folder / "control.sock"), "POSTERN_DOMAIN": "example.org",
           "POSTERN_SMTP": smtp}
    done = subprocess.run([scene.bin / name, *words], input=stdin.encode("latin-1"), capture_output=True, env=env,
                          timeout=120)
    assert done.returncode == ok, (done.returncode, done.stdout, done.stderr)
    return done.stdout.decode()


def arrived(scene, count=1):
    wait_until(lambda: len(scene.mail.messages) >= count, f"{count} arrived")
    return scene.mail.messages[-1]


def test_options_that_programs_use(scene):
    run(scene, "sendmail", "-oi", "-oem", "-odb", "-N", "never", "-R", "hdrs", "-F", "An \"Na\"", "-f", "anna@example.org",
        "--", "bob", "carl@example.org", stdin="Subject: x\nBcc: hidden@example.org\n\nline\n.\nend\n")
    taken = arrived(scene)
    assert taken.sender == "anna@example.org"
    assert sorted(taken.recipients) == ["bob@example.org", "carl@example.org"]
    text = taken.data.decode()
    assert "\r\nline\r\n.\r\nend\r\n" in text and "hidden" not in text
    assert "From: \"An Na\" <anna@example.org>\r\n" in text
    assert text.count("\r\nDate: ") == 1 and text.count("\r\nMessage-ID: <") == 1


def test_recipients_from_the_fields(scene):
    run(scene, "sendmail", "-t", "-i", "-fanna@example.org", stdin="""\
From: Somebody <anna@example.org>
To: "Doe, Bob (not <x@y>)" <bob@example.org>, carl (a \\) comment)
Cc: group: anna@example.org,
  <bob@example.org>;
Subject: gr\xfc\xdfe

\xe4 body
""")
    taken = arrived(scene)
    assert set(taken.recipients) == {"bob@example.org", "carl@example.org", "anna@example.org"}
    assert b"\xe4 body\r\n" in taken.data or b"=E4 body" in taken.data
    assert taken.data.count(b"From: ") == 1


def test_a_dot_ends_the_message_without_i(scene):
    run(scene, "sendmail", "anna", stdin="Subject: x\n\nkept\n.\nlost\n")
    assert b"kept" in arrived(scene).data and b"lost" not in scene.mail.messages[-1].data


def test_by_smtp_where_the_socket_is_not_ours(scene):
    options = {"socket": scene.folder / "nowhere", "smtp": f"127.0.0.1:{scene.mx}"}
    run(scene, "sendmail", "-i", "-f", "", "anna@example.org", stdin="Subject: x\n\n.\nx\n", **options)
    taken = arrived(scene)
    assert taken.sender == "" and b"\r\n.\r\nx\r\n" in taken.data
    assert taken.data.count(b"<MAILER-DAEMON@example.org>") == 1
    run(scene, "sendmail", "nobody@example.org", stdin="x\n", ok=EX_NOUSER, **options)
    run(scene, "sendmail", "x@elsewhere.test", stdin="x\n", ok=EX_UNAVAILABLE, **options)
    scene.mail.replies["RCPT"] = "451 4.3.0 not now"
    run(scene, "sendmail", "other@example.org", stdin="x\n", ok=EX_TEMPFAIL, **options)
    assert len(scene.mail.messages) == 1


def test_exit_codes(scene):
    run(scene, "sendmail", stdin="x\n", ok=EX_USAGE)
    run(scene, "sendmail", "-t", stdin="Subject: nobody\n\nx\n", ok=EX_DATAERR)
    run(scene, "sendmail", "-Z", "anna", ok=EX_USAGE)
    run(scene, "sendmail", "-bs", ok=EX_USAGE)
    run(scene, "sendmail", "x@elsewhere.test", stdin="x\n", ok=EX_UNAVAILABLE)
    run(scene, "sendmail", "not an@address@example.org", stdin="x\n", ok=EX_DATAERR)
    run(scene, "sendmail", "-q")
    run(scene, "sendmail", "-q30m")
    run(scene, "sendmail", "-bi")
    run(scene, "newaliases")
    scene.stop()
    run(scene, "sendmail", "anna", stdin="x\n", ok=EX_TEMPFAIL, smtp=f"127.0.0.1:{scene.mx}")
    run(scene, "mailq", ok=EX_TEMPFAIL)


def test_mailq_and_that_zero_means_durable(scene):
    assert run(scene, "mailq") == "Mail queue is empty\n"
    scene.mail.replies["DATA"] = lambda _: "451 4.3.0 busy\x1bnow"
    run(scene, "sendmail", "-f", "anna@example.org", "bob", stdin="Subject: x\n\nx\n")
    scene.kill()
    scene.start()
    entry, = scene.queue()
    text = wait_until(lambda: "busy?now" in (text := run(scene, "mailq")) and text, "the attempt is told")
    assert text.startswith("-Queue ID-") and entry["message"] in text
    assert "anna@example.org\n" in text and "bob@example.org\n" in text and "in 1 Request." in text
    assert re.search(r"^\w{26} +\d+ \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d +anna@", text, re.M), "as Postfix's, whose readers know it"
    assert "\x1b" not in text and "(451 4.3.0 busy" in text
    assert run(scene, "sendmail", "-bp") == text
    del scene.mail.replies["DATA"]
    scene.ctl("queue", "retry", "--all")
    arrived(scene)
    wait_until(lambda: run(scene, "mailq") == "Mail queue is empty\n", "the queue is empty")
