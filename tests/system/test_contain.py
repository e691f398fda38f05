# SPDX-License-Identifier: Apache-2.0
"""Stolen accounts: held and not bounced, nobody else touched, closed by a person; whatever is killed meanwhile."""
import collections
import os
import random
import re
import smtplib
import threading
import time

import pytest

from rig.gateway import wait_until
from rig.ports import free_port

USERS = {"anna": "secret", "bob": "secret", "billing@example.org": "secret"}
BUSY = "450 4.2.0 busy"
LIMIT = "limit: { id: enough, by: user, messages: 10/1h, then: contain }"


class Scene:
    """Users of a submission port who write to example.net (well) and example.com (busy until told otherwise)."""

    def __init__(self, gateway, sink, tls_files, steps=LIMIT, recipient="accept: { when: authenticated }", listener="", top="",
                 start=True):
        self.mail = sink(users=USERS, replies={"RCPT": lambda line: "" if "<known@" in line else "550 5.1.1 no such user"})
        self.world = sink()
        self.world.replies["RCPT"] = lambda line: BUSY if self.busy and "@example.com>" in line else ""
        self.busy = True
        self.port = free_port()
        self.gateway = gateway(f"""\
version: 1
hostname: mx.example.org
postmaster: postmaster@example.org
servers:
  mail: {{ smtp: "127.0.0.1:{self.mail.port}", tls: none }}
  world: {{ smtp: "127.0.0.1:{self.world.port}", tls: none }}
certificates:
  main: {{ cert: {tls_files[0]}, key: {tls_files[1]} }}
listeners:
  submission: {{ listen: [ "127.0.0.1:{self.port}" ], tls: required, certificate: main,
                authentication: {{ flow: staff, required: true }}{listener} }}
flows:
  authentication:
    staff: [ smtp: {{ server: mail }} ]
  recipient:
    users: [ {recipient} ]
  content:
    outgoing: [ {steps}, deliver ]
transports:
  out: {{ method: server, server: world, direction: outbound, retry: {{ delays: [ 1h ], count: 5 }} }}
domains:
  example.org: {{ recipients: users, content: outgoing, transport: out }}
  example.net: {{ recipients: users, content: outgoing, transport: out }}
  example.com: {{ recipients: users, content: outgoing, transport: out }}
{top}""", ports=[self.port], start=start)
        self.sent = []

    def client(self, user="anna"):
        return self.gateway.client(self.port, tls=True, login=(user, "secret"))

    def send(self, client, to, user="anna"):
        """One message; its token if it was taken, else the reply."""
        token = f"token-{len(self.sent)}"
        sender = user if "@" in user else f"{user}@example.org"
        try:
            client.sendmail(sender, to, f"Subject: {token}\r\n\r\nx\r\n")
        except smtplib.SMTPResponseException as error:
            return error.smtp_code, error.smtp_error.decode()
        except smtplib.SMTPRecipientsRefused as error:
            return next(iter(error.recipients.values()))
        self.sent.append(token)
        return token

    def refused(self, user="anna"):
        """What a login hears."""
        with pytest.raises(smtplib.SMTPAuthenticationError) as problem:
            self.client(user)
        return problem.value.smtp_code, problem.value.smtp_error.decode()

    def arrived(self):
        """How often each token arrived anywhere; notifications of ours count as what they are."""
        found = collections.Counter()
        for taken in list(self.world.messages):
            subject = re.search(rb"^Subject: (.*?)\r?$", taken.data, re.M)
            found[subject.group(1).decode() if subject else "?"] += 1
        return found

    def held(self):
        return [item for item in self.gateway.queue("--state", "held") if item["reason"] == "contained"]

    def show(self, number="1"):
        return self.gateway.ctl_json("incident", "show", number)[0]

    def nobody_was_told(self):
        assert not self.gateway.find("dsn.sent"), self.gateway.find("dsn.sent")
        assert not [m for m in self.world.messages + self.mail.messages if m.sender == ""]


@pytest.fixture
def scene(gateway, sink, tls_files):
    return lambda **options: Scene(gateway, sink, tls_files, **options)


def fill(one, count=10, to="x@example.com"):
    """Up to the limit: half of it arrives, half waits for a server that is busy."""
    client = one.client()
    for i in range(count):
        assert one.send(client, to if i % 2 else "x@example.net").startswith("token")
    wait_until(lambda: len(one.world.messages) == count // 2 and len(one.gateway.find("delivery.deferred")) == count // 2,
               "half of it arrived, half was tried")
    return client


