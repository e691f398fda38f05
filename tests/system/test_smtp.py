# SPDX-License-Identifier: Apache-2.0
"""ESMTP as RFC 5321 and its extensions say it, command by command, over the wire."""
import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk, plain

MESSAGE = b"From: a@example.net\r\nSubject: test\r\n\r\nHello\r\n"


@pytest.fixture
def scene(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna", "bob", "j\u00f6rg")}, users={"anna": "secret"},
                extensions=("PIPELINING", "8BITMIME", "SIZE 0", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "CHUNKING"))
    mx, submission, shared, implicit = free_port(), free_port(), free_port(), free_port()
    listeners = f"""
  shared: {{ listen: [ "127.0.0.1:{shared}" ], tls: offered, certificate: main, authentication: {{ flow: staff, required: false }} }}
  submissions: {{ listen: [ "127.0.0.1:{implicit}" ], tls: implicit, certificate: main, authentication: {{ flow: staff, required: true }} }}"""
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, listeners=listeners),
                  ports=[mx, submission, shared])
    one.mail, one.mx, one.submission, one.shared, one.implicit = mail, mx, submission, shared, implicit
    return one


def test_what_is_offered(scene):
    with Talk(scene.mx) as talk:
        assert talk.greeting[0] == 220 and talk.greeting[1].startswith("mx.example.org ESMTP")
        talk.ehlo()
        for word in ["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS",
                     "LIMITS"]:
            assert talk.offers(word), f"{word} is not offered: {talk.extensions}"
        assert not talk.offers("AUTH") and not talk.offers("REQUIRETLS") and not talk.offers("XCLIENT")
        assert talk.offers("SIZE") == f"SIZE {50 << 20}"
        assert "RCPTMAX=1000" in talk.offers("LIMITS")
        talk.starttls()
        assert not talk.offers("STARTTLS")
    with Talk(scene.submission, ehlo="c.test") as talk:
        assert not talk.offers("AUTH")
        talk.starttls()
        assert sorted(talk.offers("AUTH").split()[1:]) == ["LOGIN", "PLAIN"]
    with Talk(scene.implicit, implicit=True, ehlo="c.test") as talk:
        assert not talk.offers("STARTTLS") and talk.offers("AUTH")
    with Talk(scene.shared, ehlo="c.test") as talk:
        assert not talk.offers("AUTH"), "in clear"
        talk.starttls()
        assert talk.offers("AUTH")


DIALOG = [
    # (what is said, code, what the text starts with), one connection in clear on the MX port
    ("MAIL FROM:<a@example.net>", 503, "5.5.1"), ("RCPT TO:<anna@example.org>", 503, "5.5.1"), ("NOOP", 250, ""),
    ("NOOP with words", 250, ""), ("RSET", 250, ""), ("HELO", 501, ""), ("EHLO", 501, ""), ("EHLO bad name", 501, ""),
    ("EHLO client.test", 250, "mx.example.org"), ("DATA", 503, "5.5.1"), ("RCPT TO:<anna@example.org>", 503, "5.5.1"),
    ("MAIL FROM:a@example.net", 501, "5."), ("MAIL FROM:<a@example.net", 501, "5."), ("MAIL FROM:<a b@example.net>", 501, "5."),
    ("MAIL FROM:<a@example.net.>", 501, "5."), ("MAIL FROM:<@example.net>", 501, "5."), ("MAIL FROM:<a@>", 501, "5."),
    ("MAIL", 501, "5."), ("MAIL TO:<a@example.net>", 501, "5."), ("MAIL FROM:<a@example.net> SIZE=x", 501, "5.5.4"),
    ("MAIL FROM:<a@example.net> SIZE=99999999999999999999999", 0, ""), ("MAIL FROM:<a@example.net> NONSENSE=1", 555, "5.5.4"),
    ("MAIL FROM:<a@example.net> REQUIRETLS", 555, ""), ("MAIL FROM:<a@example.net> BODY=OTHER", 501, "5.5.4"),
    ("MAIL FROM:<a@example.net> SIZE=1 SIZE=2", 501, "5."), ("MAIL FROM:<a@example.net> RET=SOME", 501, "5.5.4"),
    ("MAIL FROM:<\u00e4@example.net>", 0, ""),
]


