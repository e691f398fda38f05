# SPDX-License-Identifier: Apache-2.0
"""What an administrator is told: by a ref, by the status, by a start that fails."""
import os
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port


@pytest.fixture
def scene(gateway, sink):
    """Unknown users are refused by the mail server; large messages are held by a rule."""
    mail = sink(replies={"RCPT": lambda line: "" if "anna@" in line.lower() else "550 5.1.1 not one of us"})
    port = free_port()
    one = gateway(f"""
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{mail.port}", tls: none }} }}
listeners: {{ inbound: {{ listen: "127.0.0.1:{port}" }} }}
flows:
  content:
    careful: [ {{ hold: {{ when: "size > 2K" }} }}, deliver ]
domains:
  example.org: {{ recipients: {{ preset: local-users, server: mail }}, content: careful, transport: {{ server: mail }} }}
""", ports=[port])
    one.port = port
    return one


def test_a_ref_shows_the_steps_that_led_to_it_and_no_others(scene):
    client = scene.client(scene.port)
    assert client.mail("a@example.net")[0] == 250
    assert client.rcpt("anna@example.org")[0] == 250
    code, text = client.rcpt("nobody@example.org")
    assert code == 550
    ref = text.decode().rpartition("(ref ")[2].rstrip(")")
    events = wait_until(lambda: scene.ctl_json("message", "events", ref, ok=(0, 1)), "the ref is known")
    assert [event["event"] for event in events if event["event"] in ("flow.step", "recipient.reject")] == [
        "flow.step", "flow.step", "recipient.reject"]
    assert all(event.get("rcpt") == "nobody@example.org" for event in events if event["event"] == "flow.step")
    step = [event for event in events if event["event"] == "flow.step"][-1]
    assert (step["block"], step["outcome"], step["action"]) == ("lookup-smtp", "missing", "reject")
    assert "not one of us" in step["detail"]
    assert events[-1]["ref"] == ref


def test_a_ref_that_was_never_given_is_not_known(scene):
    assert scene.ctl_json("message", "events", "00000000", ok=(1,)) == []


def test_a_message_that_a_rule_holds_is_told_and_counted(scene):
    client = scene.client(scene.port)
    client.sendmail("a@example.net", ["anna@example.org"], "Subject: large\r\n\r\n" + "x" * 60 + "\r\n" + "y\r\n" * 1000)
    scene.wait("message.held", reason="policy", recipients=1)
    assert "1 held" in scene.ctl("status")
    assert [item["state"] for item in scene.queue()] == ["held"]
    scene.ctl("queue", "release", "--all")
    scene.wait("delivery.sent")
    scene.wait_empty()
    assert "0 held" in scene.ctl("status")


def test_a_drop_does_not_make_the_books_differ(scene):
    client = scene.client(scene.port)
    client.sendmail("a@example.net", ["anna@example.org"], "Subject: large\r\n\r\n" + "y\r\n" * 1000)
    scene.wait("message.held")
    scene.ctl("queue", "drop", "--all")
    out = scene.ctl("status")
    assert "1 dropped" in out and "DIFFER" not in out


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_file_that_the_user_cannot_read_is_told_before_the_end(tmp_path):
    tmp_path.chmod(0o755)
    path = tmp_path / "postern.yaml"
    path.write_text("version: 1\nuser: nobody\nspool: { path: spool }\ncontrol: { socket: control.sock }\n"
                    f"listeners: {{ i: {{ listen: \"127.0.0.1:{free_port()}\" }} }}\n"
                    "servers: { m: { smtp: \"127.0.0.1:25\", tls: none } }\n"
                    "domains: { example.org: { recipients: { preset: local-users, server: m }, transport: { server: m } } }\n")
    path.chmod(0o600)
    done = subprocess.run([BUILD / "posternd", "--config", path], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert "Permission denied" in done.stdout and "daemon.error" in done.stdout


def test_init_makes_a_file_that_checks(tmp_path):
    made = subprocess.run([BUILD / "postern", "init", "relay-authenticated", "--domain", "example.org", "--server",
                           "mail.example.org:25", "--output", tmp_path / "new"], stdout=subprocess.PIPE, text=True)
    assert made.returncode == 0
    done = subprocess.run([BUILD / "postern", "check", tmp_path / "new/postern.yaml"], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "0 errors, 0 warnings.\n")
