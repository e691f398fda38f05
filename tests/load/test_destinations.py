# SPDX-License-Identifier: Apache-2.0
"""
What one destination, or one sender, must not cost the others: T-L4 (destinations that are slow), T-L5 (dead ones with a
backlog), fairness between senders. Where it can be, the order of deliveries is judged and not their time: order
knows no noise. TEST_TIER=full takes the numbers of the specification, else they fit a minute.
"""
import collections
import datetime
import os
import socket
import statistics
import threading
import time

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from test_load import SANITIZED
from tools import cpu_seconds, resident_kb, source

FULL = os.environ.get("TEST_TIER") == "full"
BACKLOG = int(os.environ.get("LOAD_BACKLOG", "100000"))  # of the full tier


def config(listen, servers, limits="", more=""):
    """`servers`: {domain: port}; a transport each."""
    names = {domain: domain.replace(".", "-") for domain in servers}
    return "\n".join([
        "version: 1", "hostname: mx.example.org", "servers:",
        *[f'  {names[d]}: {{ smtp: "127.0.0.1:{port}", tls: none }}' for d, port in servers.items()],
        "listeners:", f'  relay: {{ listen: [ "127.0.0.1:{listen}" ], authentication: none, tls: none,',
        "            limits: { sessions: 2000, sessions_per_client: 2000, size: 100M } }",
        "flows: { recipient: { all: [ accept ] }, content: { plain: [ deliver ] } }", "transports:",
        *[f"  {name}: {{ method: server, server: {name}, retry: {{ delays: [ 10m ], count: 50 }}{limits} }}"
          for name in names.values()],
        "domains:",
        *[f"  {d}: {{ recipients: all, content: plain, transport: {name} }}" for d, name in names.items()], more])


def when(event):
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def delays(gateway, domains):
    """Seconds from acceptance to delivery of each message to one of the domains."""
    accepted = {event["message"]: when(event) for event in gateway.find("message.accepted")}
    return [when(event) - accepted[event["message"]] for event in gateway.find("delivery.sent")
            if event["to"].partition("@")[2] in domains]


# ---- slow destinations ----

class SlowServer:
    """Takes connections and says nothing, or its greeting a byte a second."""

    def __init__(self, drips):
        self.drips, self.peers = drips, []
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            self.peers.append(peer)
            if self.drips:
                threading.Thread(target=self.drip, args=(peer,), daemon=True).start()

    def drip(self, peer):
        try:
            for byte in b"220 " + b"slow " * 100:
                peer.sendall(bytes([byte]))
                time.sleep(1)
        except OSError:
            pass

    def close(self):
        self.socket.close()
        for peer in self.peers:
            peer.close()


def send_to_all(tools, listen, domains, each):
    """`each` messages to each domain, the domains side by side."""
    jobs = [threading.Thread(target=source, args=(tools, listen, "run", "-m", each, "-c", 2, "--domain", domain))
            for domain in domains]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()


def fast_delays(gateway, tools, sinks, fast, slow):
    listen = free_port()
    servers = {**{domain: sink.port for domain, sink in zip(fast, sinks)}, **slow}
    one = gateway(config(listen, servers), [listen])
    for sink in sinks:
        sink.ctl("begin", "run")
    send_to_all(tools, listen, list(servers), 20)
    wait_until(lambda: len(one.find("message.accepted")) == 20 * len(servers), "all is accepted")
    wait_until(lambda: len(one.find("delivery.sent")) >= 20 * len(fast), "the fast ones have all of theirs")
    return one, delays(one, fast)


def test_slow_destinations_delay_nobody_else(gateway, counting_sink, tools):
    """T-L4: 25 that never speak, 10 that drip, 15 that are fast; 20 messages each."""
    fast = [f"fast{n}.test" for n in range(15)]
    sinks = [counting_sink() for _ in fast]
    first, alone = fast_delays(gateway, tools, sinks, fast, {})
    first.stop()
    servers = [SlowServer(drips=number >= 25) for number in range(35)]
    try:
        one, beside = fast_delays(gateway, tools, sinks, fast,
                                  {f"slow{n}.test": server.port for n, server in enumerate(servers)})
        print(f"median delay of fast ones: {statistics.median(alone) * 1000:.1f} ms alone, "
              f"{statistics.median(beside) * 1000:.1f} ms beside 35 slow destinations")
        # nothing of the slow ones has come to an end, so whoever waited for one of them would wait still
        assert len(one.queue("--limit", "10000")) == 35 * 20, "all of the slow ones' mail waits or is on its way"
        assert len(one.find("delivery.sent")) == 20 * len(fast)
        assert max(len(server.peers) for server in servers) <= 20, "more connections than one destination may have"
    finally:
        for server in servers:
            server.close()
    one.kill()


# ---- dead destinations ----

def cost_of_good(one, tools, listen, sink, count):
    """Seconds of the gateway's CPU for `count` messages to the good destination: time would be of all that runs on the machine."""
    sink.ctl("begin", "good")
    begin = cpu_seconds(one.child_pid())
    figures = source(tools, listen, "good", "-m", count, "-c", 10, "--per-conn", 100, "--domain", "good.test")
    assert figures["accepted"] == count, figures
    books = sink.ctl("wait", count, 120)
    assert f"unique={count} dup=0" in books, books
    return cpu_seconds(one.child_pid()) - begin


def attempts(one):
    """In vain, whether anything was tried or not."""
    return len(one.find("delivery.deferred"))


