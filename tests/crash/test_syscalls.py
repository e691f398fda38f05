# SPDX-License-Identifier: Apache-2.0
"""
T-D3 and T-D4: every place, not random ones. For each thread of the child that takes part, each state-changing system
call that a scenario makes is in its turn the one at which the process is killed, or the one that fails. strace does
it from outside; the program under test is the one that is shipped. The scenarios are in scenarios.py. (Reclaim and
recovery are enumerated in the same way by the unit test spool-syscalls, where their time is the test's.)

TEST_TIER=full takes every call of every scenario, and every errno; else it is a sample. CRASH_SEED repeats a sample,
CRASH_CALLS makes one of so many calls of the full tier too.
"""
import collections
import os
import random
import struct
import time

import pytest

from books import Client, send_one
from inject import CALLS, Inject
from rig.gateway import wait_until
from scenarios import ALL, THREE, Turn, is_dead, try_to_send

FULL = os.environ.get("TEST_TIER") == "full"
SEED = int(os.environ.get("CRASH_SEED", str(random.randrange(1 << 30))))
WINDOW = 1.0  # seconds from a peer's 250 to the kill that may undo it
AT_MOST = int(os.environ.get("CRASH_CALLS", "0"))  # calls of a scenario in the full tier; 0: all
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EINTR", "EMFILE")
# what goes over the network is no call that changes the spool; close does not fail
FAILING = "pwrite64,pwritev,pwritev2,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,fallocate,openat"


@pytest.fixture
def stage(gateway, sinks, books, preload, tmp_path):
    """A function that gives a gateway for a scenario, its sinks told what to say."""
    syncs = tmp_path / "syncs"
    syncs.write_bytes(bytes(4))

    def make(scenario):
        scenario.set_up(sinks)
        options = {"more": "workers: 1", **scenario.options}
        env = {"LD_PRELOAD": str(preload), "FAULTY_SYNCS": str(syncs)} if scenario.fails_syncs else None
        one = gateway(sinks, env=env, **options)
        one.fail_syncs = lambda count: patch(syncs, count)
        return one

    return make


def patch(path, count):
    with path.open("r+b") as file:
        file.write(struct.pack("<i", count))


def kill(gateway, books):
    """Booked on both sides: to find the child takes a while on a busy machine, and mail is delivered meanwhile."""
    begin = time.monotonic()
    gateway.kill()
    books.book_kill(begin)


def let_all_go(gateway, books, sinks, scenario):
    """Also what an error made wait for a minute."""
    scenario.after(Turn(gateway, books, sinks))
    gateway.ctl("queue", "retry", "--limit", "1000", "--reason", "test", ok=(0, 1))


def start_clean(gateway, books, sinks, scenario):
    """With an empty queue and no connection kept: all calls of the next turn are those of its own message."""
    gateway.fail_syncs(0)
    kill(gateway, books)
    gateway.start()
    if gateway.queue():
        let_all_go(gateway, books, sinks, scenario)
        wait_until(lambda: not gateway.queue(), "what was left is delivered")
        gateway.stop()  # and that is written, however busy the machine
        gateway.start()
    turn = Turn(gateway, books, sinks)
    scenario.prepare(turn)
    return turn


def calls_made(gateway, books, sinks, scenario, calls=CALLS):
    """{(thread, call): how often}, in an undisturbed turn."""
    turn = start_clean(gateway, books, sinks, scenario)
    inject = Inject(gateway, "", calls=calls)
    assert scenario.act(turn) == 250
    inject.detach()
    return inject.counts()


def kill_at(gateway, books, sinks, scenario, place, number):
    """True: that thread made its call `number`, and was killed at it."""
    turn = start_clean(gateway, books, sinks, scenario)
    inject = Inject(gateway, f"signal=SIGKILL:when={number}", *place)
    code = scenario.act(turn)
    killed = is_dead(gateway, turn.pid)
    inject.detach()
    books.kills += [*inject.killed_at(), time.monotonic()]
    assert killed or code == 250, f"{place} {number}: not killed, and {code}"
    return killed


