# SPDX-License-Identifier: Apache-2.0
"""Delivery status notifications: who is told what, when, and in which words (RFC 3461, 3462, 3464)."""
import email
import email.policy
import itertools
import re
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.outbound import Host, Outbound

REFUSE = {"RCPT": "550 5.1.1 <nobody> is not known here"}


def parts(report):
    return list(report.iter_parts())


def blocks(report):
    """The fields of the message, and of each recipient."""
    part = parts(report)[1]
    assert part.get_content_type() == "message/delivery-status"
    return part.get_payload()


def test_failure_as_programs_read_it(gateway, sink):
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))})
    message = scene.send(["nobody@far.test", "noone@far.test"], mail=["ENVID=QQ+2B314", "RET=HDRS"],
                         rcpt=[["ORCPT=rfc822;Nobody+2B1@old.test"], []],
                         data=b"Subject: lost\r\nX-Mark: kept\r\n\r\nsecret body\r\n")
    report, = scene.dsn()
    envelope = scene.home.messages[0]
    assert envelope.sender == "" and envelope.recipients == ["a@home.test"]
    assert report.get_content_type() == "multipart/report" and report.get_param("report-type") == "delivery-status"
    assert report["Auto-Submitted"].startswith("auto-replied")
    assert report["To"].addresses[0].addr_spec == "a@home.test" and "postmaster@home.test" in report["From"]
    assert report["MIME-Version"] and report["Date"].datetime and report["Message-ID"] and report["Subject"]
    assert not report.defects and not any(p.defects for p in report.walk())
    people, programs, original = parts(report)
    assert people.get_content_type() == "text/plain"
    text = people.get_content()
    assert "nobody@far.test" in text and "noone@far.test" in text and "is not known here" in text
    whole, *recipients = blocks(report)
    assert re.match(r"dns; *mx\.example\.org", whole["Reporting-MTA"]) and whole["Arrival-Date"]
    assert whole["Original-Envelope-Id"] == "QQ+314"
    assert len(recipients) == 2
    for fields, name in zip(recipients, ("nobody", "noone")):
        assert fields["Final-Recipient"].replace(" ", "") == f"rfc822;{name}@far.test"
        assert fields["Action"] == "failed" and fields["Status"] == "5.1.1"
        assert fields["Diagnostic-Code"].startswith("smtp;") and "550 5.1.1" in fields["Diagnostic-Code"]
        assert fields["Remote-MTA"].replace(" ", "").startswith("dns;") and fields["Last-Attempt-Date"]
        assert fields["Will-Retry-Until"] is None
    assert recipients[0]["Original-Recipient"].replace(" ", "") == "rfc822;Nobody+1@old.test"
    assert recipients[1]["Original-Recipient"] is None
    assert original.get_content_type() == "text/rfc822-headers"
    assert "X-Mark: kept" in original.get_content() and b"secret body" not in envelope.data
    assert scene.gateway.find("dsn.sent", message=message, to="a@home.test", kind="failure")
    scene.gateway.wait_empty()
    scene.count("failure", accepted=2, failed_dsn=2, generated=1, delivered=1)


def test_ret_full_quotes_everything_up_to_64k(gateway, sink):
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))})
    scene.send("nobody@far.test", mail=["RET=FULL"], data=b"Subject: small\r\n\r\nwhole body\r\n")
    report, = scene.dsn()
    assert parts(report)[2].get_content_type() == "message/rfc822"
    assert parts(report)[2].get_payload()[0].get_payload() == "whole body\r\n"
    scene.home.messages.clear()
    scene.send("nobody@far.test", mail=["RET=FULL"], data=b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 6000)
    report, = scene.dsn()
    assert parts(report)[2].get_content_type() == "text/rfc822-headers"
    assert "Subject: large" in parts(report)[2].get_content()
    assert len(scene.home.messages[0].data) < 10000


def test_what_cannot_be_in_a_report(gateway, sink):
    """Words of the other side cannot break the report's structure, whatever they hold."""
    nasty = "550-5.1.1 first\r\n550-5.1.1 \x01\x1b[31m--boundary\r\n550 5.1.1 " + "x" * 400
    scene = Outbound(gateway, sink, {"far": Host(sink(replies={"RCPT": nasty}))})
    scene.send("nobody@far.test", data=b"Subject: --\r\nX-Long: " + b"y" * 900 + b"\r\n\r\nbody\r\n")
    report, = scene.dsn()
    data = scene.home.messages[0].data
    assert len(parts(report)) == 3 and len(blocks(report)) == 2
    assert b"\x1b" not in data and b"\x01" not in data
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    assert "y" * 900 in parts(report)[2].get_content()


# ---- who is told ----

NOTIFY = {None: None, "NEVER": (), "FAILURE": ("failure",), "SUCCESS": ("success",), "DELAY": ("delay",),
          "SUCCESS,FAILURE,DELAY": ("failure", "delay", "success")}
SETTINGS = [("failure",), ("failure", "delay"), ("failure", "delay", "success"), ()]


