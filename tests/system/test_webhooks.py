# SPDX-License-Identifier: Apache-2.0
"""Webhooks: signed, at least once, over restarts and outages; a receiver that is down holds up nobody."""
import json
import os

import jsonschema
import pytest

from rig.api import ask, schema_of
from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk
from rig.webhook import Receiver, is_signed, secret


@pytest.fixture
def receiver():
    made = []

    def make(*args, **options):
        made.append(Receiver(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def hooked(gateway, sink, tmp_path):
    """hooked(NAME="url: …, events: …") is a gateway with these webhooks; one.secret is that of all."""
    def make(start=True, **webhooks):
        mail = sink(replies={"RCPT": known("anna")})
        mx = free_port()
        file = tmp_path / "secret"
        file.write_text(secret() + "\n")
        file.chmod(0o600)

        def config(webhooks):
            rows = "\n".join(f"  {name}: {{ secret_file: {file}, {keys} }}" for name, keys in webhooks.items())
            return reception(mail, mx, top=f"webhooks:\n{rows}" if rows else "")
        one = gateway(config(webhooks), ports=[mx], start=start)
        one.config, one.mx, one.mail, one.secret, one.secret_file = config, mx, mail, file.read_text().strip(), file
        return one
    return make


def to(receiver, rest='events: [ recipient.reject ]'):
    return f'url: "http://127.0.0.1:{receiver if isinstance(receiver, int) else receiver.port}/hook/s3cret", {rest}'


FOUR = "events: [ recipient.reject ], concurrency: 4"  # that fail at once make a receiver that is down


def refuse(one, count=1, name="nobody"):
    """So many refused recipients, an event each; their refs. A session has fewer than its limit of refusals."""
    refs = []
    while len(refs) < count:
        with one.client(one.mx) as client:
            client.docmd("MAIL FROM:<x@example.net>")
            for i in range(len(refs), min(count, len(refs) + 8)):
                reply = client.docmd(f"RCPT TO:<{name}{i}@example.org>")[1].decode()
                refs.append(reply.rpartition("(ref ")[2].rstrip(")"))
    return refs


def shown(one, name="ops"):
    return one.ctl_json("webhook", "show", name)[0]


def wait_pending(one, count, name="ops"):
    wait_until(lambda: shown(one, name)["pending"] == count, f"{count} deliveries wait: {shown(one, name)}")


def refs_of(receiver):
    return {got.data["ref"] for got in list(receiver.got) if got.type == "recipient.reject"}


# ---- what is sent ----

def test_an_event_is_sent_signed_and_thin(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(ops))
    ref, = refuse(one)
    got = wait_until(lambda: ops.got, "a webhook")[0]
    assert is_signed(one.secret, got.fields, got.body)
    assert not is_signed(secret(), got.fields, got.body) and not is_signed(one.secret, got.fields, got.body + b" ")
    assert got.fields["Content-Type"] == "application/json" and got.path == "/hook/s3cret"
    assert got.id.startswith("msg_") and "." not in got.id
    event = one.wait("recipient.reject")
    assert got.type == "recipient.reject" and got.json["timestamp"] == event["time"]
    assert got.data["ref"] == ref == event["ref"] and got.data["session"] == event["session"]
    assert got.data["seq"] == event["seq"] and got.data["rev"] == event["rev"] and got.data["node"] == event["node"]
    assert got.data["reason"] == event["reason"]
    assert "to" not in got.data and "from" not in got.data and b"example.net" not in got.body, "a thin payload has no addresses"
    assert len(got.body) < 20000
    wait_pending(one, 0)
    assert len(ops.got) == 1, "events that nobody chose are not sent"
    delivery, = one.ctl_json("webhook", "deliveries", "ops")
    assert delivery["id"] == got.id and delivery["state"] == "delivered" and delivery["status"] == 200
    assert delivery["attempts"] == 1 and delivery["answer"] == "thank you"
    whole, = one.ctl_json("webhook", "delivery", got.id)
    assert whole["payload"] == got.json
    everything = json.dumps(one.events) + one.ctl("webhook", "list") + one.ctl("--json", "webhook", "show", "ops") + \
        one.ctl("webhook", "show", "ops") + one.ctl("metrics")
    assert "s3cret" not in everything and one.secret not in everything and f"http://127.0.0.1:{ops.port}" in everything


def test_a_full_payload_and_an_expression(hooked, receiver):
    full, chosen, none = receiver(), receiver(), receiver()
    one = hooked(full=to(full, 'events: [ "recipient.*" ], payload: full'),
                 chosen=to(chosen, 'events: [ recipient.reject ], q: "to:nobody1@example.org"'),
                 none=to(none, 'q: "to:else@example.org"'))
    refuse(one, 3)
    with one.client(one.mx) as client:
        client.docmd("MAIL FROM:<x@example.net>")
        assert client.docmd("RCPT TO:<anna@example.org>")[0] == 250
    wait_until(lambda: len(full.got) == 4 and chosen.got, "all that were chosen")
    assert sorted(got.data["to"] for got in full.got) == ["anna@example.org"] + [f"nobody{i}@example.org" for i in range(3)]
    assert all(got.data["from"] == "x@example.net" for got in full.got)
    for name in ("full", "chosen", "none"):
        wait_pending(one, 0, name)
    assert len(chosen.got) == 1 and not none.got


def test_secrets_change_without_a_gap(hooked, receiver, tmp_path):
    ops = receiver()
    new = tmp_path / "new"
    new.write_text(secret())
    new.chmod(0o600)
    one = hooked(ops=to(ops))
    row = f"  ops: {{ secret_file: [ {new}, {one.secret_file} ], {to(ops)} }}"
    one.write_config(one.config({}) + f"webhooks:\n{row}\n")
    assert one.reload()
    refuse(one)
    got = wait_until(lambda: ops.got, "a webhook")[0]
    assert len(got.fields["webhook-signature"].split()) == 2
    assert is_signed(one.secret, got.fields, got.body) and is_signed(new.read_text(), got.fields, got.body)
    one.write_config(one.config({}) + f"webhooks:\n{row.replace(f', {one.secret_file} ]', ' ]')}\n")
    assert one.reload()
    refuse(one)
    got = wait_until(lambda: len(ops.got) > 1 and ops.got[1], "another webhook")
    assert not is_signed(one.secret, got.fields, got.body) and is_signed(new.read_text(), got.fields, got.body)


def test_a_changed_secret_file_is_noticed(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(ops))
    before = len(one.find("config.applied"))
    other = secret()
    one.secret_file.write_text(other)
    one.wait("config.applied", count=before + 1)
    refuse(one)
    got = wait_until(lambda: ops.got, "a webhook")[0]
    assert is_signed(other, got.fields, got.body)


def test_tls_is_verified(hooked, receiver, tls_files):
    ops = receiver(tls_files=tls_files)
    url = f'url: "https://localhost:{ops.port}/", events: [ recipient.reject ]'
    one = hooked(known=url + f", ca_file: {tls_files[0]}", unknown=url)
    refuse(one)
    wait_until(lambda: ops.got, "a webhook")
    assert is_signed(one.secret, ops.got[0].fields, ops.got[0].body)
    failed = wait_until(lambda: shown(one, "unknown")["attempts_failed"] and shown(one, "unknown"), "an attempt that failed")
    assert "TLS" in failed["error"] and failed["pending"] == 1 and len(ops.got) == 1


# ---- receivers that fail ----

def test_what_waits_for_a_receiver_that_is_down_outlives_a_kill(hooked, receiver):
    port = free_port()
    one = hooked(ops=to(port, FOUR))
    refs = set(refuse(one, 40))
    wait_pending(one, 40)
    one.wait("webhook.failed", webhook="ops")  # three attempts in vain
    one.crash_expected = True
    one.kill()
    ops = receiver(port=port)
    one.start()
    assert shown(one)["pending"] + len({got.id for got in ops.got}) >= 40
    one.ctl("webhook", "resume", "ops")
    wait_until(lambda: refs_of(ops) == refs, "all of them, at least once")
    assert all(is_signed(one.secret, got.fields, got.body) for got in ops.got)
    wait_pending(one, 0)


def test_a_receiver_that_comes_back_gets_all_at_once(hooked, receiver):
    port = free_port()
    one = hooked(ops=to(port, FOUR))
    refs = set(refuse(one, 20))
    one.wait("webhook.failed", webhook="ops")
    assert shown(one)["state"] == "failing" and shown(one)["next_try"]
    ops = receiver(port=port)
    one.wait("webhook.recovered", webhook="ops")
    wait_until(lambda: refs_of(ops) == refs, "all of them")
    wait_pending(one, 0)
    assert len(one.find("webhook.failed")) == 1


def test_gone_means_no_more(hooked, receiver):
    ops = receiver(410)
    one = hooked(ops=to(ops))
    refuse(one)
    one.wait("webhook.disabled", webhook="ops")
    assert shown(one)["state"] == "disabled"
    refuse(one, 5)
    one.wait("recipient.reject", count=6)
    one.stop()
    one.start()
    assert shown(one)["state"] == "disabled" and len(ops.got) == 1
    ops.answer = 200
    one.ctl("webhook", "resume", "ops")
    ref, = refuse(one)
    wait_until(lambda: ref in refs_of(ops), "a webhook again")
    assert len(ops.got) == 2
    one.wait("admin.action", verb="webhook", object="resume ops")


def test_a_disabled_one_with_another_url_is_tried_again(hooked, receiver):
    ops, other = receiver(410), receiver()
    one = hooked(ops=to(ops))
    refuse(one)
    one.wait("webhook.disabled", webhook="ops")
    one.write_config(one.config({"ops": to(other)}))
    assert one.reload()
    refuse(one)
    wait_until(lambda: other.got, "a webhook at the new place")


def test_redirects_are_not_followed_and_retry_after_is_kept(hooked, receiver):
    other = receiver()
    moved = receiver(lambda got: (302, {"Location": f"http://127.0.0.1:{other.port}/"}))
    busy = receiver((429, {"Retry-After": "3600"}))
    one = hooked(moved=to(moved), busy=to(busy))
    refuse(one)
    wait_until(lambda: shown(one, "moved")["attempts_failed"] and shown(one, "busy")["attempts_failed"], "two attempts that failed")
    refuse(one, 3)
    wait_pending(one, 4, "busy")
    delivery, = [one for one in one.ctl_json("webhook", "deliveries", "moved") if one["status"] == 302][:1]
    assert delivery["error"] == "redirects are not followed" and delivery["state"] == "pending"
    assert not other.got and len(busy.got) == 1, "it is left alone for an hour"
    assert shown(one, "busy")["next_try"] > one.wait("recipient.reject", count=4)["time"]
    one.ctl("webhook", "retry", one.ctl_json("webhook", "deliveries", "busy", "--pending")[-1]["id"])
    wait_until(lambda: len(busy.got) == 2, "tried again, as somebody wishes")


def test_a_receiver_that_hangs_holds_up_no_other(hooked, receiver):
    slow, fast = receiver("hang"), receiver()
    one = hooked(slow=to(slow, "events: [ recipient.reject ], timeout: 60s"), fast=to(fast))
    refs = set(refuse(one, 30))
    wait_until(lambda: refs_of(fast) == refs, "all of the fast one's")
    assert shown(one, "slow")["pending"] == 30 and len(slow.got) <= 2
    assert one.stop() == 0, "a receiver that hangs does not hold up the end either"


# ---- the outbox ----

def test_a_damaged_outbox_is_set_aside(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(free_port()))
    refuse(one, 3)
    wait_pending(one, 3)
    one.stop()
    file = one.folder / "spool" / "webhooks.db"
    file.write_bytes(os.urandom(4096))
    for name in ("webhooks.db-wal", "webhooks.db-shm"):
        (one.folder / "spool" / name).unlink(missing_ok=True)
    one.write_config(one.config({"ops": to(ops)}))
    one.start()
    one.wait("webhook.outbox_damaged")
    assert list(file.parent.glob("webhooks.db.damaged-*"))
    ref, = refuse(one)
    wait_until(lambda: ref in refs_of(ops), "a webhook")
    assert file.stat().st_mode & 0o077 == 0, "what is in it is nobody else's"


def test_without_room_for_the_outbox_mail_goes_on(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(ops), start=False)
    blocked = one.folder / "spool" / "webhooks.db"
    blocked.mkdir(parents=True)  # no file can be made there
    one.start()
    one.wait("webhook.outbox_failed")
    refuse(one, 3)
    with one.client(one.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    one.wait("delivery.sent")
    wait_until(lambda: shown(one)["dropped"] == 3, "they are counted")
    one.wait("events.dropped", sink="webhooks", webhook="ops")


def test_a_webhook_that_is_removed_takes_its_deliveries_along(hooked):
    port = free_port()
    one = hooked(ops=to(port), rest=to(free_port()))
    refuse(one, 3)
    wait_pending(one, 3)
    one.write_config(one.config({"rest": to(port)}))
    assert one.reload()
    wait_until(lambda: [row["webhook"] for row in one.ctl_json("webhook", "list")] == ["rest"], "one is left")
    one.write_config(one.config({"ops": to(port), "rest": to(port)}))
    assert one.reload()
    wait_until(lambda: len(one.ctl_json("webhook", "list")) == 2, "both again")
    assert shown(one)["pending"] == 0 and shown(one, "rest")["pending"] == 3
    one.ctl("webhook", "show", "nothing", ok=(1,))


SANITIZED = "sanitize" in os.environ.get("POSTERN_BUILD", "")


def test_a_burst_for_a_dead_receiver_is_bounded_and_counted(hooked):
    """100,000 events that nobody takes: so many wait as may, the rest is counted, and mail is answered all along."""
    total, most = (10_000, 500) if SANITIZED else (100_000, 5_000)
    one = hooked(ops=to(free_port(), f"events: [ recipient.accept ], waiting: {most}, size: 4M"))
    one.mail.replies["RCPT"] = ""

    def burst(count):
        """So many transactions of 50 accepted recipients each, all at once; every one is answered."""
        transaction = b"MAIL FROM:<x@example.net>\r\n" + b"".join(b"RCPT TO:<n%d@example.org>\r\n" % i for i in range(50)) + b"RSET\r\n"
        with Talk(one.mx, ehlo="c.test") as talk:
            for _ in range(count):
                talk.send(transaction)
                got = b""
                while got.count(b"\n") < 52:
                    piece = talk.sock.recv(65536)
                    assert piece, got
                    got += piece
                assert all(line.startswith(b"250 ") for line in got.splitlines()), got

    burst(1)
    wait_pending(one, 50)
    sent = 50
    while sent < total:
        burst(20)
        sent += 20 * 50
    wait_until(lambda: shown(one)["pending"] + shown(one)["dropped"] + lost(one) >= sent, "each is counted")
    at_last = shown(one)
    assert at_last["pending"] <= most and at_last["pending_bytes"] <= 4 << 20
    one.wait("events.dropped", sink="webhooks")
    with one.client(one.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    one.wait("delivery.sent")


def lost(one):
    return sum(event["count"] for event in one.find("events.dropped") if not event.get("webhook"))


# ---- people ----

def test_a_test_says_what_the_receiver_said(hooked, receiver):
    good, bad = receiver(text=b"fine \x1b[31m"), receiver(500, text=b"out of order")
    one = hooked(good=to(good), bad=to(bad), down=to(free_port()))
    text = one.ctl("webhook", "test", "good")
    assert "status 200" in text and "fine" in text and "\x1b" not in text
    got, = good.got
    assert got.type == "webhook.test" and got.data["webhook"] == "good" and is_signed(one.secret, got.fields, got.body)
    tested = json.loads(one.ctl("--json", "webhook", "test", "bad", ok=(1,)))
    assert tested["status"] == 500 and tested["answer"] == "out of order" and tested["state"] == "failed"
    tested = json.loads(one.ctl("--json", "webhook", "test", "down", ok=(1,)))
    assert tested["status"] is None and "refused" in tested["error"]
    one.ctl("webhook", "test", "nobody", ok=(1,))
    one.wait("admin.action", verb="webhook test", object="good")
    assert [row["event"] for row in one.ctl_json("webhook", "deliveries", "bad", "--failed")] == ["webhook.test"]


def test_a_paused_one_keeps_what_comes(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(ops))
    one.ctl("webhook", "pause", "ops")
    refs = set(refuse(one, 5))
    wait_pending(one, 5)
    one.stop()
    one.start()
    assert shown(one)["state"] == "paused" and shown(one)["pending"] == 5 and not ops.got
    one.ctl("webhook", "resume", "ops")
    wait_until(lambda: refs_of(ops) == refs, "all of them")
    assert len(ops.got) == 5


def test_deliveries_come_page_by_page(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(ops))
    refuse(one, 25)
    wait_until(lambda: shown(one)["delivered"] == 25, "all are delivered")
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = ask(one, "GET", "/api/v1/webhooks/ops/deliveries?limit=10" + (f"&cursor={cursor}" if cursor else ""))[2]
        seen += [item["id"] for item in page["items"]]
        cursor, pages = page["next"], pages + 1
    assert len(seen) == len(set(seen)) == 25 and pages == 3
    assert {got.id for got in ops.got} == set(seen)


def test_every_answer_is_as_described(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(ops))
    refuse(one)
    wait_until(lambda: shown(one)["delivered"] == 1, "it is delivered")
    document = ask(one, "GET", "/api/v1/openapi.json")[2]
    id = ops.got[0].id
    asked = [("get", "/api/v1/webhooks", "", None), ("get", "/api/v1/webhooks/{id}", "ops", None),
             ("post", "/api/v1/webhooks/{id}/tests", "ops", None), ("get", "/api/v1/webhooks/{id}/deliveries", "ops", None),
             ("post", "/api/v1/webhooks/{id}/actions", "ops", {"verb": "pause"}),
             ("post", "/api/v1/webhooks/{id}/actions", "ops", {"verb": "resume"}),
             ("get", "/api/v1/webhook-deliveries/{id}", id, None), ("post", "/api/v1/webhook-deliveries/{id}/retries", id, None)]
    for method, path, name, body in asked:
        status, kind, answer = ask(one, method.upper(), path.replace("{id}", name), body)
        assert status == 200 and kind == "application/json", (path, answer)
        schema = document["paths"][path][method]["responses"]["200"]["content"][kind]["schema"]
        jsonschema.validate(answer, schema_of(document, schema["$ref"].rpartition("/")[2]))
    described = {(method, path) for path, ways in document["paths"].items() for method in ways if "/webhook" in path}
    assert described == {(method, path) for method, path, _, _ in asked}
    for path, body, status in (("/api/v1/webhooks/ops/actions", {"verb": "x"}, 400), ("/api/v1/webhooks/x/actions", {"verb": "pause"}, 404),
                               ("/api/v1/webhooks/x/tests", None, 404), ("/api/v1/webhook-deliveries/x/retries", None, 404)):
        assert ask(one, "POST", path, body)[0] == status
    wait_until(lambda: len(ops.got) == 3, "event, test, and the event once more")
    assert ops.got[0].id == ops.got[2].id, "a delivery keeps its id"


def test_numbers(hooked, receiver):
    ops = receiver()
    one = hooked(ops=to(ops), down=to(free_port()))
    refuse(one, 4)
    wait_until(lambda: shown(one)["delivered"] == 4, "all are delivered")
    wait_pending(one, 4, "down")
    numbers = dict(line.rsplit(" ", 1) for line in one.ctl("metrics").splitlines() if line.startswith("postern_webhook"))
    assert numbers['postern_webhook_deliveries_total{endpoint="ops",result="delivered"}'] == "4"
    assert numbers['postern_webhook_deliveries_total{endpoint="ops",result="dropped"}'] == "0"
    assert numbers['postern_webhook_pending{endpoint="down"}'] == "4" and numbers['postern_webhook_pending{endpoint="ops"}'] == "0"
    assert float(numbers['postern_webhook_oldest_seconds{endpoint="down"}']) > 0
    assert numbers['postern_webhook_up{endpoint="ops"}'] == "1"


def test_events_about_webhooks_are_not_sent_by_webhooks(hooked, receiver):
    """Else each failure would make the next."""
    ops = receiver()
    one = hooked(ops=to(ops, 'events: [ "*" ]'), down=to(free_port(), 'events: [ "*" ], concurrency: 4'))
    refuse(one, 3)
    one.wait("webhook.failed", webhook="down", seconds=60)
    wait_until(lambda: len(ops.of_type("recipient.reject")) == 3, "what happened")
    wait_pending(one, 0)
    assert not [got for got in ops.got if got.type.startswith("webhook")]
    assert ops.of_type("daemon.ready")


# ---- the configuration ----

@pytest.mark.parametrize("rest, code, words", [
    ('url: "http://hooks.example.net/", events: [ message.rejected ]', "clear-text", "allow_cleartext"),
    ('url: "ftp://x/", events: [ message.rejected ]', "wrong-value", "https://"),
    ('url: "https://u:p@hooks.example.net/", events: [ message.rejected ]', "secret-inline", "leave user"),
    ('url: "https://hooks.example.net/", events: [ mesage.rejected ]', "unknown-event", "message.rejected"),
    ('url: "https://hooks.example.net/", events: [ "delivry.*" ]', "unknown-event", "delivery.*"),
    ('url: "https://hooks.example.net/", events: [ webhook.failed ]', "wrong-value", "log"),
    ('url: "https://hooks.example.net/"', "missing-key", "events"),
    ('url: "https://hooks.example.net/", q: "since:1h"', "wrong-value", None),
    ('url: "https://hooks.example.net/", q: "nonsense:1"', "wrong-value", None),
    ('url: "https://hooks.example.net/", events: [ message.rejected ], concurrency: 9', None, None),
    ('url: "https://hooks.example.net/", evnts: [ message.rejected ]', "unknown-key", "events"),
])
def test_mistakes_are_told(hooked, rest, code, words):
    one = hooked(start=False, ops=rest)
    exit_code, problems = one.check()
    assert exit_code and problems
    if code:
        found = [problem for problem in problems if problem["reason"] == code]
        assert found, problems
        assert words is None or words in json.dumps(found)


def test_secrets_that_are_none_are_told(hooked):
    one = hooked(start=False, ops='url: "https://hooks.example.net/", events: [ message.rejected ]')
    assert one.check()[0] == 0
    for text in ("geheim", "whsec_c2hvcnQ=", "whsec_***"):
        one.secret_file.write_text(text)
        exit_code, problems = one.check()
        assert exit_code and "whsec_" in json.dumps(problems) and text not in json.dumps(problems).replace("whsec_ ", "")
    one.secret_file.unlink()
    exit_code, problems = one.check()
    assert exit_code and "openssl rand" in json.dumps(problems)
