# SPDX-License-Identifier: Apache-2.0
"""
A message that kills the process whenever it is delivered: after two deaths it is held with reason `crash`, and the rest
flows. (The receiving server kills the gateway's child when it gets that message: to the gateway that is the same.)
"""
import os
import signal
import time

from books import Client, Load, Sink, send_one
from rig.gateway import wait_until

TO = ["u@fast.test"]
POISON = b"t-poison"


def killing_sink(books, kill):
    """A sink at which the message POISON kills the gateway."""
    def kill_at_poison(token, message):
        if token == POISON:
            kill()
            raise OSError("the peer is dead")
    return Sink(books, hook=kill_at_poison)


def test_poison_is_held(gateway, sinks, books):
    deaths = []

    def kill_child():
        pid = one.child_pid()
        deaths.append(time.monotonic())
        os.kill(pid, signal.SIGABRT)
        wait_until(lambda: one.child_pid() != pid, "the child is dead")

    sinks[0].close()
    sinks[0] = killing_sink(books, kill_child)
    one = gateway(sinks)
    send_one(books, Client(one.port), 3000, TO, token=POISON)
    wait_until(lambda: len(deaths) == 2, "it has killed twice")
    wait_until(lambda: len(one.find("daemon.ready")) == 3, "it runs again")
    held = wait_until(lambda: [item for item in one.queue() if item["state"] == "held"], "it is held")
    assert "crash" in str(held), held
    assert held[0]["message"] == books.acknowledged[POISON][1]
    load = Load(books, one.port, clients=4, sizes=(500, 5000), recipients=TO)
    wait_until(lambda: len(books.acknowledged) > 100, "the rest is taken")
    load.stop()
    wait_until(lambda: set(books.lost(TO)) == {(POISON, TO[0])}, "the rest is delivered")
    assert len(deaths) == 2
    assert len(one.find("daemon.child_died")) == 2
    # an operator lets it go once the fault is mended
    sinks[0].hook = None
    one.ctl("queue", "release", books.acknowledged[POISON][1])
    wait_until(lambda: not books.lost(TO), "it is delivered after its release")
    one.wait_empty()
    assert not books.damaged() and not books.strange


def test_poison_kills_for_ever_without_its_guard(gateway, sinks, books):
    """
    Red control: what is known of deaths lies in the supervisor, so one that dies too knows nothing. The same message
    then kills more than twice, and is not held: it is the guard that ends it, no accident.
    """
    deaths = []
    sinks[0].close()
    sinks[0] = killing_sink(books, lambda: deaths.append(os.killpg(one.process.pid, signal.SIGKILL)))
    one = gateway(sinks)
    send_one(books, Client(one.port), 3000, TO, token=POISON)
    for number in range(1, 5):
        wait_until(lambda: len(deaths) >= number, "it has killed again")
        one.process.wait(120)
        if number < 4:
            one.start(wait=False)
    sinks[0].hook = None
    one.start()
    wait_until(lambda: not books.lost(TO), "it is delivered")
    one.wait_empty()
