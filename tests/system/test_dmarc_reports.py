# SPDX-License-Identifier: Apache-2.0
"""Aggregate reports: counted from real mail, sent to who asked for them, read when others send them."""
import email
import email.policy
import gzip
import io
import json
import subprocess
import time
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.talk import Talk

CONFIG = """
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{mail}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: none, authentication: none }} }}
flows:
  recipient:
    everybody: [ accept ]
    nobody: [ reject ]
  content:
    checked: [ verify, deliver ]
    signed: [ {signing}deliver ]
transports:
  to-mail: {{ method: server, server: mail, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  example.org: {{ recipients: everybody, content: checked, transport: to-mail }}
  any: {{ recipients: nobody, content: signed, transport: to-mail }}
entitlements: {{ open_relay_support: true }}
dns: {{ servers: [ "{dns}" ], timeout: 2s }}
reports: {{ dmarc: {{ from: dmarc@example.org, organization: "Example & Sons" }} }}
{extra}
"""

ZONE = ['good.test. TXT "v=spf1 ip4:127.0.0.1 -all"', '_dmarc.good.test. TXT "v=DMARC1; p=quarantine; aspf=s; rua=mailto:d@good.test"',
        'bad.test. TXT "v=spf1 -all"', '_dmarc.bad.test. TXT "v=DMARC1; p=reject; rua=mailto:d@bad.test,mailto:d@stranger.test,mailto:d@friend.test!1k"',
        'bad.test._report._dmarc.friend.test. TXT "v=DMARC1"',
        'silent.test. TXT "v=spf1 ip4:127.0.0.1 -all"', '_dmarc.silent.test. TXT "v=DMARC1; p=none"']


@pytest.fixture
def reporting(gateway, sink, dns):
    def make(zone=ZONE, signing="", extra=""):
        mail, mx, names = sink(), free_port(), dns(zone)
        one = gateway(CONFIG.format(mail=mail.port, mx=mx, dns=names.address, signing=signing, extra=extra), ports=[mx])
        one.mail, one.mx, one.names = mail, mx, names
        return one
    return make


def send(one, domain, author=None):
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail(f"bounce@{domain}", "anna@example.org")
        return talk.data(f"From: a@{author or domain}\r\nSubject: x\r\n\r\nx\r\n".encode(), b".\r\n")[0]


def waiting(one):
    return {item["domain"]: item["messages"] for item in one.ctl_json("report", "list")}


def reports(one):
    """By address: the message, and the parsed XML of its attachment."""
    found = {}
    for message in one.mail.messages:
        if not message.sender == "dmarc@example.org":
            continue
        parsed = email.message_from_bytes(message.data, policy=email.policy.default)
        attachment, = parsed.iter_attachments()
        xml = ElementTree.fromstring(gzip.decompress(attachment.get_content()))
        assert message.recipients[0] not in found, "sent twice"
        found[message.recipients[0]] = parsed, xml, attachment
    return found


