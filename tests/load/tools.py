# SPDX-License-Identifier: Apache-2.0
"""bench/'s load generator and sink, and looks at a process."""
import os
import pathlib
import re
import subprocess
import time

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
TICKS = os.sysconf("SC_CLK_TCK")


def build(folder):
    subprocess.run(["make", "-s", "-C", BENCH, f"OUT={folder}"], check=True)
    return folder


def fields(text):
    return {key: float(value) for key, value in re.findall(r"(\w+)=(\d+(?:\.\d+)?)", text)}


class Sink:
    def __init__(self, tools, port, control):
        self.tools, self.port, self.control = tools, port, f"127.0.0.1:{control}"
        self.process = subprocess.Popen([tools / "bench-sink", f"127.0.0.1:{port}", self.control])
        for _ in range(2000):
            if subprocess.run([tools / "bench-sink", "--ctl", self.control, "clear"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.02)
        raise AssertionError("the sink does not start")

    def ctl(self, *words):
        return subprocess.run([self.tools / "bench-sink", "--ctl", self.control, *map(str, words)],
                              stdout=subprocess.PIPE, text=True, timeout=300).stdout

    def stop(self):
        self.process.kill()
        self.process.wait()


def source(tools, port, run, *options, seconds=600):
    """A run of the load generator; its figures."""
    done = subprocess.run([tools / "bench-source", "--run", run, *map(str, options), f"127.0.0.1:{port}"],
                          stdout=subprocess.PIPE, text=True, timeout=seconds)
    return fields(done.stdout)


# ---- a process ----

def resident_kb(pid, what="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1])
    raise AssertionError(f"no {what}")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def cpu_seconds(pid):
    values = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / TICKS
