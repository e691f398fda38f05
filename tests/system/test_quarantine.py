# SPDX-License-Identifier: Apache-2.0
"""Quarantine: encrypted, kept within limits, every verb, digests and the links in them; restarts and crashes between."""
import email
import email.policy
import html
import http.client
import json
import re

import jsonschema
import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound
from rig.ports import free_port
from test_api import QUARANTINE, ask

FLOWS = """
  content:
    kept: [ header: "X-Before: 1", quarantine: { id: stop, name: spam, reason: "too good <b>to be</b> true" }, header: "X-Behind: 1", deliver ]
    later: [ quarantine: { id: stop, name: own }, header: "X-Behind: 1", deliver ]
    twice: [ quarantine: { id: one, name: spam }, quarantine: { id: two, name: own }, deliver ]
    refused: [ quarantine: { id: stop, name: spam }, reject: "550 5.7.1 never" ]
"""
NAMES = ("kept", "later", "twice", "refused", "other")
SECRET = b"the treasure lies behind the old mill"
BODY = b"Subject: Cheap pills %d\r\nFrom: \"Mallory\" <m@example.net>\r\nX-Marker: in-the-header\r\n\r\n" + SECRET + b"\r\n"
QUARANTINES = "quarantines: { spam: { keep: 30d }, own: { keep: 30d } }"


def outbound(gateway, sink, quarantines=QUARANTINES, listener="", top=""):
    sinks = {name: sink() for name in NAMES}
    hosts = {name: Host(sinks[name], content="" if name == "other" else name) for name in NAMES}
    api = free_port()
    one = Outbound(gateway, sink, hosts, flows=FLOWS, listener=listener, start=False,
                   extra=f'{quarantines}\nadmin: {{ listen: [ "127.0.0.1:{api}" ] }}\n{top}')
    one.sinks, one.api = sinks, api
    one.gateway.start()
    return one


@pytest.fixture
def scene(gateway, sink, request):
    return outbound(gateway, sink, listener=getattr(request, "param", ""))


BOTH = pytest.mark.parametrize("scene", ["", "processing: queued"], indirect=True, ids=["direct", "queued"])


def send(scene, to="x@kept.test", number=1, body=None, **rest):
    return scene.send(to, data=body or BODY % number, **rest)


def listed(scene, *selectors):
    return scene.gateway.ctl_json("quarantine", "list", *selectors)


def kept(scene, count=1, *selectors):
    return wait_until(lambda: len(items := listed(scene, *selectors)) == count and items, f"{count} in quarantine")


def got(scene, name, count=1):
    wait_until(lambda: len(scene.sinks[name].messages) >= count, f"{count} at {name}")
    return scene.sinks[name].messages


def recipients(messages):
    return sorted(str(one) for message in messages for one in message.recipients)


def numbers(scene):
    answer, = scene.gateway.ctl_json("quarantine", "status")
    return {item["quarantine"]: item for item in answer["items"]}


def crash(scene):
    scene.gateway.kill()
    scene.gateway.crash_expected = True
    scene.gateway.start()


def on_disk(scene):
    return b"".join(path.read_bytes() for path in scene.gateway.folder.joinpath("spool").rglob("*") if path.is_file())


def settled(scene, **totals):
    scene.gateway.wait_empty()
    scene.count("settled", **totals)
    assert all(item["count"] == item["bytes"] == 0 for item in numbers(scene).values()), numbers(scene)


# ---- what lies there ----

def test_it_lies_there_encrypted(scene):
    send(scene)
    large = BODY % 2 + (SECRET + b"\r\n") * 30000
    send(scene, number=2, body=large)  # in a file of its own
    small, big = kept(scene, 2)
    assert big["size"] > len(large) > 1000000
    bytes_now = on_disk(scene)
    assert b"PSEALED1" in bytes_now
    for secret in (SECRET, b"in-the-header", b"Mallory"):
        assert secret not in bytes_now, f"{secret} can be read on the disk"
    scene.gateway.stop()
    assert SECRET not in on_disk(scene)
    scene.gateway.start()
    assert SECRET.decode() in scene.gateway.ctl("quarantine", "raw", small["entry"])
    assert scene.gateway.ctl("quarantine", "raw", big["message"]).count(SECRET.decode()) == 30001
    key = scene.gateway.folder / "spool" / "quarantine.keys"
    assert key.stat().st_mode & 0o777 == 0o600


