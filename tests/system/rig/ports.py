# SPDX-License-Identifier: Apache-2.0
"""Free ports on loopback, none handed out twice in five hundred (so where a server was closed, nobody listens); test processes side by side have ranges of their own."""
import fcntl
import os
import random
import socket
import threading
import time

# below the ephemeral range, where an outgoing connection could take a port before we listen
_FIRST, _RANGE, _RANGES = 10000, 500, 45
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


def _take_range():
    """The first that no other process of this machine has, from ours on; its lock is held until the process ends."""
    folder = os.path.join("/tmp", f"postern-test-ports-{_RANGE}-{os.getuid()}")
    os.makedirs(folder, exist_ok=True)
    for at in range(_RANGES):
        number = (_worker + at) % _RANGES
        lock = os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
        except BlockingIOError:
            os.close(lock)
    raise RuntimeError(f"{_RANGES} other test processes have all ports: each has {_RANGE} of them, {folder}")


def _ports():
    """All of the range again and again, in one order: another one each time would give some twice in a row, and to one test."""
    first = _FIRST + _take_range() * _RANGE
    order = random.sample(range(first, first + _RANGE), _RANGE)
    while True:
        yield from order


_left, _lock = _ports(), threading.Lock()


def free_port(host="127.0.0.1"):
    while True:
        with _lock:
            port = next(_left)
        if _can_bind(host, port):
            return port


def _can_bind(host, port):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def wait_for_port(port, host="127.0.0.1", seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.settimeout(20)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {host}:{port}")
