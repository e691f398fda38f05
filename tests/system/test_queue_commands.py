# SPDX-License-Identifier: Apache-2.0
"""`postern queue`, `message`, `send`: what an operator does to waiting mail, and the balance after each."""
import datetime
import json
import re
import subprocess
import threading

import pytest

from rig.gateway import BUILD, wait_until
from rig.outbound import Host, Outbound

BUSY = "450 4.2.0 busy"
LONG = "retry: { delays: [ 1h ], count: 5 }"


@pytest.fixture
def scene(gateway, sink):
    """Two destinations that are busy until told otherwise; one that is well."""
    far, other, good = sink(replies={"RCPT": BUSY}), sink(replies={"RCPT": BUSY}), sink()
    one = Outbound(gateway, sink, {"far": Host(far, retry=LONG), "other": Host(other, retry=LONG), "good": Host(good)})
    one.far, one.other, one.good = far, other, good
    return one


def waiting(scene, to, **options):
    """Send, and wait until the first attempt has failed; the message's id."""
    message = scene.send(to, **options)
    recipients = [to] if isinstance(to, str) else to
    for recipient in recipients:
        assert scene.outcome(recipient)[0] == "deferred"
    wait_until(lambda: [i for i in scene.gateway.queue() if i["message"] == message and i["state"] == "waiting"], "it waits")
    return message


def totals(scene, **wanted):
    scene.count("now", **wanted)


def test_list_and_show(scene, monkeypatch):
    ctl = scene.gateway.ctl
    assert "nothing waits" in ctl("queue", "list")
    first = waiting(scene, ["one@far.test", "two@far.test"])
    second = waiting(scene, "x@other.test", sender="b@home.test")
    items = {item["message"]: item for item in scene.gateway.queue()}
    item = items[first]
    assert item["state"] == "waiting" and item["from"] == "a@home.test" and item["transport"] == "t-far"
    assert [r["to"] for r in item["to"]] == ["one@far.test", "two@far.test"]
    assert all("4.2.0 busy" in r["reply"] and not r["done"] for r in item["to"])
    assert item["attempt"] == 1 and item["accepted"] < item["next_try"] < item["give_up"] and item["size"] > 0
    assert [i["message"] for i in scene.gateway.queue()] == [first, second], "oldest first"
    for selector, found in {("--to", "two@far.test"): [first], ("--to", "@other.test"): [second], ("--from", "b@home.test"): [second],
                            ("--transport", "t-far"): [first], ("--destination", item["destination"]): [first],
                            ("--state", "waiting"): [first, second], ("--state", "held"): [], ("--older", "1h"): [],
                            ("--older", "0s"): [first, second], ("--limit", "1"): [first], ("--id", first): [first],
                            ("--id", first[:12]): [first, second] if first[:12] == second[:12] else [first]}.items():
        assert [i["message"] for i in scene.gateway.queue(*selector)] == found, selector
    shown = [json.loads(line) for line in ctl("--json", "queue", "show", second).splitlines()]
    assert [i["entry"] for i in shown] == [items[second]["entry"]]
    assert [json.loads(ctl("--json", "queue", "show", items[first]["entry"]))["message"]] == [first]
    text = ctl("queue", "show", first)
    assert "one@far.test" in text and "last error" not in text, "what stands behind a recipient is not said twice"
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    there = datetime.timezone(datetime.timedelta(hours=9))
    for text, utc in [(ctl("queue", "show", first), item["next_try"]),
                      (ctl("queue", "causes"), min(one["next_try"] for one in items.values()))]:
        shown = f"{datetime.datetime.fromisoformat(utc).astimezone(there):%Y-%m-%d %H:%M:%S}"
        assert shown in text, "times are those of the clock on the wall, everywhere"
    ctl("queue", "show", "01AAAAAAAAAAAAAAAAAAAAAAAA", ok=(1,))
    ctl("queue", "list", "--state", "nonsense", ok=(1, 2))
    ctl("queue", "list", "--older", "soon", ok=(1, 2))


def test_who_has_it_already(scene):
    """An entry of many recipients: each line says whether it still waits."""
    scene.far.replies.pop("RCPT")
    scene.far.replies.update({"RCPT busy@far.test": BUSY, "RCPT no@far.test": "550 5.1.1 no such user"})
    scene.send(["yes@far.test", "busy@far.test", "no@far.test"])
    wait_until(lambda: scene.gateway.queue("--state", "waiting"), "one of them waits")
    lines = [line.strip() for line in scene.gateway.ctl("queue", "list", "--state", "waiting").splitlines() if line.startswith("  to ")]
    done = "  done: delivered or given up"
    assert lines == [f"to yes@far.test{done}", "to busy@far.test  450 4.2.0 busy", f"to no@far.test{done}"]


