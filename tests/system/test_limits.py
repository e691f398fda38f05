# SPDX-License-Identifier: Apache-2.0
"""Each limit of a listener: what the client is told, that it is an event, and that nothing was taken."""
import time

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk


@pytest.fixture
def limited(gateway, sink, tls_files):
    def make(limits, **options):
        mail = sink(replies={"RCPT": known("anna")}, users={"anna": "secret"})
        mx = free_port()
        one = gateway(reception(mail, mx, inbound=f", limits: {{ {limits} }}", **options), ports=[mx])
        one.mail, one.mx = mail, mx
        # the probe that waited for the port is gone again
        wait_until(lambda: one.status()["sessions"] == 0, "nobody is connected")
        return one
    return make


def talk_to(one, **options):
    return Talk(one.mx, ehlo="c.test", **options)


def reached(one, name):
    event = one.wait("session.limit", limit=name)
    assert event["listener"] == "inbound" and event["client"] == "127.0.0.1"
    return event


HEAD = b"Subject: x\r\n\r\n"


def test_size_declared(limited):
    one = limited("size: 10K")
    with talk_to(one) as talk:
        assert talk.offers("SIZE") == "SIZE 10240"
        code, text = talk.say("MAIL FROM:<a@example.net> SIZE=10241")
        assert code == 552 and text.startswith("5.3.4"), text
        assert talk.code("MAIL FROM:<a@example.net> SIZE=10240") == 250
    reached(one, "size")


@pytest.mark.parametrize("way", ["DATA", "BDAT", "BDAT-many"])
def test_size_real(limited, way):
    one = limited("size: 10K")
    content = HEAD + (b"x" * 98 + b"\r\n") * 200
    with talk_to(one) as talk:
        talk.mail("a@example.net", "anna@example.org")
        if way == "DATA":
            code, text = talk.data(content, b".\r\n")
        elif way == "BDAT":
            code, text = talk.say(b"BDAT %d LAST\r\n" % len(content) + content)
        else:
            for i in range(0, len(content), 5000):
                part = content[i:i + 5000]
                code, text = talk.say(b"BDAT %d\r\n" % len(part) + part)
                if code != 250:
                    break
        assert code == 552 and text.startswith("5.3.4"), text
        if way == "BDAT-many":
            assert talk.code(b"BDAT 3 LAST\r\nabc") == 503
        # the session goes on, and a small one is taken
        assert talk.code("RSET") == 250
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250
    reached(one, "size")
    wait_until(lambda: one.mail.messages, "the small one is delivered")
    assert len(one.mail.messages) == 1


def test_size_at_the_limit(limited):
    """Exactly the limit is not over it; the dots that are stuffed do not count."""
    one = limited("size: 2K")
    line = b"..x" + b"y" * 60 + b"\r\n"
    plain = HEAD + line[1:] * 31
    content = HEAD + line * 31 + b"z" * (2048 - len(plain) - 2) + b"\r\n"
    with talk_to(one) as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(content, b".\r\n")[0] == 250
        assert talk.mail("a@example.net", "anna@example.org").data(content + b"a\r\n", b".\r\n")[0] == 552


def test_recipients(limited):
    one = limited("recipients: 3")
    with talk_to(one) as talk:
        assert "RCPTMAX=3" in talk.offers("LIMITS")
        talk.mail("a@example.net", *["anna@example.org"] * 3)
        code, text = talk.say("RCPT TO:<anna@example.org>")
        assert code == 452 and text.startswith("4.5.3"), text
        assert talk.data(HEAD + b"x")[0] == 250
    reached(one, "recipients")


def test_line(limited):
    one = limited("line: 2K")
    with talk_to(one) as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x" * 2000)[0] == 250
        code, text = talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x" * 3000)
        assert code == 554 and text.startswith("5.6.0"), text
        assert talk.code("NOOP") == 250
    reached(one, "line")


def test_command_line(limited):
    one = limited("command_line: 12288")
    with talk_to(one) as talk:
        assert talk.code("NOOP " + "x" * 500) == 250
        code, text = talk.say("NOOP " + "x" * 5000)
        assert code == 500 and text.startswith("5.5."), text
    reached(one, "command_line")


def test_header_bytes(limited):
    one = limited("header_bytes: 4K")
    with talk_to(one) as talk:
        code, text = talk.mail("a@example.net", "anna@example.org").data(b"Subject: x\r\n" + b"X-A: y\r\n" * 600 + b"\r\nbody")
        assert code == 552, text
        assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"X-A: y\r\n" * 600)[0] == 250
    reached(one, "header_bytes")


def test_header_fields(limited):
    one = limited("header_fields: 20")
    with talk_to(one) as talk:
        code, text = talk.mail("a@example.net", "anna@example.org").data(b"X-A: y\r\n" * 21 + b"\r\nbody")
        assert code == 554, text
        assert talk.mail("a@example.net", "anna@example.org").data(b"X-A: y\r\n\tmore\r\n" * 20 + b"\r\nbody")[0] == 250
    reached(one, "header_fields")


