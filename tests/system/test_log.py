# SPDX-License-Identifier: Apache-2.0
"""Where the log goes: the journal with its fields and explanations, syslog, a file; and who reads it: fail2ban, a person."""
import datetime
import json
import os
import pathlib
import re
import smtplib
import socket
import struct
import subprocess
import threading

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.setups import known, reception

FAIL2BAN = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "fail2ban" / "postern.conf"


class Collector:
    """A socket that takes datagrams, as syslogd and journald do."""

    def __init__(self, path):
        self.path, self.datagrams = str(path), []
        self.open()

    def open(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        threading.Thread(target=self._read, args=(self.socket,), daemon=True).start()

    def _read(self, one):
        while data := one.recv(1 << 20):
            self.datagrams.append(data)

    def close(self):
        os.unlink(self.path)
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def collector(tmp_path):
    one = Collector(tmp_path / "collector")
    yield one
    one.close()


def entry(datagram):
    """A journal entry, by the rules of systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    fields, rest = {}, datagram
    while rest:
        line, rest = rest.split(b"\n", 1)
        name, equal, value = line.partition(b"=")
        if not equal:
            size, = struct.unpack("<Q", rest[:8])
            value, rest = rest[8:8 + size], rest[8 + size:]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name) and name not in fields, name
        fields[name.decode()] = value.decode()
    return fields


def refused(one, recipient="nobody@example.org", ehlo="client.test"):
    with one.client(one.mx, ehlo=ehlo) as client:
        client.docmd("MAIL FROM:<x@example.net>")
        return client.docmd(f"RCPT TO:<{recipient}>")


def scene(gateway, sink, log):
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
    one = gateway(reception(mail, mx, top=f"log: {{ {log} }}"), start=False)
    one.mx, one.mail = mx, mail
    return one


def start(one):
    """Nothing of it comes over the standard output: its port says that it runs."""
    one.start(wait=False)
    wait_until(lambda: one.process.poll() is not None or (one.folder / "control.sock").exists() and one.run_ctl("status").returncode == 0,
               "it runs")
    assert one.process.poll() is None
    return one


def test_the_journal_has_fields_and_says_what_to_do(gateway, sink, collector, tmp_path):
    one = start(scene(gateway, sink, f"to: journal, socket: {collector.path}"))
    code, text = refused(one)
    assert code == 550
    ref = re.search(rb"ref (\w{8})", text)[1].decode()
    found = wait_until(lambda: [item for item in map(entry, list(collector.datagrams)) if item.get("POSTERN_REF") == ref], "it is told")[0]
    assert found["MESSAGE"].startswith("recipient.reject ") and "to=nobody@example.org" in found["MESSAGE"]
    for name, want in [("PRIORITY", "5"), ("SYSLOG_IDENTIFIER", "postern"), ("POSTERN_EVENT", "recipient.reject"), ("POSTERN_NODE", "mx.example.org"),
                       ("POSTERN_REASON", "recipient_unknown"), ("POSTERN_TO", "nobody@example.org"), ("POSTERN_LISTENER", "inbound"),
                       ("POSTERN_CLIENT", "127.0.0.1"), ("POSTERN_DIRECTION", "inbound"), ("POSTERN_CODE", "550")]:
        assert found[name] == want, (name, found)
    # journalctl finds what it means
    root = tmp_path / "root"
    catalog = root / "usr" / "lib" / "systemd" / "catalog" / "postern.catalog"
    catalog.parent.mkdir(parents=True)
    catalog.write_text(subprocess.run([BUILD / "postern", "docs", "catalog"], check=True, capture_output=True, text=True).stdout)
    subprocess.run(["journalctl", f"--root={root}", "--update-catalog"], check=True)
    known_ids = dict(re.findall(r"^([0-9a-f]{32}) Postern: (\S+)$", subprocess.run(
        ["journalctl", f"--root={root}", "--list-catalog"], check=True, capture_output=True, text=True).stdout, re.M))
    events = re.findall(r"^\| `([a-z_.]+)` \| (?:debug|info|notice|warn|error) ", subprocess.run(
        [BUILD / "postern", "docs", "events"], check=True, capture_output=True, text=True).stdout, re.M)
    assert len(events) > 90 and sorted(known_ids.values()) == sorted(events)
    for item in map(entry, list(collector.datagrams)):
        assert known_ids[item["MESSAGE_ID"]] == item["POSTERN_EVENT"]
    said = subprocess.run(["journalctl", f"--root={root}", "--dump-catalog", found["MESSAGE_ID"]], check=True, capture_output=True, text=True).stdout
    assert "A recipient was refused." in said and "postern trace REF" in said
    told = subprocess.run([BUILD / "postern", "docs", "recipient.reject"], check=True, capture_output=True, text=True).stdout
    assert found["MESSAGE_ID"] in told and "postern trace REF" in told


def test_without_a_journal_the_lines_go_to_standard_output(gateway, sink, tmp_path):
    one = scene(gateway, sink, f"to: journal, socket: {tmp_path}/nobody").start()
    assert refused(one)[0] == 550
    one.wait("recipient.reject", reason="recipient_unknown")


def test_syslog_may_come_later_and_again(gateway, sink, collector):
    one = start(scene(gateway, sink, f"to: syslog, socket: {collector.path}"))

    def told(event):
        lines = [re.fullmatch(r"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d postern\[(\d+)\]: (\{.*\})", data.decode("ascii"))
                 for data in list(collector.datagrams)]
        assert all(lines), collector.datagrams
        return [line for line in lines if json.loads(line[3])["event"] == event]
    assert refused(one)[0] == 550
    line = wait_until(lambda: told("recipient.reject"), "it is told")[0]
    assert int(line[1]) == 2 * 8 + 5 and int(line[2]) == one.child_pid()  # mail.notice
    collector.close()
    assert refused(one)[0] == 550
    lost = 'postern_events_dropped_total{sink="log"} '
    wait_until(lambda: int(one.ctl("metrics").partition(lost)[2].split()[0]) >= 1, "what nobody takes is counted")
    collector.datagrams.clear()
    collector.open()
    assert refused(one)[0] == 550
    wait_until(lambda: told("recipient.reject"), "it is told again")


def test_postfix_lines_in_syslog_carry_the_number_of_their_session(gateway, sink, collector):
    one = start(scene(gateway, sink, f"to: syslog, socket: {collector.path}, compat: postfix"))
    for _ in range(2):
        assert refused(one)[0] == 550

    def sessions():
        lines = [re.fullmatch(r"<\d+>.{15} postfix/smtpd\[(\d+)\]: (\w+).*", data.decode("ascii")) for data in list(collector.datagrams)]
        return [(line[1], line[2]) for line in lines if line]
    wait_until(lambda: sum(word == "disconnect" for _, word in sessions()) >= 2, "both have ended")
    refusing = {number for number, word in sessions() if word == "NOQUEUE"}
    assert len(refusing) == 2
    for number in refusing:
        assert [word for other, word in sessions() if other == number] == ["connect", "NOQUEUE", "disconnect"]


def test_less_or_all_is_logged(gateway, sink):
    one = scene(gateway, sink, "least: warn").start(wait=False)
    wait_until(lambda: one.run_ctl("status").returncode == 0, "it runs")
    assert refused(one)[0] == 550
    wait_until(lambda: one.ctl_json("find", "reason:recipient_unknown"), "the history has it")
    one.stop()
    assert not one.find("recipient.reject") and not one.find("daemon.ready")


def test_who_and_where_is_always_told(gateway, sink):
    one = scene(gateway, sink, "least: debug").start()
    assert refused(one)[0] == 550
    with one.client(one.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    one.wait("message.done")
    one.wait("session.close", count=2)
    events = [event for event in list(one.events) if "node" in event]  # the supervisor has no name of the host
    assert {event["node"] for event in events} == {"mx.example.org"}
    after = next(number for number, event in enumerate(events) if event["event"] == "config.applied")
    assert all(event["rev"] == "r1" for event in events[after:])
    of_session = {"session.open", "session.close", "recipient.reject", "recipient.accept", "message.accepted", "flow.step"}
    for event in events:
        if event["event"] in of_session:
            assert event["session"] and event["listener"] == "inbound" and event["client"] == "127.0.0.1", event
        if event["event"].startswith(("message.", "delivery.")):
            assert event["message"], event


def test_numbers_have_no_gap_while_nothing_is_lost(gateway, sink):
    one = scene(gateway, sink, "least: debug").start()
    for _ in range(5):
        assert refused(one)[0] == 550
    one.wait("session.close", count=5)
    seq = [event["seq"] for event in list(one.events) if "node" in event]  # the supervisor numbers its own
    assert seq == list(range(seq[0], seq[0] + len(seq))) and len(seq) > 20


def test_the_trace_of_a_message_is_its_id(gateway, sink):
    """OpenTelemetry has 16 bytes for it, an id has 16 bytes: who knows one knows the other."""
    one = scene(gateway, sink, "trace: true").start()
    with one.client(one.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    sent = one.wait("delivery.sent")
    number = 0
    for digit in sent["message"]:
        number = number * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(digit)
    assert sent["trace"] == f"{number:032x}"
    assert one.wait("message.accepted")["trace"] == sent["trace"]
    assert "trace" not in one.find("listener.open")[0]


def test_the_end_of_a_message_says_how_long_it_took(gateway, sink):
    one = scene(gateway, sink, "to: stdout").start()
    one.mail.replies["DATA"] = lambda _: "451 4.3.0 busy now"
    with one.client(one.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    late = one.wait("delivery.deferred")
    assert late["cause"].startswith("C") and late["reply"] == "busy now", late
    del one.mail.replies["DATA"]
    done = one.wait("message.done")
    assert done["recipients"] == 1 and done["duration_us"] > 0 and "trace" not in done
    sent = one.wait("delivery.sent")
    assert sent["source_ip"] == "127.0.0.1" and "cause" not in sent
    story, = wait_until(lambda: one.ctl_json("find", f"cause:{late['cause']}", ok=(0, 1)), "the history has it")
    assert story["id"] == late["message"]


def test_a_certificate_that_ends_soon_is_told_once(gateway, sink, tmp_path):
    cert, key = tmp_path / "soon.pem", tmp_path / "key.pem"

    def make(days):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                        "-out", tmp_path / "new.pem", "-days", str(days), "-subj", "/CN=mx.example.org"], check=True, stderr=subprocess.DEVNULL)
        os.replace(tmp_path / "new.pem", cert)
    make(3)
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
    one = gateway(reception(mail, mx, certificate=(cert, key)), ports=[mx])
    told = one.wait("certificate.expiring", object="main")
    assert told["file"] == str(cert) and told["severity"] == "warn"
    ends, = re.findall(r'^postern_certificate_expiry_timestamp_seconds{name="main"} (\d+)$', one.ctl("metrics"), re.M)
    assert datetime.datetime.fromisoformat(told["expires"].replace("Z", "+00:00")).timestamp() == int(ends)
    make(90)  # renewed: key and certificate fit again once both are written
    one.wait("certificate.loaded", object="main")
    assert len(one.find("certificate.expiring")) == 1


def test_a_disk_that_fills_is_told_before_mail_is_refused(gateway, sink, tmp_path):
    free = os.statvfs(tmp_path)
    floor = free.f_bavail * free.f_frsize * 7 // 10
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
    one = gateway(reception(mail, mx, top=f"spool: {{ path: spool, free_space: {floor // 1024}K }}"), ports=[mx])
    low = one.wait("disk.low")
    assert low["limit"] < low["size"] < 2 * low["limit"] and low["severity"] == "warn"
    assert not one.find("spool.full")
    with one.client(mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], b"Subject: x\r\n\r\nhello\r\n")
    one.wait("delivery.sent")


def banned(log, mode):
    done = subprocess.run(["fail2ban-regex", "-o", "ip", log, f"{FAIL2BAN}[mode={mode}]"], text=True, capture_output=True, check=True)
    return sorted(done.stdout.split())


def test_fail2ban_reads_our_own_lines(gateway, sink, tls_files):
    mail, mx, submission = sink(replies={"RCPT": known("anna")}, users={"anna": "secret"}), free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, top="log: { to: file, path: postern.log }",
                            inbound=", proxy: { from: [ 127.0.0.1 ] }"), start=False)
    one.mx = mx
    start(one)
    log = one.folder / "postern.log"
    hostile = 'x","client":"9.9.9.9","y":"'  # what would frame somebody
    for user, password in ((hostile, "wrong"), ("anna", "secret")):
        with one.client(submission, tls=True) as client:
            try:
                client.login(user, password)
            except smtplib.SMTPAuthenticationError:
                assert password == "wrong"
    sender = hostile.replace('"', '\\"')
    for number, recipient in enumerate(["nobody@example.org", "x@elsewhere.test", "anna@example.org"]):
        with socket.create_connection(("127.0.0.1", mx), timeout=20) as talk, talk.makefile("rwb") as lines:
            talk.sendall(f"PROXY TCP4 192.0.2.{number + 1} 127.0.0.1 4711 25\r\n".encode())
            for line in ("", "EHLO client.test", f"MAIL FROM:<\"{sender}\"@x.test>", f"RCPT TO:<{recipient}>", "QUIT"):
                if line:
                    talk.sendall(line.encode() + b"\r\n")
                while lines.readline()[3:4] == b"-":
                    pass
    wait_until(lambda: log.read_text().count('"event":"recipient.') >= 3 and '"event":"auth.ok"' in log.read_text(), "all is told")
    one.stop()
    text = log.read_text()
    assert '"event":"auth.fail"' in text and text.count('"event":"recipient.reject"') == 2
    assert set(banned(log, "normal")) == {"127.0.0.1"}
    assert set(banned(log, "more")) == {"127.0.0.1", "192.0.2.1", "192.0.2.2"}
    assert set(banned(log, "aggressive")) == {"127.0.0.1", "192.0.2.1", "192.0.2.2"}


def test_fail2ban_reads_the_words_too(tmp_path):
    log = tmp_path / "words.log"
    log.write_text('Nov 27 19:22:54 vm postern[719]: auth.fail user=anna helo="x client=9.9.9.9" listener=sub client=192.0.2.77\n'
                   'Nov 27 19:22:54 vm postern[719]: auth.error user=anna client=192.0.2.80\n'
                   'Nov 27 19:22:54 vm postern[719]: recipient.reject ref=7KQ2M9XD reason=relay_denied reply="no \\" client=9.9.9.9 \\"" client=192.0.2.78\n'
                   'Nov 27 19:22:54 vm postern[719]: recipient.reject ref=7KQ2M9XD reason=spf_fail client=192.0.2.79 session=1\n')
    for mode, want in [("normal", ["192.0.2.77"]), ("more", ["192.0.2.77", "192.0.2.78"]),
                       ("aggressive", ["192.0.2.77", "192.0.2.78", "192.0.2.79"])]:
        assert banned(log, mode) == want, mode
