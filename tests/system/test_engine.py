# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of the queue and does to it: destinations, causes, shape, bulk verbs."""
import concurrent.futures
import json
import threading

import pytest

from rig.gateway import wait_until
from rig.ports import free_port

CONFIG = """
version: 1
hostname: mx.example.org
listeners:
  inbound: {{ listen: [ "127.0.0.1:{port}" ], authentication: none }}
servers:
  one: {{ smtp: "127.0.0.1:{one}", tls: none }}
  two: {{ smtp: "127.0.0.1:{two}", tls: none }}
transports:
  one: {{ server: one, retry: {{ delays: [ 1h ], count: 5 }}, limits: {{ {limits} }} }}
  two: {{ server: two, retry: {{ delays: [ 1h ], count: 5 }} }}
flows:
  recipient:
    all: [ accept: {{}} ]
domains:
  one.example: {{ recipients: all, transport: one }}
  two.example: {{ recipients: all, transport: two }}
"""


@pytest.fixture
def scene(gateway, sink):
    def make(one=None, two=None, limits="connections: 5"):
        first, second = sink(replies=one or {}), sink(replies=two or {})
        port = free_port()
        text = CONFIG.format(port=port, one=first.port, two=second.port, limits=limits)
        made = gateway(text, ports=[port])
        made.one, made.two, made.port = first, second, port
        return made
    return make


def send(gateway, count, domain="one.example", sender="a@sender.example", name="user"):
    client = gateway.client(gateway.port)
    for number in range(count):
        client.sendmail(sender, [f"{name}{number}@{domain}"], f"Subject: {number}\r\n\r\nHello {number}\r\n")
    client.quit()


def place(gateway, transport="one", name=None):
    shown = gateway.ctl_json("transport", "show", transport)[0]
    found = [one for one in shown["destinations"] if one["destination"] == (name or transport)]
    return found[0] if found else None


def test_pause_keeps_mail_and_outlives_a_restart(scene):
    gateway = scene()
    gateway.ctl("transport", "pause", "one", "--reason", "they move house")
    send(gateway, 5)
    send(gateway, 1, "two.example")
    wait_until(lambda: len(gateway.two.messages) == 1, "the other destination is not touched")
    items = gateway.queue("--transport", "one")
    assert [item["state"] for item in items] == ["paused"] * 5 and {item["reason"] for item in items} == {"paused"}
    assert len(gateway.queue("--state", "paused")) == 5 and not gateway.queue("--state", "ready")
    assert not gateway.one.connections
    shown = gateway.ctl_json("transport", "show", "one")[0]
    assert shown["paused"] and shown["states"]["paused"] == 5
    assert shown["orders"][0]["reason"] == "they move house" and shown["orders"][0]["verb"] == "pause"
    gateway.stop()
    gateway.start()
    wait_until(lambda: len(gateway.queue("--state", "paused")) == 5, "they wait after the restart")
    assert not gateway.one.connections, "a paused destination was spoken to"
    gateway.ctl("transport", "resume", "one")
    wait_until(lambda: len(gateway.one.messages) == 5, "they went out")
    gateway.wait_empty()
    assert gateway.ctl("transport", "resume", "one", ok=(1,)), "there is nothing to resume"
    gateway.stop()
    gateway.start()
    assert not gateway.ctl_json("transport", "show", "one")[0]["paused"]
    gateway.wait("transport.paused", transport="one", why="they move house")
    gateway.wait("transport.resumed", transport="one")


def test_pause_of_one_destination(scene):
    gateway = scene()
    gateway.ctl("transport", "pause", "two", "two")
    send(gateway, 2, "two.example")
    send(gateway, 2)
    wait_until(lambda: len(gateway.one.messages) == 2, "the other one flows")
    assert place(gateway, "two")["paused"] and place(gateway, "two")["states"]["paused"] == 2
    assert gateway.ctl("transport", "pause", "nosuch", ok=(1, 2, 3, 4, 7)) == ""
    gateway.ctl("transport", "resume", "two", "two")
    gateway.wait_empty()


def test_rate_of_a_destination_is_kept(scene):
    """In any stretch of the period at most so many, and the other destination is not held up."""
    gateway = scene(limits="connections: 5, messages: 4/1h")
    send(gateway, 10)
    send(gateway, 10, "two.example")
    wait_until(lambda: len(gateway.two.messages) == 10, "the other destination flows")
    wait_until(lambda: len(gateway.one.messages) == 4, "the first four")
    wait_until(lambda: place(gateway)["states"]["inflight"] == 0, "nothing is on its way")
    assert len(gateway.one.messages) == 4
    assert place(gateway)["states"]["ready"] == 6
    assert len(gateway.queue()) == 6


