#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Start with a long queue: when is mail taken again, when does the first retry leave, what does a
queued message cost in memory.

  start.py [--build DIR] [--bytes N] [--cold] [--spool FOLDER] COUNT...

COUNT deferred messages are put into a spool (fill-spool), one in 3,600 of them due at once; the rest
within an hour. Memory is the growth of the child's private pages against a start with an empty
spool. --cold drops the page cache first (root). --spool keeps the filled spool in FOLDER for the next
run: filling takes longer than what is measured (what left meanwhile is missing then).
"""
import argparse
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

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests/system"))
from rig.ports import free_port  # noqa: E402
from rig.sink import Sink  # noqa: E402

CONFIG = """
version: 1
hostname: bench.example.org
listeners:
  inbound: {{ listen: [ "127.0.0.1:{port}" ], authentication: none }}
servers:
  one: {{ smtp: "127.0.0.1:{sink}", tls: none }}
transports:
  one: {{ server: one, retry: {{ delays: [ 1h ], count: 20 }} }}
flows:
  recipient:
    all: [ accept: {{}} ]
domains:
  one.example: {{ recipients: all, transport: one }}
spool: {{ path: {spool} }}
control: {{ socket: {folder}/control.sock }}
"""


def memory_kib(pid):
    """Private and anonymous pages, in KiB: what the process costs, without the files that it maps."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            return connection.recv(100).startswith(b"220")
    except OSError:
        return False


def entries_of(build, folder):
    done = subprocess.run([build / "postern", "--socket", folder / "control.sock", "--json", "status"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout)["queue"]["entries"] if done.returncode == 0 else -1


def child_of(pid):
    out = subprocess.run(["pgrep", "-x", "-P", str(pid), "posternd"], stdout=subprocess.PIPE, text=True).stdout.split()
    return int(out[0]) if out else pid


def make_cold(spool):
    """Its pages are clean, and so they go; a sync of all that others write may take minutes."""
    for path in spool.glob("*/*"):
        with path.open("rb") as file:
            os.fdatasync(file.fileno())
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


def measure(build, count, size, cold, spool=None):
    with tempfile.TemporaryDirectory(prefix="postern-start-", dir=os.environ.get("BENCH_DIR")) as name:
        folder = pathlib.Path(name)
        sink, port = Sink(), free_port()
        spool = spool or folder / "spool"
        if count and not spool.exists():
            spool.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([build / "fill-spool", spool, str(count), "one", "1", "0", str(size)], check=True)
        (folder / "postern.yaml").write_text(CONFIG.format(port=port, sink=sink.port, folder=folder, spool=spool))
        if cold:
            make_cold(spool)
        begin = time.monotonic()
        process = subprocess.Popen([build / "posternd", "--config", folder / "postern.yaml"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        result = {"count": count}
        try:
            def first():
                while not sink.messages and time.monotonic() < begin + 120:
                    time.sleep(0.005)
                result["first_retry_s"] = round(time.monotonic() - begin, 2) if sink.messages else None
            watcher = threading.Thread(target=first)
            watcher.start()
            while not greets(port):
                assert process.poll() is None and time.monotonic() < begin + 120, "it does not start"
                time.sleep(0.01)
            result["accepts_s"] = round(time.monotonic() - begin, 2)
            if not count:
                sink.messages.append(None)
            watcher.join()
            while entries_of(build, folder) + len(sink.messages) < count * 0.99:
                time.sleep(0.05)
            result["all_known_s"] = round(time.monotonic() - begin, 2)
            time.sleep(1)
            child = child_of(process.pid)
            result["cpu_s"] = round(cpu_s(child), 2)
            result["memory_kib"] = memory_kib(child)
            result["entries"] = entries_of(build, folder)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            sink.close()
        return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="+", type=int, metavar="COUNT")
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build")
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--spool", type=pathlib.Path, metavar="FOLDER")
    arguments = parser.parse_args()
    empty = measure(arguments.build, 0, arguments.bytes, False)["memory_kib"]
    print("| queued | accepts after s | first retry after s | all known after s | CPU s | memory a message KiB |")
    print("|---|---|---|---|---|---|")
    for count in arguments.counts:
        found = measure(arguments.build, count, arguments.bytes, arguments.cold,
                        arguments.spool and arguments.spool / str(count))
        each = (found["memory_kib"] - empty) / max(found["entries"], 1)
        print(f"| {count} | {found['accepts_s']} | {found['first_retry_s']} | {found['all_known_s']} | "
              f"{found['cpu_s']} | {each:.3f} |", flush=True)


if __name__ == "__main__":
    main()
