# SPDX-License-Identifier: Apache-2.0
"""
T-E3: the wall clock jumps (that of the process, by faulty.c; the monotonic clock stays). No mass expiry, no retry storm, mail goes on.
"""
import struct
import time

import pytest

from books import Client, send_one
from rig.gateway import wait_until

TO = ["u@fast.test"]
DAY = 86400
JUMPS = {"hour on": 3600, "hour back": -3600, "400 days on": 400 * DAY, "400 days back": -400 * DAY,
         "beyond 2038": int(time.mktime((2038, 1, 19, 3, 15, 0, 0, 0, 0)) - time.time())}
COUNT = 20



@pytest.mark.parametrize("jump", JUMPS)
def test_clock_jumps(gateway, sinks, books, tmp_path, preload, jump):
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("<q", 0))
    env = {"LD_PRELOAD": str(preload), "FAULTY_CLOCK": str(clock)}
    sinks[0].refuse = 1.0
    one = gateway(sinks, env=env, retry="2s")
    client = Client(one.port)
    for _ in range(COUNT):
        send_one(books, client, 2000, TO)
    wait_until(lambda: sinks[0].attempts >= COUNT, "each was tried once")
    time.sleep(0.1)
    before, start = sinks[0].attempts, time.monotonic()
    with clock.open("r+b") as file:
        file.write(struct.pack("<q", JUMPS[jump] * 10**9))
    time.sleep(3.0)
    wait_until(lambda: sinks[0].attempts - before >= COUNT // 2, "attempts go on")
    tried, seconds = sinks[0].attempts - before, time.monotonic() - start
    print(f"{jump}: {tried} attempts in {seconds:.1f} s for {COUNT} messages, {len(one.queue())} in the queue")
    assert len(one.queue()) == COUNT, "mail expired because the clock jumped"
    assert tried <= COUNT * (seconds / 2 + 1) * 1.5, "a storm of attempts"
    send_one(books, Client(one.port), 2000, TO)
    # as after a reboot: with the jumped clock from the start, from the spool alone, each gets its attempt
    time.sleep(0.1)
    one.kill()
    sinks[0].refuse = 0.0
    one.start()
    wait_until(lambda: not books.lost(TO), "all is delivered")
    one.wait_empty()
    assert one.status()["totals"]["delivered"] == COUNT + 1
    assert not books.damaged() and not books.strange