@BOTH
def test_what_is_told_of_it(scene):
    message = send(scene, sender="spammer@home.test")
    item, = kept(scene)
    assert item["message"] == message and item["quarantine"] == "spam" and item["from"] == "spammer@home.test"
    assert item["to"] == ["x@kept.test"] and item["subject"] == "Cheap pills 1" and item["author"] == '"Mallory" <m@example.net>'
    assert item["flow"] == "kept" and item["step"] == "stop" and item["detail"] == "too good <b>to be</b> true"
    assert not item["problem"] and not item["digested"] and item["since"]
    assert listed(scene, "--subject", "cheap PILLS") == listed(scene, "--quarantine", "spam") == [item]
    assert listed(scene, "--from", "@home.test", "--to", "x@kept.test") == [item]
    for nothing in (("--subject", "viagra"), ("--quarantine", "own"), ("--to", "y@kept.test"), ("--older", "1h")):
        assert listed(scene, *nothing) == []
    shown = scene.gateway.ctl("quarantine", "show", item["entry"])
    assert "kept / stop" in shown and "Cheap pills 1" in shown
    assert numbers(scene)["spam"]["count"] == 1 and numbers(scene)["spam"]["bytes"] > len(BODY)
    assert scene.gateway.status()["totals"]["quarantined"] == 1
    scene.gateway.ctl("quarantine", "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV", ok=(1,))


def test_the_verbs_touch_nothing_else(scene):
    """What an operator holds is in no quarantine."""
    scene.sinks["other"].replies["RCPT"] = "451 4.2.1 later"
    scene.send("x@other.test")
    wait_until(lambda: scene.gateway.queue("--state", "waiting"), "it waits")
    scene.gateway.ctl("queue", "hold", "--all")
    assert listed(scene) == []
    scene.gateway.ctl("quarantine", "delete", "--all", ok=(1,))
    assert len(scene.gateway.queue("--state", "held")) == 1


def test_status_where_there_is_none(gateway):
    port = free_port()
    one = gateway(f"""
version: 1
hostname: mx.example.org
listeners: {{ mx: {{ listen: "127.0.0.1:{port}", tls: none, authentication: none }} }}
flows: {{ recipient: {{ all: [ accept ] }} }}
transports: {{ away: {{ method: discard }} }}
domains: {{ example.org: {{ recipients: all, transport: away }} }}
""", ports=[port])
    assert one.ctl("quarantine", "status") == "no quarantine is configured, and none holds mail\n"


