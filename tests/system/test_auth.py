# SPDX-License-Identifier: Apache-2.0
"""Who may log in: every answer of every directory, and what the client is told."""
import base64
import contextlib
import os
import signal
import subprocess
import threading

import pytest

from rig.gateway import BUILD, wait_until
from rig.ldap import PEOPLE, SERVICE, SERVICE_PASSWORD, hanging_up
from rig.ports import free_port
from rig.setups import reception
from rig.talk import Talk, plain

SECRET = "canary-Zq8-password"


@pytest.fixture
def backend(gateway, sink, tls_files):
    """A gateway whose users log in at a programmable server."""
    def make(mail=None, steps="[ smtp: { server: mail } ]", mail_extra="", listeners="", replies=None, timeout="20s", **options):
        mail = mail or sink(tls_files=tls_files, users={"anna": SECRET}, replies=replies or {})
        mx, submission = free_port(), free_port()
        cert, _ = tls_files
        one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, steps=steps,
                                mail_extra=mail_extra or f", tls: verified, ca_file: {cert}, timeout: {timeout}",
                                listeners=listeners, **options), ports=[mx, submission])
        one.mail, one.mx, one.submission = mail, mx, submission
        return one
    return make


def login(one, user="anna", password=SECRET, port=None):
    with Talk(port or one.submission, ehlo="c.test") as talk:
        return talk.starttls().login(user, password)


REPLIES = [
    # the server's answer to AUTH, ours, and the event
    ("235 2.7.0 welcome", 235, "auth.ok"), ("535 5.7.8 no", 535, "auth.fail"), ("535 no", 535, "auth.fail"),
    ("525 5.7.13 account disabled", 535, "auth.fail"), ("550 5.7.8 no", 535, "auth.fail"), ("554 5.7.13 no", 535, "auth.fail"),
    ("550 5.7.1 access denied", 454, "auth.error"), ("504 5.5.4 what", 454, "auth.error"), ("530 5.7.0 TLS first", 454, "auth.error"),
    ("554 5.7.0 go away", 454, "auth.error"), ("500 5.5.1 what", 454, "auth.error"), ("534 5.7.9 too weak", 454, "auth.error"),
    ("454 4.7.0 later", 454, "auth.error"), ("421 4.3.2 closing", 454, "auth.error"), ("432 4.7.12 change it", 454, "auth.error"),
    ("250 2.0.0 odd", 454, "auth.error"), ("334 bW9yZQ==", 454, "auth.error"), ("999 nonsense", 454, "auth.error"),
    ("nonsense", 454, "auth.error"), (None, 454, "auth.error")]


def test_a_reply_without_end(backend):
    one = backend(timeout="2s")
    one.mail.replies["AUTH"] = "235-no end"
    code, text = login(one)
    assert code == 454 and text.startswith("4.7.0"), text
    assert one.wait("auth.error")["reason"] == "backend_down"


def test_reply_table(backend):
    one = backend()
    for reply, code, event in REPLIES:
        one.mail.replies["AUTH"] = reply
        # five faults in a row and a directory is not asked for a while: an answer between them
        before = len(one.find(event))
        got, text = login(one)
        assert got == code, (reply, got, text)
        assert text.startswith({235: "2.7.0", 535: "5.7.8", 454: "4.7.0"}[code]), (reply, text)
        said = one.wait(event, count=before + 1)
        if event != "auth.ok" and reply and reply[:1] in "45":
            assert reply[:3] in said["detail"], (reply, said)
        wanted = {"auth.ok": "", "auth.fail": "password_wrong", "auth.error": "backend_down"}[event]
        assert (said["reason"], said["block"]) == (wanted, "smtp"), (reply, said)
        if code == 454:
            one.mail.replies["AUTH"] = "535 5.7.8 no"
            login(one)
    assert all(event["detail"].startswith("1-smtp: error") for event in one.find("auth.error"))


