# SPDX-License-Identifier: Apache-2.0
"""How many connections a turn of the loop takes: enough that the kernel's queue is emptied when many came during a long one."""
import os
import pathlib
import re
import signal
import socket

import pytest

from inject import Inject

MANY, A_TURN = 700, 512


@pytest.mark.skipif(int(pathlib.Path("/proc/sys/net/core/somaxconn").read_text()) < MANY, reason="the kernel's queue is shorter")
def test_a_turn_takes_what_came_meanwhile(gateway, sinks):
    one = gateway(sinks, more="workers: 1\n")
    child = one.child_pid()
    os.kill(child, signal.SIGSTOP)  # the long turn
    clients = [socket.create_connection(("127.0.0.1", one.port), source_address=(f"127.0.{1 + i // 200}.{1 + i % 200}", 0))
               for i in range(MANY)]
    trace = Inject(one, "", thread="worker-0", calls="accept4,epoll_wait")
    os.kill(child, signal.SIGCONT)
    for client in clients:
        client.settimeout(60)
        assert client.recv(3) in (b"220", b"421")
        client.close()
    trace.detach()
    turns = re.split(r"epoll_wait\(", trace.trace())
    taken = [len(re.findall(r"accept4\(.*\) += \d+", turn)) for turn in turns]
    assert sum(taken) == MANY and max(taken) == A_TURN, taken
