# SPDX-License-Identifier: Apache-2.0
"""Who is a recipient: every answer of the mail server, caches, groups, aliases, postmaster."""
import concurrent.futures
import threading

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk


@pytest.fixture
def asking(gateway, sink, tmp_path):
    def make(replies=None, mail=None, extensions=("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"), timeout="20s", **options):
        mail = mail or sink(replies=replies or {}, extensions=extensions)
        mx = free_port()
        one = gateway(reception(mail, mx, mail_extra=f", tls: none, timeout: {timeout}", **options), ports=[mx])
        one.mail, one.mx = mail, mx
        return one
    return make


def ask(one, address, sender="a@example.net", port=None):
    with Talk(port or one.mx, ehlo="c.test") as talk:
        talk.mail(sender)
        return talk.say(f"RCPT TO:<{address}>")


def questions(one, name):
    return sum(line.startswith("RCPT TO:") and f"<{name}@" in line for _, line in one.mail.commands)


TABLE = [
    # what the server says to RCPT, what we say, how the text begins, the event
    ("250 2.1.5 ok", 250, "2.1.5", None), ("251 2.1.5 will forward", 250, "2.1.5", None), ("252 2.5.2 maybe", 250, "2.1.5", None),
    ("550 No such user", 550, "5.1.1", "recipient.reject"), ("550 5.1.1 no mailbox here", 550, "5.1.1 no mailbox here", "recipient.reject"),
    ("550 5.1.10 null", 550, "5.1.10 null", "recipient.reject"), ("551 not local", 551, "", "recipient.reject"),
    ("553 bad name", 553, "", "recipient.reject"), ("550 5.4.1 no mailbox there", 550, "5.4.1", "recipient.reject"),
    ("550 5.7.1 you may not ask", 451, "4.", "backend.denied"), ("554 5.7.1 access denied", 451, "4.", "backend.denied"),
    ("554 go away", 451, "4.", "backend.denied"), ("503 5.5.1 order", 451, "4.", "backend.denied"),
    ("530 5.7.0 login first", 451, "4.", "backend.denied"), ("521 5.3.2 no mail", 451, "4.", "backend.denied"),
    ("552 5.2.2 full", 451, "4.", None), ("552 full", 451, "4.", None), ("450 4.2.0 greylisted", 451, "4.", None),
    ("451 4.3.0 later", 451, "4.", None), ("452 4.2.2 full", 451, "4.", None), ("421 4.3.2 closing", 451, "4.", None),
    ("nonsense", 451, "4.", None), (None, 451, "4.", None)]


@pytest.mark.parametrize("pipelining", [True, False])
def test_reply_table(asking, pipelining):
    one = asking(extensions=("PIPELINING",) if pipelining else ("8BITMIME",))
    for i, (reply, code, start, event) in enumerate(TABLE):
        name = f"user{i}"
        one.mail.replies[f"RCPT {name}@example.org"] = reply
        got, text = ask(one, f"{name}@example.org")
        assert got == code and text.startswith(start), (reply, got, text)
        if event:
            one.wait(event)
        # the connection is sound for the next question
        assert ask(one, f"good{i}@example.org")[0] == 250


def test_reference_of_a_refusal(asking):
    one = asking(replies={"RCPT": known("anna")})
    code, text = ask(one, "nobody@example.org")
    reference = text.rpartition("(ref ")[2].rstrip(")")
    event = one.wait("recipient.reject")
    assert event["ref"] == reference and event["to"] == "nobody@example.org" and event["code"] == code == 550


@pytest.mark.parametrize("replies", [
    {"banner": "554 5.7.1 no"}, {"banner": None}, {"EHLO": "550 5.7.1 no", "HELO": "550 5.7.1 no"}, {"EHLO": None}, {"MAIL": "550 5.1.1 no such sender"},
    {"MAIL": "450 4.1.8 no"}, {"MAIL": "530 5.7.0 log in"}, {"MAIL": None}, {"RCPT": None}, {"RCPT": "421 4.3.2 bye"}],
    ids=lambda replies: "-".join(f"{key}-{str(value)[:3]}" for key, value in replies.items()))