@pytest.mark.parametrize("replies", [
    {"banner": "554 5.7.1 go away"}, {"banner": None}, {"banner": "421 4.3.2 busy"}, {"EHLO": "550 5.7.1 no"}, {"EHLO": None},
    {"STARTTLS": "454 4.7.0 not now"}, {"STARTTLS": "535 5.7.8 no"}, {"STARTTLS": None}, {"AUTH": None}],
    ids=lambda replies: "-".join(f"{key}-{str(value)[:3]}" for key, value in replies.items()))
def test_faults_before_auth(backend, replies):
    """Whatever happens before AUTH says nothing about the password."""
    one = backend(replies=replies)
    code, text = login(one)
    assert code == 454 and text.startswith("4.7.0"), text
    one.wait("auth.error")


def test_no_common_mechanism(backend, sink, tls_files):
    mail = sink(tls_files=tls_files, extensions=("AUTH CRAM-MD5 GSSAPI",))
    one = backend(mail=mail)
    assert login(one)[0] == 454
    assert not any(line.startswith("AUTH") for _, line in mail.commands)


def test_what_cannot_be_sent_is_no_fault(backend):
    """A password that no AUTH can carry is a wrong one, whoever sends it; it closes the server for nobody."""
    one = backend()
    for name in ["a", "b", "c", "d"]:
        assert login(one, name, "x" * 9000)[0] == 535
    assert login(one)[0] == 235
    assert one.wait("auth.fail", count=4)["reason"] == "password_wrong" and not one.find("backend.down")


def test_login_mechanism(backend, sink, tls_files):
    mail = sink(tls_files=tls_files, extensions=("AUTH LOGIN",))
    mail.users = {}
    one = backend(mail=mail)
    mail.replies["AUTH"] = "235 2.7.0 ok"
    assert login(one)[0] == 235
    assert any(line == "AUTH LOGIN" for _, line in mail.commands)


@pytest.mark.parametrize("tls, code", [("required", 454), ("verified", 454), ("opportunistic", 454), ("none", 235)])
def test_backend_without_tls(backend, sink, tls, code):
    """A password goes out in clear only where `tls: none` is written."""
    mail = sink(users={"anna": SECRET})
    one = backend(mail=mail, mail_extra=f", tls: {tls}")
    assert login(one)[0] == code
    assert any(line.startswith("AUTH") for _, line in mail.commands) == (code == 235)


def test_backend_with_a_foreign_certificate(backend, sink, tmp_path, tls_files):
    other = tmp_path / "o.pem", tmp_path / "o.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    other[1], "-out", other[0], "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, stderr=subprocess.DEVNULL)
    mail = sink(tls_files=other, users={"anna": SECRET})
    one = backend(mail=mail)
    assert login(one)[0] == 454
    assert not any(line.startswith("AUTH") for _, line in mail.commands)


def test_injection_behind_the_backends_starttls(backend, sink, tls_files):
    """Replies that were sent in clear behind the 220 are never read as if TLS had brought them."""
    mail = sink(tls_files=tls_files, replies={"STARTTLS": "220 2.0.0 go\r\n250-x\r\n250 AUTH PLAIN\r\n235 2.7.0 welcome"})
    one = backend(mail=mail)
    assert login(one, "eve", "x")[0] == 454


BAD = [
    ("AUTH", 501), ("AUTH CRAM-MD5", 504), ("AUTH XOAUTH2 abcd", 504), ("AUTH PLAIN !!!!", 501), ("AUTH PLAIN AGFubm", 501),
    ("AUTH PLAIN =", 501), ("AUTH PLAIN " + base64.b64encode(b"anna").decode(), 501),
    ("AUTH PLAIN " + base64.b64encode(b"\0anna").decode(), 501), ("AUTH PLAIN " + plain("", SECRET), 535),
    ("AUTH PLAIN " + plain("anna", ""), 535), ("AUTH PLAIN " + plain("anna", SECRET, "root"), 535),
    ("AUTH PLAIN " + plain("an\nna", SECRET), 535), ("AUTH PLAIN " + plain("a" * 300, SECRET), 535),
    ("AUTH PLAIN " + base64.b64encode(b"\0anna\0" + SECRET.encode() + b"\0more").decode(), (501, 535)),
]


