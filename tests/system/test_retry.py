# SPDX-License-Identifier: Apache-2.0
"""When mail is tried again, and when it ends: by the times that the receiving server saw."""
import datetime
import threading
import time

import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound

BUSY = "450 4.2.0 busy"


def attempts(sink, to):
    """The times at which this recipient was offered."""
    with sink.lock:
        return [when for (_, line), when in zip(sink.commands, sink.times) if line.startswith(f"RCPT TO:<{to}>")]


def gaps(times):
    return [b - a for a, b in zip(times, times[1:])]


def never_early(scene, sink, name, delays, sent):
    """Each retry is due its delay after the start of the attempt before, which is never before its own due time; and is
    never seen before it is due. No allowance for a slow machine is needed."""
    to = f"b@{name}.test"
    due = [datetime.datetime.fromisoformat(event["next_try"].replace("Z", "+00:00")).timestamp()
           for event in scene.gateway.find("delivery.deferred", to=to)]
    seen = attempts(sink, to)
    assert len(seen) == len(delays) + 1 and len(due) == len(delays), (seen, due)
    for k, delay in enumerate(delays):
        assert due[k] >= (due[k - 1] if k else sent) + delay - 0.002, (k, sent, due)
        assert seen[k + 1] >= due[k] - 0.002, (k, seen, due)


def test_retries_at_the_configured_times(gateway, sink):
    """1s,1s,2s,2s: five attempts, the fifth is the last, then a bounce; `count` beyond the list repeats the last delay."""
    far, more, none, late = (sink(replies={"RCPT": BUSY}) for _ in range(4))
    late.replies["RCPT"] = [BUSY] * 3 + [""]
    scene = Outbound(gateway, sink, {
        "far": Host(far, retry="retry: { delays: [ 1s, 1s, 2s, 2s ] }"),
        "more": Host(more, retry="retry: { delays: [ 1s ], count: 3 }"),
        "none": Host(none, retry="retry: { delays: [ 1s ], count: 0 }"),
        "late": Host(late, retry="retry: { delays: [ 1s, 1s, 1s ] }")})
    sent = time.time()
    for name in ("far", "more", "none", "late"):
        scene.send(f"b@{name}.test")
    for name in ("far", "more", "none"):
        scene.gateway.wait("delivery.expired", to=f"b@{name}.test")
    wait_until(lambda: late.messages, "the last retry delivered")
    scene.gateway.wait_empty()
    never_early(scene, far, "far", [1, 1, 2, 2], sent)
    never_early(scene, more, "more", [1, 1, 1], sent)
    never_early(scene, none, "none", [], sent)
    never_early(scene, late, "late", [1, 1, 1], sent)
    assert len(scene.dsn(3)) == 3
    deferred = scene.gateway.find("delivery.deferred", to="b@far.test")
    assert [event["attempt"] for event in deferred] == [1, 2, 3, 4]
    assert scene.gateway.find("delivery.expired", to="b@far.test")[0]["attempt"] == 5
    assert "450 4.2.0 busy" in str(scene.dsn()[0].as_string())


def test_each_recipient_on_its_own(gateway, sink):
    """What was delivered is not offered again; what waits goes on."""
    far = sink(replies={"RCPT two@far.test": [BUSY, ""], "RCPT three@far.test": [BUSY, BUSY, ""]})
    scene = Outbound(gateway, sink, {"far": Host(far, retry="retry: { delays: [ 1s ], count: 4 }")})
    scene.send([f"{name}@far.test" for name in ("one", "two", "three")])
    wait_until(lambda: len(far.messages) == 3, "all arrived")
    scene.gateway.wait_empty()
    assert [m.recipients for m in far.messages] == [["one@far.test"], ["two@far.test"], ["three@far.test"]]
    assert len(attempts(far, "one@far.test")) == 1 and len(attempts(far, "two@far.test")) == 2
    assert far.messages[0].data == far.messages[2].data


def test_a_slow_attempt_delays_its_retry(gateway, sink):
    """The delay counts from the start of the attempt before; if that still runs, the retry comes when it ends."""
    answers = [lambda: time.sleep(1.6) or BUSY, lambda: ""]
    far = sink(replies={"RCPT": lambda line: (answers.pop(0) if len(answers) > 1 else answers[0])()})
    scene = Outbound(gateway, sink, {"far": Host(far, retry="retry: { delays: [ 1s ], count: 2 }")})
    scene.send("b@far.test")
    wait_until(lambda: far.messages, "it arrived")
    gap, = gaps(attempts(far, "b@far.test"))
    assert gap >= 1.6, gap
    scene.gateway.wait_empty()