def test_error_is_never_no(asking, replies):
    one = asking(replies=replies)
    code, text = ask(one, "anna@example.org")
    assert code == 451 and text.startswith("4."), text
    one.wait("recipient.defer")


def test_421_is_asked_again(asking):
    """A kept connection that the server ends costs nobody anything."""
    one = asking()
    assert ask(one, "one@example.org")[0] == 250
    one.mail.replies["MAIL"] = ["421 4.3.2 too many questions", ""]
    assert ask(one, "two@example.org")[0] == 250
    assert one.mail.connections <= 3  # a worker keeps its own
    one.mail.replies["RCPT"] = [None, ""]
    assert ask(one, "three@example.org")[0] == 250


def test_server_that_says_nothing(asking):
    """451 in its time-out; users of another mail server, and of the cache, are served meanwhile."""
    silent = threading.Event()
    one = asking(lookup=", cache: 10m", timeout="4s")
    assert ask(one, "anna@example.org")[0] == 250
    one.mail.replies["RCPT slow@example.org"] = lambda _: silent.wait(300) and ""
    try:
        with Talk(one.mx, ehlo="c.test") as talk:
            talk.mail("a@example.net")
            talk.send("RCPT TO:<slow@example.org>\r\n")
            assert ask(one, "anna@example.org")[0] == 250
            code, text = talk.reply()
            assert code == 451, text
    finally:
        silent.set()


def test_questions_share_a_connection(asking):
    one = asking()
    for i in range(12):
        assert ask(one, f"user{i}@example.org")[0] == 250
    assert one.mail.connections <= 2
    assert not any(line.startswith(("DATA", "BDAT")) for _, line in one.mail.commands)
    assert all(line == "MAIL FROM:<>" for _, line in one.mail.commands if line.startswith("MAIL"))


def test_cache(asking):
    one = asking(replies={"RCPT": known("anna")}, lookup=", cache: 10m, cache_missing: 10m")
    for _ in range(3):
        assert ask(one, "anna@example.org")[0] == 250
        assert ask(one, "Anna@Example.ORG")[0] == 250
        assert ask(one, "nobody@example.org")[0] == 550
    assert questions(one, "nobody") == 1
    assert questions(one, "anna") + questions(one, "Anna") <= 2


def test_cache_of_missing_ends(asking):
    """A mailbox that is made now is there soon."""
    one = asking(replies={"RCPT": known("anna")}, lookup=", cache: 10m, cache_missing: 1s")
    assert ask(one, "carl@example.org")[0] == 550
    one.mail.replies["RCPT"] = known("anna", "carl")
    wait_until(lambda: ask(one, "carl@example.org")[0] == 250, "carl is found")


def test_single_flight(asking):
    """20 at once with one address: one question."""
    gate = threading.Event()

    def slow(_):
        gate.wait(300)
        return "250 2.1.5 ok"
    one = asking(replies={"RCPT": slow})
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(ask, one, "anna@example.org") for _ in range(20)]
        wait_until(lambda: questions(one, "anna"), "the question is asked")
        wait_until(lambda: one.status()["sessions"] >= 20, "all are there")
        gate.set()
        assert [answer.result()[0] for answer in answers] == [250] * 20
    assert questions(one, "anna") == 1


def test_stale_in_an_outage(asking):
    """What was found stays found while the server is away; what was denied or missing does not become found."""
    one = asking(replies={"RCPT": known("anna")}, lookup=", cache: 1s, cache_missing: 1s, stale: 7d")
    assert ask(one, "anna@example.org")[0] == 250
    assert ask(one, "nobody@example.org")[0] == 550
    one.mail.replies["RCPT denied@example.org"] = "550 5.7.1 not you"
    assert ask(one, "denied@example.org")[0] == 451
    one.mail.replies["banner"] = None
    one.mail.replies["MAIL"] = None
    # past the second that it is fresh for
    wait_until(lambda: ask(one, "nobody@example.org")[0] == 451, "the answer that it is missing ends")
    for _ in range(3):
        assert ask(one, "anna@example.org")[0] == 250
    assert ask(one, "denied@example.org")[0] == 451
    assert ask(one, "fresh@example.org")[0] == 451