def test_bad_exchanges(backend):
    """None of them reaches a directory."""
    one = backend()
    for line, code in BAD:
        with Talk(one.submission, ehlo="c.test") as talk:
            got, text = talk.starttls().say(line)
            assert got in (code if isinstance(code, tuple) else (code,)), (line, got, text)
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.code("AUTH LOGIN") == 334 and talk.code("*") == 501
        assert talk.code("AUTH PLAIN") == 334 and talk.code("*") == 501
        assert talk.code("MAIL FROM:<anna@example.org>") == 530
    assert not one.mail.commands


def test_same_identity_twice_is_fine(backend):
    one = backend()
    with Talk(one.submission, ehlo="c.test") as talk:
        assert talk.starttls().code("AUTH PLAIN " + plain("anna", SECRET, "anna")) == 235
        assert not any(word.startswith("AUTH") for word in talk.ehlo())


def test_three_failures_end_the_connection(backend):
    one = backend()
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.starttls()
        assert [talk.login("anna", f"wrong{i}")[0] for i in range(3)] == [535, 535, 535]
        assert talk.reply()[0] == 421
        assert talk.is_closed()
    assert one.wait("session.limit")["limit"] == "auth_failures"


def test_pipelined_behind_auth(backend):
    one = backend()
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.starttls()
        talk.send(f"AUTH PLAIN {plain('anna', SECRET)}\r\nMAIL FROM:<anna@example.org>\r\n")
        assert talk.reply()[0] == 554 and talk.is_closed()


def test_in_clear(backend):
    clear, forbidden = free_port(), free_port()
    one = backend(listeners=f"""
  clear: {{ listen: [ "127.0.0.1:{clear}" ], tls: offered, certificate: main, allow_cleartext_auth: true, authentication: {{ flow: staff, required: true }} }}
  forbidden: {{ listen: [ "127.0.0.1:{forbidden}" ], tls: offered, certificate: main, authentication: {{ flow: staff, required: false }} }}""")
    with Talk(clear, ehlo="c.test") as talk:
        assert talk.offers("AUTH") and talk.code("MAIL FROM:<anna@example.org>") == 530
        assert talk.login("anna", SECRET)[0] == 235
    with Talk(forbidden, ehlo="c.test") as talk:
        assert not talk.offers("AUTH") and talk.login("anna", SECRET)[0] == 530
    with Talk(one.mx, ehlo="c.test") as talk:
        assert talk.login("anna", SECRET)[0] in (502, 503)


def test_login_ends_with_starttls(backend):
    clear = free_port()
    one = backend(listeners=f"""
  clear: {{ listen: [ "127.0.0.1:{clear}" ], tls: offered, certificate: main, allow_cleartext_auth: true, authentication: {{ flow: staff, required: true }} }}""")
    assert one
    with Talk(clear, ehlo="c.test") as talk:
        assert talk.login("anna", SECRET)[0] == 235
        talk.starttls()
        assert talk.code("MAIL FROM:<anna@example.org>") == 530, "the login was kept over STARTTLS"


# ---- several directories ----

@pytest.fixture
def with_file(gateway, sink, tls_files, tmp_path):
    mail = sink(tls_files=tls_files, users={"anna": SECRET})
    mx, submission = free_port(), free_port()
    users = tmp_path / "users"
    users.write_text("")
    ctl(users, "add", "bob", password="bob-secret")
    cert, _ = tls_files
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission,
                            steps=f"[ file: {{ path: {users} }}, smtp: {{ server: mail }} ]",
                            mail_extra=f", tls: verified, ca_file: {cert}, timeout: 20s"), ports=[mx, submission])
    one.mail, one.submission, one.users = mail, submission, users
    return one


