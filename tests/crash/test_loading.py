# SPDX-License-Identifier: Apache-2.0
"""
The second step of a start: mail flows while a thread still reads a long log (over 64 MiB). Killed in it again and again,
and its power cut in it: nothing acknowledged is lost, neither what the log holds nor what came meanwhile.
"""
import os
import random
import threading
import time

import pytest

from books import Client, Load, send_one, tell_progress
from rig.gateway import wait_until
# the disk of the power cuts
from test_power import KINDS, Cut, disk, entries_in  # noqa: F401  pylint: disable=unused-import

FULL = os.environ.get("TEST_TIER") == "full"
KILLS = int(os.environ.get("CRASH_KILLS", "200" if FULL else "10"))
CUTS = int(os.environ.get("CRASH_CUTS", "100" if FULL else "4"))
BACKLOG, SIZE = 560, 150_000  # 80 MiB of log
TO = ["u@fast.test"]
SEGMENTS = "segment_size: 4M"


@pytest.fixture
def kind():
    return KINDS["ext4"]


@pytest.fixture
def slow_loading(preload):
    """So that a second of it can be hit on any machine."""
    return {"LD_PRELOAD": str(preload), "FAULTY": "slowload"}


class Backlog:
    """Messages that the sink refuses, but for those that were let go."""

    def __init__(self, gateway, sinks, books):
        self.gateway, self.books = gateway, books
        self.kept = set()
        sinks[0].answer = lambda token: b"451 4.3.0 not now\r\n" if token in self.kept else None
        numbers = iter(range(BACKLOG))  # next() of it is atomic
        threads = [threading.Thread(target=self._send, args=(numbers,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: sinks[0].attempts >= BACKLOG, "each was tried")
        time.sleep(0.2)

    def _send(self, numbers):
        client = Client(self.gateway.port)
        for _ in numbers:
            token = self.books.new_token()
            self.kept.add(token)
            send_one(self.books, client, SIZE, TO, token=token)
        client.close()

    def let_go(self, count):
        """So many may go, if they are tried; and some are."""
        self.kept -= set(random.sample(sorted(self.kept), min(count, len(self.kept))))
        self.gateway.ctl("queue", "retry", "--limit", "40", "--reason", "test", ok=range(256))


def starts_loading(gateway):
    """Start and come back when it takes mail; the number of times that it had loaded before."""
    loaded = len(gateway.find("spool.loaded"))
    gateway.start()
    return loaded


def is_loading(gateway, loaded):
    return len(gateway.find("spool.loaded")) == loaded


def time_to_load(gateway):
    """From taking mail to the end of it, in an undisturbed start."""
    gateway.kill()
    loaded = starts_loading(gateway)
    begin = time.monotonic()
    wait_until(lambda: not is_loading(gateway, loaded), "it has loaded", 120)
    return time.monotonic() - begin


def end_well(gateway, sinks, books):
    sinks[0].answer = None
    gateway.start()
    wait_until(lambda: not gateway.status()["queue"]["loading"], "it has loaded", 120)
    gateway.ctl("queue", "retry", "--all", "--yes", "--reason", "test", ok=(0, 1))
    gateway.wait_empty(60)
    assert not books.lost(TO) and not books.damaged() and not books.strange
    assert not gateway.find("spool.damaged"), gateway.find("spool.damaged")
    assert not gateway.find("balance.difference"), gateway.find("balance.difference")


def test_kills_while_loading(gateway, sinks, books, slow_loading):
    one = gateway(sinks, env=slow_loading, retry="1h", more=f"spool: {{ path: spool, {SEGMENTS} }}")
    backlog = Backlog(one, sinks, books)
    span = time_to_load(one)
    hit = came = 0
    for number in range(KILLS):
        tell_progress(number, KILLS)
        begin = time.monotonic()
        one.kill()
        books.book_kill(begin)
        loaded = starts_loading(one)
        before = len(books.acknowledged)
        load = Load(books, one.port, clients=4, sizes=(1000, 20_000), recipients=TO)
        backlog.let_go(2)  # so that some are left for the last of 200
        time.sleep(random.uniform(0, span * 0.6))
        begin = time.monotonic()
        one.kill()
        books.book_kill(begin)
        load.stop()
        hit += is_loading(one, loaded)
        came += len(books.acknowledged) - before
    end_well(one, sinks, books)
    print(f"{KILLS} kills, {hit} of them while it loaded ({span:.2f} s undisturbed), {came} messages taken meanwhile, "
          f"{books.duplicates()} duplicates")
    assert hit >= KILLS * 2 // 3 and came > KILLS
    assert not books.unexcused()


def test_what_is_shown_meanwhile_says_so(gateway, sinks, books, slow_loading):
    """Lists, groups and orders know only what was loaded: their answers say that there is more."""
    one = gateway(sinks, env=slow_loading, retry="1h", more=f"spool: {{ path: spool, {SEGMENTS} }}")
    Backlog(one, sinks, books)
    asked = [("queue", "list"), ("queue", "causes"), ("queue", "shape"), ("queue", "shape", "--senders"),
             ("queue", "retry", "--all", "--dry-run")]
    one.kill()
    loaded = starts_loading(one)
    partly = {words: one.run_ctl(*words) for words in asked}
    assert is_loading(one, loaded), "the machine is too fast for this test"
    wait_until(lambda: not one.status()["queue"]["loading"], "it has loaded")
    for words in asked:
        assert "still being loaded" in partly[words].stderr, words
        done = one.run_ctl(*words)
        assert done.returncode == 0 and "loaded" not in done.stderr, words
        assert str(BACKLOG) in done.stdout, (words, done.stdout[-300:])
    sinks[0].answer = None


def look(mounts, folder, one_cut):
    mounts.mount(one_cut.clone, folder, "-o", "loop")
    status, problems, entries = entries_in(folder / "spool")
    owed = [token for token in one_cut.acknowledged if (token, TO[0]) not in one_cut.arrived]
    lost = [token for token in owed if one_cut.acknowledged[token][1] not in entries]
    mounts.unmount(folder)
    one_cut.clone.unlink()
    return status, problems, lost, len(owed)


def test_power_cuts_while_loading(gateway, sinks, books, slow_loading, disk, mounts, tmp_path):  # noqa: F811
    one = gateway(sinks, env=slow_loading, retry="1h", more=f"spool: {{ path: {tmp_path}/inner/spool, {SEGMENTS} }}")
    backlog = Backlog(one, sinks, books)
    span = time_to_load(one)
    hit = checked = 0
    for number in range(CUTS):
        tell_progress(number, CUTS)
        one.kill()
        loaded = starts_loading(one)
        load = Load(books, one.port, clients=4, sizes=(1000, 20_000), recipients=TO, pause=0.005)
        backlog.let_go(3)
        time.sleep(random.uniform(0, span * 0.6))
        one_cut = Cut(disk, number, books)
        hit += is_loading(one, loaded)
        load.stop()
        status, problems, lost, owed = look(mounts, tmp_path / "clone", one_cut)
        assert status == 0, f"cut {number}: verify says {status}: {problems[:3]}"
        assert not lost, f"cut {number}: {lost[:5]}"
        checked += owed
    one.kill()
    end_well(one, sinks, books)
    print(f"{CUTS} cuts, {hit} of them while it loaded ({span:.2f} s undisturbed), {checked} messages owed over all")
    assert hit >= CUTS * 2 // 3 and checked > CUTS * BACKLOG // 2
