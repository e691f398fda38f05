# SPDX-License-Identifier: Apache-2.0
"""T-D1: kill -9 under load. Nothing acknowledged is lost, nothing is damaged, each duplicate has its kill."""
import os
import random
import shutil
import signal
import time

from books import DOMAINS, Load, small_segments, tell_progress, used_bodies, used_segments
from rig.gateway import wait_until

KILLS = int(os.environ.get("CRASH_KILLS", "1000" if os.environ.get("TEST_TIER") == "full" else "30"))
RECIPIENTS = [f"u@{domain}" for domain in DOMAINS]


def kill_all(gateway):
    gateway.kill()
    gateway.start(wait=False)


def kill_child(gateway):
    """The supervisor starts it again by itself."""
    os.kill(gateway.child_pid(), signal.SIGKILL)


def run_kills(gateway, sinks, books, kills, ways):
    """The slowest restart, and how many kills met a log, and large bodies, in files that were used before."""
    load = Load(books, gateway.port, clients=8, large=0.05)
    slowest, used, bodies = 0.0, 0, 0
    for turn in range(kills):
        tell_progress(turn, kills)
        sinks[2].refuse = 0.2 if turn % 10 < 7 else 0.0  # so that there is mail that waits, and log files of which all is delivered
        accepted = len(books.acknowledged)
        wait_until(lambda: len(books.acknowledged) > accepted + 3, "mail is accepted between two kills")
        if turn % 10 == 9:  # a long pause now and then: what is doubled in it has no excuse
            wait_until(lambda: not gateway.status()["queue"]["loading"], "all is loaded", 120)
            time.sleep(2.5)
            wait_until(lambda: used_segments(gateway.folder / "spool") > 0, "a log file is used again", 120)
        else:
            time.sleep(random.uniform(0.02, 0.35))
        used += used_segments(gateway.folder / "spool") > 0
        bodies += used_bodies(gateway.folder / "spool") > 0
        ready = len(gateway.find("daemon.ready"))
        start = time.monotonic()
        ways[turn % len(ways)](gateway)
        books.book_kill(start)
        try:
            wait_until(lambda: len(gateway.find("daemon.ready")) > ready, "the gateway is back")
        except AssertionError as error:
            raise AssertionError(f"kill {turn}: {error}, last said: {gateway.events[-4:]}") from None
        slowest = max(slowest, time.monotonic() - start)
    load.stop()
    return slowest, used, bodies


def test_kills(gateway, sinks, books):
    one = gateway(sinks, more=small_segments())
    # of the child alone only now and then: five deaths a minute stop deliveries
    slowest, used, bodies = run_kills(one, sinks, books, KILLS, [kill_all, kill_all, kill_child, kill_all])
    start = time.monotonic()
    one.kill()
    books.book_kill(start)
    one.start()  # whatever the supervisor thinks of so many deaths
    one.wait_empty(120)
    print(f"{KILLS} kills, {len(books.acknowledged)} acknowledged of {len(books.sent)} sent, "
          f"{books.duplicates()} duplicates, refused {dict(books.refused)}, slowest restart {slowest:.2f} s, "
          f"{used} times log files were used again, {bodies} times files of large bodies")
    assert len(books.acknowledged) > 3 * KILLS
    assert not books.lost(RECIPIENTS)
    assert not books.damaged()
    assert not books.unexcused()
    assert not books.strange
    assert not one.find("spool.damaged"), one.find("spool.damaged")
    assert used > 0


def test_books_notice(gateway, sinks, books):
    """Red control: with an older copy of the spool put back after the kill, the same books must name what is lost."""
    for sink in sinks:
        sink.refuse = 1.0
    one = gateway(sinks)
    load = Load(books, one.port, clients=4, sizes=(1000, 5000))
    wait_until(lambda: len(books.acknowledged) > 5, "mail is accepted")
    one.kill()
    spool = one.folder / "spool"
    shutil.copytree(spool, one.folder / "older")
    one.start()
    before = len(books.acknowledged)
    wait_until(lambda: len(books.acknowledged) > before + 20, "mail is accepted")
    load.stop()
    one.kill()
    shutil.rmtree(spool)
    (one.folder / "older").rename(spool)
    for sink in sinks:
        sink.refuse = 0.0
    one.start()
    one.wait_empty()
    assert len(books.lost(RECIPIENTS)) >= 3 * 20
    token, recipient = next(iter(books.arrived))
    books.arrived[token, recipient] += [(time.monotonic() + 9, b"")]
    assert (token, recipient) in books.damaged()
    assert any(key == (token, recipient) for key, _ in books.unexcused())