def ctl(users, verb, *words, password=None, code=0):
    done = subprocess.run([BUILD / "postern", "user", verb, *words, "--file", users], text=True,
                          input=f"{password}\n" if password else "", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == code, f"{verb} {words}: {done.returncode} {done.stdout} {done.stderr}"
    return done.stdout


def test_file_then_server(with_file):
    assert login(with_file, "bob", "bob-secret")[0] == 235
    assert not with_file.mail.commands, "bob is in the file; nobody else needs to be asked"
    assert login(with_file, "anna", SECRET)[0] == 235
    assert login(with_file, "bob", "wrong")[0] == 535
    assert login(with_file, "nobody", "wrong")[0] == 535
    with_file.mail.close()
    assert login(with_file, "bob", "bob-secret")[0] == 235
    assert login(with_file, "nobody", "wrong")[0] == 454, "not no, while somebody could not say"


def test_reasons(backend, tmp_path):
    """Whoever runs the gateway is told which it was; the client is not."""
    users = tmp_path / "users"
    users.write_text("")
    ctl(users, "add", "bob", password="bob-secret")
    one = backend(steps=f"[ file: {{ path: {users} }} ]")
    replies = {login(one, "bob", "wrong")[1].split(" (ref")[0], login(one, "nobody", "wrong")[1].split(" (ref")[0]}
    assert len(replies) == 1, replies
    with Talk(one.submission, ehlo="c.test") as talk:
        assert talk.starttls().code("AUTH PLAIN " + plain("bob", "bob-secret", "carl")) == 535
    one.wait("auth.fail", count=3)
    told = [(event["user"], event["reason"], event.get("block", "")) for event in one.find("auth.fail")]
    assert told == [("bob", "password_wrong", "file"), ("nobody", "user_unknown", "file"), ("bob", "policy", "")]
    assert "wrong" not in " ".join(event["detail"] for event in one.find("auth.fail"))


def test_users_file_is_reread(with_file):
    users = with_file.users
    assert "bob" in ctl(users, "list")
    ctl(users, "add", "carl", password="carl-secret")
    wait_until(lambda: login(with_file, "carl", "carl-secret")[0] == 235, "carl may log in")
    ctl(users, "passwd", "bob", password="other-secret")
    wait_until(lambda: login(with_file, "bob", "other-secret")[0] == 235, "bob's new password")
    assert login(with_file, "bob", "bob-secret")[0] == 535
    ctl(users, "rm", "carl")
    wait_until(lambda: login(with_file, "carl", "carl-secret")[0] == 535, "carl is gone")
    ctl(users, "rm", "carl", code=1)
    text = users.read_text()
    assert "secret" not in text and text.startswith("bob:$"), text


# ---- limits on failures ----

def questions(one):
    return sum(line.startswith("AUTH") for _, line in one.mail.commands)


def test_limit_block(backend):
    """10/15m: the eleventh is told later, and nobody is asked; who has never failed logs in from there no more."""
    one = backend(steps="[ limit: { by: client, failures: 4/15m, then: defer }, smtp: { server: mail } ]")
    for i in range(4):
        assert login(one, "anna", f"wrong{i}")[0] == 535
    asked = questions(one)
    for _ in range(3):
        code, text = login(one, "anna", SECRET)
        assert code == 454 and text.startswith("4.7.0"), text
    assert questions(one) == asked, "a backend was asked"
    one.wait("limit.reached")


def test_limit_block_spares_the_user_elsewhere(backend):
    """Who guesses locks out his own network, not the user (Mailu #2880)."""
    one = backend(steps="[ limit: { by: client, failures: 3/15m, then: defer }, smtp: { server: mail } ]")

    def from_network(source, password):
        with Talk(one.submission, ehlo="c.test", source=source) as talk:
            return talk.starttls().login("anna", password)[0]
    for i in range(3):
        assert from_network(f"127.0.7.{i + 1}", f"wrong{i}") == 535
    assert from_network("127.0.7.9", SECRET) == 454
    assert from_network("127.0.8.1", SECRET) == 235


def test_limit_counts_unknown_users_alike(backend):
    one = backend(steps="[ limit: { by: client, failures: 3/15m, then: defer }, smtp: { server: mail } ]")
    codes = {}
    for user, source in [("anna", "127.0.7.1"), ("nobody", "127.0.8.1")]:
        codes[user] = []
        for _ in range(5):
            with Talk(one.submission, ehlo="c.test", source=source) as talk:
                codes[user].append(talk.starttls().login(user, "wrong"))
    strip = lambda answers: [(code, text.partition(" (ref")[0]) for code, text in answers]
    assert strip(codes["anna"]) == strip(codes["nobody"])
    assert [code for code, _ in codes["anna"]] == [535, 535, 535, 454, 454]


def test_errors_are_not_failures(backend):
    one = backend(steps="[ limit: { by: client, failures: 2/15m, then: defer }, smtp: { server: mail } ]",
                  replies={"AUTH": "454 4.7.0 later"})
    for _ in range(4):
        assert login(one)[0] == 454
    one.mail.replies["AUTH"] = "235 2.7.0 ok"
    assert login(one)[0] == 235, "no answer was counted as a failure"


def test_hang_ups_are_attempts(backend):
    """A server that hangs up at a password answers who guesses as well as a no would."""
    one = backend(steps="[ limit: { by: client, failures: 3/15m, then: defer }, smtp: { server: mail } ]",
                  replies={"AUTH": "close"})
    for _ in range(3):
        assert login(one)[0] == 454
    asked = questions(one)
    one.mail.replies["AUTH"] = "235 2.7.0 ok"
    assert login(one)[0] == 454 and questions(one) == asked, "the attempts were not counted"
    assert one.wait("limit.reached")


# ---- LDAP ----

@pytest.fixture
def with_ldap(gateway, sink, ldap, tls_files, tmp_path):
    def make(filter_="(mail={user})", password=SERVICE_PASSWORD, step=None, timeout="20s", tls=False, url=None, extra=""):
        directory = ldap(users={"anna": ("anna@example.org", "secret"), "bob": ("bob@example.org", "secret"),
                                "twin1": ("twin@example.org", "secret"), "twin2": ("twin@example.org", "secret")}, tls_files=tls_files if tls else None)
        secret = tmp_path / "ldap-secret"
        secret.write_text(password + "\n")
        secret.chmod(0o600)
        mx, submission = free_port(), free_port()
        mail = sink()
        text = reception(mail, mx, certificate=tls_files, submission=submission,
                         steps=step or f'[ ldap: {{ server: directory, filter: "{filter_}" }} ]')
        text = text.replace("servers:\n", f'servers:\n  directory: {{ ldap: {url(directory) if url else directory.url}{extra}, base_dn: "{PEOPLE}", bind_dn: "{SERVICE}", '
                                          f"bind_password_file: {secret}, timeout: {timeout} }}\n")
        one = gateway(text, ports=[mx, submission])
        one.mail, one.submission, one.directory, one.mx = mail, submission, directory, mx
        return one
    return make


def test_ldap_answers(with_ldap):
    one = with_ldap()
    assert login(one, "anna@example.org", "secret")[0] == 235
    assert login(one, "anna@example.org", "wrong")[0] == 535
    assert login(one, "nobody@example.org", "secret")[0] == 535
    assert login(one, "twin@example.org", "secret")[0] == 454, "more than one entry"
    for hostile in ["*", "*)(uid=*", "*)(uid=*))(|(uid=*", "anna@example.org)(uid=anna", "anna@example.or*", "\\2a",
                    "anna@example.org\\00", "(", ")", "\u00e4\u00f6@example.org"]:
        code, text = login(one, hostile, "secret")
        assert code in (535, 454), (hostile, text)
    assert not one.find("auth.ok", user="*")


def test_ldap_service_bind_fails(with_ldap):
    one = with_ldap(password="not the password of the service")
    assert login(one, "anna@example.org", "secret")[0] == 454
    assert login(one, "nobody@example.org", "x")[0] == 454
    one.wait("auth.error")
    assert "not the password" not in str(one.events)


def test_ldap_direct_bind(with_ldap):
    one = with_ldap(step=f'[ ldap: {{ server: directory, bind_dn: "uid={{user}},{PEOPLE}" }} ]')
    assert login(one, "anna", "secret")[0] == 235
    assert login(one, "anna", "wrong")[0] == 535
    assert login(one, "nobody", "secret")[0] == 535
    assert login(one, f"anna,{PEOPLE}", "secret")[0] == 535
    assert login(one, "anna+cn=anna", "secret")[0] == 535


@pytest.mark.parametrize("pattern", ['filter: "(uid={user})"', f'bind_dn: "uid={{user}},{PEOPLE}"'], ids=["search", "bind"])
def test_one_account_has_one_name(with_ldap, pattern):
    """LDAP compares loosely (RFC 4518); limits and holds do not, so only one spelling logs in."""
    one = with_ldap(step=f"[ ldap: {{ server: directory, {pattern} }} ]")
    one.ctl("contain", "anna", "--reason", "stolen")
    for name in ["anna", "ANNA", "anna ", " anna", "  anna", "\uff41nna", "\u24d0nna", "anna\u00a0", "\u00aanna"]:
        code, text = login(one, name, "secret")
        assert code == (525 if name.lower() == "anna" else 535), (name, code, text)
    assert login(one, "bob", "secret")[0] == 235


@pytest.mark.parametrize("pattern", ['filter: "(uid={local})"', f'bind_dn: "uid={{local}},{PEOPLE}"'], ids=["search", "bind"])
def test_the_account_of_a_local_part(with_ldap, pattern):
    """Where the directory looks at {local} alone, what is typed behind the @ makes no new user."""
    one = with_ldap(step=f"[ ldap: {{ server: directory, {pattern} }} ]")
    assert login(one, "anna@anywhere.test", "secret")[0] == 235
    assert one.wait("auth.ok")["user"] == "anna"
    one.ctl("contain", "anna", "--reason", "stolen")
    for name in ["anna", "anna@example.org", "Anna@other.test", "anna@"]:
        assert login(one, name, "secret")[0] == 525, name


def test_ldap_stopped_and_started(with_ldap):
    one = with_ldap()
    assert login(one, "anna@example.org", "secret")[0] == 235
    one.directory.stop()
    code, text = login(one, "anna@example.org", "secret")
    assert code == 454 and text.startswith("4.7.0"), text
    one.directory.start()
    wait_until(lambda: login(one, "anna@example.org", "secret")[0] == 235, "logins work again")


def test_ldap_hangs(with_ldap):
    """A directory that answers nothing any more: 454 in its time, and nobody else notices."""
    one = with_ldap(timeout="2s")
    os.kill(one.directory.process.pid, signal.SIGSTOP)
    try:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(login(one, "anna@example.org", "secret")[0])) for _ in range(6)]
        for thread in threads:
            thread.start()
        with Talk(one.mx, ehlo="c.test") as talk:
            assert talk.mail("a@example.net", "anna@example.org").data(b"Subject: x\r\n\r\nx")[0] == 250
        assert not answers or set(answers) == {454}
        for thread in threads:
            thread.join(120)
        assert answers == [454] * 6
    finally:
        os.kill(one.directory.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("step", [None, f'[ ldap: {{ server: directory, bind_dn: "uid={{user}},{PEOPLE}" }} ]'], ids=["search", "bind"])
def test_ldap_hangs_up_on_one_login(with_ldap, step):
    """What one login breaks is nothing to the others; what breaks with three of them is."""
    with contextlib.ExitStack() as stack:
        one = with_ldap(step=step, url=lambda directory: stack.enter_context(hanging_up(directory.port, b"poison")))
        anna = "anna" if step else "anna@example.org"
        for _ in range(5):
            assert login(one, "poison", "secret")[0] == 454
        assert login(one, anna, "secret")[0] == 235
        for name in ["poison-a", "poison-b", "poison-c"]:
            assert login(one, name, "secret")[0] == 454
        down = one.wait("backend.down", backend="directory (logins)")
        assert one.events.index(one.wait("auth.ok")) < one.events.index(down), "one login is no reason to call it down"


@pytest.mark.parametrize("url, extra, code", [
    (lambda d: d.tls_url, ", ca_file: CA", 235), (lambda d: d.url, ", starttls: true, ca_file: CA", 235),
    (lambda d: d.tls_url, "", 454), (lambda d: d.url, ", starttls: true", 454),
    (lambda d: f"[ 'ldap://127.0.0.1:1', '{d.url}' ]", "", 235)], ids=["ldaps", "starttls", "ldaps-unknown-ca", "starttls-unknown-ca", "second"])
def test_ldap_urls(with_ldap, tls_files, url, extra, code):
    one = with_ldap(tls=True, url=url, extra=extra.replace("CA", str(tls_files[0])))
    assert login(one, "anna@example.org", "secret")[0] == code, one.events[-3:]
    assert login(one, "anna@example.org", "wrong")[0] == (535 if code == 235 else 454)


def test_ldap_without_starttls_at_the_server(with_ldap):
    """`starttls: true` is a demand: no password without it."""
    one = with_ldap(extra=", starttls: true")
    assert login(one, "anna@example.org", "secret")[0] == 454


def test_server_that_says_nothing(backend):
    """A mail server that takes the connection and falls silent costs its time-out, and only those who ask it."""
    silent = threading.Event()
    one = backend(replies={"AUTH": lambda _: silent.wait(300) and ""}, timeout="2s")
    try:
        with Talk(one.submission, ehlo="c.test") as asking:
            asking.starttls()
            asking.send(f"AUTH PLAIN {plain('anna', SECRET)}\r\n")
            with Talk(one.mx, ehlo="c.test") as other:
                assert other.mail("a@example.net", "anna@example.org").data(b"Subject: x\r\n\r\nx")[0] == 250
            code, text = asking.reply()
            assert code == 454 and text.startswith("4.7.0"), text
    finally:
        silent.set()


# ---- secrets ----

def test_no_secret_anywhere(backend):
    """Right and wrong passwords, in whole and in pieces, in clear and in base64, in any place of the conversation."""
    one = backend()
    secret64 = base64.b64encode(SECRET.encode()).decode()
    login(one)
    login(one, "anna", SECRET + "x")
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.say(f"AUTH PLAIN {plain('anna', SECRET)}")  # before TLS
        talk.say(secret64)
        talk.starttls()
        talk.say("AUTH CRAM-MD5 " + secret64)
        talk.say(secret64)
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.starttls()
        talk.say("AUTH LOGIN")
        talk.say(base64.b64encode(b"anna").decode())
        talk.say(secret64 + "!")
        talk.say(SECRET)
    one.stop()
    everything = str(one.events) + (one.folder / "stderr").read_text()
    for path in one.folder.rglob("*"):
        if path.is_file() and path.name != "postern.yaml":
            everything += path.read_bytes().decode("latin-1")
    for needle in [SECRET, secret64[:-4], plain("anna", SECRET)[8:-4]]:
        assert needle not in everything, needle
