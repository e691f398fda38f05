# SPDX-License-Identifier: Apache-2.0
"""
Servers that do not do as STARTTLS has it, as the one a message is delivered to and the one a login is asked of: what they heard in
clear, by the policy towards them. The first part of the table has the behaviours that were found to matter in clients ("NO STARTTLS",
USENIX Security 2021); the second puts words of an attacker in a server's mouth (CVE-2011-0411 and its kind, CVE-2021-38371).
"""
import concurrent.futures
import ssl

import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound
from rig.ports import free_port
from rig.scripted import CONTENT, Script, Scripted
from rig.talk import Talk

MECHANISMS = ("ANONYMOUS", "CRAM-MD5", "DIGEST-MD5", "EXTERNAL", "GSSAPI", "LOGIN", "NTLM", "OAUTHBEARER", "OTP", "PLAIN", "PLAIN2",
              "SCRAM-SHA-1", "SCRAM-SHA-256", "SSL-REQUIRED", "XOAUTH2", "X-NEVER-HEARD-OF")
ALL = ("AUTH " + " ".join(MECHANISMS),)
WORDS = {220: "ready", 221: "closing", 354: "go ahead", 421: "shutting down", 454: "TLS is not available", 500: "what?", 501: "how?",
         502: "not here", 504: "not so", 530: "Must issue a STARTTLS command first", 550: "no", 554: "no mail here"}


def reply(code):
    return f"{code} {WORDS[code]}"


def table():
    """{name: (script, what becomes of it with tls: opportunistic, with tls: required)}; "clear", "tls": delivered so; "no"."""
    rows = {
        "as it should be": (Script(), "tls", "tls"),
        "login offered outside too": (Script(offers=("STARTTLS", "AUTH PLAIN")), "tls", "tls"),
        "never heard of ESMTP": (Script({"EHLO": reply(500), "STARTTLS": reply(500)}, shakes=False), "clear", "no"),
        "login without TLS": (Script({"STARTTLS": reply(502)}, offers=("AUTH PLAIN LOGIN",), shakes=False), "clear", "no"),
        "offered, then 502": (Script({"STARTTLS": reply(502)}, inside=("AUTH PLAIN LOGIN",), shakes=False), "clear", "no"),
        "offered, then 454": (Script({"STARTTLS": reply(454)}, inside=("AUTH PLAIN LOGIN",), shakes=False), "clear", "no"),
        "offered, then 354": (Script({"STARTTLS": reply(354)}, inside=("AUTH PLAIN LOGIN",), shakes=False), "clear", "no"),
        "EHLO reply behind the 220": (Script({"STARTTLS": "220 go\r\n250-odd.test\r\n250 AUTH LOGIN"}), "no", "no"),
        "every mechanism, TLS refused": (Script({"STARTTLS": reply(502)}, offers=ALL, inside=(), shakes=False), "clear", "no"),
        "every mechanism, no TLS": (Script(offers=ALL), "clear", "no"),
        "every mechanism, in several lines": (Script(offers=("AUTH PLAIN", *ALL, "AUTH=LOGIN")), "clear", "no"),
        "nothing offered": (Script(offers=()), "clear", "no"),
    }
    for code in (220, 221, 354, 421, 500, 501, 530, 554):
        good = "tls" if code < 300 else "no"
        rows[f"greeting {code}"] = Script({"greeting": reply(code)}), good, good
    for code in (220, 221, 354, 421, 500, 501, 502, 504, 530, 550):  # one line, and so nothing is offered
        rows[f"EHLO {code}"] = Script({"EHLO": reply(code)}), "no" if code in (354, 421) else "clear", "no"
    for code in (220, 221, 354, 421, 500, 501, 530):
        rows[f"HELO {code}"] = Script({"EHLO": reply(500), "HELO": reply(code)}), "clear" if code < 300 else "no", "no"
        rows[f"RSET {code}"] = Script({"EHLO": reply(500), "RSET": reply(code)}), "clear", "no"
        rows[f"QUIT {code}"] = Script({"greeting": reply(500), "QUIT": reply(code)}), "no", "no"
    for code in (220, 221, 354, 421, 454, 500, 501, 530):  # and no handshake, whatever it said
        rows[f"STARTTLS {code}"] = Script({"STARTTLS": reply(code)}, shakes=False), "no" if code == 421 else "clear", "no"
    assert len(rows) == 59
    rows |= {
        # what was said before TLS counts for nothing inside; what comes with or behind the 220 is an attack
        "login behind the 220": (Script({"STARTTLS": "220 go\r\n235 yes"}), "no", "no"),
        "the next replies behind the 220": (Script({"STARTTLS": "220 go" + "\r\n250 ok" * 4 + "\r\n354 go\r\n250 taken"}), "no", "no"),
        "half a reply behind the 220": (Script({"STARTTLS": "220 go\r\n250-odd.te"}), "no", "no"),
        "a bare line end behind the 220": (Script({"STARTTLS": "220 go\r\n"}), "no", "no"),
        "the 220 sent before it is asked for": (Script({"EHLO": "250-odd.test\r\n250 STARTTLS\r\n220 go"}), "no", "no"),
        "the 220 and more sent before": (
            Script({"EHLO": "250-odd.test\r\n250 STARTTLS\r\n220 go\r\n250-odd.test\r\n250 AUTH LOGIN"}), "no", "no"),
        "clear text in place of a handshake": (Script(late=b"250-odd.test\r\n250 AUTH PLAIN\r\n"), "clear", "no"),
        "clear text before the handshake": (Script(late=b"220 go\r\n"), "clear", "no"),
        "login offered outside only": (Script(offers=("STARTTLS", "AUTH PLAIN LOGIN"), inside=()), "tls", "tls"),
        "EHLO refused inside": (Script({"TLS:EHLO": reply(502)}), "tls", "tls"),
        "STARTTLS again inside": (Script(inside=("STARTTLS", "AUTH PLAIN")), "tls", "tls"),
    }
    return rows


