# SPDX-License-Identifier: Apache-2.0
"""
T-D3 and T-D4: every place, not random ones. For each thread of the child that takes part, each state-changing system
call that one scenario makes is in its turn the one at which the process is killed, or the one that fails. strace does
it from outside; the program under test is the one that is shipped.

CRASH_SCENARIOS=all runs more than the DATA scenario.
"""
import os
import re
import subprocess
import time

import pytest

from books import DOMAINS, Client, Refused, send_one
from rig.gateway import wait_until

CALLS = ("write,pwrite64,pwritev,pwritev2,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,"
         "ftruncate,fallocate,sendto,sendmsg,close,openat,connect")
THREADS = ("worker-0", "spool", "spool-write", "spool-sync", "spool-upkeep", "log")
ALL = os.environ.get("CRASH_SCENARIOS") == "all"
THREE = [f"u@{domain}" for domain in DOMAINS]
# name: (size, recipients, bdat)
SCENARIOS = {"data": (3000, THREE[:1], False)}
if ALL:
    SCENARIOS |= {"bdat": (3000, THREE[:1], True), "three": (3000, THREE, False), "large": (400_000, THREE[:1], False)}


class Inject:
    """strace on one thread of the gateway's child, or on all of them."""

    def __init__(self, gateway, what, thread=None, calls=CALLS):
        self.gateway = gateway
        pid = gateway.child_pid()
        threads = {}
        for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            with open(f"/proc/{pid}/task/{task}/comm") as comm:
                threads.setdefault(comm.read().strip(), []).append(task)
        tasks = [task for name, named in threads.items() for task in named if thread in (name, None)]
        assert tasks, f"no thread {thread} among {list(threads)}"
        at = [word for task in tasks for word in ("-p", task)]
        self.process = subprocess.Popen(["strace", *at, "-e", f"trace={calls}", "-e", f"inject={calls}:{what}",
                                         "-o", gateway.folder / "strace"], stderr=subprocess.PIPE, text=True)
        for _ in tasks:
            line = self.process.stderr.readline()
            assert "attached" in line, line

    def detach(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stderr.close()
        time.sleep(0.01)

    def trace(self):
        return (self.gateway.folder / "strace").read_text(errors="replace")


def try_to_send(books, gateway, size, recipients, bdat, token=None):
    """The code of the refusal, 250, or 0: hung up."""
    try:
        client = Client(gateway.port)
        try:
            send_one(books, client, size, recipients, bdat, token)
            return 250
        finally:
            client.close()
    except Refused as refused:
        return refused.code
    except (OSError, EOFError, ValueError):
        return 0


def is_dead(gateway, pid):
    return gateway.process.poll() is not None or gateway.child_pid() != pid


def run_scenario(gateway, books, pid, scenario):
    """Send, and wait until it is delivered and that is written; or the process is dead. The code of the answer."""
    token = books.new_token()
    code = try_to_send(books, gateway, *scenario, token)
    if code == 0:
        wait_until(lambda: is_dead(gateway, pid), "it hung up, so it is dead")
    if code == 250:
        wait_until(lambda: is_dead(gateway, pid) or all((token, to) in books.arrived for to in scenario[1]), "delivery")
        time.sleep(0.12)  # results are written within 50 ms
    return code


def start_clean(gateway):
    """With an empty queue and no connection kept: all calls of the next turn are those of its own message."""
    gateway.kill()
    gateway.start()
    if gateway.queue():
        wait_until(lambda: not gateway.queue(), "what was left is delivered")
        time.sleep(0.12)  # and that is written
        gateway.kill()
        gateway.start()
    return gateway.child_pid()


def calls_made(gateway, books, thread, scenario):
    """Which calls that thread makes in the scenario."""
    inject = Inject(gateway, "signal=SIGKILL:when=60000", thread)
    assert run_scenario(gateway, books, gateway.child_pid(), scenario) == 250
    inject.detach()
    return sorted(set(re.findall(r"^(?:\d+ +)?(\w+)\(", inject.trace(), re.M)))


def kill_at(gateway, books, thread, call, number, scenario):
    """True: that thread made its call `number`, and was killed at it. (strace counts each kind of call for itself.)"""
    pid = start_clean(gateway)
    inject = Inject(gateway, f"signal=SIGKILL:when={number}", thread, call)
    code = run_scenario(gateway, books, pid, scenario)
    killed = is_dead(gateway, pid)
    books.kills.append(time.monotonic())
    inject.detach()
    assert killed or code == 250, f"{thread} {call} {number}: not killed, and {code}"
    return killed


@pytest.mark.parametrize("name", SCENARIOS)
def test_kill_at_every_call(gateway, sinks, books, name):
    sinks[1].delay = sinks[2].refuse = 0.0
    scenario = SCENARIOS[name]
    one = gateway(sinks, more="workers: 1")
    tried = {}
    for thread in THREADS:
        start_clean(one)
        for call in calls_made(one, books, thread, scenario):
            number = 1
            while kill_at(one, books, thread, call, number, scenario):
                number += 1
                assert number < 100
            tried[f"{thread} {call}"] = number - 1
    one.kill()
    one.start()
    one.wait_empty()
    print(f"scenario {name}: killed at each of {sum(tried.values())} calls: {tried}; "
          f"{len(books.acknowledged)} acknowledged of {len(books.sent)}, {books.duplicates()} duplicates")
    assert sum(count for call, count in tried.items() if "worker" in call) >= 8 and tried["spool-write pwritev"] >= 1, tried
    assert tried["spool-sync fdatasync"] >= 1, tried
    assert not books.lost(scenario[1])
    assert not books.damaged() and not books.strange
    assert not books.unexcused(within=2.0)
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
    wait_until(lambda: try_to_send(books, gateway, 500, THREE[:1], False) == 250, "mail is accepted again", 5)
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