def test_the_api_answers_as_described(gateway, sink):
    scene = with_digests(gateway, sink)
    scene.gateway.api_port = scene.api
    message = send(scene)
    entry = kept(scene)[0]["entry"]
    document = ask(scene.gateway, "GET", "/api/v1/openapi.json")[2]
    asked = [("get", "/api/v1/quarantines", "", None), ("get", "/api/v1/quarantine/messages", "?subject=pills&quarantine=spam&limit=5", None),
             ("get", "/api/v1/quarantine/messages/{id}", message, None), ("get", "/api/v1/quarantine/messages/{id}/raw", entry, None),
             ("post", "/api/v1/quarantine/digests", "", {"quarantine": "spam"}), ("post", "/api/v1/quarantine/keys", "", {}),
             ("post", "/api/v1/quarantine/actions", "", {"verb": "release", "select": {}, "dry_run": True, "from": "start"}),
             ("post", "/api/v1/quarantine/actions", "", {"verb": "release", "select": {"id": entry}, "expect": 1, "reason": "why"})]
    for method, path, rest, body in asked:
        operation = document["paths"][path][method]
        if body and "requestBody" in operation:
            jsonschema.validate(body, {**operation["requestBody"]["content"]["application/json"]["schema"], "components": document["components"]})
        status, kind, answer = ask(scene.gateway, method.upper(), path.replace("{id}", rest) if "{id}" in path else path + rest, body)
        assert status == 200, (path, answer)
        (described, content), = operation["responses"]["200"]["content"].items()
        assert kind == described
        if kind == "application/json":
            jsonschema.validate(answer, {**content["schema"], "components": document["components"]}, format_checker=jsonschema.FormatChecker())
    assert {(method, path) for method, path, _, _ in asked} == QUARANTINE
    for method, path, body, wanted in [
            ("GET", "/api/v1/quarantine/messages/none", None, 404), ("GET", "/api/v1/quarantine/messages/none/raw", None, 404),
            ("GET", "/api/v1/quarantine/messages?older=x", None, 400), ("POST", "/api/v1/quarantine/digests", {"quarantine": "none"}, 404),
            ("POST", "/api/v1/quarantine/actions", {"verb": "drop", "select": {}}, 400), ("POST", "/api/v1/quarantine/actions", {"verb": "release"}, 400),
            ("POST", "/api/v1/quarantine/actions", {"verb": "release", "select": {}, "from": "end"}, 400),
            ("POST", "/api/v1/quarantine/actions", {"verb": "delete", "select": {}, "from": "start"}, 400),
            ("POST", "/api/v1/quarantine/actions", {"verb": "delete", "select": {}, "expect": 7}, 409)]:
        status, kind, answer = ask(scene.gateway, method, path, body)
        assert (status, kind) == (wanted, "application/problem+json"), (path, body, answer)
    got(scene, "kept")
    scene.gateway.wait("quarantine.released")
    shown = scene.gateway.ctl("metrics")
    assert 'postern_quarantine_messages{quarantine="spam"} 0' in shown
    assert 'postern_quarantine_left_total{quarantine="spam",how="released"} 1' in shown
    story = wait_until(lambda: "released" in (text := scene.gateway.ctl("trace", message)) and text, "it is in the story")
    assert "spam" in story


# ---- release and delete ----

@BOTH
@pytest.mark.parametrize("between", ["nothing", "restart", "kill"])
def test_release(scene, between):
    send(scene)
    item, = kept(scene)
    if between == "kill":
        crash(scene)
    elif between == "restart":
        scene.gateway.stop()
        scene.gateway.start()
    assert kept(scene)[0] == item
    scene.gateway.ctl("quarantine", "release", item["entry"], "--reason", "he asked")
    event = scene.gateway.wait("quarantine.released")
    assert event["quarantine"] == "spam" and event["why"] == "he asked" and event["actor"].startswith("uid ")
    scene.gateway.wait("admin.action", verb="quarantine")
    message, = got(scene, "kept")
    assert message.data.count(b"X-Before: 1") == 1 and message.data.count(b"X-Behind: 1") == 1
    assert message.data.endswith(BODY.partition(b"\r\n\r\n")[2])
    scene.gateway.ctl("quarantine", "release", item["entry"], ok=(1,))  # a second time
    settled(scene, accepted=1, delivered=1, quarantined=0)


def test_release_of_a_large_one(scene):
    large = BODY % 1 + (b"0123456789" * 7 + b"\r\n") * 40000
    send(scene, body=large)
    item, = kept(scene)
    scene.gateway.ctl("quarantine", "release", item["entry"])
    message, = got(scene, "kept")
    assert message.data.partition(b"\r\n\r\n")[2] == large.partition(b"\r\n\r\n")[2]
    settled(scene, delivered=1)


def test_release_and_a_crash_before_it_went(scene):
    scene.sinks["kept"].replies["RCPT"] = "451 4.2.1 later"
    send(scene)
    scene.gateway.ctl("quarantine", "release", kept(scene)[0]["entry"])
    wait_until(lambda: scene.gateway.queue("--state", "waiting"), "it waits")
    crash(scene)
    scene.sinks["kept"].replies.clear()

    def tried():
        scene.gateway.ctl("queue", "retry", "--all", ok=(0, 1))  # it may be on its way
        return scene.sinks["kept"].messages
    wait_until(tried, "it arrives")
    settled(scene, delivered=1)