def test_stale_is_not_for_denied(asking):
    one = asking(lookup=", cache: 1s, stale: 7d")
    assert ask(one, "anna@example.org")[0] == 250
    one.mail.replies["RCPT"] = "550 5.1.1 gone"
    wait_until(lambda: ask(one, "anna@example.org")[0] == 550, "a no is believed when it is said")


# ---- groups, domains, aliases, postmaster ----

GROUPS = """
  content:
    one: [ deliver ]
    two: [ deliver ]"""


@pytest.fixture
def domains(asking, sink):
    other = free_port()
    return lambda: asking(
        replies={"RCPT": known("anna", "bob", "postmaster")}, flows=GROUPS, inbound=", limits: { errors: 100 }",
        domains="  example.com: { recipients: local-users, content: two, transport: to-mail, aliases: [ example.co.uk ] }",
        listeners=f'  second: {{ listen: [ "127.0.0.1:{other}" ], tls: none, authentication: none, domains: [ example.com ] }}'), other


def test_strangers_and_groups(domains):
    """Another content flow than the first's: later, in a transaction of its own; a refusal stands."""
    make, _ = domains
    one = make()
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.org")
        code, text = talk.say("RCPT TO:<anna@example.com>")
        assert code == 452 and text.startswith("4.5.3"), text
        assert talk.code("RCPT TO:<nobody@example.com>") == 550
        assert talk.code("RCPT TO:<bob@example.org>") == 250
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
        talk.mail("a@example.net", "anna@example.com")
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
    wait_until(lambda: sum(len(m.recipients) for m in one.mail.messages) == 3, "all is delivered")


def test_each_domain_for_itself(domains):
    """Domains in any order in one transaction, and in those behind it: what was found for one is said of no other."""
    make, _ = domains
    one = make()
    here, relay, unknown, later = 250, 550, 550, 452
    table = [("anna@example.org", here, "2.1.5"), ("bob@example.org", here, "2.1.5"), ("anna@elsewhere.example", relay, "5.7.1"),
             ("bob@EXAMPLE.ORG", here, "2.1.5"), ("anna@example.com", later, "4.5.3"), ("nobody@example.org", unknown, "5.1.1"),
             ("anna@example.or", relay, "5.7.1"), ("anna@example.co.uk", later, "4.5.3"), ("anna@sub.example.org", relay, "5.7.1"),
             ("anna@example.org", here, "2.1.5")]
    with Talk(one.mx, ehlo="c.test") as talk:
        for end in ("RSET", "EHLO c.test", "RSET"):
            talk.mail("a@example.net")
            for address, code, start in table:
                got, text = talk.say(f"RCPT TO:<{address}>")
                assert got == code and text.startswith(start), (address, got, text)
            assert talk.code(end) == 250
            talk.mail("a@example.net", "anna@example.com", "anna@example.co.uk", "bob@example.com")
            assert talk.code("RCPT TO:<anna@example.org>") == 452
            assert talk.code(end) == 250


def test_listener_with_some_domains(domains):
    make, other = domains
    one = make()
    code, text = ask(one, "anna@example.org", port=other)
    assert code == 550 and text.startswith("5.7.1"), text
    assert ask(one, "anna@example.com", port=other)[0] == 250


def test_aliases(domains):
    make, _ = domains
    one = make()
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "anna@example.co.uk")
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
    wait_until(lambda: one.mail.messages, "it is delivered")
    # unknown ones are unknown under each name
    assert ask(one, "nobody@example.co.uk")[0] == 550
    assert ask(one, "anna@www.example.co.uk")[0] == 550


