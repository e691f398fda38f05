# SPDX-License-Identifier: Apache-2.0
"""What content flows do beyond their verdict: other addresses and ways, copies, notices; and what a release goes on with."""
import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound

FLOWS = """
    moved: [ accept: { when: false }, rewrite: { recipient: { "~^(.+)@moved.test$": "$1@plain.test" } }, accept ]
    lost: [ rewrite: { recipient: { "@lost.test": "@nowhere.invalid" }, error: { defer: "451 4.3.5 nowhere" } }, accept ]
    routed: [ route: t-side, accept ]
  content:
    plain: [ deliver ]
    spread:
      - rewrite: { recipient: { team@spread.test: [ one@plain.test, two@plain.test, kept@spread.test ] } }
      - deliver
    sender: [ rewrite: { sender: { "@home.test": "@other.test" } }, deliver ]
    side: [ route: t-side, deliver ]
    copied: [ copy: { to: all@archive.test, envelope: true }, header: "X-Later: 1", deliver ]
    refused: [ notify: { to: root@archive.test, text: "Look at {sender}" }, reject: "550 5.7.1 never" ]
    undone: [ copy: all@archive.test, notify: root@archive.test, defer ]
    gone: [ copy: all@archive.test, discard ]
    stopped:
      - header: "X-Before: 1"
      - hold: { reason: "let me see", class: virus }
      - header: "X-Behind: 1"
      - rewrite: { recipient: { "@stopped.test": "@plain.test" } }
      - deliver
    twice: [ hold: { id: one }, hold: { id: two }, deliver ]
    aside: [ match: { when: size > 0, matched: [ quarantine: spam ] }, header: "X-Behind: 1", deliver ]
"""
NAMES = ("plain", "spread", "sender", "side", "copied", "refused", "undone", "gone", "stopped", "twice", "aside", "archive")
BOTH = pytest.mark.parametrize("scene", ["", "processing: queued"], indirect=True, ids=["direct", "queued"])


@pytest.fixture
def scene(gateway, sink, request):
    sinks = {name: sink() for name in NAMES}
    hosts = {name: Host(sinks[name], content="plain" if name == "archive" else name) for name in NAMES}
    one = Outbound(gateway, sink, hosts, flows=FLOWS, listener=getattr(request, "param", ""),
                   extra="quarantines: { spam: { keep: 30d } }", start=False)
    more = "".join(f"  {name}.test: {{ recipients: {name}, content: plain, transport: t-plain }}\n"
                   for name in ("moved", "lost", "routed"))
    whole = one.config
    one.config = lambda: whole().replace("\ndomains:\n", "\ndomains:\n" + more)
    one.gateway.write_config(one.config())
    one.gateway.start()
    one.sinks = sinks
    return one


def got(scene, name, count=1):
    sink = scene.sinks[name]
    wait_until(lambda: len(sink.messages) >= count, f"{count} at {name}")
    return sink.messages


def addresses(messages):
    return sorted(one.partition("<")[2].partition(">")[0] for message in messages for one in message.recipients) or None


def recipients(messages):
    return sorted(str(one) for message in messages for one in message.recipients)


def balanced(scene, **wanted):
    scene.count("effects", **wanted)


# ---- recipient flows ----

def test_a_rewritten_recipient_goes_where_its_new_domain_goes(scene):
    scene.send("Ann@moved.test")
    message, = got(scene, "plain")
    assert "ann@plain.test" in recipients([message])[0]
    assert "ORCPT=rfc822;" in message.rcpt_parameters[0].upper().replace("RFC822", "rfc822")
    balanced(scene, accepted=1, delivered=1)


def test_a_recipient_rewritten_to_nowhere_is_refused_for_now(scene):
    client = scene.gateway.client(scene.port)
    client.mail("a@home.test")
    code, text = client.rcpt("ann@lost.test")
    assert code == 451 and b"nowhere" in text


def test_a_routed_recipient(scene):
    scene.send("ann@routed.test")
    assert "ann@routed.test" in recipients(got(scene, "side"))[0]


# ---- content flows: envelope and ways ----

@BOTH
def test_one_recipient_becomes_three(scene):
    scene.send(["team@spread.test", "x@spread.test"])
    plain, spread = got(scene, "plain"), got(scene, "spread")
    assert [one for one in recipients(plain)] == ["one@plain.test", "two@plain.test"]
    assert recipients(spread) == ["kept@spread.test", "x@spread.test"]
    scene.gateway.wait_empty()
    balanced(scene, accepted=2, generated=2, delivered=4)


@BOTH
def test_groups_do_not_see_each_others_changes(scene):
    scene.send(["x@sender.test", "y@plain.test", "z@side.test"])
    assert got(scene, "sender")[0].sender == "a@other.test"
    assert got(scene, "plain")[0].sender == "a@home.test"
    assert recipients(got(scene, "side")) == ["z@side.test"]


