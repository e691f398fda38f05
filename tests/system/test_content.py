# SPDX-License-Identifier: Apache-2.0
"""Content flows at the end of data and from the queue: what happens to the message, and to each group of recipients."""
import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound

FLOWS = """
  content:
    plain: [ deliver ]
    marked:
      - header: { add: [ "X-Checked: yes", "X-Second: two" ], remove: [ X-Secret ] }
      - deliver
    other:
      - header: { add: "X-Other: yes" }
      - deliver
    choosy:
      - match: { when: 'header("Subject") ~ "(?i)spam"', matched: [ reject: { reply: "550 5.7.1 no spam here" } ] }
      - match: { when: 'header("Subject") == "later"', matched: [ defer: { reply: "451 4.7.1 come back" } ] }
      - match: { when: 'header("Subject") == "void"', matched: discard }
      - match: { when: 'header("Subject") == "stop"', matched: hold }
      - match: { when: size > 5K, matched: [ header: { add: "X-Size: large" }, deliver ] }
      - deliver
    never: [ reject: { reply: "554 5.7.1 never" } ]
    later: [ defer: { reply: "451 4.7.1 not now" } ]
    void: [ discard ]
    stop: [ hold ]
"""


@pytest.fixture
def scene(gateway, sink, request):
    """A domain a content flow; `listener` by indirect parametrization."""
    listener = getattr(request, "param", "")
    names = ("plain", "marked", "other", "choosy", "never", "later", "void", "stop")
    sinks = {name: sink() for name in names}
    one = Outbound(gateway, sink, {name: Host(sinks[name], content=name) for name in names}, flows=FLOWS, listener=listener)
    one.sinks = sinks
    return one


def try_to_send(scene, to, subject="test", sender="a@home.test", body=b"Hello\r\n", header=b""):
    """The reply to the data."""
    client = scene.gateway.client(scene.port)
    assert client.mail(sender)[0] == 250
    for recipient in [to] if isinstance(to, str) else to:
        assert client.rcpt(recipient)[0] == 250
    code, text = client.data(b"Subject: " + subject.encode() + b"\r\n" + header + b"\r\n" + body)
    client.quit()
    return code, text.decode()


def counted(scene, **wanted):
    scene.count("content", **wanted)


# ---- direct ----

def test_header(scene):
    """Fields are put on top, below our own Received, and taken out; the body is not touched."""
    body = b"Hello\r\n\r\nX-Secret: this is text\r\n"
    assert try_to_send(scene, "x@marked.test", header=b"X-Secret: one\r\n folded\r\nx-secret: two\r\nTo: y\r\n", body=body)[0] == 250
    wait_until(lambda: scene.sinks["marked"].messages, "it arrived")
    got = scene.sinks["marked"].messages[0]
    header = got.data.partition(b"\r\n\r\n")[0]
    assert header.startswith(b"Received: ") and b"\r\nX-Checked: yes\r\nX-Second: two\r\nSubject: test\r\n" in header
    assert b"secret" not in header.lower() and b"folded" not in header and header.count(b"\r\nTo: y") == 1
    assert got.body == body
    scene.gateway.wait_empty()


def test_verdicts_at_the_end_of_data(scene):
    code, text = try_to_send(scene, "x@choosy.test", "Great SPAM")
    assert code == 550 and text.startswith("5.7.1 no spam here (ref ")
    code, text = try_to_send(scene, "x@choosy.test", "later")
    assert code == 451 and text.startswith("4.7.1 come back (ref ")
    scene.gateway.wait("message.rejected")
    scene.gateway.wait("message.deferred")
    counted(scene, accepted=0)
    assert try_to_send(scene, "x@choosy.test", "void")[0] == 250
    counted(scene, accepted=1, discarded=1)
    scene.gateway.wait("message.discarded")
    assert try_to_send(scene, "x@choosy.test", "stop")[0] == 250
    item, = scene.gateway.queue()
    assert item["state"] == "held"
    counted(scene, accepted=2, held=1)
    assert not scene.sinks["choosy"].messages
    scene.gateway.ctl("queue", "release", item["entry"])
    wait_until(lambda: scene.sinks["choosy"].messages, "it arrived")
    assert try_to_send(scene, "x@choosy.test", "large", body=b"0123456789abcde\r\n" * 400)[0] == 250
    wait_until(lambda: len(scene.sinks["choosy"].messages) == 2, "the large one arrived")
    assert b"X-Size: large" in scene.sinks["choosy"].messages[1].data
    assert b"X-Size" not in scene.sinks["choosy"].messages[0].data
    scene.gateway.wait_empty()