ROWS = table()
POLICIES = {"none": "tls: none", "opportunistic": "tls: opportunistic", "required": "tls: required",
            "verified": "tls: verified, ca_file: {ca}", "login": "tls: required, user: relay, password_file: {password}",
            "login-opportunistic": "tls: opportunistic, user: relay, password_file: {password}"}


def expected(name, policy):
    script, opportunistic, required = ROWS[name]
    if policy == "none":
        return "no" if name.startswith(("greeting 3", "greeting 4", "greeting 5", "QUIT")) or name in (
            "EHLO 354", "EHLO 421", "the 220 sent before it is asked for", "the 220 and more sent before", "HELO 354", "HELO 421", "HELO 500", "HELO 501", "HELO 530") else "clear"
    if policy == "opportunistic":
        return opportunistic
    if policy.startswith("login"):  # without one inside of TLS there is no mail
        return required if script.inside and "TLS:EHLO" not in script.says else "no"
    return required


@pytest.fixture
def servers(tls_files):
    made = []

    def make(scripts):
        made.append(Scripted(scripts, tls_files))
        return made[-1]
    yield make
    for one in made:
        one.close()


def arrived(heard):
    return {"tls" if tls else "clear" for tls, line, _ in heard if line == CONTENT}


def test_delivery_to_odd_servers(gateway, sink, servers, tls_files, tmp_path):
    """No policy that demands TLS gives a server a word of mail in clear, no login goes outside of TLS, and nothing hangs."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    cases = [(name, policy) for name in ROWS for policy in POLICIES]
    odd = servers([ROWS[name][0] for name, _ in cases])
    scene = Outbound(gateway, sink, {f"c{i}": Host(f"127.0.0.1:{odd.ports[i]}", server=POLICIES[policy].format(
        ca=tls_files[0], password=password)) for i, (_, policy) in enumerate(cases)})
    scene.send([f"b@c{i}.test" for i in range(len(cases))])
    got, wanted = {}, {}
    for i, (name, policy) in enumerate(cases):
        word, event = scene.outcome(f"b@c{i}.test")
        taken = arrived(odd.heard[i])
        assert len(taken) == (word == "sent"), (name, policy, event, odd.heard[i])
        got[name, policy] = "".join(taken) or "no"
        wanted[name, policy] = expected(name, policy)
    assert got == wanted, {case: (got[case], "not", wanted[case]) for case in got if got[case] != wanted[case]}
    for i, (name, policy) in enumerate(cases):
        clear = [line.split(" ")[0].upper() for tls, line, _ in odd.heard[i] if not tls]
        if policy not in ("none", "opportunistic"):
            assert not {"MAIL", "RCPT", "DATA", "AUTH", CONTENT.upper()} & set(clear), (name, policy, odd.heard[i])
        assert "AUTH" not in clear, (name, policy, odd.heard[i])
        if policy == "none":
            assert "STARTTLS" not in clear, (name, policy, odd.heard[i])


@pytest.mark.parametrize("half", [0, 1])  # there are at most 64 listening addresses
def test_logins_asked_of_odd_servers(gateway, sink, servers, tls_files, half):
    """A user's password goes to a mail server inside of TLS or not at all, whatever that says outside."""
    names = list(ROWS)[half::2]
    odd = servers([ROWS[name][0] for name in names])
    mail, ports = sink(), [free_port() for _ in names]
    lines = [f'  s{i}: {{ smtp: "127.0.0.1:{port}" }}' for i, port in enumerate(odd.ports)]
    listeners = [f'  l{i}: {{ listen: [ "127.0.0.1:{port}" ], tls: required, certificate: main, authentication: {{ flow: f{i}, '
                 "required: true } }" for i, port in enumerate(ports)]
    flows = [f"    f{i}: [ smtp: {{ server: s{i} }} ]" for i in range(len(names))]
    nl = "\n"
    one = gateway(f"""
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail.port}", tls: none }}
{nl.join(lines)}
certificates:
  main: {{ cert: {tls_files[0]}, key: {tls_files[1]} }}
listeners:
{nl.join(listeners)}
flows:
  authentication:
{nl.join(flows)}
  recipient:
    users: [ accept: {{ when: authenticated }} ]
transports:
  to-mail: {{ method: server, server: mail }}
domains:
  example.org: {{ recipients: users, transport: to-mail }}
""", ports=ports)

    def login(i):
        with Talk(ports[i], ehlo="c.test", timeout=120) as talk:
            return talk.starttls().login("anna", "secret-of-anna")[0]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(login, range(len(names))))
    for i, name in enumerate(names):
        assert codes[i] == (235 if expected(name, "login-opportunistic") == "tls" else 454), (name, codes[i], odd.heard[i])
        clear = [line for tls, line, _ in odd.heard[i] if not tls]
        assert not [line for line in clear if line.upper().startswith(("AUTH", "MAIL"))], (name, odd.heard[i])
    assert not one.find("session.limit")