# ---- copies and notices ----

@BOTH
def test_a_copy_of_the_message_as_it_was(scene):
    scene.send(["x@copied.test", "y@copied.test"])
    copy, = got(scene, "archive")
    assert copy.sender == "" and recipients([copy]) == ["all@archive.test"]
    assert copy.data.startswith(b"X-Envelope-From: <a@home.test>\r\nX-Envelope-To: <x@copied.test>\r\n")
    assert b"X-Later" not in copy.data
    assert b"X-Later: 1" in got(scene, "copied")[0].data
    assert b"X-Envelope" not in got(scene, "copied")[0].data
    scene.gateway.wait_empty()
    balanced(scene, accepted=2, generated=1, delivered=3)


def test_a_copy_that_fails_is_told_to_postmaster_only(scene):
    """The sender must not learn that there is an archive."""
    scene.sinks["archive"].replies["RCPT"] = "550 5.1.1 no such archive"
    scene.send("x@copied.test")
    got(scene, "copied")
    report, = scene.dsn()
    assert recipients(scene.home.messages) == ["postmaster@home.test"]
    scene.gateway.wait_empty()
    balanced(scene, accepted=1, delivered=2, failed_silent=1)


@pytest.mark.parametrize("verdict,code", [("refused", 550)])
def test_a_refusal_leaves_a_notice(scene, verdict, code):
    client = scene.gateway.client(scene.port)
    client.mail("a@home.test")
    client.rcpt("x@refused.test")
    assert client.data(b"Subject: bad\r\n\r\nHello\r\n")[0] == code
    notice, = got(scene, "archive")
    head = notice.data.partition(b"\r\n\r\n")[0]
    assert notice.sender == "" and b"\r\nAuto-Submitted: auto-generated\r\n" in head
    assert b"Look at a@home.test\r\n" in notice.data and b"\r\nSubject: bad\r\n" in notice.body
    scene.gateway.wait_empty()
    balanced(scene, accepted=0, generated=1, delivered=1)


@BOTH
def test_a_deferral_leaves_nothing(scene):
    client = scene.gateway.client(scene.port)
    client.mail("a@home.test")
    client.rcpt("x@undone.test")
    direct = client.data(b"Subject: later\r\n\r\nHello\r\n")[0] == 451
    if not direct:
        wait_until(lambda: scene.gateway.find("message.deferred"), "the run deferred")
    balanced(scene, generated=0, delivered=0)
    assert not scene.sinks["archive"].messages
    if direct:
        assert not scene.gateway.queue()


@BOTH
def test_a_copy_of_what_is_thrown_away(scene):
    scene.send("x@gone.test")
    got(scene, "archive")
    scene.gateway.wait_empty()
    balanced(scene, accepted=1, discarded=1, generated=1, delivered=1)


# ---- a release goes on behind the step that held it ----

def held(scene):
    return wait_until(lambda: scene.gateway.queue("--state", "held"), "it is held")


@BOTH
def test_a_release_goes_on_behind_the_step(scene):
    scene.send("x@stopped.test")
    item, = held(scene)
    assert item["reason"] == "virus"
    event = scene.gateway.wait("message.held")
    assert event["detail"] == "let me see" and event["step"] == "2-hold", event
    scene.gateway.kill()  # all of it is on the disk
    scene.gateway.crash_expected = True
    scene.gateway.start()
    scene.gateway.ctl("queue", "release", held(scene)[0]["entry"])
    message, = got(scene, "plain")
    assert recipients([message]) == ["x@plain.test"]
    assert message.data.count(b"X-Before: 1") == 1 and message.data.count(b"X-Behind: 1") == 1
    assert not scene.sinks["stopped"].messages
    scene.gateway.wait_empty()


def test_a_release_may_be_held_again(scene):
    scene.send("x@twice.test")
    first, = held(scene)
    scene.gateway.ctl("queue", "release", first["entry"])
    second = wait_until(lambda: [one for one in scene.gateway.queue("--state", "held") if one["entry"] != first["entry"]],
                        "the second step holds it")[0]
    scene.gateway.ctl("queue", "release", second["entry"])
    got(scene, "twice")
    scene.gateway.wait_empty()
    balanced(scene, accepted=1, delivered=1)


@BOTH
def test_a_quarantine_keeps_its_name(scene):
    scene.send("x@aside.test")
    held(scene)
    assert scene.gateway.wait("message.quarantined")["quarantine"] == "spam"
    scene.gateway.ctl("queue", "release", held(scene)[0]["entry"])
    assert b"X-Behind: 1" in got(scene, "aside")[0].data  # behind the step that branched
    scene.gateway.wait_empty()