def test_a_stolen_account(scene):
    """500 mails by four sessions: the limit holds the account, and all of it arrives once when it was a false alarm."""
    one = scene(steps="limit: { id: enough, by: user, messages: 100/1h, then: contain }")
    clients = [one.client() for _ in range(4)]
    answers = [one.send(clients[i % 4], ["x@example.net", "x@example.com"][i // 4 % 2]) for i in range(500)]
    taken = [answer for answer in answers if isinstance(answer, str)]
    assert len(taken) == 101, "the one that reached the limit was taken, too"
    for code, text in (answer for answer in answers if not isinstance(answer, str)):
        assert code == 450 and "on hold" in text
    code, text = one.refused()
    assert code == 525 and text.startswith("5.7.13 This account is on hold"), text
    # what waited for the busy server is held now; what was taken at once is with its recipients
    wait_until(lambda: len(one.held()) + len(one.world.messages) == 101, "all that is not delivered is held")
    assert len(one.held()) >= 45 and not [i for i in one.gateway.queue() if i["state"] != "held"]

    incident = one.gateway.ctl_json("incident", "list")
    assert [(i["incident"], i["user"], i["state"]) for i in incident] == [("1", "anna", "open")]
    shown = one.show()
    assert (shown["limit"], shown["count"], shown["max"], shown["period_seconds"]) == ("messages", 100, 100, 3600)
    assert shown["step"] == "enough" and shown["flow"] == "outgoing" and shown["opened_by"] == "flow"
    assert shown["messages"] == 100 and {d["name"] for d in shown["domains"]} == {"example.net", "example.com"}
    assert shown["clients"] == [{"name": "127.0.0.1", "count": shown["recipients"]}]
    assert shown["queued_entries"] == len(one.held())
    text = one.gateway.ctl("incident", "show", "1")
    assert "100 of 100 messages by user in 1h" in text and "example.com" in text and "127.0.0.1" in text
    assert "incidents  1 open" in one.gateway.ctl("status")
    opened = one.gateway.find("incident.opened")
    assert len(opened) == 1 and opened[0]["user"] == "anna" and opened[0]["limit"] == "messages"

    bob = one.client("bob")  # others are not touched
    token = one.send(bob, "x@example.net", "bob")
    wait_until(lambda: one.arrived()[token], "bob's mail arrives")

    one.gateway.stop()
    one.gateway.start()
    assert one.refused()[0] == 525 and one.gateway.ctl_json("incident", "list") == incident
    wait_until(lambda: not one.gateway.status()["queue"]["loading"], "the queue is loaded")
    held = len(one.held())
    assert held >= 45

    one.busy = False
    assert f"{held} released" in one.gateway.ctl("incident", "close", "1", "--release", "--reason", "it was a newsletter")
    wait_until(lambda: len(one.arrived()) == 102, "all of it arrives")
    one.gateway.wait_empty()
    assert set(one.arrived().values()) == {1} and set(one.arrived()) == set(one.sent)
    closed = one.gateway.ctl_json("incident", "list", "--all")[0]
    assert closed["state"] == "released" and closed["closing_reason"] == "it was a newsletter" and closed["closed_by"]
    assert one.gateway.wait("incident.closed")["actor"] == closed["closed_by"]
    assert one.gateway.find("admin.action", verb="incident close")
    # the account is free, and counted from nothing
    assert one.send(one.client(), "x@example.net").startswith("token")
    assert not one.gateway.ctl_json("incident", "list")
    one.nobody_was_told()


def test_drop(scene):
    one = scene()
    client = fill(one)
    assert one.send(client, "x@example.net").startswith("token")
    wait_until(lambda: len(one.held()) == 6, "five waited, and the last one")
    # the recipients that are good go on only with the account
    entry = one.held()[0]["entry"]
    assert one.gateway.ctl_json("queue", "release", entry, ok=(0, 1))[0]["count"] == 0
    assert one.gateway.ctl_json("queue", "fail", entry, ok=(0, 1))[0]["count"] == 0
    assert one.gateway.ctl_json("queue", "drop", entry)[0]["count"] == 1
    assert len(one.held()) == 5
    one.busy = False
    assert "5 dropped" in one.gateway.ctl("incident", "close", "1", "--drop")
    one.gateway.wait_empty()
    assert sum(one.arrived().values()) == 5
    assert one.gateway.ctl_json("incident", "list", "--all")[0]["state"] == "dropped"
    one.gateway.ctl("incident", "close", "1", "--release", ok=(1, 5))
    assert one.send(one.client(), "x@example.net").startswith("token")
    one.nobody_was_told()


def test_by_hand(scene):
    """An operator contains; the exempt list is no word against that."""
    one = scene(top="contain: { exempt: [ Billing@example.org ] }")
    client = one.client("billing@example.org")
    assert one.send(client, "x@example.com", "billing@example.org").startswith("token")
    one.gateway.wait("delivery.deferred")
    assert "1 held" in one.gateway.ctl("contain", "BILLING@example.org", "--reason", "called by phone")
    assert "already" in one.gateway.ctl("contain", "billing@example.org")
    assert one.refused("billing@example.org")[0] == 525 and one.send(client, "x@example.com")[0] == 450
    assert one.show()["reason"] == "called by phone" and one.show()["opened_by"].startswith("uid")
    assert [i["reason"] for i in one.gateway.queue("--user", "billing@example.org")] == ["contained"]
    assert not one.gateway.queue("--user", "bob")
    one.gateway.ctl("incident", "close", "1", "--release")
    assert one.send(client, "x@example.net", "billing@example.org").startswith("token")
    for words in (["contain", ""], ["incident", "show", "7"], ["incident", "close", "7", "--drop"], ["incident", "close", "1"]):
        one.gateway.ctl(*words, ok=(1, 2))


def test_exempt(scene):
    one = scene(top="contain: { exempt: [ ANNA ] }")
    client = fill(one)
    code, text = one.send(client, "x@example.net")
    assert code == 450 and "try again later" in text
    assert one.gateway.wait("incident.spared")["user"] == "anna"
    assert not one.gateway.ctl_json("incident", "list") and one.client()


def test_processed_from_the_queue(scene):
    """The limit is reached by a run from the queue; what is released is not counted again."""
    one = scene(listener=", processing: queued")
    client = one.client()
    answers = [one.send(client, "x@example.net") for _ in range(40)]
    one.gateway.wait("incident.opened")
    taken = len([a for a in answers if isinstance(a, str)])
    wait_until(lambda: len(one.held()) + len(one.world.messages) == taken, "the rest is held")
    assert len(one.held()) >= taken - 10
    one.gateway.ctl("incident", "close", "1", "--release")
    wait_until(lambda: len(one.world.messages) == taken, "all of it arrives")
    assert set(one.arrived().values()) == {1} and len(one.gateway.find("incident.opened")) == 1
    one.gateway.wait_empty()
    one.nobody_was_told()


def test_released_is_not_counted(scene):
    """More than the limit allows came in while the account was held, and its flow is still to run: a person said yes to it."""
    one = scene(listener=", processing: queued")
    clients = [one.client() for _ in range(15)]
    for client in clients:
        client.mail("anna@example.org")
        client.rcpt("x@example.net")
    one.gateway.ctl("contain", "anna")
    for i, client in enumerate(clients):
        assert client.data(f"Subject: token-{i}\r\n\r\nx\r\n")[0] == 250
    assert len(one.held()) == 15
    assert "15 released" in one.gateway.ctl("incident", "close", "1", "--release")
    wait_until(lambda: len(one.world.messages) == 15, "all of it arrives")
    assert len(one.gateway.ctl_json("incident", "list", "--all")) == 1


def test_recipients_that_do_not_exist(scene):
    """Guessed addresses, which no message ever counts."""
    one = scene(steps="match: { when: size > 0, matched: next }",
                recipient="limit: { by: user, unknown: 3/1h, warn_at: 60%, then: contain }, lookup-smtp: { server: mail }")
    client = one.client()
    client.mail("anna@example.org")
    assert client.rcpt("known@example.org")[0] == 250
    assert [client.rcpt(f"guess{i}@example.org")[0] for i in range(3)] == [550] * 3
    assert client.rcpt("known@example.org")[0] == 450
    assert one.show()["limit"] == "unknown" and one.show()["unknown_recipients"] == 3
    assert client.data("Subject: token-0\r\n\r\nx\r\n")[0] == 250, "what was begun is taken"
    assert len(one.held()) == 1
    assert client.docmd("MAIL FROM:<anna@example.org>")[0] == 450 and one.refused()[0] == 525
    one.gateway.ctl("incident", "close", "1", "--release")
    wait_until(lambda: one.arrived()["token-0"] == 1, "it arrives")
    client.rset()
    client.mail("anna@example.org")
    assert client.rcpt("guess@example.org")[0] == 550, "and it is counted from nothing"
    client.quit()


def test_in_flight(scene):
    """A recipient's server refuses for good what was under way: kept, and nobody is told."""
    one = scene()
    under_way, go_on = threading.Event(), threading.Event()

    def refuse_later(line):
        under_way.set()
        go_on.wait(300)
        return "550 5.1.1 no such user"

    one.world.replies["RCPT"] = refuse_later
    assert one.send(one.client(), "x@example.net").startswith("token")
    assert under_way.wait(120)
    one.gateway.ctl("contain", "anna")
    go_on.set()
    one.gateway.wait("delivery.failed")
    wait_until(lambda: [i["state"] for i in one.gateway.queue()] == ["held"], "it is kept")
    one.nobody_was_told()
    one.gateway.ctl("incident", "close", "1", "--drop")
    one.gateway.ctl("queue", "drop", "--all")
    one.gateway.wait_empty()


@pytest.mark.parametrize("state", ["releasing", "released"])
def test_killed_at_each_step(scene, state):
    """When the incident was opened, and when it was closed or its end was on disk."""
    one = scene()
    client = fill(one)
    assert one.send(client, "x@example.net").startswith("token")  # the incident is on disk before this reply
    one.gateway.kill()
    one.gateway.start()
    assert one.refused()[0] == 525 and one.show()["state"] == "open"
    wait_until(lambda: not one.gateway.status()["queue"]["loading"] and
               all(i["state"] == "held" for i in one.gateway.queue()), "all is held again")
    held = {item["message"] for item in one.held()}
    assert len(held) >= 6
    one.busy = False
    closing = threading.Thread(target=lambda: one.gateway.ctl("incident", "close", "1", "--release", ok=range(10)))
    closing.start()
    reached = ["releasing", "released"][["releasing", "released"].index(state):]
    wait_until(lambda: any(f"state={one_of}" in (one.gateway.folder / "spool/incidents").read_text() for one_of in reached),
               "it is closed on disk")
    one.gateway.kill()
    closing.join()
    one.gateway.start()
    wait_until(lambda: one.gateway.ctl_json("incident", "list", "--all")[0]["state"] == "released", "the release was gone on with")
    one.gateway.wait_empty()
    assert set(one.arrived()) == set(one.sent)
    assert one.client()
    one.nobody_was_told()


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "begun"])
def test_killed_after_closing(scene, answered):
    """When closing was answered, the counts that contained the account are gone from the disk, too; when it was on disk
    before the crash, they are so after it."""
    one = scene()
    client = one.client()
    for _ in range(10):
        assert one.send(client, "x@example.net").startswith("token")
    one.gateway.stop()  # the counts are on disk
    one.gateway.start()
    client = one.client()
    assert one.send(client, "x@example.net").startswith("token")
    wait_until(lambda: one.show()["state"] == "open", "the account is contained")
    closing = threading.Thread(target=lambda: one.gateway.ctl("incident", "close", "1", "--release", ok=range(10)))
    closing.start()
    if answered:
        closing.join()
        assert one.show()["state"] != "open"
    else:
        wait_until(lambda: "state=releas" in (one.gateway.folder / "spool/incidents").read_text(), "it is closed on disk")
    one.gateway.kill()
    closing.join()
    one.gateway.start()
    assert one.send(one.client(), "x@example.net").startswith("token")
    one.gateway.wait_empty()
    assert len(one.gateway.ctl_json("incident", "list", "--all")) == 1, "contained again, by the old counts"


def test_a_start_after_a_close_that_was_cut_short(scene):
    """The incident is closed on disk, and the counts are those of before: what a crash between the two leaves."""
    one = scene()
    client = one.client()
    for _ in range(11):
        assert one.send(client, "x@example.net").startswith("token")
    wait_until(lambda: one.show()["state"] == "open", "the account is contained")
    one.gateway.stop()  # the counts are on disk
    incidents = one.gateway.folder / "spool/incidents"
    text = incidents.read_text()
    assert text.count("state=open") == 1
    incidents.write_text(text.replace("state=open", f"state=releasing\tclosed={time.time_ns()}"))
    one.gateway.start()
    assert one.send(one.client(), "x@example.net").startswith("token")
    one.gateway.wait_empty()
    assert len(one.gateway.ctl_json("incident", "list", "--all")) == 1, "contained again, by the old counts"


@pytest.mark.parametrize("state", ["dropping", "dropped"])
def test_killed_while_dropping(scene, state):
    """What was to be dropped is never sent, whenever the power goes."""
    one = scene()
    client = fill(one)
    assert one.send(client, "x@example.net").startswith("token")
    before = one.arrived()
    one.busy = False
    wait_until(lambda: len(one.held()) == 6, "all is held")
    closing = threading.Thread(target=lambda: one.gateway.ctl("incident", "close", "1", "--drop", ok=range(10)))
    closing.start()
    reached = ["dropping", "dropped"][["dropping", "dropped"].index(state):]
    wait_until(lambda: any(f"state={one_of}" in (one.gateway.folder / "spool/incidents").read_text() for one_of in reached),
               "it is closed on disk")
    one.gateway.kill()
    closing.join()
    one.gateway.start()
    wait_until(lambda: one.gateway.ctl_json("incident", "list", "--all")[0]["state"] == "dropped", "the drop was gone on with")
    one.gateway.wait_empty()
    assert one.arrived() == before
    one.nobody_was_told()


def test_killed_at_random(scene):
    """Whenever it dies: what was to be released arrives, what was to be dropped does not, and the account is free."""
    one = scene()
    rng = random.Random(os.environ.get("CRASH_SEED", "6"))
    for turn in range(6):
        drop, number = turn % 2 == 1, str(turn + 1)
        one.busy = True
        client = one.client()
        tokens = [one.send(client, "x@example.com") for _ in range(4)]
        client.quit()
        if rng.random() < 0.5:  # the sweep may be what is cut short, too
            wait_until(lambda: len(one.gateway.queue("--state", "waiting")) == 4, "all of it waits")
        containing = threading.Thread(target=lambda: one.gateway.ctl("contain", "anna", ok=range(10)))
        containing.start()
        incidents = one.gateway.folder / "spool/incidents"
        wait_until(lambda: incidents.exists() and "state=open" in incidents.read_text(), "it is contained")
        time.sleep(rng.uniform(0, 0.02))
        one.gateway.kill()
        containing.join()
        one.gateway.start()
        wait_until(lambda: len(one.held()) == 4, "all of it is held")
        one.busy = False
        words = ["incident", "close", number, "--drop" if drop else "--release"]
        closing = threading.Thread(target=lambda: one.gateway.ctl(*words, ok=range(10)))
        closing.start()
        time.sleep(rng.uniform(0, 0.04))
        one.gateway.kill()
        closing.join()
        one.gateway.start()
        if one.gateway.ctl_json("incident", "list"):
            one.gateway.ctl(*words)
        wait_until(lambda: one.gateway.ctl_json("incident", "list", "--all")[0]["state"] == ("dropped" if drop else "released"),
                   "it is settled")
        one.gateway.wait_empty()
        assert {token: one.arrived()[token] > 0 for token in tokens} == dict.fromkeys(tokens, not drop), (turn, tokens)
    one.nobody_was_told()


def test_a_damaged_file_is_no_amnesty(scene):
    one = scene(start=False)
    spool = one.gateway.folder / "spool"
    spool.mkdir()
    (spool / "incidents").write_text("postern-incidents 1\nstate=open\tnumber=x\tuser=anna\n")
    one.gateway.start(wait=False)
    assert one.gateway.process.wait(120) != 0
    wait_until(lambda: any("line 2 is no incident" in str(event) for event in one.gateway.events), "its last words are read")


def test_notices_go_on(scene):
    """A branch may tell the postmaster and contain: the notice is ours and not the account's."""
    one = scene(steps="limit: { by: user, messages: 2/1h, then: [ notify: { to: postmaster@example.net, subject: stolen, "
                      "text: look }, contain ] }")
    client = one.client()
    for _ in range(3):
        assert one.send(client, "x@example.net").startswith("token")
    wait_until(lambda: [m for m in one.world.messages if m.recipients == ["postmaster@example.net"]], "postmaster hears")
    assert one.show()["limit"] == "messages" and len(one.held()) == 1


def test_bytes_and_warning(scene):
    one = scene(steps="limit: { by: user, bytes: 1M/1h, warn_at: 50%, then: hold }")
    client = one.client()
    body = "Subject: x\r\n\r\n" + ("x" * 70 + "\r\n") * 5000  # 360,000 bytes
    for _ in range(2):
        client.sendmail("anna@example.org", "x@example.net", body)
    assert not one.gateway.find("message.held")
    near = one.gateway.wait("limit.near")
    assert near["limit"] == "bytes" and near["user"] == "anna" and len(one.gateway.find("limit.near")) == 1
    client.sendmail("anna@example.org", "x@example.net", body)
    assert one.gateway.wait("message.held")["reason"] == "rate_limit"
    assert one.gateway.wait("limit.reached")["detail"].startswith("bytes: ")