def test_release_from_the_start(scene):
    send(scene)
    first, = kept(scene)
    scene.gateway.ctl("quarantine", "release", first["entry"], "--from", "start")
    again = wait_until(lambda: [one for one in listed(scene) if one["entry"] != first["entry"]], "it is stopped again")[0]
    assert "start" in scene.gateway.wait("quarantine.released")["detail"]
    assert scene.gateway.ctl("quarantine", "raw", again["entry"]).count("X-Before: 1") == 2
    scene.gateway.ctl("quarantine", "release", again["entry"])
    got(scene, "kept")
    settled(scene, accepted=1, delivered=1)


@pytest.mark.parametrize("kill", [False, True])
def test_release_for_one_of_many(scene, kill):
    send(scene, [f"{name}@kept.test" for name in "abc"])
    item, = kept(scene)
    scene.gateway.ctl("quarantine", "release", item["message"], "--to", "b@kept.test")
    assert "b@kept.test" in recipients(got(scene, "kept"))[0]
    wait_until(lambda: scene.gateway.status()["totals"]["delivered"] == 1, "that is on the disk")
    if kill:
        crash(scene)
    rest, = kept(scene)
    assert rest["to"] == ["a@kept.test", "c@kept.test"] and rest["subject"] == "Cheap pills 1"
    scene.gateway.ctl("quarantine", "delete", item["message"], "--to", "a@kept.test")
    assert kept(scene)[0]["to"] == ["c@kept.test"]
    scene.gateway.ctl("quarantine", "release", item["message"], "--to", "b@kept.test", ok=(1,))
    scene.gateway.ctl("quarantine", "release", "--to", "@kept.test")
    assert len(recipients(got(scene, "kept", 2))) == 2
    settled(scene, accepted=3, delivered=2, dropped=1)


def test_delete_and_selections(scene):
    for number in range(4):
        send(scene, number=number, sender=f"s{number % 2}@home.test")
    kept(scene, 4)
    dry, = scene.gateway.ctl_json("quarantine", "delete", "--from", "s1@home.test", "--dry-run")
    assert dry["matched"] == 2 and len(dry["sample"]) == 2
    scene.gateway.ctl("quarantine", "delete", "--from", "s1@home.test", "--expect", "3", ok=(5,))
    kept(scene, 4)
    scene.gateway.ctl("quarantine", "delete", "--from", "s1@home.test", "--expect", "2")
    assert {one["from"] for one in kept(scene, 2)} == {"s0@home.test"}
    scene.gateway.ctl("quarantine", "delete", "--subject", "pills 2")
    event = scene.gateway.wait("quarantine.deleted", count=3)
    assert event["quarantine"] == "spam" and event["actor"]
    crash(scene)
    kept(scene, 1)
    scene.gateway.ctl("quarantine", "release", "--all")
    got(scene, "kept")
    settled(scene, accepted=4, delivered=1, dropped=3)
    scene.gateway.ctl("quarantine", "delete", ok=(2,))


def test_a_later_step_keeps_it_again(scene):
    send(scene, "x@twice.test")
    first, = kept(scene)
    scene.gateway.ctl("quarantine", "release", first["entry"])
    second, = kept(scene, 1, "--quarantine", "own")
    assert second["step"] == "two" and second["subject"] == "Cheap pills 1"
    assert SECRET.decode() in scene.gateway.ctl("quarantine", "raw", second["entry"])
    scene.gateway.ctl("quarantine", "release", second["entry"])
    got(scene, "twice")
    settled(scene, accepted=1, delivered=1)


def test_a_step_behind_refuses_it(scene):
    send(scene, "x@refused.test")
    scene.gateway.ctl("quarantine", "release", kept(scene)[0]["entry"])
    report, = scene.dsn()
    assert "never" in report.as_string()
    scene.gateway.wait_empty()


def test_given_up_by_an_operator(scene):
    """`queue fail` tells the sender; what he is sent back is his own message, readable."""
    send(scene)
    scene.gateway.ctl("queue", "fail", kept(scene)[0]["entry"])
    report, = scene.dsn()
    assert "Cheap pills 1" in report.as_string() and "5.7.0" in report.as_string()
    settled(scene, accepted=1, failed_dsn=1)


# ---- the configuration has changed ----

