# SPDX-License-Identifier: Apache-2.0
"""Free ports on loopback, each handed out once; test processes side by side have ranges of their own."""
import os
import random
import socket
import time

# below the ephemeral range, where an outgoing connection could take a port before we listen
_FIRST, _RANGE = 10000, 2500
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_left = list(range(_FIRST + _worker * _RANGE, _FIRST + (_worker + 1) * _RANGE))
random.shuffle(_left)


def free_port(host="127.0.0.1"):
    while True:
        port = _left.pop()
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


def wait_for_port(port, host="127.0.0.1", seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {host}:{port}")