def test_a_verb_that_does_nothing_says_why(scene):
    ctl = scene.gateway.ctl
    assert ctl("queue", "retry", "--to", "x@far.test", ok=(1,)) == "retry: nothing fits\n"
    waiting(scene, "x@far.test")
    assert ctl("queue", "release", "--to", "x@far.test", ok=(1,)).startswith("release: 0 of 1 entry; the rest is not held")
    assert ctl("queue", "hold", "--to", "x@far.test") == "hold: 1 of 1 entry\n"
    assert ctl("queue", "hold", "--all", ok=(1,)) == "hold: 0 of 1 entry; the rest is held already\n"
    assert "is held, being delivered, or due" in ctl("queue", "retry", "--all", ok=(1,))
    assert "no mail went there lately" in ctl("transport", "show", "t-far", "nosuch.test")


def test_retry(scene):
    message = waiting(scene, "x@far.test")
    scene.far.replies.clear()
    assert json.loads(scene.gateway.ctl("--json", "queue", "retry", message)) == {
        "verb": "retry", "dry_run": False, "matched": 1, "count": 1, "failed": 0, "skipped": 0}
    wait_until(lambda: scene.far.messages, "it arrived")
    scene.gateway.wait_empty()
    scene.gateway.ctl("queue", "retry", message, ok=(1,))  # there is none
    assert scene.gateway.find("queue.action", verb="retry", message=message)


def test_hold_and_release(scene):
    message = waiting(scene, "x@far.test")
    scene.gateway.ctl("queue", "hold", message, "--reason", "look at it")
    item, = scene.gateway.queue()
    assert item["state"] == "held" and item["reason"] == "admin" and item["next_try"] is None
    assert scene.gateway.wait("queue.action", verb="hold", message=message)["why"] == "look at it"
    scene.count("held", held=1)
    scene.gateway.ctl("queue", "retry", message, ok=(1,))  # held is held
    assert scene.gateway.queue()[0]["state"] == "held"
    scene.far.replies.clear()
    scene.gateway.stop()
    scene.gateway.start()  # a hold outlives a restart
    assert scene.gateway.queue()[0]["state"] == "held" and not scene.far.messages
    scene.gateway.ctl("queue", "release", message)
    wait_until(lambda: scene.far.messages, "it arrived")
    scene.gateway.wait_empty()
    totals(scene, delivered=1)


def test_fail(scene):
    """The sender is told that an administrator refused it."""
    message = waiting(scene, ["one@far.test", "two@far.test"])
    scene.gateway.ctl("queue", "fail", message, "--yes")
    report, = scene.dsn()
    assert "administrator" in report.as_string() and "one@far.test" in report.as_string()
    scene.gateway.wait_empty()
    totals(scene, failed_dsn=2)


def test_drop(scene):
    """Nobody is told, and it is counted."""
    message = waiting(scene, ["one@far.test", "two@far.test"])
    scene.gateway.ctl("queue", "drop", message, "--yes")
    scene.gateway.wait_empty()
    totals(scene, dropped=2)
    assert not scene.home.messages
    assert scene.gateway.find("delivery.dropped", message=message)


@pytest.mark.parametrize("verb, count", [("drop", "dropped"), ("fail", "failed_dsn")])
def test_what_is_held_can_end_too(scene, verb, count):
    message = waiting(scene, "x@far.test")
    scene.gateway.ctl("queue", "hold", message)
    scene.gateway.ctl("queue", verb, message, "--yes")
    scene.gateway.wait_empty()
    totals(scene, **{count: 1})


def test_many_at_once(scene):
    """Selectors choose many; a verb without a selection needs --all."""
    for i in range(3):
        waiting(scene, f"x{i}@far.test")
        waiting(scene, f"x{i}@other.test")
    ctl = scene.gateway.ctl_json
    assert ctl("queue", "hold", "--to", "@far.test")[0]["count"] == 3
    assert ctl("queue", "hold", "--to", "@far.test", ok=(1,))[0]["count"] == 0
    scene.gateway.ctl("queue", "drop", "--yes", ok=(2,))
    assert len(scene.gateway.queue()) == 6
    assert ctl("queue", "drop", "--state", "held", "--yes")[0]["count"] == 3
    assert {i["transport"] for i in scene.gateway.queue()} == {"t-other"}
    scene.other.replies.clear()
    assert ctl("queue", "retry", "--all", "--yes")[0]["count"] == 3
    wait_until(lambda: len(scene.other.messages) == 3, "the rest arrived")
    scene.gateway.wait_empty()
    totals(scene, dropped=3)


def test_a_verb_while_it_is_being_delivered(scene):
    """Drop in the middle of an attempt: what the server takes is delivered, what it defers is dropped."""
    import threading
    gate = threading.Event()
    scene.far.replies["RCPT"] = lambda line: gate.wait(300) and ("" if "<one@" in line else BUSY)
    message = scene.send(["one@far.test", "two@far.test"])
    wait_until(lambda: scene.gateway.queue("--state", "inflight"), "it is being delivered")
    scene.gateway.ctl("queue", "drop", message, "--yes")
    gate.set()
    scene.gateway.wait_empty()
    totals(scene, dropped=1, delivered=1)