def test_released_when_its_step_is_gone(scene):
    send(scene)
    item, = kept(scene)
    scene.flows = scene.flows.replace('quarantine: { id: stop, name: spam, reason: "too good <b>to be</b> true" }, ', "", 1)
    scene.reload()
    scene.gateway.ctl("quarantine", "release", item["entry"])
    assert got(scene, "kept")[0].data.count(b"X-Before: 1") == 2
    event = scene.gateway.wait("flow.restarted")
    assert event["flow"] == "kept" and event["step"] == "stop" and event["message"] == item["message"]
    settled(scene, delivered=1)


def test_released_when_its_flow_is_gone(scene):
    send(scene)
    item, = kept(scene)
    scene.flows = re.sub("    kept: .*\n", "    new: [ header: \"X-New: 1\", deliver ]\n", scene.flows)
    scene.hosts["kept"].content = "new"
    scene.reload()
    scene.gateway.ctl("quarantine", "release", item["entry"])
    assert got(scene, "kept")[0].data.count(b"X-New: 1") == 1
    assert scene.gateway.wait("flow.restarted")["flow"] == "new"
    settled(scene, delivered=1)


def test_its_quarantine_is_gone(scene):
    """Nothing says how long: it stays, and can be released."""
    send(scene)
    item, = kept(scene)
    scene.extra = scene.extra.replace("spam: {", "other: {")
    scene.flows = scene.flows.replace("name: spam", "name: other")
    scene.reload()
    assert numbers(scene)["spam"]["configured"] is False and numbers(scene)["spam"]["count"] == 1
    scene.gateway.ctl("quarantine", "release", item["entry"])
    got(scene, "kept")
    settled(scene, delivered=1)


# ---- keys ----

def test_keys(scene):
    send(scene, number=1)
    first_key = scene.gateway.ctl_json("quarantine", "status")[0]["key"]
    second_key = scene.gateway.ctl_json("quarantine", "key")[0]["key"]
    assert first_key != second_key and scene.gateway.ctl_json("quarantine", "status")[0]["key"] == second_key
    send(scene, number=2)
    old, new = kept(scene, 2)
    crash(scene)
    assert [one["subject"] for one in kept(scene, 2)] == ["Cheap pills 1", "Cheap pills 2"]
    # the first key is lost: what it encrypted says so, stays, and the rest goes on
    scene.gateway.stop()
    path = scene.gateway.folder / "spool" / "quarantine.keys"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(first_key)))
    scene.gateway.start()
    lost, fine = kept(scene, 2)
    assert lost["entry"] == old["entry"] and first_key in lost["problem"] and not lost["subject"]
    assert fine["subject"] == "Cheap pills 2" and not fine["problem"]
    assert scene.gateway.wait("quarantine.problem")["count"] == 1
    answer, = scene.gateway.ctl_json("quarantine", "release", "--all")
    assert (answer["matched"], answer["count"], answer["unreadable"]) == (2, 1, 1)
    got(scene, "kept")
    assert scene.gateway.wait("quarantine.unreadable")["entry"] == old["entry"]
    scene.gateway.ctl("quarantine", "raw", old["entry"], ok=(7,))
    assert kept(scene)[0]["entry"] == old["entry"]
    # and it comes back
    scene.gateway.stop()
    path.write_text("".join(lines))
    scene.gateway.start()
    scene.gateway.ctl("quarantine", "release", old["entry"])
    got(scene, "kept", 2)
    settled(scene, delivered=2)


def test_a_file_of_keys_that_is_none(scene):
    send(scene)
    scene.gateway.stop()
    path = scene.gateway.folder / "spool" / "quarantine.keys"
    whole = path.read_bytes()
    path.write_bytes(b"something else\n")
    scene.gateway.start(wait=False)
    assert scene.gateway.process.wait(120) != 0
    wait_until(lambda: "quarantine.keys, line 1" in json.dumps(scene.gateway.events[-5:]), "its last words are read")
    assert path.read_bytes() == b"something else\n"  # never written over
    path.write_bytes(whole)
    scene.gateway.start()
    assert kept(scene)[0]["subject"] == "Cheap pills 1"