def test_each_group_has_a_message_of_its_own(scene):
    assert try_to_send(scene, ["x@marked.test", "x@other.test", "x@plain.test"], header=b"X-Secret: s\r\n")[0] == 250
    wait_until(lambda: all(scene.sinks[name].messages for name in ("marked", "other", "plain")), "all arrived")
    marked, other, plain = (scene.sinks[name].messages[0].data for name in ("marked", "other", "plain"))
    assert b"X-Checked" in marked and b"X-Other" not in marked and b"X-Secret" not in marked
    assert b"X-Other" in other and b"X-Checked" not in other and b"X-Secret" in other
    assert b"X-Checked" not in plain and b"X-Other" not in plain and b"X-Secret" in plain
    scene.gateway.wait_empty()


DIRECT = {  # recipients' flows: reply, delivered, told by DSN, discarded, held
    ("plain", "later"): (451, 0, 0, 0, 0),
    ("later", "never"): (451, 0, 0, 0, 0),
    ("void", "later", "stop"): (451, 0, 0, 0, 0),
    ("never",): (554, 0, 0, 0, 0),
    ("plain", "never"): (250, 1, 1, 0, 0),
    ("never", "plain"): (250, 1, 1, 0, 0),
    ("never", "void"): (250, 0, 1, 1, 0),
    ("never", "stop"): (250, 0, 1, 0, 1),
    ("plain", "void", "stop", "never"): (250, 1, 1, 1, 1),
    ("plain", "void"): (250, 1, 0, 1, 0),
}


@pytest.mark.parametrize("flows", DIRECT, ids="+".join)
def test_mixed_verdicts(scene, flows):
    """One reply: any defer defers all and nothing is kept; else any other than a refusal accepts, and a refused group's
    sender is told."""
    code, delivered, told, discarded, held = DIRECT[flows]
    got, text = try_to_send(scene, [f"x@{name}.test" for name in flows], header=b"X-Mark: mine\r\n")
    assert got == code, text
    if code != 250:
        counted(scene, accepted=0, generated=0)
        assert not scene.gateway.queue()
        return
    wait_until(lambda: sum(len(s.messages) for s in scene.sinks.values()) == delivered, "delivered")
    wait_until(lambda: len(scene.home.messages) == told, "told")
    counted(scene, accepted=len(flows), failed_dsn=told, discarded=discarded, held=held, generated=told, delivered=delivered + told)
    if told:
        report = scene.dsn()[0].as_string()
        assert "x@never.test" in report and "554 5.7.1 never" in report and "X-Mark: mine" in report
        assert "X-Checked" not in report


def test_a_refused_group_of_a_foreign_sender_is_kept_aside(scene):
    """An own user whose envelope sender is not his gets no notification: it could be anybody's address."""
    assert try_to_send(scene, ["x@plain.test", "x@never.test"], sender="someone@elsewhere.invalid")[0] == 250
    wait_until(lambda: scene.sinks["plain"].messages, "one arrived")
    item = wait_until(lambda: scene.gateway.queue("--state", "held"), "the other is kept")[0]
    assert item["reason"] == "undeliverable" and item["to"][0]["to"] == "x@never.test"
    assert not scene.home.messages and not scene.gateway.find("dsn.sent")
    counted(scene, accepted=2, delivered=1)


