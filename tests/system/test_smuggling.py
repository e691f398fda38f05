# SPDX-License-Identifier: Apache-2.0
"""Line ends and ends of data: what no client may get past us, and what we never send on."""
import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk

ENDS = [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n",
        b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n. \r\n", b"\r\n.\x1a\r\n"]
SMUGGLED = {
    "DATA": b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n",
    "BDAT": b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<anna@example.org>\r\nBDAT 27 LAST\r\nSubject: smuggled\r\n\r\nevil\r\n",
}


@pytest.fixture
def scene(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna")}, users={"anna": "secret"},
                extensions=("PIPELINING", "8BITMIME", "SIZE 0", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING"))
    mx, submission = free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission), ports=[mx, submission])
    one.mail, one.mx, one.submission = mail, mx, submission
    return one


def transfer(talk, way, content):
    """All of content by DATA or BDAT (cut in the middle of the odd end); every reply until the server hangs up."""
    if way == "DATA":
        talk.send(b"DATA\r\n")
        assert talk.reply()[0] == 354
        talk.send(content + b"\r\n.\r\nQUIT\r\n")
    else:
        half = len(content) // 2
        parts = [content] if way == "BDAT" else [content[:half], content[half:]]
        for i, part in enumerate(parts):
            talk.send(b"BDAT %d%s\r\n" % (len(part), b" LAST" if i == len(parts) - 1 else b"") + part)
        talk.send(b"QUIT\r\n")
    return talk.rest().decode()


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("way", ["DATA", "BDAT", "BDAT-split"])
def test_strangers(scene, way, tls):
    """Each of the 14 ends, with a whole transaction behind it: one message, or none, and never the smuggled one."""
    whole = 0
    for end in ENDS:
        for inner in SMUGGLED.values():
            with Talk(scene.mx, ehlo="c.test") as talk:
                if tls:
                    talk.starttls()
                talk.mail("a@example.net", "anna@example.org")
                replies = transfer(talk, way, b"Subject: outer\r\n\r\nouter" + end + inner).splitlines()
            clean = end == b"\r\n. \r\n" or end == b"\r\n.\x1a\r\n"
            if clean:
                whole += 1
                assert replies[0].startswith("250"), (end, replies)
            else:
                assert any(line.startswith("550 5.5.2") for line in replies[:2]), (end, replies)
                assert sum(line.startswith("250") for line in replies) <= (way == "BDAT-split"), (end, replies)
            assert sum(line.startswith("354") for line in replies) == 0, (end, replies)
    wait_until(lambda: len(scene.mail.messages) >= whole, "what is clean is delivered")
    scene.wait_empty()
    assert len(scene.mail.messages) == whole
    assert all(m.sender == "a@example.net" and b"Subject: outer" in m.data for m in scene.mail.messages)
    assert not any("evil@" in line for _, line in scene.mail.commands)


@pytest.mark.parametrize("way", ["DATA", "BDAT", "BDAT-split"])
def test_own_users(scene, way):
    """From users a bare LF is mended, the rest is refused; what goes out has CRLF only and is one message."""
    taken = 0
    for end in ENDS:
        for inner in SMUGGLED.values():
            with Talk(scene.submission, ehlo="c.test") as talk:
                talk.starttls()
                assert talk.login("anna", "secret")[0] == 235
                talk.mail("anna@example.org", "anna@example.org")
                replies = transfer(talk, way, b"Subject: outer\r\n\r\nouter" + end + inner).splitlines()
            bad = b"\0" in end or b"\r" in end.replace(b"\r\n", b"")
            final = [line for line in replies if not line.startswith("221")][-1]
            assert final.startswith("550 5.5.2" if bad else "250"), (end, replies)
            taken += not bad
    wait_until(lambda: len(scene.mail.messages) >= taken, "what is mended is delivered")
    scene.wait_empty()
    assert len(scene.mail.messages) == taken, [m.data for m in scene.mail.messages]
    for message in scene.mail.messages:
        stray = message.data.replace(b"\r\n", b"")
        assert b"\n" not in stray and b"\r" not in stray and b"\0" not in stray, message.data
        assert message.sender == "anna@example.org" and b"Subject: outer" in message.data


@pytest.mark.parametrize("mode, code", [("reject", 550), ("normalise", 250)])
def test_setting(gateway, sink, tls_files, mode, code):
    mail = sink(replies={"RCPT": known("anna")})
    mx = free_port()
    one = gateway(reception(mail, mx, inbound=f", line_endings: {mode}"), ports=[mx])
    with Talk(mx, ehlo="c.test") as talk:
        got, text = talk.mail("a@example.net", "anna@example.org").data(b"Subject: x\r\n\r\na\nb\n..\nc")
        assert got == code, text
        if code == 550:
            assert text.startswith("5.5.2") and talk.is_closed()
    if code == 250:
        wait_until(lambda: mail.messages, "it is delivered")
        assert mail.messages[0].body == b"a\r\nb\r\n.\r\nc\r\n"
    one.wait_empty()


@pytest.mark.parametrize("line", [b"NOOP\n", b"NOOP\r\0\n", b"NO\rOP\r\n", b"MAIL FROM:<a\0@example.net>\r\n",
                                  b"NOOP\nMAIL FROM:<evil@example.net>\r\n"])
def test_commands(scene, line):
    """A command ends at CRLF; anything else is 500 5.5.2 and the end."""
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.send(line + b"\r\nRSET\r\n")
        replies = talk.rest().decode().splitlines()
        assert replies[0].startswith(("500 5.5.2", "501 5.5.2")), replies
        assert len(replies) == 1, replies


def test_dot_in_over_size_message(scene):
    """The size limit changes nothing about where the message ends."""
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        talk.send(b"DATA\r\n")
        assert talk.reply()[0] == 354
        block = b"x" * 998 + b"\r\n"
        for _ in range(52):
            talk.send(block * 1024)
        talk.send(b"\r\n.\nRSET\r\nQUIT\r\n\r\n.\r\nNOOP\r\nQUIT\r\n")
        replies = talk.rest().decode().splitlines()
        assert replies[0].startswith(("552 5.3.4", "550 5.5.2")) and len(replies) <= 3, replies


def test_early_talkers(scene):
    """Bytes behind DATA before 354, and a greeting that is not waited for."""
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        talk.send(b"DATA\r\nSubject: early\r\n\r\nx\r\n.\r\n")
        assert talk.reply()[0] == 554
        assert talk.is_closed()
    with Talk(scene.mx, before=b"EHLO early\r\n", greeting=False) as talk:
        first = talk.reply()
        assert first[0] in (220, 554), first
    assert not scene.mail.messages