def test_from_mail_to_report(reporting):
    one = reporting()
    assert [send(one, "good.test") for _ in range(3)] == [250] * 3
    assert send(one, "bad.test") == 550
    assert send(one, "good.test", author="bad.test") == 550
    assert send(one, "silent.test") == 250
    wait_until(lambda: waiting(one) == {"good.test": 3, "bad.test": 2, "silent.test": 1}, "all are counted")
    assert one.ctl("report", "send") == "0 sent\n"  # the day is not over
    assert one.ctl("report", "send", "--today") == "2 sent\n"
    assert waiting(one) == {}
    one.wait_empty()
    found = reports(one)
    assert sorted(found) == ["d@bad.test", "d@good.test"]  # not the stranger; 1k is too little for friend.test
    assert any("larger than they take" in event.get("detail", "") for event in one.find("dmarc.reported", domain="bad.test"))
    assert one.find("dmarc.reported", domain="silent.test")[0]["detail"] == "nobody wants a report"

    message, xml, attachment = found["d@good.test"]
    assert message["Subject"].startswith("Report Domain: good.test Submitter: mx.example.org Report-ID: <")
    assert message["From"].addresses[0].display_name == "Example & Sons" and message["Auto-Submitted"] == "auto-generated"
    assert attachment.get_filename().startswith("mx.example.org!good.test!") and attachment.get_content_type() == "application/gzip"
    assert xml.findtext("report_metadata/org_name") == "Example & Sons"
    assert xml.findtext("policy_published/p") == "quarantine" and xml.findtext("policy_published/aspf") == "s"
    begin, end = (int(xml.findtext(f"report_metadata/date_range/{name}")) for name in ("begin", "end"))
    assert begin % 86400 == 0 and end == begin + 86399
    record, = xml.findall("record")
    assert record.findtext("row/count") == "3" and record.findtext("row/source_ip") == "127.0.0.1"
    assert record.findtext("row/policy_evaluated/spf") == "pass" and record.findtext("row/policy_evaluated/dkim") == "fail"
    assert record.findtext("row/policy_evaluated/disposition") == "none"
    assert record.findtext("identifiers/header_from") == "good.test"
    assert record.findtext("auth_results/spf/domain") == "good.test" and record.findtext("auth_results/spf/scope") == "mfrom"

    _, xml, _ = found["d@bad.test"]
    rows = {row.findtext("auth_results/spf/domain"): row for row in xml.findall("record")}
    assert sorted(rows) == ["bad.test", "good.test"]
    assert {row.findtext("row/policy_evaluated/disposition") for row in rows.values()} == {"reject"}
    assert rows["good.test"].findtext("auth_results/spf/result") == "pass"
    assert rows["good.test"].findtext("row/policy_evaluated/spf") == "fail"  # not of the author's domain


def test_counts_outlive_a_restart_and_nothing_is_sent_twice(reporting):
    one = reporting()
    send(one, "good.test")
    wait_until(lambda: waiting(one) == {"good.test": 1}, "it is counted")
    one.stop()
    one.start()
    send(one, "good.test")
    wait_until(lambda: waiting(one) == {"good.test": 2}, "both are")
    one.ctl("report", "send", "--today")
    assert one.ctl("report", "send", "--today") == "0 sent\n"
    one.wait_empty()
    assert reports(one)["d@good.test"][1].findtext("record/row/count") == "2"


def test_without_an_answer_of_dns_it_waits(reporting):
    one = reporting()
    send(one, "good.test")
    wait_until(lambda: waiting(one) == {"good.test": 1}, "it is counted")
    one.names.stop()
    time.sleep(3)  # the records live for a second, counted in whole ones
    assert one.ctl("report", "send", "--today") == "0 sent\n"
    one.wait("dmarc.report_failed", domain="good.test")
    assert waiting(one) == {"good.test": 1}
    one.names.start()
    wait_until(lambda: one.ctl("report", "send", "--today") == "1 sent\n", "the name server is back")


def test_reports_are_signed_like_other_mail(reporting, tmp_path):
    dkim = pytest.importorskip("dkim")
    record = subprocess.run([BUILD / "postern", "dkim", "generate", "--domain", "example.org", "--selector", "s1", tmp_path / "s1.pem"],
                            check=True, stdout=subprocess.PIPE, text=True).stdout.split('"')[1]
    one = reporting(signing="dkim-sign, ", extra=f"dkim_keys: {{ one: {{ domain: example.org, selector: s1, key: {tmp_path}/s1.pem }} }}")
    send(one, "good.test")
    wait_until(lambda: waiting(one) == {"good.test": 1}, "it is counted")
    one.ctl("report", "send", "--today")
    one.wait_empty()
    raw = next(message.data for message in one.mail.messages if message.sender == "dmarc@example.org")
    zone = {b"s1._domainkey.example.org.": record.encode()}
    assert dkim.verify(raw, dnsfunc=lambda name, timeout=5: zone.get(name))