def test_order_and_syntax(scene):
    for said, code, start in DIALOG:
        # each on a connection of its own, so that the count of errors does not end it
        with Talk(scene.mx) as talk:
            if not said.startswith(("EHLO", "HELO", "NOOP", "RSET")) and said not in [line for line, *_ in DIALOG[:2]]:
                talk.ehlo()
            got, text = talk.say(said)
            if code == 0:
                assert 500 <= got < 600, (said, got, text)
            else:
                assert got == code and text.startswith(start), (said, got, text)


def test_order_within_a_transaction(scene):
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net")
        assert talk.code("MAIL FROM:<b@example.net>") == 503
        assert talk.code("DATA") == 554 or talk.code("RSET") == 250
        talk.mail("a@example.net", "anna@example.org") if talk.code("RSET") == 250 else None
        assert talk.code("HELO c.test") == 250, "HELO starts anew"
        assert talk.code("RCPT TO:<anna@example.org>") == 503
        assert talk.code("VRFY anna") in (252, 502, 550)
        assert talk.code("EXPN staff") in (502, 550)
        assert talk.code("QUIT now") == 501
        assert talk.code("QUIT") == 221
        assert talk.is_closed()


@pytest.mark.parametrize("parameters, code", [
    (" SIZE=1000", 250), (f" SIZE={(50 << 20) + 1}", 552), (" BODY=8BITMIME", 250), (" BODY=7BIT", 250),
    (" RET=HDRS ENVID=x+2By", 250), (" RET=FULL SIZE=5 BODY=8BITMIME SMTPUTF8 ENVID=q", 250), (" AUTH=<>", 501)])
def test_mail_parameters(scene, parameters, code):
    with Talk(scene.mx, ehlo="c.test") as talk:
        got, text = talk.say(f"MAIL FROM:<a@example.net>{parameters}")
        if "AUTH" in parameters:  # without AUTH offered it is an unknown parameter
            assert got in (250, 555, 501), text
        else:
            assert got == code, text


@pytest.mark.parametrize("parameters, code", [
    (" NOTIFY=NEVER", 250), (" NOTIFY=SUCCESS,FAILURE,DELAY", 250), (" ORCPT=rfc822;anna+40example.org", 250),
    (" NOTIFY=NEVER,FAILURE", 501), (" NOTIFY=", 501), (" NOTIFY=SOMETIMES", 501), (" ORCPT=rfc822", 501), (" X=1", 555)])
def test_rcpt_parameters(scene, parameters, code):
    with Talk(scene.mx, ehlo="c.test") as talk:
        got, text = talk.mail().say(f"RCPT TO:<anna@example.org>{parameters}")
        assert got == code, text