def test_expire_ends_it(gateway, sink):
    """Older than `expire`: the last attempt's end is the end, whatever the schedule says; a hold stops the clock."""
    far, held = sink(replies={"RCPT": BUSY}), sink(replies={"RCPT": BUSY})
    scene = Outbound(gateway, sink, {"far": Host(far, transport="expire: 5s", retry="retry: { delays: [ 1s ], count: 50 }"),
                                     "held": Host(held, transport="expire: 8s", retry="retry: { delays: [ 1s ], count: 50 }")})
    scene.send("b@far.test")
    message = scene.send("b@held.test")
    scene.outcome("b@held.test")
    scene.gateway.ctl("queue", "hold", message)
    scene.gateway.wait("delivery.expired", to="b@far.test")
    assert 2 <= len(attempts(far, "b@far.test")) <= 7
    before = len(attempts(held, "b@held.test"))
    assert scene.gateway.queue("--to", "b@held.test")[0]["state"] == "held" and not scene.gateway.find("delivery.expired", to="b@held.test")
    scene.gateway.ctl("queue", "release", message)
    wait_until(lambda: len(attempts(held, "b@held.test")) > before, "it is tried again after the release")
    scene.gateway.wait("delivery.expired", to="b@held.test")
    scene.gateway.wait_empty()
    assert len(scene.dsn(2)) == 2


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_keeps_schedule_and_count(gateway, sink, how):
    """Stopped, or killed, in the middle: no attempt is given away, none comes early, none is counted twice."""
    far, waits = sink(replies={"RCPT": BUSY}), sink(replies={"RCPT": BUSY})
    scene = Outbound(gateway, sink, {"far": Host(far, retry="retry: { delays: [ 1s, 1s, 3s, 1s ] }"),
                                     "waits": Host(waits, retry="retry: { delays: [ 1h ], count: 3 }")})
    sent = time.time()
    scene.send("b@far.test")
    scene.send("b@waits.test")
    scene.gateway.wait("delivery.deferred", count=3, to="b@far.test")
    scene.outcome("b@waits.test")
    waiting, = scene.gateway.queue("--to", "b@waits.test")
    time.sleep(0.2)  # records are written within 50 ms,
    scene.send("c@waits.test")  # and are on the disk with what is accepted behind them
    scene.gateway.stop() if how == "stop" else scene.gateway.kill()
    scene.gateway.start()
    after, = scene.gateway.queue("--to", "b@waits.test")
    assert (after["attempt"], after["next_try"], after["entry"]) == (1, waiting["next_try"], waiting["entry"])
    assert after["to"] == waiting["to"], "the last reply is known after a restart"
    scene.gateway.wait("delivery.expired", to="b@far.test")
    never_early(scene, far, "far", [1, 1, 3, 1], sent)
    scene.count("restart")


def test_a_crash_in_the_middle_of_an_attempt_counts_nothing(gateway, sink):
    """The attempt that the crash cut off is repeated, and the message arrives once."""
    gate = threading.Event()
    far = sink(replies={"RCPT": lambda line: gate.wait(300) and ""})
    scene = Outbound(gateway, sink, {"far": Host(far, retry="retry: { delays: [ 1h ], count: 1 }")})
    scene.send("b@far.test")
    wait_until(lambda: attempts(far, "b@far.test"), "it is being tried")
    scene.gateway.kill()
    gate.set()
    scene.gateway.start()
    wait_until(lambda: far.messages, "it is tried again at once")
    scene.gateway.wait_empty()
    assert len(far.messages) == 1


def test_retry_now_changes_neither_count_nor_age(gateway, sink):
    far = sink(replies={"RCPT": BUSY})
    scene = Outbound(gateway, sink, {"far": Host(far, retry="retry: { delays: [ 1h, 1h ], count: 2 }")})
    message = scene.send("b@far.test")
    scene.gateway.wait("delivery.deferred", to="b@far.test")
    first, = scene.gateway.queue()
    scene.gateway.ctl("queue", "retry", message)
    scene.gateway.wait("delivery.deferred", count=2, to="b@far.test")
    second = wait_until(lambda: [item for item in scene.gateway.queue() if item["attempt"] == 2], "it waits again")[0]
    assert second["accepted"] == first["accepted"]
    scene.gateway.ctl("queue", "retry", message)
    scene.gateway.wait("delivery.expired", to="b@far.test")
    scene.gateway.wait_empty()


def test_a_destination_that_is_down_backs_off(gateway, sink):
    """Nobody listens: after three failures in a row the destination rests; retries due meanwhile count as attempts; other
    destinations do not notice."""
    far = sink()
    nobody = f"127.0.0.1:{far.port}"
    far.close()
    good = sink()
    scene = Outbound(gateway, sink, {"down": Host(nobody, retry="retry: { delays: [ 1s ], count: 5 }"), "good": Host(good)})
    scene.send("b@down.test")
    scene.gateway.wait("destination.backoff")
    scene.send("b@good.test")
    wait_until(lambda: good.messages, "the good one is served")
    event = scene.gateway.wait("delivery.expired", to="b@down.test")
    assert event["attempt"] == 6 and "refused" in event["reply"].lower(), event
    scene.gateway.wait_empty()


def test_a_recipients_trouble_never_backs_a_destination_off(gateway, sink):
    """Ten mailboxes that are full: the eleventh is delivered at once."""
    far = sink(replies={"RCPT": lambda line: "" if "<fine@" in line else "452 4.2.2 full"})
    scene = Outbound(gateway, sink, {"far": Host(far)})
    client = scene.gateway.client(scene.port)
    for i in range(10):
        scene.send(f"full{i}@far.test", client=client)
    scene.gateway.wait("delivery.deferred", count=10)
    scene.send("fine@far.test", client=client)
    wait_until(lambda: far.messages, "it arrived")
    assert not scene.gateway.find("destination.backoff")
    assert len(scene.gateway.queue()) == 10