def test_keys_of_a_credential(scene, tmp_path):
    """systemd's LoadCredential: it is for what is new, and no file has to be made."""
    scene.gateway.stop()
    (tmp_path / "quarantine.keys").write_text("00000000000000aa " + "5a" * 32 + "\n")
    scene.gateway.env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    scene.gateway.start()
    send(scene)
    assert scene.gateway.ctl_json("quarantine", "status")[0]["key"] == "00000000000000aa"
    scene.gateway.ctl("quarantine", "key", ok=(5,))
    assert kept(scene)[0]["subject"] == "Cheap pills 1"
    scene.gateway.stop()
    scene.gateway.env = {}
    scene.gateway.start()
    assert "00000000000000aa" in kept(scene)[0]["problem"]


# ---- limits ----

def test_age(gateway, sink):
    scene = outbound(gateway, sink, "quarantines: { spam: { keep: 2s }, own: { keep: 1h } }")
    send(scene)
    send(scene, "x@later.test")
    event = scene.gateway.wait("quarantine.expired")
    assert event["quarantine"] == "spam" and event["reason"] == "expired"
    assert [one["quarantine"] for one in kept(scene)] == ["own"]
    scene.gateway.ctl("quarantine", "delete", "--all")
    settled(scene, accepted=2, discarded=1, dropped=1)


def test_size_the_oldest_goes(gateway, sink):
    scene = outbound(gateway, sink, "quarantines: { spam: { size: 100K }, own: { keep: 1h } }")
    told = scene.gateway.ctl("quarantine", "status")
    assert "size 100K, " in told and "keep 1h, " in told, told
    filler = b"x" * 70 + b"\r\n"
    for number in range(5):
        send(scene, number=number, body=BODY % number + filler * 400)  # 28K each
    wait_until(lambda: numbers(scene)["spam"]["bytes"] <= 100 * 1024, "it is within its size")
    assert [one["subject"] for one in listed(scene)] == ["Cheap pills 2", "Cheap pills 3", "Cheap pills 4"]
    scene.gateway.wait("quarantine.expired", count=2)
    assert [event["reason"] for event in scene.gateway.find("quarantine.expired")] == ["size", "size"]
    # what could never fit is not taken to be thrown away
    client = scene.gateway.client(scene.port)
    client.mail("a@home.test")
    client.rcpt("x@kept.test")
    assert client.data(BODY % 9 + filler * 2000)[0] == 452
    crash(scene)
    kept(scene, 3)
    scene.gateway.ctl("quarantine", "delete", "--all")
    settled(scene, accepted=5, discarded=2, dropped=3)


def test_size_deferred(gateway, sink):
    scene = outbound(gateway, sink, "quarantines: { spam: { size: 64K, when_full: defer }, own: { keep: 1h } }")
    filler = b"x" * 70 + b"\r\n"
    send(scene, number=1, body=BODY % 1 + filler * 400)
    send(scene, number=2, body=BODY % 2 + filler * 400)
    client = scene.gateway.client(scene.port)
    client.mail("a@home.test")
    client.rcpt("x@kept.test")
    assert client.data(BODY % 3 + filler * 400)[0] == 452
    send(scene, "x@later.test")  # another one has room
    assert len(kept(scene, 3)) == 3 and not scene.gateway.find("quarantine.expired")
    scene.gateway.ctl("quarantine", "delete", "--subject", "pills 1", "--quarantine", "spam", "--limit", "1")
    send(scene, number=3, body=BODY % 3 + filler * 400)


# ---- digests ----

def with_digests(gateway, sink, more=""):
    return outbound(gateway, sink, "quarantines:\n  spam: { release_by: recipient, digest: daily, digest_from: q@home.test, "
                    f"link: \"https://q.example.org\"{more} }}\n  own: {{ release_by: admin }}")


def digests(scene, count):
    """Digests that came, parsed, by recipient."""
    def come():
        found = [message for name in NAMES for message in scene.sinks[name].messages if b"Subject: Quarantine:" in message.data]
        return len(found) >= count and found
    found = wait_until(come, f"{count} digests")
    assert len(found) == count
    assert all(message.sender == "" for message in found)
    return {str(message.recipients[0]): email.message_from_bytes(message.data, policy=email.policy.default) for message in found}


def links(message):
    parts = [message.get_body((kind,)).get_content() for kind in ("plain", "html")]
    found = [re.findall(r"https://q\.example\.org(/quarantine/[\w-]+)", html.unescape(part)) for part in parts]
    assert found[0] == found[1]
    return found[0]