def test_each_count_is_a_message(scene):
    """Connections that ask for the same message at once count it once: as many leave as may."""
    gateway = scene(limits="connections: 5, messages: 120/1h")
    with concurrent.futures.ThreadPoolExecutor(8) as senders:
        list(senders.map(lambda _: send(gateway, 2), range(60)))
    wait_until(lambda: len(gateway.one.messages) == 120, "all that may have left")
    gateway.wait_empty()


def test_slow_and_resume(scene):
    gateway = scene()
    gateway.ctl("transport", "slow", "one", "one", "--messages", "2/1h")
    send(gateway, 6)
    wait_until(lambda: len(gateway.one.messages) == 2, "two of them")
    wait_until(lambda: place(gateway)["states"]["inflight"] == 0, "nothing is on its way")
    assert len(gateway.one.messages) == 2 and place(gateway)["slow"] == "2/1h"
    gateway.ctl("transport", "resume", "one", "one")
    wait_until(lambda: len(gateway.one.messages) == 6, "the rest went out")
    assert gateway.ctl("transport", "slow", "one", "--messages", "many", ok=(1, 2, 3, 4, 7)) == ""


def test_what_another_limit_holds_back_counts_for_none(scene):
    """The transport lets three leave; the operator's rate of four has one left, however often it was asked meanwhile."""
    gateway = scene(limits="connections: 5, messages: 3/1h")
    gateway.ctl("transport", "slow", "one", "--messages", "4/1h")
    send(gateway, 3)
    wait_until(lambda: len(gateway.one.messages) == 3, "all that the transport lets leave")
    send(gateway, 1)
    wait_until(lambda: place(gateway)["states"]["ready"] == 1 and place(gateway)["states"]["inflight"] == 0, "one stands")
    gateway.write_config(gateway.path.read_text().replace("messages: 3/1h", "messages: 100/1h"))
    assert gateway.reload()
    send(gateway, 2)
    wait_until(lambda: len(gateway.one.messages) == 4, "the fourth")
    wait_until(lambda: place(gateway)["states"]["inflight"] == 0, "nothing is on its way")
    assert len(gateway.one.messages) == 4


def test_sender_at_the_limit_delays_no_other(scene):
    """One slot, 150 messages from A wait; then 10 of B come: they go out within few turns, not behind A."""
    gateway = scene(limits="connections: 1")
    gateway.ctl("transport", "pause", "one")
    send(gateway, 150, sender="a@a.example", name="a")
    b = gateway.client(gateway.port, source_address=("127.77.0.9", 0))
    for number in range(10):
        b.sendmail("b@b.example", [f"b{number}@one.example"], f"Subject: {number}\r\n\r\nHello\r\n")
    b.quit()
    gateway.ctl("transport", "resume", "one")
    wait_until(lambda: len(gateway.one.messages) == 160, "all went out")
    order = [message.sender for message in gateway.one.messages]
    last = max(index for index, sender in enumerate(order) if sender == "b@b.example")
    workers = gateway.status()["workers"]
    assert last < workers * 70, f"the last of B left as number {last + 1} of 160"


def test_dead_destination_is_backed_off_and_probed(scene):
    gateway = scene(one={"banner": "421 4.3.2 closed"})
    send(gateway, 12)
    send(gateway, 3, "two.example")
    wait_until(lambda: len(gateway.two.messages) == 3, "the other destination flows")
    wait_until(lambda: len(gateway.queue("--state", "waiting")) == 12, "they wait")
    tried = gateway.one.connections
    assert tried < 12, "each message spoke to a dead host"
    now = place(gateway)
    assert now["failures"] >= 3 and now["next_probe"] and "closed" in now["error"] and now["connections"] == 0
    causes = gateway.ctl_json("queue", "causes")
    assert sum(cause["count"] for cause in causes) == 12
    gateway.one.replies.clear()
    gateway.ctl("queue", "retry", "--destination", "one", "--yes")
    gateway.wait_empty()
    assert place(gateway) is None or place(gateway)["failures"] == 0
    gateway.wait("destination.up")


def refusal(line):
    user = line.partition("<")[2].partition("@")[0]
    if user.startswith("full"):
        return f"452 4.2.2 <{user}@one.example>: mailbox {user} over quota, ticket 4F{abs(hash(user)) % 10**8:08d}Z"
    if user.startswith("grey"):
        return f"451 4.7.1 greylisted, try in {len(user) * 7} seconds, see https://mx.example/{user}"
    return ""