def places_of(made, some):
    """(place, number) of all calls, or of some."""
    places = [(place, number) for place, count in sorted(made.items()) for number in range(1, count + 1)]
    some = AT_MOST if FULL else some
    return places if some == 0 or some >= len(places) else random.Random(SEED).sample(places, some)


def kill_at_all(gateway, books, sinks, scenario):
    """Of each place, how many were killed at."""
    tried = collections.Counter()
    made = calls_made(gateway, books, sinks, scenario)
    for place, number in places_of(made, scenario.only_some):
        tried[place] += kill_at(gateway, books, sinks, scenario, place, number)
    if FULL and not AT_MOST:  # calls that only this turn made
        for place in list(tried):
            number = made[place] + 1
            while kill_at(gateway, books, sinks, scenario, place, number):
                tried[place] += 1
                number += 1
                assert number < 300
    return made, tried


def drain(gateway, books, sinks, scenario):
    gateway.fail_syncs(0)
    kill(gateway, books)
    gateway.start()
    let_all_go(gateway, books, sinks, scenario)
    gateway.wait_empty()


def judge(books, scenario):
    assert not books.lost(scenario.to), f"seed {SEED}: {books.lost(scenario.to)}"
    assert not books.damaged() and not books.strange
    # results are written within 50 ms, behind the write before; each kill is booked when it came
    assert not books.unexcused(within=WINDOW), f"seed {SEED}: {books.unexcused(within=WINDOW)}"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__.lower())
def test_kill_at_every_call(stage, sinks, books, kind):
    scenario = kind()
    one = stage(scenario)
    made, tried = kill_at_all(one, books, sinks, scenario)
    drain(one, books, sinks, scenario)
    threads = collections.Counter()
    for (thread, _), count in tried.items():
        threads[thread] += count
    print(f"{kind.__name__}: killed at {sum(tried.values())} of {sum(made.values())} calls: {dict(threads)}; "
          f"{len(books.acknowledged)} acknowledged of {len(books.sent)}, {books.duplicates()} duplicates, "
          f"{len(books.notices)} notices, seed {SEED}")
    # a sample of a few calls may have hit some of a thread that had nothing to do this time
    least = 1 if scenario.only_some or AT_MOST else min(40, sum(made.values())) * 6 // 10
    assert sum(tried.values()) >= least, tried
    # the writer syncs what is small himself
    synced = made["spool-write", "fdatasync"] + made["spool-sync", "fdatasync"]
    assert made["spool-write", "pwritev"] >= 1 and synced >= 1, made
    judge(books, scenario)
    assert not one.find("spool.damaged"), one.find("spool.damaged")


def test_kill_of_a_liar(gateway, sinks, books, preload):
    """Red control: nothing is written, and said to be. The same kills, the same judgement: it must find the loss."""
    scenario = ALL[0]()
    scenario.set_up(sinks)
    one = gateway(sinks, retry="1h", more="workers: 1", env={"LD_PRELOAD": str(preload), "FAULTY": "drop"})
    sinks[0].refuse = 1.0
    assert try_to_send(books, one, 3000, THREE[:1]) == 250
    one.kill()
    one.start()
    sinks[0].refuse = 0.0
    one.wait_empty()
    assert books.lost(scenario.to), "nothing was written, and nothing is missing: the judgement proves nothing"
    with pytest.raises(AssertionError):
        judge(books, scenario)


def fail_at(gateway, books, sinks, scenario, error, place, number):
    """Nothing dies of it, nobody is told of more than is so, and mail is taken again."""
    turn = start_clean(gateway, books, sinks, scenario)
    inject = Inject(gateway, f"error={error}:when={number}", *place)
    what = f"{error} at {place} {number}"
    try:
        code = scenario.act(turn)
        assert code in (250, 451, 452), f"{what}: answered {code}"
    finally:
        inject.detach()
    assert not is_dead(gateway, turn.pid), f"{what}: the child died"
    wait_until(lambda: try_to_send(books, gateway, 500, scenario.to) == 250, f"{what}: mail is accepted again")
    return "(INJECTED)" in inject.trace()


