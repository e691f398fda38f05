# SPDX-License-Identifier: Apache-2.0
"""
What a message costs in memory while it waits: at most 0.3 KiB. A long queue beside a shorter one, so that what a process
costs with any queue is not counted; senders and recipients differ. The answer is the same for all, or has a log number
of the peer's in it, as most have.
"""
import os
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from test_destinations import config
from test_load import SANITIZED
from tools import resident_kb

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