def visit(scene, path, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", scene.api, timeout=120)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_digest_and_links(gateway, sink):
    scene = with_digests(gateway, sink)
    hostile = (b"Subject: =?utf-8?q?=3Cscript=3Ealert=281=29=3C/script=3E_=E2=80=AE_http://evil.example?=\r\n"
               b"From: \"<img src=x>\" <m@example.net>\r\n\r\n" + SECRET + b"\r\n")
    send(scene, ["A@kept.test", "b@kept.test"], body=hostile)
    send(scene, "a@kept.test", 2)
    send(scene, "a@later.test", 3)  # release_by: admin
    kept(scene, 3)
    assert scene.gateway.ctl_json("quarantine", "digest", "spam") == [{"sent": 2}]
    by_recipient = digests(scene, 2)
    first, second = by_recipient["A@kept.test"], by_recipient["b@kept.test"]
    assert first["Subject"] == "Quarantine: 2 new messages" and second["Subject"] == "Quarantine: 1 new message"
    assert first["Auto-Submitted"] == "auto-generated" and "q@home.test" in first["From"] and first["To"] == "A@kept.test"
    page = first.get_body(("html",)).get_content()
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page and "too good &lt;b&gt;" in page
    text = first.get_body(("plain",)).get_content()
    assert "\u202e" not in page + text and "://evil" not in page + text
    assert SECRET.decode() not in page + text and "X-Behind" not in first  # past the content flow
    assert len(links(first)) == 2 and len(links(second)) == 1
    assert len(set(links(first) + links(second))) == 3
    # nothing is told twice, also after a crash
    wait_until(lambda: all(one["digested"] for one in listed(scene, "--quarantine", "spam")), "it is noted")
    wait_until(lambda: scene.gateway.status()["queue"]["entries"] == 3, "the digests are gone")
    crash(scene)
    assert scene.gateway.ctl_json("quarantine", "digest") == [{"sent": 0}]
    assert scene.gateway.ctl("quarantine", "digest", "own", ok=(1,)) == ""

    # to look changes nothing
    path, = links(second)
    for method in ("GET", "HEAD", "GET"):
        status, text, headers = visit(scene, path, method)
        assert status == 200 and "script-src" not in headers["Content-Security-Policy"]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'") and headers["Cache-Control"] == "no-store"
    assert "<form method=\"post\">" in text and "<script" not in text and "<img" not in text and "b@kept.test" in text
    assert len(kept(scene, 3)) == 3 and not scene.gateway.find("quarantine.released")

    # to press the button releases it, for him alone, once
    status, text, _ = visit(scene, path, "POST")
    assert status == 200 and "Released" in text
    event = scene.gateway.wait("quarantine.released")
    assert event["actor"] == "recipient b@kept.test" and event["to"] == "b@kept.test"
    message, = [one for one in got(scene, "kept", 3) if SECRET in one.data]
    assert "b@kept.test" in recipients([message])[0] and len(message.recipients) == 1
    assert visit(scene, path, "POST")[0] == visit(scene, path)[0] == 410
    assert sorted(one["to"] for one in kept(scene, 2, "--quarantine", "spam")) == [["A@kept.test"], ["a@kept.test"]]


def test_the_daily_digest(gateway, sink):
    """Once a day, at its time; one that was missed is made up for; none for what was told already."""
    scene = with_digests(gateway, sink, ", digest_at: 0s")
    send(scene)
    kept(scene)
    path = scene.gateway.folder / "spool" / "quarantine.digests"
    wait_until(path.exists, "it is known when the last one was")
    first = path.read_text()
    assert first.endswith(" spam\n") and not scene.gateway.find("quarantine.digest")
    scene.gateway.stop()
    path.write_text("1000000 spam\n")  # long ago
    scene.gateway.start()
    scene.gateway.wait("quarantine.digest", to="x@kept.test")
    digests(scene, 1)
    wait_until(lambda: path.read_text() >= first, "it is noted")
    crash(scene)
    send(scene, number=2)
    kept(scene, 2)
    scene.gateway.stop()
    assert len(scene.gateway.find("quarantine.digest")) == 1
    path.write_text("1000000 spam\n")
    scene.gateway.start()
    scene.gateway.wait("quarantine.digest", count=2)
    assert [event["count"] for event in scene.gateway.find("quarantine.digest")] == [1, 1]


def test_links_that_are_not_valid(gateway, sink):
    scene = with_digests(gateway, sink)
    send(scene)
    kept(scene)
    scene.gateway.ctl("quarantine", "digest")
    message, = digests(scene, 1).values()
    path, = links(message)
    token = path.rpartition("/")[2]
    flipped = [token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1:] for i in range(0, len(token) - 1, 7)]
    for bad in ["", "x", "A" * 2000, token[:-1], token + "A", token + "=", "../api/v1/status", token + "/x", *flipped]:
        for method in ("GET", "POST"):
            status, text, _ = visit(scene, "/quarantine/" + bad, method, b"" if method == "POST" else None)
            assert status == 404 and "X-Marker" not in text, (bad, status)
    assert visit(scene, path, "DELETE")[0] == 405
    assert visit(scene, path, "POST", b"x" * 100000)[0] == 413
    assert visit(scene, "/api/v1/status")[0] == 401  # the rest of the listener still asks who one is
    scene.gateway.wait("quarantine.link_refused")
    # by another one's key
    key = scene.gateway.folder / "spool" / "quarantine.keys"
    scene.gateway.stop()
    whole = key.read_text()
    key.write_text(re.sub(" [0-9a-f]{64}", " " + "11" * 32, whole))
    scene.gateway.start()
    assert visit(scene, path, "POST")[0] == 404
    scene.gateway.stop()
    key.write_text(whole)
    scene.gateway.start()
    # the configuration has the last word
    scene.extra = scene.extra.replace("release_by: recipient, digest: daily", "release_by: admin")
    scene.reload()
    assert visit(scene, path, "POST")[0] == visit(scene, path)[0] == 403
    kept(scene)
    assert not scene.gateway.find("quarantine.released")


