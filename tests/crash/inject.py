# SPDX-License-Identifier: Apache-2.0
"""strace from outside: a call of one thread of the gateway's child is the one at which it dies, or the one that fails."""
import collections
import os
import re
import subprocess
import time

CALLS = ("write,pwrite64,pwritev,pwritev2,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,"
         "ftruncate,fallocate,sendto,sendmsg,close,openat,connect")


def threads_of(pid):
    """{task id: its name}, oldest first."""
    found = {}
    for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        try:
            with open(f"/proc/{pid}/task/{task}/comm") as comm:
                found[task] = comm.read().strip()
        except OSError:
            pass  # it ended meanwhile
    return found


class Inject:
    """On the threads of that name, or on all of them. `what`: of strace's inject; empty: the calls are only listed."""

    def __init__(self, gateway, what, thread=None, calls=CALLS):
        self.gateway = gateway
        self.names = threads_of(gateway.child_pid())
        tasks = [task for task, name in self.names.items() if thread in (name, None)]
        assert tasks, f"no thread {thread} among {self.names}"
        at = [word for task in tasks for word in ("-p", task)]
        inject = ["-e", f"inject={calls}:{what}"] if what else []
        self.process = subprocess.Popen(["strace", "-ttt", *at, "-e", f"trace={calls}", *inject,
                                         "-o", gateway.folder / "strace"], stderr=subprocess.PIPE, text=True)
        for _ in tasks:
            line = self.process.stderr.readline()
            assert "attached" in line, line

    def detach(self):
        self.process.terminate()
        self.process.wait(120)
        self.process.stderr.close()
        time.sleep(0.01)

    def trace(self):
        return (self.gateway.folder / "strace").read_text(errors="replace")

    def killed_at(self):
        """When its threads died, by the clock of time.monotonic()."""
        between = time.time() - time.monotonic()
        return [float(at) - between for at in re.findall(r"^(?:\d+ +)?([\d.]+) \+\+\+ killed by SIGKILL", self.trace(), re.M)]

    def counts(self):
        """{(thread, call): how often}. (Each kind of call is counted for itself and for each thread.)"""
        found = collections.Counter()
        for task, call in re.findall(r"^(\d+) +[\d.]+ (\w+)\(", self.trace(), re.M):
            found[self.names.get(task, "?"), call] += 1
        return found