@pytest.mark.parametrize("field", [b"Received: from a by b", b"received: from a by b", b"Received : from a by b", b"RECEIVED:x\r\n\ty"])
def test_hops(limited, field):
    one = limited("hops: 5")
    with talk_to(one) as talk:
        assert talk.mail("a@example.net", "anna@example.org").data((field + b"\r\n") * 5 + HEAD + b"x")[0] == 250
        code, text = talk.mail("a@example.net", "anna@example.org").data((field + b"\r\n") * 6 + HEAD + b"x")
        assert code == 554 and text.startswith("5.4.6"), text
    reached(one, "hops")


def test_errors(limited):
    one = limited("errors: 4")
    with talk_to(one) as talk:
        for _ in range(3):
            assert talk.code("RCPT TO:<x>") == 503
        talk.send("RCPT TO:<x>\r\n")
        rest = talk.rest()
        assert rest.startswith(b"503") and b"\r\n421 " in rest, rest
    reached(one, "errors")


def test_guessing_recipients_is_an_error(limited):
    one = limited("errors: 4")
    with talk_to(one) as talk:
        talk.mail("a@example.net")
        talk.send("".join(f"RCPT TO:<guess{i}@example.org>\r\n" for i in range(10)))
        assert b"421 " in talk.rest()
    reached(one, "errors")


def test_commands(limited):
    one = limited("commands: 10")
    with talk_to(one) as talk:
        talk.send("NOOP\r\n" * 12)
        rest = talk.rest()
        assert rest.count(b"250 ") < 12 and b"421 " in rest, rest
    reached(one, "commands")


def test_commands_start_anew_with_a_message(limited):
    one = limited("commands: 10")
    with talk_to(one) as talk:
        for _ in range(6):
            assert talk.mail("a@example.net", "anna@example.org").data(HEAD + b"x")[0] == 250
            assert talk.code("RSET") == 250


@pytest.mark.parametrize("name", ["sessions", "sessions_per_client"])
def test_sessions(limited, name):
    one = limited(f"{name}: 3")
    open_ones = [talk_to(one) for _ in range(3)]
    with Talk(one.mx) as talk:
        assert talk.greeting[0] == 421 and talk.greeting[1].startswith("4.7.0"), talk.greeting
        assert talk.is_closed()
    reached(one, name)
    assert open_ones[0].code("NOOP") == 250
    open_ones[0].code("QUIT")
    open_ones[0].close()

    def again():
        with Talk(one.mx) as talk:
            return talk.greeting[0] == 220
    wait_until(again, "there is room again")
    for talk in open_ones:
        talk.close()


def test_sessions_per_client_is_per_network(limited):
    one = limited("sessions_per_client: 2")
    open_ones = [talk_to(one, source="127.0.0.1"), talk_to(one, source="127.0.0.9")]
    with Talk(one.mx, source="127.0.0.7") as talk:
        assert talk.greeting[0] == 421, "the same /24"
    with Talk(one.mx, source="127.0.5.1") as talk:
        assert talk.greeting[0] == 220
    for talk in open_ones:
        talk.close()


def test_command_timeout(limited):
    one = limited("command_timeout: 3s")
    with talk_to(one) as talk:
        code, _ = talk.reply()
        assert code == 421 and talk.is_closed()
    reached(one, "command_timeout")
    with Talk(one.mx) as talk:  # half a command
        talk.send(b"EHLO c.te")
        assert talk.reply()[0] == 421
    with talk_to(one) as talk:  # half a message
        talk.mail("a@example.net", "anna@example.org")
        assert talk.code("DATA") == 354
        talk.send(HEAD + b"x")
        assert talk.reply()[0] == 421 and talk.is_closed()
    one.wait_empty()
    assert not one.mail.messages


def dribble(talk, piece, seconds=120):
    """Send piece by piece until the server answers; what it says."""
    talk.sock.settimeout(0.1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            talk.send(piece)
            data = talk.sock.recv(1000)
            return data
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("the server waits for ever")


def test_session_timeout(limited):
    one = limited("session_timeout: 4s")
    with talk_to(one) as talk:
        answer = b"250"
        while answer.startswith(b"250"):
            answer = dribble(talk, b"NOOP\r\n")
            time.sleep(0.1)
        assert answer == b"" or b"421" in answer
    reached(one, "session_timeout")


def test_data_timeout(limited):
    one = limited("data_timeout: 1s")
    with talk_to(one) as talk:
        talk.mail("a@example.net", "anna@example.org")
        assert talk.code("DATA") == 354
        assert b"421" in dribble(talk, b"x")
    reached(one, "data_timeout")
    assert not one.mail.messages


def test_listener_without_limits(limited):
    """0 and nonsense are refused by the check, not taken for unlimited."""
    for bad in ["recipients: 0", "size: 0", "errors: -1", "command_timeout: 0s", "size: 10Q", "sessons: 1"]:
        with pytest.raises(AssertionError):
            limited(bad)


def test_auth_line(gateway, sink, tls_files):
    """The exchange may be long, but not without end."""
    mail = sink(tls_files=tls_files, users={"anna": "secret"})
    mx, submission = free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission), ports=[submission])
    with Talk(submission, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.code("AUTH PLAIN") == 334
        assert talk.code("A" * 12000) in (501, 535)
        assert talk.code("AUTH PLAIN") == 334
        talk.send(b"A" * 70000 + b"\r\n")
        assert talk.rest().startswith(b"500 ")
    with Talk(submission, ehlo="c.test") as talk:
        assert talk.code("NOOP") == 250
    assert one
