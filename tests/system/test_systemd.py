# SPDX-License-Identifier: Apache-2.0
"""systemd: the units are sound and hardened, readiness and reload are told, sockets are taken over."""
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys

import pytest

from rig.gateway import BUILD, TOP, wait_until
from rig.ports import free_port
from rig.setups import known, reception

UNIT = BUILD / "packaging/postern.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_unit_is_hardened():
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", UNIT], text=True, capture_output=True)
    level = float(re.search(r"Overall exposure level for postern\.service: ([0-9.]+)", done.stdout)[1])
    assert level <= 1.5, done.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_the_units_are_understood(tmp_path):
    for unit in (UNIT, TOP / "packaging/postern.socket"):
        text = re.sub(r"^ExecStart=.*posternd", f"ExecStart={BUILD}/posternd", unit.read_text(), flags=re.M)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "postern.service", tmp_path / "postern.socket"],
                          text=True, capture_output=True)
    ours = [line for line in done.stderr.splitlines() if "postern" in line]
    assert not ours, ours


class Manager:
    """What systemd does for a service: opens its sockets and listens for its state."""

    def __init__(self, folder):
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(20)
        self.path = str(folder / "notify")

    def state(self):
        return dict(line.split("=", 1) for line in self.notify.recv(4096).decode().splitlines())


@pytest.fixture
def scene(gateway, sink, tmp_path):
    mail = sink(replies={"RCPT": known("anna")})
    mx = free_port()
    one = gateway(reception(mail, mx), start=False)
    one.manager, one.mx, one.mail = Manager(tmp_path), mx, mail
    one.env = {"NOTIFY_SOCKET": one.manager.path}
    return one


def test_ready_reload_and_stop_are_told(scene):
    scene.start()
    assert scene.manager.state()["READY"] == "1"
    for text in (scene.path.read_text() + "# other\n", "version: 2\n"):  # applied, and refused
        scene.path.write_text(text)
        scene.reload()
        state = scene.manager.state()
        assert state["RELOADING"] == "1" and int(state["MONOTONIC_USEC"]) > 0
        while "READY" not in (state := scene.manager.state()):
            pass
        scene.manager.notify.setblocking(False)
        try:
            while True:
                scene.manager.state()
        except BlockingIOError:
            scene.manager.notify.settimeout(20)
    assert scene.find("config.refused")
    scene.stop()
    assert scene.manager.state()["STOPPING"] == "1"


def test_sockets_of_systemd_are_taken(scene):
    """The port is open before the gateway runs, and stays so while it is away: nobody is refused."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", scene.mx))
    held.listen(100)
    program = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
               "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='smtp'); "
               "os.execv(sys.argv[2], sys.argv[2:])")
    os.set_inheritable(held.fileno(), True)
    early = socket.create_connection(("127.0.0.1", scene.mx))  # waits in the backlog

    def start():
        scene.process = subprocess.Popen([sys.executable, "-c", program, str(held.fileno()), BUILD / "posternd",
                                          "--config", scene.path], stdout=subprocess.DEVNULL, pass_fds=[held.fileno()],
                                         stderr=(scene.folder / "stderr").open("ab"), start_new_session=True,
                                         env={**os.environ, **scene.env})
        assert scene.manager.state()["READY"] == "1"

    start()
    assert early.makefile("rb").readline().startswith(b"220 ")
    early.close()
    scene.stop()
    scene.manager.state()
    waiting = socket.create_connection(("127.0.0.1", scene.mx))  # the gateway is away
    start()
    assert waiting.makefile("rb").readline().startswith(b"220 ")
    waiting.close()
    with smtplib.SMTP("127.0.0.1", scene.mx, timeout=120) as smtp:
        smtp.sendmail("a@far.test", ["anna@example.org"], "Subject: x\r\n\r\nx\r\n")
    wait_until(lambda: scene.mail.messages, "the mail arrived")
    held.close()
