# SPDX-License-Identifier: Apache-2.0
"""posternd under test: a folder of its own, its events, its end."""
import collections
import contextlib
import functools
import json
import os
import pathlib
import pty
import re
import select
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time
import tty

from .ports import wait_for_port
from .sink import LAG

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("POSTERN_BUILD", TOP / "build")).resolve()

CLIENT_TLS = ssl.create_default_context()
CLIENT_TLS.check_hostname = False
CLIENT_TLS.verify_mode = ssl.CERT_NONE


# How long a test waits for what has to come. It costs nothing where it comes, and a machine that is ten times slower, or has
# ten others to serve, is no reason to fail.
PATIENCE = 120


def wait_until(condition, what, seconds=PATIENCE):
    """Poll until condition() is true; its value. Fails the test with `what` (or what it gives when called) otherwise."""
    end = time.monotonic() + seconds
    while True:
        is_over = time.monotonic() > end  # looked at before the condition: who slept meanwhile looks once more
        value = condition()
        if value:
            return value
        if is_over:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def is_dead(pid):
    """Gone, or nothing left of it but what its parent has to fetch."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2][0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return True


def processes_of(group):
    """What is left of a process group."""
    out = subprocess.run(["pgrep", "-g", str(group)], stdout=subprocess.PIPE, text=True)
    return [int(pid) for pid in out.stdout.split()]


@functools.cache
def reasons():
    """The closed list, as the manual has it, and nothing at all."""
    text = subprocess.run([BUILD / "postern", "docs", "events"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"", *re.findall(r"`([a-z_]+)`", text.partition("Values of `reason`:")[2].partition(".")[0])}


class Gateway:
    """One posternd. `config` is the YAML text; ports in it are the test's."""

    made = []  # all of the test that runs

    def __init__(self, folder, config, ports=()):
        self.folder = pathlib.Path(folder)
        self.ports = list(ports)
        self.path = self.folder / "postern.yaml"
        self._events = []
        self._named = collections.defaultdict(list)  # the same by their names: a long run has millions
        self._raw = []  # lines of its output, as they were
        self._reader, self._reading = None, threading.Lock()
        self.process = self._loaded = None
        self.crash_expected = False
        self.env = None  # more of the environment
        self.wrap = ()   # a command before posternd's
        self.options = ()  # more of posternd's
        self.write_config(config)
        Gateway.made.append(self)

    # ---- configuration ----

    def write_config(self, config):
        """Spool and control socket are in the folder, whatever the test's text says of the rest."""
        text = config
        if "\nspool:" not in text:
            text += "\nspool: { path: spool }\n"
        if "\ncontrol:" not in text:
            text += "control: { socket: control.sock }\n"
        self.path.write_text(text)

    def check(self):
        """posternd --check: exit status and the problems' codes."""
        done = subprocess.run([BUILD / "posternd", "--config", self.path, "--check"], stdout=subprocess.PIPE,
                              text=True, timeout=PATIENCE)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, [event for event in events if event["event"] == "config.problem"]

    # ---- life ----

    def start(self, wait=True):
        self.process = subprocess.Popen([*self.wrap, BUILD / "posternd", "--config", self.path, *self.options],
                                        stdout=subprocess.PIPE, env={**os.environ, **(self.env or {})},
                                        stderr=(self.folder / "stderr").open("ab"), start_new_session=True)
        ready = len(self._named["daemon.ready"])
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        if wait:
            wait_until(lambda: len(self._named["daemon.ready"]) > ready or self.process.poll() is not None,
                       "the gateway is ready")
            assert self.process.poll() is None, f"the gateway did not start: {self.events[-3:]}"
            for port in self.ports:
                wait_for_port(port)
        return self

    def _read(self, pipe):
        rest = b""
        while True:
            select.select([pipe], [], [])
            if LAG:
                time.sleep(LAG)
            with self._reading:  # what has left the pipe is known when this is free
                piece = os.read(pipe.fileno(), 1 << 20)
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._take(line + b"\n")
                if not piece:
                    if rest:
                        self._take(rest)
                    return

    def _take(self, line):
        self._raw.append(line)
        if line == b"\n":  # ends what a process began to say when it was killed
            return
        try:
            event = json.loads(line)
        except ValueError:
            event = {"event": "cut off" if self.crash_expected else "not json", "line": repr(line)}
        self._events.append(event)
        self._named[event["event"]].append(event)

    def settle(self):
        """
        Everything that the daemon told before this call is in `events`. Its log is written some 20 ms after what it tells of; who asks
        for the metrics gets what had happened until then, and the log has it, too. All that an ended daemon said is there likewise.
        """
        if self.process is None:
            return
        if self.process.poll() is not None:
            if self._reader:
                self._reader.join(PATIENCE)
            return
        try:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.settimeout(PATIENCE)
                asking.connect(str(self.folder / "control.sock"))
                asking.sendall(b"GET /metrics HTTP/1.1\r\nHost: postern\r\nConnection: close\r\n\r\n")
                while asking.recv(1 << 16):
                    pass
        except OSError:
            pass  # it starts, ends or is told to take nobody: there is nothing to wait for
        while True:
            with self._reading:
                if not self._reader or not self._reader.is_alive() or not select.select([self.process.stdout], [], [], 0)[0]:
                    return
            time.sleep(0.001)  # the reader's turn

    def stop(self, seconds=PATIENCE):
        """SIGTERM, and its exit status."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            if self._reader:
                self._reader.join(PATIENCE)
        return self.process.returncode if self.process else None

    def kill(self):
        """kill -9 of supervisor and child at once."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
            # also a child that the supervisor had just begun: it has the ports
            wait_until(lambda: all(is_dead(pid) for pid in processes_of(self.process.pid)), "the child is dead too")
            if self._reader:
                self._reader.join(PATIENCE)

    def reload(self):
        """SIGHUP; waits until the file was applied or refused. True: applied."""
        def answers():
            return [len(self._named[name]) for name in ("config.applied", "config.refused")]
        self.settle()
        before = answers()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: answers() != before, "the reload has an answer")
        return answers()[0] > before[0]

    def child_pid(self):
        out = subprocess.run(["pgrep", "-x", "-P", str(self.process.pid), "posternd"], stdout=subprocess.PIPE, text=True)
        return int(out.stdout.split()[0]) if out.stdout.split() else None

    def finish(self):
        """End of a test: it must still be whole."""
        if self.process is None:
            return
        running = self.process.poll() is None
        if running:
            self.stop()
        stderr = (self.folder / "stderr").read_text(errors="replace")
        assert "Sanitizer" not in stderr and "check failed" not in stderr, stderr[-3000:]
        if not self.crash_expected:
            assert not self.find("daemon.child_died"), self.find("daemon.child_died")
            assert not self.find("balance.difference"), self.find("balance.difference")
        killed = self.process.returncode == -signal.SIGKILL  # in the middle of its last line, perhaps
        self.check_events()
        assert all(event["event"] != "not json" for event in (self.events[:-1] if killed else self.events)), \
            self.find("not json")[:3]

    def check_events(self):
        """What each event has, whatever it tells; and why something was refused is a word of the closed list."""
        for event in self.events:
            if event["event"] in ("not json", "cut off"):
                continue
            assert {"time", "seq", "event", "severity"} <= event.keys(), event
            if "reason" in event and event["event"] not in ("config.problem", "dmarc.result"):
                assert event["reason"] in reasons(), event

    # ---- looking ----

    @property
    def events(self):
        """All that it told until now."""
        self.settle()
        return list(self._events)

    @property
    def raw(self):
        self.settle()
        return list(self._raw)

    def seen(self, name, **fields):
        """Those that were read so far, without asking: for who polls, beside a process that may be dead."""
        return [event for event in list(self._named.get(name, ()))
                if all(event.get(key) == value for key, value in fields.items())]

    def find(self, name, **fields):
        """The events of that name with these fields that it told until now."""
        self.settle()
        return self.seen(name, **fields)

    def wait(self, name, seconds=PATIENCE, count=1, **fields):
        """The last of at least `count` events of that name with these fields."""
        def found():
            events = self.seen(name, **fields)
            return len(events) >= count and events[-1]
        return wait_until(found, lambda: f"{count} x {name} {fields}; last: {self._events[-5:]}", seconds)

    def run_ctl(self, *words, stdin=None):
        """`postern WORDS`, run to its end."""
        return subprocess.run([BUILD / "postern", "--socket", self.folder / "control.sock", *words], input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)

    def ctl_on_terminal(self, *words):
        """`postern WORDS` with a terminal as its standard output: the bytes that this one sees."""
        master, slave = pty.openpty()
        tty.setraw(slave)  # it changes nothing on the way
        seen = bytearray()
        try:
            run = subprocess.Popen([BUILD / "postern", "--socket", self.folder / "control.sock", *words], stdin=subprocess.DEVNULL, stdout=slave,
                                   env={**os.environ, "LC_ALL": "C.UTF-8"})
            os.close(slave)
            with contextlib.suppress(OSError):  # EIO: nobody has it open any more
                while piece := os.read(master, 65536):
                    seen += piece
            assert run.wait(PATIENCE) == 0, (words, bytes(seen))
            return bytes(seen)
        finally:
            os.close(master)

    def ctl(self, *words, stdin=None, ok=(0,)):
        """`postern WORDS`: its standard output."""
        done = self.run_ctl(*words, stdin=stdin)
        assert done.returncode in ok, f"postern {words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ctl_json(self, *words, **rest):
        return [json.loads(line) for line in self.ctl("--json", *words, **rest).splitlines()]

    def status(self):
        return self.ctl_json("status")[0]

    def queue(self, *selectors):
        """Its entries. After a start a long queue is loaded while mail flows: what is not known yet is in no list, so it is waited for."""
        if self._loaded is not self.process:
            wait_until(lambda: not self.ctl_json("status", ok=(0, 1))[0]["queue"]["loading"], "the queue is loaded")
            self._loaded = self.process
        return self.ctl_json("queue", "list", *selectors)

    def wait_empty(self, seconds=PATIENCE):
        wait_until(lambda: not self.status()["queue"]["loading"], "the queue is loaded", seconds)
        wait_until(lambda: not self.queue(), "the queue is empty", seconds)
        wait_until(lambda: self.status()["balanced"], lambda: f"the books are balanced: {self.status()}", seconds)

    def last_words(self, lines):
        """The end of its log and of its standard error, without asking it."""
        log = b"".join(self._raw[-lines:]).decode(errors="replace")
        path = self.folder / "stderr"
        stderr = path.read_text(errors="replace") if path.exists() else ""
        return f"{self.folder}: {log and chr(10)}{log}" + "".join(f"stderr: {line}\n" for line in stderr.splitlines()[-lines:])

    # ---- clients ----

    def client(self, port, ehlo="client.test", tls=False, implicit=False, login=None, **options):
        """A connected smtplib client that has said EHLO (and STARTTLS, and AUTH PLAIN)."""
        if implicit:
            client = smtplib.SMTP_SSL("localhost", port, timeout=PATIENCE, context=CLIENT_TLS, **options)
        else:
            client = smtplib.SMTP("localhost", port, timeout=PATIENCE, **options)
        client.ehlo(ehlo)
        if tls:
            client.starttls(context=CLIENT_TLS)
            client.ehlo(ehlo)
        if login:
            client.login(*login)
        return client