def test_strangers_get_one_group_at_a_time(gateway, sink):
    """A recipient of another group is asked for again later: a stranger must never need a notification."""
    plain, never = sink(), sink()
    scene = Outbound(gateway, sink, {"plain": Host(plain, content="plain", transport="direction: inbound"),
                                     "never": Host(never, content="never", transport="direction: inbound")},
                     flows=FLOWS, trusted="10.0.0.0/8", start=False)
    scene.gateway.write_config(scene.config().replace("recipients: relay", "recipients: known").replace(
        "flows:\n  recipient:\n", "flows:\n  recipient:\n    known: [ match: { when: 'recipient ~ \"^no\"', "
        "matched: [ reject: { reply: \"550 5.1.1 unknown\" } ] }, accept ]\n"))
    scene.gateway.start()
    client = scene.gateway.client(scene.port)
    client.mail("s@elsewhere.invalid")
    assert client.rcpt("x@plain.test")[0] == 250
    code, text = client.rcpt("x@never.test")
    assert code == 452 and text.startswith(b"4.5.3"), text
    assert client.rcpt("no@never.test")[0] == 550, "a refusal of the recipient flow stands"
    assert client.rcpt("y@plain.test")[0] == 250
    assert client.data(b"Subject: x\r\n\r\nHello\r\n")[0] == 250
    client.mail("s@elsewhere.invalid")
    assert client.rcpt("x@never.test")[0] == 250
    assert client.data(b"Subject: x\r\n\r\nHello\r\n")[0] == 554
    client.quit()
    wait_until(lambda: plain.messages, "it arrived")
    assert plain.messages[0].recipients == ["x@plain.test", "y@plain.test"]
    scene.gateway.wait_empty()


# ---- from the queue ----

queued = pytest.mark.parametrize("scene", ["processing: queued"], indirect=True, ids=[""])


@queued
def test_queued_deliver_and_header(scene):
    assert try_to_send(scene, ["x@marked.test", "x@plain.test"], header=b"X-Secret: s\r\n")[0] == 250
    wait_until(lambda: scene.sinks["marked"].messages and scene.sinks["plain"].messages, "both arrived")
    marked, plain = scene.sinks["marked"].messages[0], scene.sinks["plain"].messages[0]
    assert b"X-Checked: yes" in marked.data and b"X-Secret" not in marked.data
    assert b"X-Checked" not in plain.data and b"X-Secret" in plain.data
    scene.gateway.wait_empty()


@queued
def test_queued_refusal_is_told(scene):
    """250 first, the refusal as a notification later."""
    assert try_to_send(scene, "x@choosy.test", "SPAM", header=b"X-Mark: mine\r\n")[0] == 250
    report = scene.dsn()[0].as_string()
    assert "x@choosy.test" in report and "550 5.7.1 no spam here" in report and "X-Mark: mine" in report
    scene.gateway.wait_empty()
    counted(scene, accepted=1, failed_dsn=1, generated=1)


@queued
def test_queued_refusal_of_a_foreign_sender_is_kept(scene):
    assert try_to_send(scene, "x@never.test", sender="someone@elsewhere.invalid")[0] == 250
    item = wait_until(lambda: scene.gateway.queue("--state", "held"), "it is kept")[0]
    assert item["reason"] == "undeliverable" and not scene.home.messages
    counted(scene, accepted=1, generated=0, quarantined=1)


@pytest.mark.parametrize("scene", ["processing: queued, refused_later: discard"], indirect=True, ids=[""])
def test_queued_refusal_of_a_foreign_sender_is_discarded_on_demand(scene):
    assert try_to_send(scene, "x@never.test", sender="someone@elsewhere.invalid")[0] == 250
    scene.gateway.wait("message.discarded")
    scene.gateway.wait_empty()
    counted(scene, accepted=1, generated=0, discarded=1)


@queued
def test_queued_discard_and_hold(scene):
    assert try_to_send(scene, ["x@void.test", "x@stop.test"])[0] == 250
    item = wait_until(lambda: scene.gateway.queue("--state", "held"), "one is held")[0]
    wait_until(lambda: scene.gateway.status()["totals"]["discarded"] == 1, "one is discarded")
    counted(scene, accepted=2, discarded=1, held=1)
    scene.gateway.ctl("queue", "release", item["entry"])
    wait_until(lambda: scene.sinks["stop"].messages, "released, it is delivered, and its flow does not run again")
    scene.gateway.wait_empty()