def test_causes_are_clusters(scene):
    gateway = scene(one={"RCPT": refusal}, two={"RCPT": refusal})
    send(gateway, 12, name="full")
    send(gateway, 7, name="grey-list-user")
    send(gateway, 4, "two.example", name="full")
    wait_until(lambda: len(gateway.queue("--state", "waiting")) == 23, "all are deferred")
    causes = gateway.ctl_json("queue", "causes")
    assert [cause["count"] for cause in causes] == [16, 7], causes
    full, grey = causes
    assert sorted(full["destinations"]) == ["one", "two"]
    assert full["pattern"].startswith("452 4.2.2 <<address>>: mailbox") and "over quota" in full["sample"]
    assert grey["pattern"] == "451 4.7.1 greylisted, try in <n> seconds, see <url>"
    shown = gateway.ctl_json("queue", "cause", "show", grey["cause"])[0]
    assert shown["count"] == 7 and len(shown["items"]) == 7
    assert len(gateway.queue("--cause", grey["cause"])) == 7
    assert len(gateway.queue("--cause", full["cause"], "--transport", "two")) == 4
    gateway.ctl("queue", "cause", "show", "CNOSUCH", ok=(1, 2, 3, 4, 7))
    # a selection by cause, frozen and counted
    would = gateway.ctl_json("queue", "drop", "--cause", grey["cause"], "--dry-run")[0]
    assert would["matched"] == 7 and would["count"] == 0 and len(would["sample"]) == 5
    gateway.ctl("queue", "drop", "--cause", grey["cause"], "--expect", "6", ok=(5,))
    assert len(gateway.queue()) == 23, "another number than expected, and yet it acted"
    done = gateway.ctl_json("queue", "drop", "--cause", grey["cause"], "--expect", "7")[0]
    assert done["count"] == 7 and len(gateway.queue()) == 16
    held = gateway.ctl_json("queue", "hold", "--to", "@one.example", "--limit", "3", "--yes")[0]
    assert held["count"] == 3 and len(gateway.queue("--state", "held")) == 3


def test_shape(scene):
    gateway = scene(one={"RCPT": refusal}, two={"RCPT": refusal})
    send(gateway, 5, name="full", sender="x@alpha.example")
    send(gateway, 2, "two.example", name="full", sender="y@beta.example")
    wait_until(lambda: len(gateway.queue("--state", "waiting")) == 7, "all are deferred")
    rows = gateway.ctl_json("queue", "shape")
    assert [(row["transport"], row["destination"], row["count"]) for row in rows] == [("one", "one", 5), ("two", "two", 2)]
    assert rows[0]["ages"] == [5] + [0] * 9
    rows = gateway.ctl_json("queue", "shape", "--senders")
    assert [(row["sender"], row["count"]) for row in rows] == [("alpha.example", 5), ("beta.example", 2)]
    assert "one -> one" in gateway.ctl("queue", "shape")


def test_transport_test_sends_no_mail(scene):
    gateway = scene(two={"banner": "554 5.3.2 no"})
    done = gateway.ctl_json("transport", "test", "one")[0]
    assert done["ready"] and done["items"][0]["address"] == f"127.0.0.1:{gateway.one.port}"
    def verbs():
        return [line.split(" ")[0] for _, line in list(gateway.one.commands)]
    wait_until(lambda: verbs()[-1:] == ["QUIT"], "it says good-bye, which nobody waits for")
    assert "MAIL" not in verbs()
    done = gateway.ctl_json("transport", "test", "two", ok=(1,))[0]
    assert not done["ready"] and "no" in done["items"][0]["error"]


def test_numbers_of_a_destination(scene):
    gate = threading.Event()
    gateway = scene()
    send(gateway, 8)
    wait_until(lambda: len(gateway.one.messages) == 8, "all went out")
    wait_until(lambda: place(gateway)["per_minute"] == 8, "the rate is counted")
    gateway.one.replies["RCPT"] = lambda line: gate.wait(300) and ""
    send(gateway, 1)
    now = wait_until(lambda: (shown := place(gateway))["states"]["inflight"] and shown, "one is under way")
    assert now["connections"] >= 1 and now["connections_max"] == 5 and now["failures"] == 0
    listed = {one["transport"]: one for one in gateway.ctl_json("transport", "list")}
    later = place(gateway)
    # the minute goes on
    assert now["per_minute"] >= listed["one"]["per_minute"] >= later["per_minute"] and listed["one"]["limits"]["connections"] == 5
    assert "per_minute" in json.dumps(now) and "one  server one" in gateway.ctl("transport", "list")
    gate.set()