def test_raw(scene):
    """The message as it would be sent, byte for byte, by either id."""
    body = b"Subject: raw\r\n\r\n.dot\r\n\r\nend\r\n"
    message = waiting(scene, "x@far.test", data=body)
    raw = scene.gateway.ctl("message", "raw", message)
    assert raw.startswith("Received: ") and raw.encode().endswith(body.replace(b"\r\n", b"\n")) or raw.encode().endswith(body)
    assert scene.gateway.ctl("message", "raw", scene.gateway.queue()[0]["entry"]) == raw
    scene.gateway.ctl("message", "raw", "01AAAAAAAAAAAAAAAAAAAAAAAA", ok=(1,))
    scene.far.replies.clear()
    scene.gateway.ctl("queue", "retry", message)
    wait_until(lambda: scene.far.messages, "it arrived")
    assert scene.far.messages[0].data.decode().replace("\r\n", "\n") == raw.replace("\r\n", "\n")


def test_message_events(scene):
    message = waiting(scene, "x@far.test")
    events = [e["event"] for e in scene.gateway.ctl_json("message", "events", message)]
    assert events.index("message.accepted") < events.index("delivery.deferred")
    text = scene.gateway.ctl("message", "events", message)
    assert "delivery.deferred" in text and "busy" in text
    assert "user=\n" not in text and not re.search(r"=(?= |$)", text, re.M), "what has no value is not named"
    assert f"message={message}" not in text, "it was asked for"


def test_tail_says_of_what_each_line_is(scene):
    tail = subprocess.Popen([BUILD / "postern", "--socket", scene.gateway.folder / "control.sock", "tail", "-q", "event:delivery."],
                            stdout=subprocess.PIPE, text=True)
    try:
        scene.far.replies["RCPT"] = "450 4.2.0 very busy"
        lines = []
        reader = threading.Thread(target=lambda: lines.append(tail.stdout.readline()), daemon=True)
        reader.start()
        sent = []
        # the stream begins when it is connected, which nobody tells: mail is sent until a line comes
        wait_until(lambda: sent.append(scene.send("x@far.test")) or lines, "a line of it")
        assert re.search(rf" message=({'|'.join(sent)}) ", lines[0]) and ' reply="very busy"' in lines[0], lines
    finally:
        tail.kill()
        tail.wait()


# ---- send ----

def test_send(scene, tmp_path):
    """A test message runs through the same flows as any other, and its way is followed to its end."""
    out = scene.gateway.ctl("send", "--to", "x@good.test", "--from", "a@home.test", "--subject", "try me")
    assert "queued as" in out and "delivery.sent" in out
    assert b"Subject: try me\r\n" in scene.good.messages[0].data and scene.good.messages[0].sender == "a@home.test"
    (tmp_path / "mail").write_bytes(b"Subject: from a file\n\nHello\n.dot\n")
    scene.gateway.ctl("send", "--to", "x@good.test", "--from", "a@home.test", "--file", str(tmp_path / "mail"))
    assert scene.good.messages[1].body == b"Hello\r\n.dot\r\n"
    scene.gateway.ctl("send", "--to", "x@good.test", "--from", "a@home.test", "--file", "-", stdin="Subject: in\n\nIn\n")
    assert scene.good.messages[2].body == b"In\r\n"
    events = scene.gateway.ctl_json("send", "--to", "x@far.test", "--from", "a@home.test", ok=(7,))
    assert events[0]["accepted"] and any(e.get("event") == "delivery.deferred" for e in events)
    refused = scene.gateway.ctl("--json", "send", "--to", "x@nowhere.test", "--from", "a@home.test", ok=(1,))
    assert json.loads(refused.splitlines()[0])["accepted"] is False
    scene.gateway.ctl("send", ok=(2,))
    scene.far.replies["RCPT"] = "550 5.1.1 no"
    assert "delivery.failed" in scene.gateway.ctl("send", "--to", "y@far.test", "--from", "a@home.test", ok=(1,))
    scene.count("sent")


# ---- a transport that is gone ----

def test_a_vanished_transport_holds_its_mail(scene):
    """Reload without the transport: its mail is held, with the reason; when it is back, a release sends it."""
    message = waiting(scene, "x@far.test")
    far = scene.hosts.pop("far")
    scene.reload()
    scene.gateway.ctl("queue", "retry", message)
    item = wait_until(lambda: scene.gateway.queue("--state", "held"), "it is held")[0]
    assert item["reason"] == "transport_missing" and item["message"] == message
    scene.gateway.ctl("queue", "release", message)
    wait_until(lambda: scene.gateway.queue("--state", "held"), "it is held again, for it is still gone")
    scene.count("held")
    scene.far.replies.clear()
    scene.hosts["far"] = far
    scene.reload()
    assert not scene.far.messages
    scene.gateway.ctl("queue", "release", message)
    wait_until(lambda: scene.far.messages, "it arrived")
    scene.gateway.wait_empty()


def test_a_changed_transport_is_used_for_what_waits(scene, sink):
    """Another server under the same name: the next attempt goes there."""
    message = waiting(scene, "x@far.test")
    new = sink()
    scene.hosts["far"] = Host(new, retry=LONG)
    scene.reload()
    scene.gateway.ctl("queue", "retry", message)
    wait_until(lambda: new.messages, "the new server has it")
    scene.gateway.wait_empty()