@queued
def test_queued_defer_runs_again(scene):
    """It waits in the queue and is run again; `retry` runs it at once."""
    assert try_to_send(scene, "x@later.test")[0] == 250
    item = wait_until(lambda: [i for i in scene.gateway.queue() if i["attempt"] == 1], "it was deferred")[0]
    assert item["state"] == "content" and "451 4.7.1 not now" in item["error"], item
    assert not scene.home.messages and not scene.sinks["later"].messages
    scene.flows = FLOWS.replace('later: [ defer: { reply: "451 4.7.1 not now" } ]', "later: [ deliver ]")
    scene.reload()
    scene.gateway.ctl("queue", "retry", item["entry"])
    wait_until(lambda: scene.sinks["later"].messages, "it arrived")
    scene.gateway.wait_empty()


@queued
def test_queued_outlives_a_crash(scene):
    """Deferred by its flow, killed, started: the flow runs again and sees the same message."""
    assert try_to_send(scene, "x@later.test", "later")[0] == 250
    wait_until(lambda: [i for i in scene.gateway.queue() if i["state"] == "content"], "it waits for its flow")
    scene.gateway.kill()
    scene.flows = FLOWS.replace('later: [ defer: { reply: "451 4.7.1 not now" } ]',
                                """later: [ match: { when: 'header("Subject") == "later" and trusted and sender == "a@home.test"',
                                    matched: deliver, unmatched: [ reject: { reply: "550 5.7.1 facts are lost" } ] } ]""")
    scene.gateway.write_config(scene.config())
    scene.gateway.start()
    scene.gateway.ctl("queue", "retry", "--all", "--yes", ok=(0, 1))
    wait_until(lambda: scene.sinks["later"].messages or scene.home.messages, "it went somewhere")
    assert scene.sinks["later"].messages, scene.home.messages[0].data
    scene.gateway.wait_empty()


def test_many_patterns_in_files(gateway, sink, tmp_path):
    """Thousands of lines are looked for at once; the detail names the one that fits, and a file that changes is read again."""
    body, header = tmp_path / "body", tmp_path / "header"
    body.write_text("# from the abuse desk\n\n" + "".join(f"(?i)\\bpill{number}s?\\b\n" for number in range(3000)))
    header.write_text("(?i)^X-Mailer: .*bulk\n^Subject: =\\?\n")
    flows = f"""
  content:
    plain:
      - match: {{ body_file: {body}, matched: [ reject: {{ reply: "550 5.7.1 no pills" }} ] }}
      - match: {{ header: "^Subject: never", header_file: {header}, matched: [ reject: {{ reply: "550 5.7.1 no bulk" }} ] }}
      - deliver
"""
    scene = Outbound(gateway, sink, {"plain": Host(sink(), content="plain")}, flows=flows)
    send = lambda **rest: try_to_send(scene, "b@plain.test", **rest)[1]
    refused = send(body=b"buy PILL2999s now\r\n")
    assert "no pills" in refused
    ref = refused.rpartition("(ref ")[2].rstrip(")")
    wait_until(lambda: "pill2999" in scene.gateway.ctl("trace", ref, ok=(0, 1)), "the story names the pattern")
    assert "no pills" not in send(body=b"buy pill3000 now\r\n")
    assert "no bulk" in send(header=b"X-Mailer: Bulk 2\r\n")
    assert "no bulk" in send(subject="never")
    with body.open("a") as file:
        file.write("pill3000\n")
    wait_until(lambda: "no pills" in send(body=b"buy pill3000 now\r\n"), "the file is read again")
    header.write_text("^Good\n(bad\n")
    problem = str(scene.gateway.wait("config.problem", reason="pattern"))
    assert f"{header}:2" in problem, problem
    assert "no bulk" in send(header=b"X-Mailer: Bulk 2\r\n"), "what was in force stays"