@pytest.mark.skipif(not FULL, reason="TEST_TIER=full")
@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__.lower())
def test_every_error_at_every_call(stage, sinks, books, kind):
    """Also of the orders of an operator, of retries and notices. (One gateway at a time: about an hour for all.)"""
    scenario = kind()
    one = stage(scenario)
    made = calls_made(one, books, sinks, scenario, FAILING)
    hit = collections.Counter()
    for place, number in places_of(made, 0):
        for error in ERRORS:
            hit[error] += fail_at(one, books, sinks, scenario, error, place, number)
    drain(one, books, sinks, scenario)
    print(f"{kind.__name__}: {dict(hit)} of {sum(made.values())} calls failed")
    assert sum(hit.values()) > AT_MOST if AT_MOST else min(hit.values()) >= sum(made.values()) // 2, hit
    judge(books, scenario)
    assert not one.find("spool.damaged"), one.find("spool.damaged")


# call, error, the message of the scenario, how many of it make the call
FAULTS = [("pwritev", "EIO", 3000, 1), ("pwritev", "ENOSPC", 3000, 1), ("fdatasync", "EIO", 3000, 1),
          ("fdatasync", "ENOSPC", 3000, 1), ("fallocate", "ENOSPC", 200_000, 8), ("fallocate", "EIO", 200_000, 8),
          ("pwritev", "ENOSPC", 400_000, 1), ("fdatasync", "EIO", 400_000, 1)]


def one_fault(gateway, books, codes, fault, number):
    """True: call `number` was made, and failed."""
    call, error, size, count = fault
    inject = Inject(gateway, f"error={error}:when={number}", calls=call)
    for _ in range(count):
        codes.setdefault(call, []).append(try_to_send(books, gateway, size, THREE[:1], False))
    time.sleep(0.07)
    inject.detach()
    failed = "(INJECTED)" in inject.trace()
    # the fault is over: mail is taken again
    wait_until(lambda: try_to_send(books, gateway, 500, THREE[:1], False) == 250, "mail is accepted again")
    return failed


def test_error_at_every_call(gateway, sinks, books):
    sinks[0].refuse = 1.0  # until the end: all of it must come from the disk, after a kill
    one = gateway(sinks, more="workers: 1\nspool: { path: spool, segment_size: 1M }", retry="1h")
    pid = one.child_pid()
    codes, hit = {}, {}
    for fault in FAULTS:
        number = 1
        while one_fault(one, books, codes, fault, number) and number < 6:
            number += 1
        hit[fault[:3]] = number - 1
    assert one.child_pid() == pid, "the child died of an error"
    one.kill()
    one.start()
    sinks[0].refuse = 0.0
    one.ctl("queue", "retry", "--limit", "100000", "--reason", "test", ok=(0, 1))
    one.wait_empty()
    print(f"failed calls {hit}; answers { {call: {code: c.count(code) for code in sorted(set(c))} for call, c in codes.items()} }; "
          f"{len(books.acknowledged)} acknowledged")
    assert all(count >= 1 for count in hit.values()), hit
    for call, seen in codes.items():
        assert set(seen) <= {250, 451, 452}, f"{call}: {seen}"
    assert 451 in codes["fdatasync"] and set(codes["pwritev"]) & {451, 452}, codes
    assert not books.lost(THREE[:1])
    assert not books.damaged() and not books.strange


def test_short_writes(gateway, sinks, books, preload):
    """Each write takes half of what it is given: no error, and nothing may be missing."""
    sinks[0].refuse = 1.0
    one = gateway(sinks, retry="1h", env={"LD_PRELOAD": str(preload), "FAULTY": "short"})
    client = Client(one.port)
    for number in range(60):
        send_one(books, client, 200 + 997 * number, THREE[:1])
    send_one(books, client, 700_000, THREE[:1])
    one.kill()
    one.start()
    sinks[0].refuse = 0.0
    one.ctl("queue", "retry", "--limit", "1000", "--reason", "test", ok=(0, 1))
    one.wait_empty()
    assert len(books.acknowledged) == 61
    assert not books.lost(THREE[:1]) and not books.damaged() and not books.strange
    assert not one.find("spool.damaged") and not one.find("spool.error")