def test_auth_parameter_is_taken(scene):
    with Talk(scene.submission, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.login("anna", "secret")[0] == 235
        assert talk.code("MAIL FROM:<anna@example.org> AUTH=someone@example.org") == 250
        assert talk.code("RSET") == 250
        assert talk.code("MAIL FROM:<anna@example.org> AUTH=<>") == 250


def test_pipelining(scene):
    """A whole group in one segment: replies in order, one bad recipient harms no other."""
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.send("MAIL FROM:<a@example.net>\r\nRCPT TO:<anna@example.org>\r\nRCPT TO:<nobody@example.org>\r\n"
                  "RCPT TO:<bob@example.org>\r\nDATA\r\n")
        assert [talk.reply()[0] for _ in range(5)] == [250, 250, 550, 250, 354]
        talk.send(MESSAGE + b".\r\nMAIL FROM:<c@example.net>\r\nRCPT TO:<nobody@example.org>\r\nNOOP\r\nQUIT\r\n")
        assert [talk.reply()[0] for _ in range(5)] == [250, 250, 550, 250, 221]
    wait_until(lambda: scene.mail.messages, "it is delivered")
    assert sorted(r for m in scene.mail.messages for r in m.recipients) == ["anna@example.org", "bob@example.org"]


def test_chunking(scene):
    """BDAT in three chunks, each with a different cut; what arrives is what was sent."""
    content = b"Subject: chunks\r\n\r\n.dot\r\n..dots\r\n" + b"x" * 900 + b"\r\nend\r\n"
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        cuts = [0, 19, 21, len(content)]
        for i, (begin, end) in enumerate(zip(cuts, cuts[1:])):
            last = " LAST" if i == 2 else ""
            talk.send(f"BDAT {end - begin}{last}\r\n".encode() + content[begin:end])
            code, text = talk.reply()
            assert code == 250, text
        # an empty last chunk
        talk.mail("a@example.net", "anna@example.org")
        talk.send(f"BDAT {len(content)}\r\n".encode() + content + b"BDAT 0 LAST\r\n")
        assert [talk.reply()[0], talk.reply()[0]] == [250, 250]
    wait_until(lambda: len(scene.mail.messages) == 2, "both are delivered")
    assert all(m.body == content.partition(b"\r\n\r\n")[2] for m in scene.mail.messages)


def test_chunking_out_of_order(scene):
    """Octets of a refused chunk are never commands."""
    evil = b"NOOP\r\nRSET\r\nQUIT\r\n"
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.say(b"BDAT %d LAST\r\n" % len(evil) + evil)[0] == 503
        talk.mail("a@example.net")
        assert talk.say(b"BDAT %d LAST\r\n" % len(evil) + evil)[0] in (503, 554)
        talk.mail("a@example.net", "anna@example.org")
        assert talk.say(b"BDAT 5\r\nab\r\nc")[0] == 250
        assert talk.code("DATA") == 503
        assert talk.code("RSET") == 250
        assert talk.code("NOOP") == 250
        assert talk.code("BDAT many LAST") == 501
        assert talk.is_closed(), "nobody knows how much follows"
    assert not scene.mail.messages


def test_smtputf8_and_8bit(scene):
    content = "From: j\u00f6rg@example.org\r\nSubject: \u00fc\r\n\r\nGr\u00fc\u00dfe\r\n".encode()
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.code("MAIL FROM:<\u00e4@example.net> SMTPUTF8 BODY=8BITMIME") == 250
        assert talk.code("RCPT TO:<j\u00f6rg@example.org>") == 250
        assert talk.data(content, b".\r\n")[0] == 250
        # without SMTPUTF8 the same address is none
        assert talk.code("MAIL FROM:<b@example.net>") == 250
        code, text = talk.say("RCPT TO:<j\u00f6rg@example.org>")
        assert code in (550, 553, 501), text
    wait_until(lambda: scene.mail.messages, "it is delivered")
    taken = scene.mail.messages[0]
    assert "SMTPUTF8" in taken.mail_parameters and "Gr\u00fc\u00dfe\r\n".encode() == taken.body


def test_dots(scene):
    body = b".\x20\r\n..\r\n.a\r\n...\r\nx.\r\n"
    with Talk(scene.mx, ehlo="c.test") as talk:
        stuffed = b"".join(b"." + line if line.startswith(b".") else line for line in body.splitlines(True))
        assert talk.mail("a@example.net", "anna@example.org").data(b"Subject: d\r\n\r\n" + stuffed, b".\r\n")[0] == 250
    wait_until(lambda: scene.mail.messages, "it is delivered")
    assert scene.mail.messages[0].body == body


def test_received_line(scene):
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.starttls().mail("a@example.net", "anna@example.org")
        assert talk.data(MESSAGE, b".\r\n")[0] == 250
    wait_until(lambda: scene.mail.messages, "it is delivered")
    received = scene.mail.messages[0].data.partition(b"\r\nFrom:")[0]
    assert received.startswith(b"Received: from client.test (unknown [127.0.0.1])") and b"with ESMTPS" in received, received


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("way", ["submission", "shared", "implicit"])
def test_auth_and_send(scene, way, mechanism):
    """Users everywhere they may log in; anna is never looked up."""
    with Talk(getattr(scene, way), implicit=way == "implicit", ehlo="c.test") as talk:
        if way != "implicit":
            talk.starttls()
        if mechanism == "PLAIN":
            assert talk.say("AUTH PLAIN")[0] == 334
            assert talk.say(plain("anna", "secret"))[0] == 235
        else:
            import base64
            assert talk.say("AUTH LOGIN") == (334, "VXNlcm5hbWU6")
            assert talk.say(base64.b64encode(b"anna").decode()) == (334, "UGFzc3dvcmQ6")
            assert talk.say(base64.b64encode(b"secret").decode())[0] == 235
        assert talk.code("AUTH PLAIN " + plain("anna", "secret")) == 503
        talk.mail("anna@example.org", "nobody@example.org")
    event = scene.wait("auth.ok")
    assert event["user"] == "anna" and event["mechanism"] == mechanism


def test_shared_listener_takes_strangers(scene):
    with Talk(scene.shared, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        assert talk.say("RCPT TO:<nobody@example.org>")[0] == 550


def test_http_is_refused(scene):
    for line in [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"Host: localhost\r\n"]:
        with Talk(scene.mx) as talk:
            talk.send(line + b"EHLO x\r\nMAIL FROM:<a@example.net>\r\n")
            assert talk.reply()[0] == 421
            assert talk.is_closed()


def test_unknown_commands(scene):
    with Talk(scene.mx, ehlo="c.test") as talk:
        codes = [talk.code(f"NONSENSE{i}") for i in range(2)]
        assert codes == [500, 500]
        talk.send("NONSENSE\r\n")
        assert b"421" in talk.rest()
    scene.wait("session.protocol")


# ---- what is mended for own users, and only for them ----

RAW = b"From: anna@example.org\r\nBcc: hidden@example.org\r\nSubject: raw\r\nBCC:\r\n\thidden2@example.org\r\n\r\nBcc: stays\r\n"


def names_of(message):
    return [line.partition(b":")[0].lower() for line in message.data.partition(b"\r\n\r\n")[0].split(b"\r\n") if line[:1] not in b" \t"]


def test_repair_for_users(scene):
    with Talk(scene.submission, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.login("anna", "secret")[0] == 235
        assert talk.mail("anna@example.org", "anna@example.org").data(RAW, b".\r\n")[0] == 250
    wait_until(lambda: scene.mail.messages, "it is delivered")
    names = names_of(scene.mail.messages[0])
    assert names.count(b"date") == 1 and names.count(b"message-id") == 1 and b"bcc" not in names, names
    assert b"hidden" not in scene.mail.messages[0].data and scene.mail.messages[0].body == b"Bcc: stays\r\n"


def test_no_repair_for_strangers(scene):
    with Talk(scene.mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(RAW, b".\r\n")[0] == 250
    wait_until(lambda: scene.mail.messages, "it is delivered")
    assert scene.mail.messages[0].data.endswith(RAW)


def test_hidden_client(gateway, sink, tls_files):
    mail, mx, hidden = sink(users={"anna": "secret"}), free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, listeners=f'''  hidden: {{ listen: [ "127.0.0.1:{hidden}" ], tls: required, certificate: main, hide_client: true,
            authentication: {{ flow: staff, required: true }} }}'''), ports=[mx, hidden])
    with Talk(hidden, ehlo="laptop.of.anna") as talk:
        talk.starttls("laptop.of.anna")
        assert talk.login("anna", "secret")[0] == 235
        assert talk.mail("anna@example.org", "bob@example.org").data(RAW, b".\r\n")[0] == 250
    wait_until(lambda: mail.messages, "it is delivered")
    assert b"laptop" not in mail.messages[0].data and b"127.0.0.1" not in mail.messages[0].data
    assert one


def test_ipv6(gateway, sink):
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port("::1")
    text = reception(mail, mx, top='trusted_networks: [ "fd00::/8" ]').replace(f"127.0.0.1:{mx}", f"[::1]:{mx}")
    one = gateway(text)
    with Talk(mx, host="::1", ehlo="[IPv6:::1]") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(MESSAGE, b".\r\n")[0] == 250
        talk.mail("a@example.net", "postmaster@[IPv6:::1]")
    wait_until(lambda: mail.messages, "it is delivered")
    assert b"[IPv6:::1]" in mail.messages[0].data.partition(b"\r\nFrom")[0]
    assert one.find("message.accepted")[0]["client"] == "::1"


def test_nothing_for_nobody(scene):
    """No address is confirmed to strangers by VRFY and EXPN."""
    with Talk(scene.mx, ehlo="c.test") as talk:
        answers = {talk.say(f"{verb} {name}")[1].partition(" (ref")[0] for verb in ["VRFY"] for name in ["anna", "nobody", "anna@example.org"]}
        assert len(answers) == 1, answers
        assert talk.code("EXPN staff") in (502, 550)
    assert not scene.mail.commands


def test_queued_processing(gateway, sink):
    """250 before the content flow; the mail goes on from the queue."""
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
    one = gateway(reception(mail, mx, inbound=", processing: queued"), ports=[mx])
    with Talk(mx, ehlo="c.test") as talk:
        assert talk.mail("a@example.net", "anna@example.org").data(MESSAGE, b".\r\n")[0] == 250
    wait_until(lambda: mail.messages, "it is delivered")
    one.wait_empty()
