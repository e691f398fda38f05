#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
The history end to end: how long `trace` and `find` take over HTTP and as a command, with a daemon whose
history holds millions of events, and what part of the CPU time of mail the history costs.

  history.py [--build DIR] [--messages N] [--folder DIR] [--seconds N] [--out FILE]

A history of N messages (seven and a half events each) is made with bench-events, unless the folder has one. Each
question is asked on a connection of its own, so all of it counts: the socket, the thread, the files, JSON. Then
mail flows for a while, and every tenth of a second somebody traces. CPU time is that of threads: "events" writes the
history, "log" gives it what it writes and writes the log, "worker" are those of mail.
"""
import argparse
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests/system"))
from rig.ports import free_port, wait_for_port  # noqa: E402

GOAL_MS, GOAL_SHARE = 200, 10
CONFIG = """
version: 1
hostname: bench.example.org
listeners:
  inbound: {{ listen: [ "127.0.0.1:{port}" ], authentication: none, limits: {{ sessions: 1000, sessions_per_client: 1000 }} }}
servers:
  one: {{ smtp: "127.0.0.1:{sink}", tls: none }}
transports:
  one: {{ server: one, retry: {{ delays: [ 1h ], count: 20 }} }}
flows:
  recipient:
    all: [ accept: {{}} ]
domains:
  sink.test: {{ recipients: all, transport: one }}
