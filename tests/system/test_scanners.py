# SPDX-License-Identifier: Apache-2.0
"""Content flows with real scanners, and with scanners that hang, break off or talk rubbish."""
import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.scanners import EICAR, VIRUS_NAME, Clamd, Odd, Rspamd, Spamd, with_attachment, zipped
from rig.talk import Talk


@pytest.fixture(scope="module")
def clamd(tmp_path_factory):
    one = Clamd(tmp_path_factory.mktemp("scanner"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory):
    one = Rspamd(tmp_path_factory.mktemp("scanner"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def spamd():
    one = Spamd()
    yield one
    one.stop()


@pytest.fixture
def odd():
    made = []

    def make(deed):
        made.append(Odd(deed))
        return made[-1]

    yield make
    for one in made:
        one.stop()


CONFIG = """
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail}", tls: none }}
  scanner: {{ {server} }}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: none, authentication: none{listener} }}
flows:
  recipient:
    everybody: [ accept ]
  content:
    scan:
{steps}
transports:
  to-mail: {{ method: server, server: mail, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  example.org: {{ recipients: everybody, content: scan, transport: to-mail }}
"""


@pytest.fixture
def scanning(gateway, sink):
    """A function: scanning(SERVER, STEP, ...) is a gateway whose content flow is those steps and deliver."""
    def make(server, *steps, listener=""):
        mail, mx = sink(), free_port()
        text = "\n".join(f"      - {step}" for step in [*steps, "deliver"])
        one = gateway(CONFIG.format(mail=mail.port, mx=mx, server=server, steps=text, listener=listener), ports=[mx])
        one.mail, one.mx = mail, mx
        return one
    return make


def send(one, message, sender="a@example.net"):
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail(sender, "anna@example.org")
        return talk.data(message, b".\r\n")


def delivered(one, count=1):
    wait_until(lambda: len(one.mail.messages) >= count, "it is delivered")
    return one.mail.messages[count - 1].data


def step(one, **fields):
    """The event of the step, from the history."""
    events = [event for item in one.ctl_json("find", "since:1h")
              for event in one.ctl_json("message", "events", item["id"]) if event["event"] == "flow.step"]
    return [event for event in events if all(event.get(key) == value for key, value in fields.items())]


# ---- clamd ----

@pytest.mark.parametrize("content, infected", [
    (b"nothing at all", False), (EICAR, True), (zipped("eicar.com", EICAR), True),
    (zipped("inner.zip", zipped("eicar.com", EICAR)), True), (zipped("a.txt", b"harmless"), False)],
    ids=["clean", "plain", "zip", "nested-zip", "clean-zip"])
def test_malware_is_refused(scanning, clamd, content, infected):
    one = scanning(f'clamd: "unix:{clamd.socket}"', "antivirus: { server: scanner }")
    code, text = send(one, with_attachment(content))
    if not infected:
        assert code == 250, text
        delivered(one)
        return
    assert code == 554 and text.startswith("5.7.1"), text
    event = one.wait("message.rejected", reason="virus")
    assert VIRUS_NAME in event["detail"] and not one.mail.messages


def test_large_messages_are_streamed(scanning, clamd):
    one = scanning(f'clamd: "unix:{clamd.socket}"', "antivirus: { server: scanner }")
    assert send(one, with_attachment(b"\x00" * 1_500_000 + EICAR))[0] == 554
    assert send(one, with_attachment(b"\x00" * 1_500_000))[0] == 250


def test_what_clamd_does_not_take_is_said(scanning, clamd):
    """More than its StreamMaxLength: it answers and closes while we still send."""
    one = scanning(f'clamd: "unix:{clamd.socket}"', "antivirus: { server: scanner, too-big: reject }")
    code, text = send(one, with_attachment(b"\x01" * 6_000_000))
    assert code == 552 and text.startswith("5.3.4"), (text, one.wait("message.deferred"))
    one = scanning(f'clamd: "unix:{clamd.socket}"', "antivirus: { server: scanner, max_size: 1K, too-big: reject }")
    assert send(one, with_attachment(b"x" * 2000))[0] == 552


# ---- rspamd ----

THRESHOLDS = "antispam: { server: scanner, tag_at: 5, hold_at: 8, reject_at: 12 }"


def scored(value):
    return with_attachment(b"x", f"X-Test-Score: {value}\r\nX-Spam-Flag: NO\r\nX-Spam-Forged: yes\r\n".encode())


@pytest.mark.parametrize("score, code, flag", [(1, 250, False), (6.5, 250, True), (13, 554, None)],
                         ids=["clean", "tagged", "refused"])
def test_scores_of_rspamd(scanning, rspamd, score, code, flag):
    one = scanning(f'rspamd: "http://127.0.0.1:{rspamd.port}"', THRESHOLDS)
    got, text = send(one, scored(score))
    assert got == code, text
    if flag is None:
        event = one.wait("message.rejected", reason="spam")
        assert "TEST_SCORE(13.00)" in event["detail"]
        return
    body = delivered(one)
    assert (b"X-Spam-Flag: YES\r\n" in body) == flag
    assert b"X-Spam-Score: %.1f\r\n" % (score + 0.1) in body, body[:600]  # and a bit for the envelope
    assert b"X-Spam-Forged" not in body and b"X-Spam-Flag: NO" not in body
    assert body.index(b"Received:") < body.index(b"X-Spam-Score")


def test_rspamd_is_told_the_envelope(scanning, rspamd):
    one = scanning(f'rspamd: "http://127.0.0.1:{rspamd.port}"', THRESHOLDS)
    assert send(one, scored(13))[0] == 554
    assert "TEST_ENVELOPE" in one.wait("message.rejected", reason="spam")["detail"]


def test_held_for_a_person(scanning, rspamd):
    one = scanning(f'rspamd: "http://127.0.0.1:{rspamd.port}"', THRESHOLDS)
    assert send(one, scored(9))[0] == 250
    one.wait("message.held", reason="spam")
    assert [item["state"] for item in one.queue()] == ["held"] and not one.mail.messages
    one.ctl("queue", "release", "--to", "anna@example.org", "--yes")
    delivered(one)


@pytest.mark.parametrize("score, code", [(1, 250), (4.5, 451), (7, 250), (16, 554)], ids=["none", "greylist", "tag", "reject"])
def test_without_thresholds_its_advice_counts(scanning, rspamd, score, code):
    one = scanning(f'rspamd: "http://127.0.0.1:{rspamd.port}"', "antispam: { server: scanner }")
    assert send(one, scored(score))[0] == code
    if score == 7:
        assert b"X-Spam-Flag: YES\r\n" in delivered(one)


def test_the_score_is_known_to_expressions(scanning, rspamd):
    one = scanning(f'rspamd: "http://127.0.0.1:{rspamd.port}"', "antispam: { server: scanner, reject_at: 100 }",
                   'header: { when: score > 2.5 and score < 7, add: "X-Between: yes" }')
    assert send(one, scored(2))[0] == 250 and b"X-Between" not in delivered(one)
    assert send(one, scored(3))[0] == 250 and b"X-Between: yes" in delivered(one, 2)


def test_observed_only(scanning, rspamd):
    one = scanning(f'rspamd: "http://127.0.0.1:{rspamd.port}"',
                   "antispam: { server: scanner, tag_at: 5, reject_at: 12, observe: true }")
    assert send(one, scored(13))[0] == 250
    assert b"X-Spam-Score" not in delivered(one)
    assert step(one, block="antispam", outcome="refused", observed=True)


# ---- spamd ----

@pytest.mark.parametrize("score, code", [(1, 250), (15, 554)], ids=["clean", "refused"])
def test_scores_of_spamd(scanning, spamd, score, code):
    one = scanning(f'spamd: "127.0.0.1:{spamd.port}"', THRESHOLDS)
    assert send(one, scored(score))[0] == code
    if code == 554:
        assert "TEST_FIELD" in one.wait("message.rejected", reason="spam")["detail"]


# ---- scanners that are not well ----

KINDS = {"clamd": ('clamd: "127.0.0.1:{port}", timeout: {timeout}', "antivirus: { server: scanner }"),
         "rspamd": ('rspamd: "http://127.0.0.1:{port}", timeout: {timeout}', "antispam: { server: scanner, reject_at: 5 }"),
         "spamd": ('spamd: "127.0.0.1:{port}", timeout: {timeout}', "antispam: { server: scanner, reject_at: 5 }")}


@pytest.mark.parametrize("deed", ["hang", "close", "garbage", "half"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_is_error(scanning, odd, kind, deed):
    server, block = KINDS[kind]
    one = scanning(server.format(port=odd(deed).port, timeout="2s" if deed == "hang" else "20s"), block)
    code, text = send(one, with_attachment(b"x"))
    assert code == 451 and text.startswith("4.3.0"), text
    assert one.wait("message.deferred")["reason"] == "backend_down"
    if deed != "hang":  # one message may be the cause; three are not
        for sender in ["b@example.net", "c@example.net"]:
            assert not one.find("backend.down")
            assert send(one, with_attachment(b"x"), sender)[0] == 451
        assert one.wait("backend.down")["backend"] == "scanner"
    assert not one.mail.messages


@pytest.mark.parametrize("kind", KINDS)
def test_error_may_be_passed_over(scanning, kind):
    server, block = KINDS[kind]
    one = scanning(server.format(port=free_port(), timeout="20s"), block.replace(" }", ", error: next }"))
    assert send(one, with_attachment(b"x"))[0] == 250
    delivered(one)


def test_a_dead_scanner_is_left_alone(scanning, odd):
    dead = odd("close")
    one = scanning(f'clamd: "127.0.0.1:{dead.port}", timeout: 20s', "antivirus: { server: scanner }")
    asked = []
    while len(asked) < 4 or asked[-1] != asked[-2]:  # it is left alone for five seconds, in which a slow machine sends little
        assert send(one, with_attachment(b"x", fields=b"Message-ID: <%d@example.net>\r\n" % len(asked)))[0] == 451
        asked.append(dead.connections)
        assert len(asked) < 50, asked
    assert asked[:3] == [1, 2, 3]
    assert "failed 3 times in a row" in one.wait("message.deferred", count=len(asked))["detail"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_poisonous_message_stops_no_other(scanning, odd, kind):
    """A message at which a scanner dies comes again and again: it counts once, and other mail is scanned."""
    well = {"clamd": b"stream: OK\0", "rspamd": b'HTTP/1.1 200 OK\r\n\r\n{"score":1,"action":"no action"}',
            "spamd": b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1.0 / 5.0\r\n\r\n"}[kind]
    scanner = odd("close")
    server, block = KINDS[kind]
    one = scanning(server.format(port=scanner.port, timeout="20s"), block)
    for _ in range(5):
        assert send(one, with_attachment(b"poison", fields=b"Message-ID: <poison@example.net>\r\n"))[0] == 451
    assert scanner.connections == 5, "it was not asked each time"
    scanner.deed = well
    assert send(one, with_attachment(b"x", fields=b"Message-ID: <good@example.net>\r\n"))[0] == 250
    delivered(one)


def test_equal_servers_stand_in_for_each_other(scanning, odd, clamd):
    dead = odd("close")
    one = scanning(f'clamd: [ "127.0.0.1:{dead.port}", "unix:{clamd.socket}" ], timeout: 20s', "antivirus: { server: scanner }")
    for _ in range(8):
        assert send(one, with_attachment(b"x"))[0] == 250
    assert send(one, with_attachment(EICAR))[0] == 554
    assert dead.connections > 0  # each is asked first now and then


@pytest.mark.parametrize("answer, code", [(b"stream: Evil\r\n.\r\nFOUND FOUND\0", 554), (b"stream: OK\0stream: Evil FOUND\0", 250),
                                          (b"UNKNOWN COMMAND\0", 451), (b"x" * 5000, 451)])
def test_answers_of_clamd_that_are_odd(scanning, odd, answer, code):
    one = scanning(f'clamd: "127.0.0.1:{odd(answer).port}", timeout: 20s', "antivirus: { server: scanner }")
    assert send(one, with_attachment(b"x"))[0] == code


# ---- processing under a slow scanner ----

def test_direct_processing_gives_up_in_time(scanning, odd):
    one = scanning(f'clamd: "127.0.0.1:{odd("hang").port}", timeout: 60s', "antivirus: { server: scanner }",
                   listener=", processing: direct, direct_timeout: 2s")
    code, _ = send(one, with_attachment(b"x"))
    assert code == 451 and not one.queue()


def test_queued_processing_takes_it_and_scans_later(scanning, odd, clamd):
    hanging = odd("hang")
    one = scanning(f'clamd: "127.0.0.1:{hanging.port}", timeout: 2s', "antivirus: { server: scanner }",
                   listener=", processing: queued")
    assert send(one, with_attachment(b"x"))[0] == 250
    one.wait("message.deferred")  # by the flow, which runs from the queue
    assert hanging.connections and not one.mail.messages and len(one.queue()) == 1
    one.write_config(one.path.read_text().replace(f'"127.0.0.1:{hanging.port}"', f'"unix:{clamd.socket}"'))
    one.reload()
    one.ctl("queue", "retry", "--to", "anna@example.org", "--yes")
    delivered(one)
    one.wait_empty()
    assert len(one.mail.messages) == 1