def test_dead_destinations_cost_the_others_nothing(gateway, counting_sink, tools):
    """T-L5: a backlog for a destination that refuses connections; then mail for a good one."""
    backlog, count = (BACKLOG, 10_000) if FULL else (8_000, 1_000)
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, {"good.test": sink.port, "dead.test": free_port()}), [listen])
    child = one.child_pid()
    alone = min(cost_of_good(one, tools, listen, sink, count) for _ in range(2))
    base = resident_kb(child, "RssAnon")
    figures = source(tools, listen, "dead", "-m", backlog, "-c", 20, "--per-conn", 100, "--domain", "dead.test", seconds=600)
    assert figures["accepted"] == backlog, figures
    if not SANITIZED:  # what the burst took besides goes back within seconds
        wait_until(lambda: resident_kb(child, "RssAnon") - base < backlog * 1 + 16 * 1024, "they cost little")
    cost = resident_kb(child, "RssAnon") - base
    tried = attempts(one)
    began, busy = time.monotonic(), cpu_seconds(child)
    time.sleep(3)
    busy, waited = cpu_seconds(child) - busy, time.monotonic() - began
    more = attempts(one) - tried
    beside = min(cost_of_good(one, tools, listen, sink, count) for _ in range(4))
    told = attempts(one)
    print(f"{count} good ones: {alone:.2f} s of CPU alone, {beside:.2f} s beside {backlog} dead ones; these cost {cost} KiB, "
          f"{tried} attempts, then {more} in {waited:.0f} s, {told} in all, with {busy:.2f} s of CPU")
    assert beside <= alone * 2 + 0.1
    assert told < 100, "something is done about each message of a destination that is known to be dead"
    assert busy < 0.5 * waited
    wait_until(lambda: one.status()["balanced"], "the books are balanced")
    assert one.status()["totals"]["accepted"] == backlog + 6 * count
    one.kill()


# ---- fairness ----

def order_of(one):
    """Senders in the order in which their mail left."""
    return [event["from"].partition("@")[0] for event in one.find("delivery.sent")]


def queue_and_let_go(one, tools, listen, sink, many, few, few_sessions=4):
    """
    Mail of network a, then of b, into a paused transport; which leaves when that ends. Each: count, size. The order in
    which it left. A session's mail is on one worker.
    """
    sink.ctl("begin", "fair")
    before = len(one.find("delivery.sent"))
    one.ctl("transport", "pause", "sink-test", "--reason", "test")
    for name, first, (count, size), sessions in (("a", 0, many, 4), ("b", 1_000_000, few, few_sessions)):
        if count == 0:
            continue
        figures = source(tools, listen, "fair", "-m", count, "-s", size, "-c", sessions, "--per-conn", 100 // sessions, "--first", first,
                         "--from", f"{name}@source.test", "--src", f"127.77.{ord(name)}.1/1", seconds=600)
        assert figures["accepted"] == count, figures
    assert len(one.find("delivery.sent")) == before
    one.ctl("transport", "resume", "sink-test", "--reason", "test")
    wait_until(lambda: order_of(one)[before:].count("b") == few[0], "all of b has left", 120)
    return order_of(one)[before:]


def last_of_b(order):
    return len(order) - 1 - order[::-1].index("b")


LIMITS = ", limits: { connections: 4 }"


def test_a_backlog_of_one_sender_is_not_everybodys(gateway, counting_sink, tools):
    """100,000 (here 3,000) of a are queued, then 100 of b: b's leave as if there were one other message for each."""
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, {"sink.test": sink.port}, LIMITS, "workers: 1"), [listen])
    order = queue_and_let_go(one, tools, listen, sink, (3000, 4096), (100, 4096))
    print(f"of 3000 and 100, the last of b left as number {last_of_b(order) + 1}")
    assert last_of_b(order) < 2 * 100 + 60, collections.Counter(order[:last_of_b(order)])
    one.kill()


@pytest.mark.parametrize("workers", [2, 4])
def test_nor_with_many_workers(gateway, counting_sink, tools, workers):
    """
    The same with workers that share the connections. All of b is on one of them, and a on each: where each took turns for
    itself, some 2 * `workers` - 1 of a left for each of b, and the last of b was number 200 * `workers`.
    """
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, {"sink.test": sink.port}, LIMITS, f"workers: {workers}"), [listen])
    sink.ctl("delay", "dot", 60)
    backlog = BACKLOG if FULL else 2_000
    order = queue_and_let_go(one, tools, listen, sink, (backlog, 4096), (100, 4096), 1)
    print(f"of {backlog} and 100 with {workers} workers, the last of b left as number {last_of_b(order) + 1}")
    assert last_of_b(order) < 170 * workers, collections.Counter(order[:last_of_b(order)])
    one.kill()


def test_large_messages_do_not_delay_small_ones(gateway, counting_sink, tools):
    """25 MB messages of a before 4 KiB ones of b: while b's leave, each slot finishes one large message at most."""
    large = 40 if FULL else 10
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, {"sink.test": sink.port}, LIMITS, "workers: 1"), [listen])
    order = queue_and_let_go(one, tools, listen, sink, (large, 25_000_000), (100, 4096))
    last = last_of_b(order)
    print(f"{order[:last].count('a')} of {large} large ones left before the last of 100 small ones")
    assert order[:last].count("a") <= 4 + 1, order[:last]
    sink.ctl("wait", large + 100, 120)
    assert f"unique={large + 100} dup=0 unknown=0 corrupt=0" in sink.ctl("stats"), sink.ctl("stats")
