# SPDX-License-Identifier: Apache-2.0
"""Free ports on loopback, each handed out once."""
import socket

_given = set()


def free_port(host="127.0.0.1"):
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
        # ports of the ephemeral range may be taken by an outgoing connection before we listen:
        # use those below it
        port = 10000 + port % 20000
        if port in _given or not _can_bind(host, port):
            continue
        _given.add(port)
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
    import time
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {host}:{port}")