def test_notify_and_the_setting_of_the_transport(gateway, sink):
    """Each NOTIFY with each `dsn`, for a recipient that fails, and for one that is relayed where DSN is not offered."""
    hosts, cases = {}, []
    for i, (dsn, fate) in enumerate(itertools.product(SETTINGS, ("failure", "success"))):
        host = sink(replies=REFUSE if fate == "failure" else {}, extensions=())
        hosts[f"d{i}"] = Host(host, transport=f"dsn: [ {', '.join(dsn)} ]")
        for k, notify in enumerate(NOTIFY):
            wanted = fate in dsn and (fate in NOTIFY[notify] if NOTIFY[notify] is not None else fate == "failure")
            cases.append((f"n{k}@d{i}.test", notify, fate, dsn, wanted))
    scene = Outbound(gateway, sink, hosts)
    client = scene.gateway.client(scene.port)
    for to, notify, *_ in cases:
        scene.send(to, rcpt=[f"NOTIFY={notify}"] if notify else [], client=client)
    scene.gateway.wait_empty()
    told = {}
    for taken in scene.home.messages:
        fields = blocks(email.message_from_bytes(taken.data, policy=email.policy.SMTP))[1]
        told[fields["Final-Recipient"].partition(";")[2].strip()] = fields["Action"]
    got = {to: told.get(to) for to, *_ in cases}
    assert got == {to: ({"failure": "failed", "success": "relayed"}[fate] if wanted else None)
                   for to, _, fate, _, wanted in cases}
    failures = [case for case in cases if case[2] == "failure"]
    told = sum(1 for case in failures if case[4])
    scene.count("table", failed_dsn=told, failed_silent=len(failures) - told)


def test_success_is_told_by_whom_it_concerns(gateway, sink):
    """Relayed to a host with DSN: the host will tell. LMTP: delivered, and we tell."""
    every = "dsn: [ failure, success ]"
    onward, final = sink(), sink(lmtp=True)
    scene = Outbound(gateway, sink, {"onward": Host(onward, transport=every), "final": Host(final, lmtp=True, transport=every)})
    scene.send("b@onward.test", rcpt=["NOTIFY=SUCCESS"])
    scene.send("b@final.test", rcpt=["NOTIFY=SUCCESS"])
    report, = scene.dsn()
    assert blocks(report)[1]["Action"] == "delivered" and blocks(report)[1]["Status"].startswith("2.")
    scene.gateway.wait_empty()
    assert len(scene.home.messages) == 1
    assert onward.messages[0].rcpt_parameters == ["NOTIFY=SUCCESS"]


def test_nobody_is_told_about_mail_without_sender(gateway, sink):
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))})
    scene.send("nobody@far.test", sender="")
    scene.outcome("nobody@far.test")
    scene.gateway.wait_empty()
    scene.count("null", generated=0, failed_silent=1)
    assert not scene.home.messages


@pytest.mark.parametrize("policy", ["verified", "never", "always"])
def test_strangers(gateway, sink, policy):
    """A stranger's address may be forged: what fails is kept aside for a person, and counted."""
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE), transport=f"dsn_to_strangers: {policy}, direction: inbound")},
                     trusted="10.0.0.0/8", flows="    known: [ accept ]", start=False)
    scene.gateway.write_config(scene.config().replace("recipients: relay", "recipients: known"))
    scene.gateway.start()
    scene.send("nobody@far.test", rcpt=["NOTIFY=FAILURE"])
    if policy == "always":
        report, = scene.dsn()
        assert blocks(report)[1]["Action"] == "failed"
        scene.gateway.wait_empty()
        return
    scene.outcome("nobody@far.test")
    item, = wait_until(lambda: scene.gateway.queue("--state", "held"), "it is kept aside")
    assert item["reason"] == "undeliverable" and item["to"][0]["to"] == "nobody@far.test"
    assert "not known here" in item["to"][0]["reply"]
    assert not scene.home.messages and not scene.gateway.find("dsn.sent")
    scene.count("stranger", quarantined=1)
    scene.gateway.ctl("queue", "drop", item["entry"], "--yes")
    scene.gateway.wait_empty()


def test_a_notification_that_fails_goes_to_postmaster_once(gateway, sink):
    """The sender's own server refuses the notification; then postmaster's refuses too, and that is the end."""
    home = {"RCPT a@home.test": "550 5.1.1 a is gone"}
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))})
    scene.home.replies.update(home)
    scene.send("nobody@far.test")
    wait_until(lambda: scene.home.messages, "postmaster has it")
    taken = scene.home.messages[0]
    assert taken.sender == "" and taken.recipients == ["postmaster@home.test"]
    report = email.message_from_bytes(taken.data, policy=email.policy.SMTP)
    assert report.get_content_type() == "multipart/report" and "nobody@far.test" in str(blocks(report)[1])
    scene.gateway.wait("dsn.failed", to="a@home.test")
    scene.gateway.wait_empty()
    scene.home.replies["RCPT"] = "550 5.1.1 nobody is here"
    scene.send("nobody@far.test")
    scene.gateway.wait("dsn.failed", to="postmaster@home.test")
    scene.gateway.wait_empty()
    assert len(scene.home.messages) == 1
    scene.count("postmaster", generated=4, failed_dsn=2, failed_silent=3)