# ---- the other side: what a client may try with our own STARTTLS ----

@pytest.fixture
def offering(gateway, sink, tls_files):
    from rig.setups import reception
    mail, mx = sink(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files), ports=[mx])
    one.mail, one.mx = mail, mx
    return one


INJECTED = [b"NOOP\r\n", b"EHLO evil\r\n", b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\n", b"\r\n", b"\n", b"X"]


def test_clear_text_in_a_later_segment(offering):
    """Behind the 220, before the handshake: it is no command outside, and none inside."""
    for count, injected in enumerate(INJECTED, 1):
        with Talk(offering.mx, ehlo="c.test") as talk:
            assert talk.code("STARTTLS") == 220
            talk.send(injected)
            with pytest.raises((ssl.SSLError, OSError)):
                talk.wrap()
        offering.wait("session.tls_failed", count=count)
    with Talk(offering.mx, ehlo="c.test") as talk:
        talk.starttls().mail("a@example.net", "anna@example.org")
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
    wait_until(lambda: offering.mail.messages, "mail goes on")
    assert [one.sender for one in offering.mail.messages] == ["a@example.net"]


def test_clear_text_that_does_not_wait(offering):
    """Sent at once behind STARTTLS, in the same segment or another: refused as such, or as no handshake; never a session."""
    for injected in INJECTED:
        whole = b"STARTTLS\r\n" + injected
        for at in (1, 8, 9, 10):
            with Talk(offering.mx, ehlo="c.test") as talk:
                talk.send(whole[:at])
                talk.send(whole[at:])
                code, text = talk.reply()
                assert code in (220, 554), (at, injected, code, text)
                if code == 220:
                    with pytest.raises((ssl.SSLError, OSError)):
                        talk.wrap()
                assert talk.is_closed(), (at, injected)
    assert not offering.find("message.accepted")


def test_a_handshake_that_does_not_wait(offering):
    """A client that begins its handshake in the segment of STARTTLS: bytes behind the command, whatever they are."""
    hello = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    with Talk(offering.mx, ehlo="c.test") as talk:
        talk.send(b"STARTTLS\r\n" + hello.read())
        assert talk.reply()[0] == 554
        assert talk.is_closed()
