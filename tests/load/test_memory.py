# SPDX-License-Identifier: Apache-2.0
"""
What a message costs in memory while it waits: at most 0.3 KiB. A long queue beside a shorter one, so that what a process
costs with any queue is not counted; senders and recipients differ. The answer is the same for all, or has a log number
of the peer's in it, as most have.
"""
import os
import subprocess
import time

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from test_destinations import config
from test_load import SANITIZED
from tools import resident_kb, source

FULL = os.environ.get("TEST_TIER") == "full"
LONG = 10 * int(os.environ.get("LOAD_BACKLOG", "100000")) if FULL else 180_000
SHORT = LONG // 5


def memory_with(gateway, count, words):
    """KiB of a gateway in whose queue so many messages wait for an hour."""
    listen, nobody = free_port(), free_port()
    one = gateway(config(listen, {"one.test": nobody}), [listen], start=False)
    subprocess.run([BUILD / "fill-spool", one.folder / "spool", str(count), "one-test", "500", "3600", "200",
                    *words], check=True)
    one.start()
    wait_until(lambda: one.status()["queue"]["entries"] == count, "all is loaded", 120)
    used = resident_kb(one.child_pid(), "RssAnon")
    one.stop()
    return used


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory is its own")
@pytest.mark.parametrize("words", [[], ["words"]], ids=["alike", "log-numbers"])
def test_memory_of_a_queued_message(gateway, words):
    short, long = memory_with(gateway, SHORT, words), memory_with(gateway, LONG, words)
    each = (long - short) / (LONG - SHORT)
    print(f"{SHORT} queued: {short} KiB, {LONG}: {long} KiB, a message {each:.3f} KiB")
    assert each <= 0.3


# ---- after a burst ----

STORM = 200_000 if FULL else 30_000


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory is its own")
def test_memory_after_a_storm(gateway, tools, counting_sink):
    """
    Everything is answered 451. What bodies, sessions and the history needed meanwhile goes back when it is over: compared
    with the same process at rest, after as many that passed, a message costs what one costs after a start.
    """
    sink, listen = counting_sink(), free_port()
    one = gateway(config(listen, {"sink.test": sink.port}), [listen], start=False)
    one.start()

    def used():
        return resident_kb(one.child_pid(), "RssAnon")

    def send(run):
        sent = source(tools, listen, run, "-m", STORM, "-c", 20, "-p", 100, "--timeout", 110)
        assert sent["accepted"] == STORM

    def come_to_rest():
        """Memory that does not change for so long is that of rest: what goes back goes within ten seconds."""
        level, since = used(), time.monotonic()

        def is_steady():
            nonlocal level, since
            if abs(used() - level) > 64:
                level, since = used(), time.monotonic()
            return time.monotonic() - since > 11

        wait_until(is_steady, "memory comes to rest", 240)
        return used()

    sink.ctl("begin", "pass")
    send("pass")
    sink.ctl("wait", STORM, 110)
    before = come_to_rest()
    sink.ctl("begin", "storm")
    sink.ctl("fail", "rcpt", 451, 100)
    send("storm")
    wait_until(lambda: one.status()["queue"]["waiting"] == STORM, "all wait")
    peak, after = used(), come_to_rest()
    each = (after - before) / STORM
    print(f"{before} KiB before, {peak} right after, {after} at rest: a message {each:.3f} KiB")
    # what is not of the messages, as the state of a destination and pages that are not whole, is of no size that a message shares
    assert after - before <= 0.3 * STORM + 1024