def test_a_notification_is_retried_like_other_mail(gateway, sink):
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))})
    scene.home.replies["RCPT"] = ["451 4.2.0 later", ""]
    scene.send("nobody@far.test")
    assert scene.dsn()[0].get_content_type() == "multipart/report"
    scene.gateway.wait_empty()
    assert scene.gateway.find("delivery.deferred", to="a@home.test")


def test_a_sender_nobody_takes_mail_for(gateway, sink):
    """No transport takes the sender's domain: postmaster reads of it."""
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))})
    scene.send("nobody@far.test", sender="a@nowhere.test")
    event = scene.gateway.wait("dsn.failed", to="a@nowhere.test")
    assert "transport" in event["reason"] and event["action"] == "postmaster"
    taken = wait_until(lambda: scene.home.messages, "postmaster has it")[0]
    assert taken.sender == "" and taken.recipients == ["postmaster@home.test"]
    assert b"To: <a@nowhere.test>" in taken.data and b"nobody@far.test" in taken.data
    scene.gateway.wait_empty()
    scene.count("nowhere", failed_silent=0, failed_dsn=1, generated=1)


# ---- delay ----

def test_delay_is_told_once(gateway, sink):
    """After delay_after, one notification of delay; then success in silence."""
    busy = {"RCPT": ["450 4.2.0 busy"] * 5 + [""]}
    keys = "dsn: [ failure, delay ], delay_after: 1s"
    scene = Outbound(gateway, sink, {
        "far": Host(sink(replies=busy), transport=keys, retry="retry: { delays: [ 1s ], count: 9 }"),
        "quiet": Host(sink(replies={"RCPT": ["450 4.2.0 busy"] * 3 + [""]}), transport="delay_after: 1s",
                      retry="retry: { delays: [ 1s ], count: 9 }")})
    scene.send("b@far.test")
    scene.send("b@quiet.test")
    scene.send("never@far.test", rcpt=["NOTIFY=FAILURE"])
    report, = scene.dsn()
    fields = blocks(report)[1]
    assert fields["Action"] == "delayed" and fields["Status"].startswith("4.") and fields["Will-Retry-Until"]
    assert "450 4.2.0 busy" in fields["Diagnostic-Code"]
    assert fields["Final-Recipient"].endswith("b@far.test")
    scene.gateway.wait_empty(60)
    assert len(scene.home.messages) == 1
    scene.count("delay", generated=1, failed_dsn=0, delivered=4)


def test_utf8_in_a_report(gateway, sink):
    """An address in UTF-8 makes it a report of the global kind (RFC 6533); to one in UTF-8, it needs SMTPUTF8."""
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))})
    client = scene.gateway.client(scene.port)
    client.command_encoding = "utf-8"
    scene.send("jürgen@far.test", mail=["SMTPUTF8"], data="Subject: Grüße\r\n\r\nHello\r\n".encode(), client=client)
    wait_until(lambda: scene.home.messages, "home has it")
    taken = scene.home.messages[0]
    # the report's own header is ASCII: 8BITMIME is enough, and reaches more hosts
    assert taken.mail_parameters.split()[-1] == "BODY=8BITMIME" and taken.data.partition(b"\r\n\r\n")[0].isascii()
    report = email.message_from_bytes(taken.data, policy=email.policy.SMTPUTF8)
    people, programs, original = report.get_payload()
    assert programs.get_content_type() == "message/global-delivery-status"
    assert original.get_content_type() == "message/global-headers"
    assert "jürgen@far.test".encode() in taken.data and "Grüße".encode() in taken.data
    scene.home.messages.clear()
    scene.send("nobody@far.test", sender="jürgen@home.test", mail=["SMTPUTF8"], client=client)
    wait_until(lambda: scene.home.messages, "home has it")
    assert "SMTPUTF8" in scene.home.messages[0].mail_parameters
    assert scene.home.messages[0].recipients == ["jürgen@home.test"]


def test_our_own_words_are_signed(gateway, sink, tmp_path):
    dkim = pytest.importorskip("dkim")
    record = subprocess.run([BUILD / "postern", "dkim", "generate", "--domain", "home.test", "--selector", "s1", tmp_path / "s1.pem"],
                            check=True, stdout=subprocess.PIPE, text=True).stdout.split('"')[1]
    scene = Outbound(gateway, sink, {"far": Host(sink(replies=REFUSE))},
                     extra=f"dkim_keys: {{ one: {{ domain: home.test, selector: s1, key: {tmp_path}/s1.pem }} }}")
    scene.send("nobody@far.test")
    scene.dsn()
    report = scene.home.messages[0].data
    zone = {b"s1._domainkey.home.test.": record.encode()}
    assert dkim.verify(report, dnsfunc=lambda name, timeout=5: zone.get(name))
    assert not dkim.verify(report.replace(b"nobody@far.test", b"anybody@far.test", 1), dnsfunc=lambda name, timeout=5: zone.get(name))