def test_links_expire_with_the_message(gateway, sink):
    scene = with_digests(gateway, sink, ", keep: 3s")

    def told():
        send(scene)
        return scene.gateway.ctl_json("quarantine", "digest")[0]["sent"]
    wait_until(told, "a digest is sent of what is not too old yet")
    path, = links(next(iter(digests(scene, 1).values())))
    scene.gateway.wait("quarantine.expired")
    wait_until(lambda: visit(scene, path, "POST")[0] == 404, "it is too old")


def test_strangers_get_no_digest(gateway, sink):
    """What goes out is put aside, too; a recipient elsewhere must not hear of it."""
    scene = with_digests(gateway, sink)
    far = sink()
    scene.hosts["any"] = Host(far, content="kept")
    scene.reload()
    send(scene, "x@somewhere.invalid")
    kept(scene)
    assert scene.gateway.ctl_json("quarantine", "digest") == [{"sent": 0}]
    assert not far.messages


@pytest.mark.parametrize("settings,errors", [
    ("digest: daily", ["a digest is for recipients", "where its links go"]),
    ("release_by: recipient, digest: daily", ["where its links go"]),
    ("release_by: recipient, digest: daily, link: ftp://x", ["link: not of the form"]),
    ("release_by: recipient, digest: daily, link: \"https://x y\"", ["link: not of the form"]),
    ("digest_from: nobody", ["is not an address"]), ("keep: 0s", ["between 1s"]), ("when_full: always", ["oldest, defer"]),
    ("digest_at: 25h", ["between 0s"]), ("size: 1", ["between 64K"]),
])
def test_settings_that_make_no_sense(gateway, sink, settings, errors):
    flows = "\n  content:\n    kept: [ quarantine: spam ]\n"
    scene = Outbound(gateway, sink, {"kept": Host("127.0.0.1:9", content="kept")}, flows=flows, start=False,
                     extra=f"quarantines: {{ spam: {{ {settings} }} }}")
    status, problems = scene.gateway.check()
    said = [one["error"] for one in problems if one["kind"] == "error"]
    assert status != 0 and len(said) == len(errors) and all(word in text for word, text in zip(errors, said)), problems