@pytest.mark.parametrize("form", ["postmaster", "Postmaster", "POSTMASTER", "postmaster@[127.0.0.1]", "PostMaster@[127.0.0.1]",
                                  "postmaster@mx.example.org"])
def test_postmaster(domains, form):
    """From anybody, without a question, to postmaster@ the first listed domain."""
    make, other = domains
    one = make()
    for port in (one.mx, other):
        with Talk(port, ehlo="c.test") as talk:
            talk.mail("a@example.net", form)
            assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
    wait_until(lambda: len(one.mail.messages) == 2, "both are delivered")
    assert [m.recipients for m in one.mail.messages] == [["postmaster@example.org"]] * 2


@pytest.mark.parametrize("form", ["postmaster@[127.0.0.2]", "anna@[127.0.0.1]", "postmaster@[10.1.1.1]", "postmaster@[IPv6:::1]"])
def test_other_literals(domains, form):
    make, _ = domains
    code, text = ask(make(), form)
    assert code in (550, 553, 501), text


def test_postmaster_of_ones_own(asking):
    one = asking(replies={"RCPT": known("anna")}, top="postmaster: anna@example.org")
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.mail("a@example.net", "postmaster")
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
    wait_until(lambda: one.mail.messages, "it is delivered")
    assert one.mail.messages[0].recipients == ["anna@example.org"]


# ---- other directories ----

def test_lookup_file(gateway, sink, tmp_path):
    mail, mx = sink(), free_port()
    path = tmp_path / "known"
    path.write_text("anna@example.org\n# a remark\n@sub.example.org\n/^list-[a-z]+@example\\.org$/\n")
    text = reception(mail, mx).replace("lookup-smtp: { server: mail }", f"lookup-file: {{ path: {path} }}")
    text = text.replace("domains:\n", "domains:\n  sub.example.org: { recipients: local-users, transport: to-mail }\n")
    one = gateway(text, ports=[mx])
    one.mx = mx
    for address, code in [("anna@example.org", 250), ("ANNA@example.org", 250), ("bob@example.org", 550), ("list-x@example.org", 250),
                          ("list-1@example.org", 550), ("anybody@sub.example.org", 250), ("a@sub.sub.example.org", 550)]:
        assert ask(one, address)[0] == code, address
    path.write_text("bob@example.org\n")
    wait_until(lambda: ask(one, "bob@example.org")[0] == 250, "the file is reread")
    assert ask(one, "anna@example.org")[0] == 550


def test_lookup_ldap(gateway, sink, ldap, tmp_path):
    from rig.ldap import PEOPLE, SERVICE, SERVICE_PASSWORD
    mail, mx = sink(), free_port()
    directory = ldap(users={"anna": ("anna@example.org", "x"), "t1": ("twin@example.org", "x"), "t2": ("twin@example.org", "x")})
    secret = tmp_path / "secret"
    secret.write_text(SERVICE_PASSWORD)
    text = reception(mail, mx).replace("lookup-smtp: { server: mail }", "lookup-ldap: { server: directory, cache: 1s, cache_missing: 1s }")
    text = text.replace("servers:\n", f'servers:\n  directory: {{ ldap: "{directory.url}", base_dn: "{PEOPLE}", bind_dn: "{SERVICE}", '
                                      f"bind_password_file: {secret}, timeout: 20s }}\n")
    one = gateway(text, ports=[mx])
    one.mx = mx
    for address, code in [("anna@example.org", 250), ("twin@example.org", 250), ("nobody@example.org", 550), ("*@example.org", 550),
                          ("an*@example.org", 550), ('"*)(mail=*"@example.org', 550)]:
        got, reply = ask(one, address)
        assert got == code, (address, reply)
    directory.stop()
    assert ask(one, "other@example.org")[0] == 451
    wait_until(lambda: ask(one, "nobody@example.org")[0] == 451, "missing is not kept")
    assert ask(one, "anna@example.org")[0] == 250, "found is kept over an outage"