spool: {{ path: {folder}/spool }}
events: {{ path: "{history}", size: 1T }}
control: {{ socket: {folder}/control.sock }}
log: {{ to: file, path: {folder}/log }}
"""
# what people ask; {to}, {client}, {ref}: of a story of the sample
QUESTIONS = [
    "to:{to}", "from:spam@sender.example client:{client}", "ref:{ref}", "to:@example.org today", "client:{client} today",
    "reason:recipient_unknown today", "verdict:refused today", "reason:relay_denied today", "verdict:failed",
    "subject:nothing", "subject:1000", "lunch holiday", "{to}", "{client}", "sender.example", "nothing-of-the-kind", "event:delivery.deferred", "to:nobody@nowhere.example",
]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("postern", timeout=120)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def ask(path, url):
    """One question on a connection of its own: status, body, milliseconds."""
    begin = time.monotonic()
    connection = UnixConnection(path)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(body), (time.monotonic() - begin) * 1000


def row(name, times, note=""):
    times = sorted(times)
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    line = f"| {name} | {len(times)} | {at(.5):.1f} | {at(.95):.1f} | {times[-1]:.1f} | {note} |"
    print(line, flush=True)
    return at(.95)


class Daemon:
    def __init__(self, build, folder, history, sink):
        self.build, self.folder, self.socket = build, folder, folder / "control.sock"
        self.port = free_port()
        (folder / "postern.yaml").write_text(CONFIG.format(port=self.port, sink=sink, folder=folder, history=history))
        self.process = subprocess.Popen([build / "posternd", "--config", folder / "postern.yaml"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        while subprocess.run([build / "postern", "--socket", self.socket, "status"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode not in (0, 1):
            assert self.process.poll() is None, "the daemon does not start"
            time.sleep(0.05)
        self.child = int(subprocess.run(["pgrep", "-P", str(self.process.pid)], stdout=subprocess.PIPE, text=True).stdout.split()[0])

    def close(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def cpu_ns(self):
        """{name of threads: ns on a processor}"""
        total = {}
        for task in pathlib.Path(f"/proc/{self.child}/task").iterdir():
            try:
                name = (task / "comm").read_text().strip().rstrip("0123456789-")
                total[name] = total.get(name, 0) + int((task / "schedstat").read_text().split()[0])
            except OSError:
                pass
        return total

    def command(self, *words):
        begin = time.monotonic()
        done = subprocess.run([self.build / "postern", "--socket", self.socket, *words], stdout=subprocess.PIPE)
        assert done.returncode == 0, (words, done)
        return (time.monotonic() - begin) * 1000


def trace_all(daemon, sample):
    """Ids and refs over HTTP, then as commands; the 95th percentiles."""
    by_id, by_ref, command = [], [], []
    for message, to, _, ref in sample:
        status, story, ms = ask(daemon.socket, f"/api/v1/messages/{message}/trace")
        assert status == 200 and story["recipients"][0]["to"] == to, (message, story)
        by_id.append(ms)
        if ref:
            status, story, ms = ask(daemon.socket, f"/api/v1/messages/{ref}/trace")
            assert status == 200 and story["recipients"][0]["reason"] == "recipient_unknown", (ref, story)
            by_ref.append(ms)
    for message, _, _, ref in sample[::5]:
        command.append(daemon.command("trace", ref or message))
    return [row("trace ID, HTTP", by_id), row("trace REF, HTTP", by_ref), row("`postern trace ID\\|REF`", command)]


def find_all(daemon, sample):
    worst = []
    for question in QUESTIONS:
        times, found = [], 0
        for message, to, client, ref in sample[:: len(sample) // 8]:
            refused = next(one for one in sample if one[3])
            text = question.format(to=to, client=client, ref=ref or refused[3])
            status, answer, ms = ask(daemon.socket, "/api/v1/events?limit=50&q=" + urllib.parse.quote(text))
            assert status == 200, answer
            times.append(ms)
            found, complete = max(found, len(answer["items"])), answer["complete"]
        worst.append(row(f"find {question}", times, f"{found} found" + ("" if complete else ", not all looked at")))
    return worst


def with_mail(daemon, sample, bin_folder, seconds, extra):
    """Mail for a while; traces meanwhile; each thread's share of the CPU time."""
    stop, times = threading.Event(), []

    def trace_now():
        while not stop.wait(0.1):
            message = sample[len(times) % len(sample)][0]
            times.append(ask(daemon.socket, f"/api/v1/messages/{message}/trace")[2])
    watcher = threading.Thread(target=trace_now)
    before, begin = daemon.cpu_ns(), time.monotonic()
    if "traced" in extra:
        watcher.start()
    sent, rates = 0, []
    while time.monotonic() < begin + seconds:
        out = subprocess.run([bin_folder / "bench-source", "-m", "20000", *extra["load"], f"127.0.0.1:{daemon.port}"],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        sent += 20000
    while json.loads(subprocess.run([daemon.build / "postern", "--socket", daemon.socket, "--json", "status"],
                                    stdout=subprocess.PIPE).stdout)["queue"]["entries"]:
        time.sleep(0.05)
    took = time.monotonic() - begin
    stop.set()
    if "traced" in extra:
        watcher.join()
    used = {name: count - before.get(name, 0) for name, count in daemon.cpu_ns().items()}
    return sent, sent / took, used, times


def cost(daemon, sample, bin_folder, seconds):
    """Rows of the second table; the share of the history."""
    print("\n| load | messages | a second | CPU µs a message | of it workers | of it \"log\" | of it \"events\" | share of \"events\" |")
    print("|---|---|---|---|---|---|---|---|")
    shares, traced = [], []
    for name, extra in (("a20", {"load": ["-c", "20"]}), ("a2", {"load": ["-c", "20", "-p", "100"]}),
                        ("a20 and 10 traces a second", {"load": ["-c", "20"], "traced": True})):
        sent, rate, used, times = with_mail(daemon, sample, bin_folder, seconds, extra)
        total = sum(used.values())
        each = lambda one: used.get(one, 0) / sent / 1000
        share = 100 * used.get("events", 0) / total
        print(f"| {name} | {sent:,} | {rate:,.0f} | {total / sent / 1000:.1f} | {each('worker'):.1f} | {each('log'):.1f} "
              f"| {each('events'):.1f} | {share:.1f} % |", flush=True)
        traced += times
        shares.append(share)
    print("\n| traced while mail flows | times | p50 ms | p95 ms | max ms | |\n|---|---|---|---|---|---|")
    return shares, row("trace ID, HTTP", traced)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--messages", type=int, default=1400000)
    parser.add_argument("--folder", type=pathlib.Path, help="where the history is and stays (default: a temporary one)")
    parser.add_argument("--seconds", type=float, default=5, help="of mail, for each of three loads")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postern-history-", dir=os.environ.get("BENCH_DIR")) as name:
        folder = pathlib.Path(name)
        history = arguments.folder or folder / "history"
        sample_file = history / "sample.tsv"
        if not sample_file.exists():
            history.mkdir(exist_ok=True)
            print(subprocess.run([arguments.build / "bench-events", history, str(arguments.messages), sample_file],
                                 stdout=subprocess.PIPE, text=True, check=True).stdout, file=sys.stderr)
        sample = [line.split("\t") for line in sample_file.read_text().splitlines()]
        subprocess.run(["make", "-s", "-C", TOP / "bench", f"OUT={folder}"], check=True)
        ports = free_port(), free_port()
        sink = subprocess.Popen([folder / "bench-sink", *(f"127.0.0.1:{port}" for port in ports)], stdout=subprocess.DEVNULL)
        daemon = None
        try:
            wait_for_port(ports[0])
            daemon = Daemon(arguments.build, folder, history, ports[0])
            print("| question | times | p50 ms | p95 ms | max ms | |\n|---|---|---|---|---|---|")
            worst = max(trace_all(daemon, sample))
            found = max(find_all(daemon, sample))
            shares, traced = cost(daemon, sample, folder, arguments.seconds)
        finally:
            if daemon:
                daemon.close()
            sink.terminate()
            sink.wait()
    print(f"\ntrace p95 {worst:.0f} ms (goal {GOAL_MS}), beside mail {traced:.0f} ms; find p95 at most {found:.0f} ms; "
          f"the history's share of the CPU {max(shares):.1f} % (goal {GOAL_SHARE})")
    return max(worst, traced) > GOAL_MS or max(shares) > GOAL_SHARE


if __name__ == "__main__":
    sys.exit(main())
