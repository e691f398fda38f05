# SPDX-License-Identifier: Apache-2.0
"""
The corners of the protocol, said word by word to us and to a real Postfix: the same codes, or a difference that stands here with
its reason. RFC 5321 and its extensions are the judge, not Postfix.
"""
import base64

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk

ANNA = "RCPT TO:<anna@example.org>"
MAIL = "MAIL FROM:<a@example.net>"
BODY = b"Subject: x\r\n\r\nHello\r\n.\r\n"
LONG = "x" * 2100

# name -> what is said after EHLO, each piece with one reply; bytes are sent as they are
DIALOGS = {
    "noop-with-words": ["NOOP a b c"],
    "noop-long": ["NOOP " + "x" * 400],
    "line-too-long": ["NOOP " + LONG, "NOOP"],
    "vrfy": ["VRFY"], "vrfy-name": ["VRFY anna@example.org"], "vrfy-nobody": ["VRFY nobody@example.org"],
    "expn": ["EXPN staff"], "help": ["HELP"], "help-word": ["HELP MAIL"], "empty": [""], "blank": ["  "], "unknown": ["FOO"], "digits": ["123"],
    "blank-before": [" NOOP"], "blank-behind": ["NOOP "], "lower-case": ["noop"], "tab": ["NOOP\tx"],
    "verb-glued": ["NOOPX"], "rset-argument": ["RSET x"], "data-argument": [MAIL, ANNA, "DATA x"], "quit-argument": ["QUIT x"],
    "rset-first": ["RSET", "RSET"], "rset-between": [MAIL, "RSET", ANNA, "DATA"], "rset-after-rcpt": [MAIL, ANNA, "RSET", "DATA"],
    "ehlo-again": [MAIL, "EHLO c.test", ANNA], "helo-again": [MAIL, "HELO c.test", ANNA],
    "ehlo-literal": ["EHLO [127.0.0.1]"], "ehlo-literal-6": ["EHLO [IPv6:::1]"], "ehlo-rubbish": ["EHLO !$%"], "ehlo-empty": ["EHLO"],
    "ehlo-underscore": ["EHLO a_b.test"], "ehlo-bare-address": ["EHLO 127.0.0.1"], "ehlo-long": ["EHLO " + "x" * 300 + ".test"],
    "ehlo-two-words": ["EHLO a b"], "helo-literal": ["HELO [127.0.0.1]"], "ehlo-8-bit": [b"EHLO \xff\xfe\r\n"],
    "mail-twice": [MAIL, MAIL], "null-twice": ["MAIL FROM:<>", "MAIL FROM:<>"], "mail-blank": ["MAIL FROM: <a@example.net>"],
    "mail-no-brackets": ["MAIL FROM:a@example.net"], "mail-lower": ["mail from:<a@example.net>"], "mail-blank-colon": ["MAIL FROM :<a@example.net>"],
    "mail-none": ["MAIL"], "mail-from-none": ["MAIL FROM:"], "mail-no-domain": ["MAIL FROM:<a>"], "mail-unclosed": ["MAIL FROM:<a@example.net"],
    "mail-behind": ["MAIL FROM:<a@example.net>x"], "mail-name": ["MAIL FROM:Anna <a@example.net>"], "mail-comment": ["MAIL FROM:<a@example.net> (x)"],
    "mail-route": ["MAIL FROM:<@a.test,@b.test:a@example.net>"], "mail-quoted": ['MAIL FROM:<"a b"@example.net>'], "mail-quoted-at": ['MAIL FROM:<"a@b"@example.net>'],
    "mail-literal": ["MAIL FROM:<a@[192.0.2.1]>"], "mail-literal-6": ["MAIL FROM:<a@[IPv6:2001:db8::1]>"], "mail-literal-bad": ["MAIL FROM:<a@[rubbish]>"],
    "mail-dots": ["MAIL FROM:<a..b@example.net>"], "mail-dot-end": ["MAIL FROM:<a.@example.net>"], "mail-dot-domain": ["MAIL FROM:<a@example.net.>"],
    "mail-long-local": ["MAIL FROM:<" + "a" * 65 + "@example.net>"], "mail-long-domain": ["MAIL FROM:<a@" + "b." * 140 + "net>"],
    "mail-8-bit": [b"MAIL FROM:<\xc3\xa4@example.net>\r\n"], "mail-8-bit-offered": [b"MAIL FROM:<\xc3\xa4@example.net> SMTPUTF8\r\n"],
    "mail-not-utf8": [b"MAIL FROM:<\xe4@example.net> SMTPUTF8\r\n"], "mail-nul": [b"MAIL FROM:<a\0b@example.net>\r\n"],
    "size": [MAIL + " SIZE=100"], "size-rubbish": [MAIL + " SIZE=x"], "size-empty": [MAIL + " SIZE="], "size-none": [MAIL + " SIZE"], "size-negative": [MAIL + " SIZE=-1"],
    "size-huge": [MAIL + " SIZE=999999999999"], "size-21-digits": [MAIL + " SIZE=" + "9" * 21], "size-twice": [MAIL + " SIZE=1 SIZE=1"], "size-0": [MAIL + " SIZE=0"],
    "body-7": [MAIL + " BODY=7BIT"], "body-8": [MAIL + " BODY=8BITMIME"], "body-lower": [MAIL + " body=8bitmime"], "body-binary": [MAIL + " BODY=BINARYMIME"],
    "body-none": [MAIL + " BODY"], "body-twice": [MAIL + " BODY=7BIT BODY=8BITMIME"],
    "utf8-value": [MAIL + " SMTPUTF8=1"], "ret": [MAIL + " RET=FULL"], "ret-rubbish": [MAIL + " RET=x"], "ret-twice": [MAIL + " RET=FULL RET=HDRS"],
    "envid": [MAIL + " ENVID=x+2By"], "envid-empty": [MAIL + " ENVID="], "envid-bad": [MAIL + " ENVID=a+zz"], "envid-long": [MAIL + " ENVID=" + "x" * 101],
    "auth-parameter": [MAIL + " AUTH=<>"], "holdfor": [MAIL + " HOLDFOR=100"], "deliverby": [MAIL + " BY=100;R"], "unknown-parameter": [MAIL + " X=1"], "requiretls": [MAIL + " REQUIRETLS"],
    "two-blanks": [MAIL + "  SIZE=1"], "tab-before-parameter": [MAIL + "\tSIZE=1"], "blank-at-end": [MAIL + " "], "glued-parameter": ["MAIL FROM:<a@example.net>SIZE=1"],
    "rcpt-first": [ANNA], "data-first": ["DATA"], "data-no-rcpt": [MAIL, "DATA"], "data-refused-rcpt": [MAIL, "RCPT TO:<nobody@example.org>", "DATA"],
    "rcpt-none": [MAIL, "RCPT"], "rcpt-empty": [MAIL, "RCPT TO:<>"], "rcpt-twice": [MAIL, ANNA, ANNA], "rcpt-no-brackets": [MAIL, "RCPT TO:anna@example.org"],
    "rcpt-blank": [MAIL, "RCPT TO: <anna@example.org>"], "rcpt-upper": [MAIL, "RCPT TO:<ANNA@EXAMPLE.ORG>"], "rcpt-quoted": [MAIL, 'RCPT TO:<"anna"@example.org>'],
    "rcpt-quoted-letter": [MAIL, 'RCPT TO:<"an\\na"@example.org>'], "rcpt-route": [MAIL, "RCPT TO:<@a.test,@b.test:anna@example.org>"],
    "rcpt-percent": [MAIL, "RCPT TO:<anna%example.org@example.org>"], "rcpt-percent-relay": [MAIL, "RCPT TO:<x%far.test@example.org>"],
    "rcpt-bang": [MAIL, "RCPT TO:<far.test!x@example.org>"], "rcpt-two-ats": [MAIL, "RCPT TO:<x@far.test@example.org>"], "rcpt-relay": [MAIL, "RCPT TO:<x@far.test>"],
    "rcpt-dot-domain": [MAIL, "RCPT TO:<anna@example.org.>"], "postmaster": [MAIL, "RCPT TO:<postmaster>"], "postmaster-case": [MAIL, "RCPT TO:<PostMaster>"],
    "rcpt-no-domain": [MAIL, "RCPT TO:<anna>"], "rcpt-literal": [MAIL, "RCPT TO:<anna@[127.0.0.1]>"], "rcpt-parameter": [MAIL, ANNA + " X=1"],
    "notify": [MAIL, ANNA + " NOTIFY=SUCCESS,DELAY"], "notify-never": [MAIL, ANNA + " NOTIFY=NEVER"], "notify-mixed": [MAIL, ANNA + " NOTIFY=NEVER,SUCCESS"],
    "notify-rubbish": [MAIL, ANNA + " NOTIFY=x"], "notify-empty": [MAIL, ANNA + " NOTIFY="], "notify-twice": [MAIL, ANNA + " NOTIFY=NEVER NOTIFY=NEVER"],
    "orcpt": [MAIL, ANNA + " ORCPT=rfc822;x@example.net"], "orcpt-no-type": [MAIL, ANNA + " ORCPT=x@example.net"], "orcpt-empty": [MAIL, ANNA + " ORCPT=rfc822;"],
    "orcpt-bad": [MAIL, ANNA + " ORCPT=rfc822;a+zz"], "orcpt-twice": [MAIL, ANNA + " ORCPT=rfc822;a ORCPT=rfc822;b"],
    "one-message": [MAIL, ANNA, "DATA", BODY], "two-messages": [MAIL, ANNA, "DATA", BODY, MAIL, ANNA, "DATA", BODY],
    "empty-message": [MAIL, ANNA, "DATA", b".\r\n"], "no-header": [MAIL, ANNA, "DATA", b"hello\r\n.\r\n"],
    "8-bit-undeclared": [MAIL, ANNA, "DATA", b"Subject: x\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n.\r\n"], "8-bit-as-7": [MAIL + " BODY=7BIT", ANNA, "DATA", b"Subject: x\r\n\r\nGr\xfc\xdfe\r\n.\r\n"],
    "nul-in-content": [MAIL, ANNA, "DATA", b"Subject: x\r\n\r\na\0b\r\n.\r\n"], "line-of-998": [MAIL, ANNA, "DATA", b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n.\r\n"],
    "line-of-3000": [MAIL, ANNA, "DATA", b"Subject: x\r\n\r\n" + b"x" * 3000 + b"\r\n.\r\n"],
    "bare-lf": [MAIL, ANNA, "DATA", b"Subject: x\r\n\r\na\nb\r\n.\r\n"], "bare-cr": [MAIL, ANNA, "DATA", b"Subject: x\r\n\r\na\rb\r\n.\r\n"],
    "command-by-lf": [b"NOOP\n"], "command-by-cr": [b"NOOP\r\r\n"], "command-nul": [b"NO\0OP\r\n"],
    "bdat": [MAIL, ANNA, b"BDAT 21 LAST\r\nSubject: x\r\n\r\nHello\r\n"], "bdat-two": [MAIL, ANNA, b"BDAT 14\r\nSubject: x\r\n\r\n", b"BDAT 7 LAST\r\nHello\r\n"],
    "bdat-empty": [MAIL, ANNA, b"BDAT 21\r\nSubject: x\r\n\r\nHello\r\n", "BDAT 0 LAST"], "bdat-only-empty": [MAIL, ANNA, "BDAT 0 LAST"],
    "bdat-no-rcpt": [MAIL, b"BDAT 2\r\nab", "NOOP"], "bdat-no-mail": [b"BDAT 2 LAST\r\nab", "NOOP"], "bdat-refused-rcpt": [MAIL, "RCPT TO:<nobody@example.org>", b"BDAT 2 LAST\r\nab", "NOOP"],
    "bdat-rubbish": [MAIL, ANNA, "BDAT x"], "bdat-none": [MAIL, ANNA, "BDAT"], "bdat-negative": [MAIL, ANNA, "BDAT -1 LAST"], "bdat-last-twice": [MAIL, ANNA, b"BDAT 2 LAST LAST\r\nab"],
    "bdat-then-data": [MAIL, ANNA, b"BDAT 14\r\nSubject: x\r\n\r\n", "DATA"], "bdat-then-mail": [MAIL, ANNA, b"BDAT 14\r\nSubject: x\r\n\r\n", MAIL],
    "bdat-then-rset": [MAIL, ANNA, b"BDAT 14\r\nSubject: x\r\n\r\n", "RSET", "BDAT 0 LAST"], "bdat-then-rcpt": [MAIL, ANNA, b"BDAT 14\r\nSubject: x\r\n\r\n", ANNA],
    "bdat-lower": [MAIL, ANNA, b"bdat 21 last\r\nSubject: x\r\n\r\nHello\r\n"],
    "auth-not-offered": ["AUTH PLAIN AGEAYg=="], "starttls-argument": ["STARTTLS now"], "etrn": ["ETRN example.org"], "turn": ["TURN"], "send": ["SEND FROM:<a@example.net>"],
    "xclient": ["XCLIENT ADDR=192.0.2.1"], "http": ["GET / HTTP/1.1"], "quit": ["QUIT"],
}
# where we answer otherwise than Postfix: our codes, and why
OURS = {
    "vrfy-nobody": ("252", "nobody learns who exists"), "expn": ("502", "known, and not there (RFC 5321 4.2.4)"),
    "help": ("214", "RFC 5321 4.1.1.8"), "help-word": ("214", "the same"), "digits": ("500", "no reason to hang up"), "blank-before": ("500", "a command begins with its verb"),
    "quit-argument": ("501", "QUIT has none (RFC 5321 4.1.1.10)"), "ehlo-long": ("501", "a domain has 255 octets at most"), "ehlo-two-words": ("501", "one domain"),
    "ehlo-8-bit": ("250", "old clients say the name of their computer; in Received it is ????"),
    "mail-blank-colon": ("250", "clear what is meant"), "mail-no-domain": ("501", "a mailbox has a domain (RFC 5321 4.1.2)"), "mail-comment": ("501", "no parameter, but no path either"),
    "mail-literal": ("550", "nobody could answer to it by this gateway"), "mail-literal-6": ("550", "the same"),
    "mail-dots": ("501", "no dot-string (RFC 5321 4.1.2)"), "mail-dot-end": ("501", "the same"), "mail-dot-domain": ("501", "no domain (RFC 5321 2.3.5)"), "rcpt-dot-domain": ("250 501", "the same"),
    "mail-long-local": ("501", "64 octets (RFC 5321 4.5.3.1.1)"), "mail-8-bit": ("553", "without SMTPUTF8 (RFC 6531 3.5)"), "mail-not-utf8": ("501", "an argument, not the verb"),
    "mail-nul": ("500", "the line is none"), "size-none": ("501", "known, and without its value"), "size-21-digits": ("501", "20 digits (RFC 1870 3)"), "size-twice": ("501", "once (RFC 5321 4.1.1.11)"),
    "body-none": ("501", "known, and without its value"), "body-twice": ("501", "once"), "utf8-value": ("501", "known, and has no value"), "envid-long": ("501", "100 octets (RFC 3461 4.4)"),
    "rcpt-percent": ("250 550", "550 stands for a mailbox, 554 for no service"), "rcpt-percent-relay": ("250 550", "the same"), "rcpt-bang": ("250 550", "the same"),
    "rcpt-two-ats": ("250 550", "the same"), "rcpt-relay": ("250 550", "the same"), "rcpt-no-domain": ("250 501", "only postmaster may lack one (RFC 5321 4.1.1.3)"),
    "orcpt-empty": ("250 501", "it is an address (RFC 3461 4.2)"),
    "nul-in-content": ("250 250 354 550", "RFC 5321 2.3.8 and 4.5.2"), "bare-lf": ("250 250 354 550", "smuggling"), "bare-cr": ("250 250 354 550", "smuggling"),
    "command-by-lf": ("500", "a line ends in CRLF (RFC 5321 2.3.8)"), "command-by-cr": ("500", "the same"),
    "bdat-rubbish": ("250 250 501", "and the end, as Postfix"), "bdat-none": ("250 250 501", "the same"), "bdat-negative": ("250 250 501", "the same"), "bdat-last-twice": ("250 250 501", "the same"),
    "auth-not-offered": ("502", "known, and not there"), "etrn": ("502", "the same"), "xclient": ("502", "the same"), "http": ("421", "and the end, as Postfix"),
}

# after STARTTLS and EHLO, where logins are offered; not beside Postfix, whose logins are Dovecot's and slow on purpose
B64 = base64.b64encode
GOOD = B64(b"\0anna\0secret").decode()
INSIDE = {
    "auth-none": (["AUTH"], "501"), "auth-unknown": (["AUTH FOO"], "504"), "auth-cancelled": (["AUTH PLAIN", "*", "NOOP"], "334 501 250"),
    "auth-login-cancelled": (["AUTH LOGIN", "*", "NOOP"], "334 501 250"), "auth-empty-initial": (["AUTH PLAIN ="], "501"), "auth-empty-answer": (["AUTH PLAIN", ""], "334 501"),
    "auth-rubbish": (["AUTH PLAIN !!!!"], "501"), "auth-no-nul": (["AUTH PLAIN YWJj"], "501"), "auth-one-nul": (["AUTH PLAIN YQBi"], "501"),
    "auth-wrong": (["AUTH PLAIN " + B64(b"\0anna\0wrong").decode()], "535"), "auth-padding": (["AUTH PLAIN " + B64(b"\0anna\0pw").decode().rstrip("=")], "501"),
    "auth-12k": (["AUTH PLAIN " + B64(b"\0anna\0" + b"x" * 9000).decode(), "NOOP"], "535 250"), "auth-in-transaction": ([MAIL, "AUTH PLAIN " + GOOD], "250 503"),
    "auth-twice": (["AUTH PLAIN " + GOOD] * 2, "235 503"), "auth-lower": (["auth plain " + GOOD], "235"), "auth-two-arguments": (["AUTH PLAIN AGEAYg== x"], "501"),
    "auth-login": (["AUTH LOGIN", B64(b"anna").decode(), B64(b"secret").decode()], "334 334 235"), "auth-login-empty": (["AUTH LOGIN", "", ""], "334 334 535"),
    "auth-login-initial": (["AUTH LOGIN " + B64(b"anna").decode(), B64(b"secret").decode()], "334 235"),
    "auth-authzid": (["AUTH PLAIN " + B64(b"bob\0anna\0secret").decode()], "535"), "auth-authzid-same": (["AUTH PLAIN " + B64(b"anna\0anna\0secret").decode()], "235"),
    "starttls-again": (["STARTTLS"], "503"),
}


def play(port, pieces, inside=False):
    """The codes of the replies; "end" when the server hangs up."""
    codes = []
    with Talk(port, ehlo="c.test") as talk:
        if inside:
            talk.starttls()
        for piece in pieces:
            try:
                codes.append(str(talk.say(piece)[0]))
            except (EOFError, ConnectionError):
                codes.append("end")
                break
            except TimeoutError:
                raise AssertionError(f"no answer to {pieces}, after {codes}") from None
    return " ".join(codes)


@pytest.fixture
def ours(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna", "postmaster")}, users={"anna": "secret"}, tls_files=tls_files,
                extensions=("PIPELINING", "8BITMIME", "SIZE 0", "DSN", "SMTPUTF8"))
    mx, shared = free_port(), free_port()
    listeners = f'  shared: {{ listen: [ "127.0.0.1:{shared}" ], tls: offered, certificate: main, authentication: {{ flow: staff, required: false }} }}'
    one = gateway(reception(mail, mx, certificate=tls_files, listeners=listeners, mail_extra=f", tls: verified, ca_file: {tls_files[0]}"), ports=[mx, shared])
    one.mail, one.mx, one.shared = mail, mx, shared
    return one


@pytest.fixture
def both(ours, mail_server):
    other = mail_server(users={"anna": "secret", "postmaster": "x"}, extra=["mynetworks = 192.0.2.0/24", "strict_rfc821_envelopes = yes", "smtputf8_enable = yes",
                                                                           "smtpd_helo_required = yes", "smtpd_forbid_bare_newline = yes"])
    return ours, ours.mx, other


def test_logins(ours):
    got = {name: play(ours.shared, pieces, inside=True) for name, (pieces, _) in INSIDE.items()}
    wrong = {name: (got[name], "not", codes) for name, (_, codes) in INSIDE.items() if got[name] != codes}
    assert not wrong, wrong


def test_the_end_follows(ours):
    """Where nobody knows what comes next, nothing that comes next is a command."""
    for pieces in ([MAIL, ANNA, "BDAT x"], ["GET / HTTP/1.1"]):
        with Talk(ours.mx, ehlo="c.test") as talk:
            for piece in pieces:
                talk.say(piece)
            assert talk.is_closed(), pieces


def test_one_mailbox_has_one_name(ours):
    """Quoted without need is not quoted; what stands in quotes is a route all the same."""
    with Talk(ours.mx, ehlo="c.test") as talk:
        talk.mail()
        for form in ['"anna"@example.org', '"an\\na"@example.org']:
            assert talk.code(f"RCPT TO:<{form}>") == 250, form
        for form in ['"x@far.test"@example.org', '"x%far.test"@example.org', '"far.test!x"@example.org', '"an na"@example.org']:
            assert talk.code(f"RCPT TO:<{form}>") == 550, form
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
    wait_until(lambda: ours.mail.messages, "it is delivered")
    asked = [line for _, line in ours.mail.commands if line.startswith("RCPT")]
    assert not any("far.test" in line for line in asked) and all(line.startswith(("RCPT TO:<anna@", 'RCPT TO:<"an na"@')) for line in asked), asked


def test_many_recipients(ours):
    """A thousand (RFC 5321 4.5.3.1.8 wants a hundred), each with its answer; the one that is too many says so, and harms no other."""
    with Talk(ours.mx, ehlo="c.test") as talk:
        talk.mail()
        for _ in range(10):
            talk.send((ANNA + "\r\n").encode() * 100)
            assert {talk.reply()[0] for _ in range(100)} == {250}
        assert talk.code(ANNA) == 452
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250


def test_the_same_or_for_a_reason(both):
    _, mx, other = both
    got, wanted = {}, {}
    for name, pieces in DIALOGS.items():
        got[name], wanted[name] = play(mx, pieces), play(other.port, pieces)
    wrong = {name: f"{got[name]}; Postfix: {wanted[name]}; known: {OURS.get(name)}" for name in got
             if got[name] != (OURS[name][0] if name in OURS else wanted[name])}
    assert not [name for name in OURS if got[name] == wanted[name]], "no difference any more"
    assert not wrong, "\n".join(f"{name}: {text}" for name, text in wrong.items())