def test_nothing_is_counted_unless_asked_for(reporting):
    one = reporting()
    one.write_config(one.path.read_text().replace("reports:", "# reports:"))
    one.stop()
    one.start()
    assert send(one, "good.test") == 250
    assert "no reports are made" in subprocess.run([BUILD / "postern", "--socket", one.folder / "control.sock", "report", "list"],
                                                   stderr=subprocess.PIPE, text=True).stderr


# ---- those of others ----

XML = b"""<?xml version="1.0" encoding="UTF-8"?><feedback><report_metadata><org_name>Large Receiver</org_name>
<date_range><begin>1764201600</begin><end>1764287999</end></date_range></report_metadata>
<policy_published><domain>example.org</domain><p>reject</p></policy_published>
<record><row><source_ip>192.0.2.7</source_ip><count>41</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim>
<spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.org</header_from></identifiers></record>
<record><row><source_ip>198.51.100.9\x07</source_ip><count>2</count><policy_evaluated><disposition>reject</disposition><dkim>fail</dkim>
<spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.org</header_from></identifiers></record></feedback>
""".replace(b"\x07", b"")


def zipped(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.xml", data)
    return out.getvalue()


def message_with(data, kind):
    message = email.message.EmailMessage()
    message["From"], message["Subject"] = "x@example.net", "Report Domain: example.org"
    message.set_content("see attachment")
    message.add_attachment(data, maintype="application", subtype=kind, filename="report")
    return message.as_bytes()


def read(data, *words, ok=0):
    done = subprocess.run([BUILD / "postern", *words, "report", "dmarc"], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == ok, (done.returncode, done.stderr)
    return done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("data", [XML, gzip.compress(XML), zipped(XML), message_with(gzip.compress(XML), "gzip"),
                                  message_with(zipped(XML), "zip"), message_with(gzip.compress(XML), "gzip").replace(b"\n", b"\r\n")],
                         ids=["xml", "gzip", "zip", "message-gzip", "message-zip", "message-crlf"])
def test_reports_of_others(data):
    text, _ = read(data)
    assert "example.org, 2025-11-27, by Large Receiver: policy reject\n" in text
    assert "      41  192.0.2.7                               fail  pass  none       example.org\n" in text
    assert "<-- neither is yours" in text.splitlines()[3] and text.endswith("41 of 43 passed\n")
    rows = [json.loads(line) for line in read(data, "--json")[0].splitlines()]
    assert [(row["source_ip"], row["count"]) for row in rows] == [("192.0.2.7", 41), ("198.51.100.9", 2)]


BOMB = b"<feedback>" + b"A" * (200 * 1024 * 1024) + b"</feedback>"
LAUGHS = (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9)) + b"]><feedback>&j;</feedback>")


@pytest.mark.parametrize("data, says", [
    (b"", "no report"), (b"hello", "no report"), (b"<html></html>", "no report"), (b"\x1f\x8b\x08garbage", "no report"),
    (gzip.compress(BOMB, 9), "no report"), (zipped(BOMB), "no report"), (LAUGHS, "document type"),
    (message_with(b"no archive", "gzip"), "no report"), (zipped(b"<feedback>")[:-30], "no report")],
    ids=["empty", "text", "html", "broken", "gzip-bomb", "zip-bomb", "laughs", "message", "cut"])
def test_what_is_no_report_is_told(data, says):
    done = subprocess.run([BUILD / "postern", "report", "dmarc"], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1 and says in done.stderr.decode() and b"ended by signal" not in done.stderr, done
    assert done.stdout == b""


def test_a_name_cannot_steer_the_terminal():
    text, _ = read(XML.replace(b"<header_from>example.org", b"<header_from>&#x9b;31m&#x202e;x", 1))
    assert "\x9b" not in text and "\u202e" not in text
