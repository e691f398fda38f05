# SPDX-License-Identifier: Apache-2.0
"""Nothing is relayed without right: what configurations are refused, and what the accepted ones do when they are tried."""
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.milter import CONTINUE, Milter, add_rcpt, delete_rcpt
from rig.ports import free_port
from rig.setups import reception
from rig.talk import Talk, plain

ACCEPT = "accept: { when: authenticated }"

# (name, recipients of `any`, may it start?)
FLOWS = [
    ("preset", None, True),
    ("authenticated", f"[ {ACCEPT}, reject ]", True),
    ("end-of-flow", f"[ {ACCEPT} ]", True),
    ("trusted", "[ accept: { when: authenticated or client in trusted } ]", True),
    ("accept", "[ accept ]", False),
    ("accept-last", f"[ {ACCEPT}, accept ]", False),
    ("negation", "[ accept: { when: not authenticated } ]", False),
    ("listener", '[ accept: { when: listener == "inbound" } ]', False),
    ("other-listener", '[ accept: { when: listener == "submission" } ]', True),
    ("sender", '[ accept: { when: sender.domain == "example.org" } ]', False),
    ("helo", '[ accept: { when: helo == "mx.example.net" } ]', False),
    ("recipient", '[ accept: { when: recipient.domain == "example.net" } ]', False),
    ("tls", '[ accept: { when: tls != "" } ]', False),
    ("client-literal", "[ accept: { when: 'client in [ 10.0.0.0/8, 127.0.0.0/8 ]' } ]", False),
    ("or", '[ accept: { when: authenticated or sender == "a@example.net" } ]', False),
    ("and", '[ accept: { when: authenticated and sender ~ ".*" } ]', True),
    ("double-negation", "[ accept: { when: not (not authenticated) } ]", True),
    ("lookup", "[ lookup-smtp: { server: mail } ]", False),
    ("lookup-next", "[ lookup-smtp: { server: mail, found: next } ]", True),
    ("lookup-missing-accept", "[ lookup-smtp: { server: mail, found: reject, missing: accept } ]", False),
    ("lookup-error-accept", "[ lookup-smtp: { server: mail, found: reject, error: accept } ]", False),
    ("match", "[ match: { when: authenticated, matched: accept, unmatched: reject } ]", True),
    ("match-reversed", "[ match: { when: authenticated, matched: reject, unmatched: accept } ]", False),
    ("branch", f"[ match: {{ when: 'sender == \"\"', matched: [ {ACCEPT} ] }}, accept ]", False),
    ("branch-deep", "[ match: { when: 'helo ~ \"x\"', matched: [ match: { when: tls == \"\", matched: [ accept ] } ] } ]", False),
    ("limit", "[ limit: { by: client, recipients: 5/1h, then: accept }, reject ]", False),
    ("observe", "[ accept: { observe: true }, reject ]", True),
    ("reject-first", "[ reject: { when: not authenticated }, accept ]", True),
    ("reject-strangers", "[ reject: { when: not (authenticated or client in trusted) }, accept ]", True),
    ("reject-some", '[ reject: { when: sender.domain == "bad.example" }, accept ]', False),
    ("defer-strangers", "[ defer: { when: not authenticated }, accept ]", True),
    ("user-name", '[ accept: { when: user == "" } ]', False),
]


@pytest.fixture
def scene(gateway, sink, dns, tls_files):
    """The worst mail server: it knows everybody, everywhere. Whoever may relay reaches `world`."""
    mail = sink(users={"anna": "secret"}, tls_files=tls_files)
    world = sink(host="127.0.0.2")
    names = dns(["example.net. MX 10 mx.example.net.", "mx.example.net. A 127.0.0.2", "*.example.org. MX 10 mx.example.net."])

    def make(recipients=None, start=False, any_extra="", **options):
        mx, submission, shared = free_port(), free_port(), free_port()
        any_domain = ("{ preset: relay-authenticated, transport: internet }" if recipients is None
                      else f"{{ recipients: {recipients}, transport: internet{any_extra} }}")
        options.setdefault("listeners", f'  shared: {{ listen: [ "127.0.0.1:{shared}" ], tls: offered, certificate: main, '
                                        "authentication: { flow: staff, required: false } }")
        options.setdefault("any_domain", any_domain)
        one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, world=world, names=names,
                                mail_extra=f", tls: verified, ca_file: {tls_files[0]}", **options), start=False)
        one.mx, one.submission, one.shared, one.mail, one.world = mx, submission, shared, mail, world
        if start:
            one.ports = [mx, submission]
            one.start()
        return one
    return make


def strangers_try(one, addresses=("b@example.net",), ports=None):
    """Each address, from a stranger, with some senders; what was accepted."""
    taken = []
    for port in ports or (one.mx, one.shared):
        for sender in ("a@example.net", "", "anna@example.org"):
            with Talk(port, ehlo="c.test") as talk:
                for address in addresses:
                    if talk.code(f"MAIL FROM:<{sender}>") != 250:
                        talk.close()
                        talk = Talk(port, ehlo="c.test")
                        talk.mail(sender)
                    code, _ = talk.say(f"RCPT TO:<{address}>")
                    if code < 400:
                        taken.append(address)
                    if code == 421 or talk.code("RSET") != 250:
                        talk = Talk(port, ehlo="c.test")
    return taken


@pytest.mark.parametrize("name, recipients, good", FLOWS, ids=[name for name, *_ in FLOWS])
def test_flows_of_any(scene, name, recipients, good):
    one = scene(recipients)
    done = subprocess.run([BUILD / "postern", "check", one.path], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == (0 if good else 1), done.stdout
    if not good:
        assert "open-relay" in done.stdout or "relay" in done.stdout, done.stdout
        assert "stranger -> listener inbound -> domain any ->" in done.stdout, "the path is not shown"
        code, problems = one.check()
        assert code == 1 and any(problem.get("code", problem.get("kind")) == "open-relay" or "open-relay" in str(problem)
                                 for problem in problems), problems
        one.start(wait=False)
        assert one.process.wait(120) != 0, "it started"
        one.process = None
        return
    one.start()
    assert strangers_try(one) == [], "a stranger relayed"
    with Talk(one.shared, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.login("anna", "secret")[0] == 235
        talk.mail("anna@example.org")
        user_may = talk.code("RCPT TO:<b@example.net>") == 250
    assert user_may == (name not in ("other-listener", "lookup-next", "observe")), "a user's right"
    assert not one.world.messages


def test_reload_refuses_an_open_relay(scene):
    one = scene(start=True)
    text = one.path.read_text()
    one.path.write_text(text.replace("{ preset: relay-authenticated, transport: internet }", "{ recipients: [ accept ], transport: internet }"))
    assert not one.reload()
    assert "open-relay" in str(one.find("config.problem"))
    assert strangers_try(one) == []


AWAY = """  b.test: {{ recipients: [ rewrite: {{ recipient: {{ {} }} }}, accept ], transport: to-mail }}
  c.test: {{ recipients: [ reject ], content: away, transport: to-mail }}"""
OTHERS = [
    # (name, options of the configuration, may it start, what the check says)
    ("no-entitlement", {"entitlements": "entitlements: { open_relay_support: false }"}, False, "open-relay-support"),
    ("not-said", {"entitlements": ""}, False, "open-relay-support"),
    ("lookup-mx-listed", {"domains": "  example.com: { recipients: [ accept ], transport: internet }"}, False, "open-relay"),
    ("lookup-mx-looked-up", {"domains": "  example.com: { recipients: [ lookup-smtp: { server: mail } ], transport: internet }"}, True, ""),
    ("reason", {"any_domain": '{ recipients: [ accept ], transport: internet, allow_open_relay: "a honey pot" }'}, True, "open-relay"),
    ("no-reason", {"any_domain": '{ recipients: [ accept ], transport: internet, allow_open_relay: "" }'}, False, "allow_open_relay"),
    ("world-trusted", {"top": "trusted_networks: [ 0.0.0.0/0 ]"}, False, "0.0.0.0/0"),
    ("world-trusted-6", {"top": 'trusted_networks: [ "::/0" ]'}, False, "::/0"),
    ("wide-public", {"top": "trusted_networks: [ 203.0.0.0/16 ]"}, False, "203.0.0.0/16"),
    ("wide-with-reason", {"top": 'trusted_networks: [ { network: 203.0.0.0/16, reason: "our customers" } ]'}, True, ""),
    ("narrow-public", {"top": "trusted_networks: [ 203.0.113.0/24 ]"}, True, ""),
    ("wide-public-6", {"top": 'trusted_networks: [ "2001:db8::/32" ]'}, None, ""),
    ("private", {"top": "trusted_networks: [ 10.0.0.0/8, 192.168.0.0/16 ]"}, True, ""),
    ("rewrite-by-pattern", {"domains": "  b.test: { recipients: [ rewrite: { recipient: { '~^(.+)%(.+)@b.test$': '$1@$2' } }, lookup-smtp: { server: mail } ], transport: to-mail }"}, False, "a domain that is not listed"),
    ("rewrite-to-listed", {"domains": "  b.test: { recipients: [ rewrite: { recipient: { '@b.test': '@example.org' } }, lookup-smtp: { server: mail } ], transport: to-mail }"}, True, ""),
    ("forward", {"domains": "  b.test: { recipients: [ rewrite: { recipient: { x@b.test: x@c.test } }, lookup-smtp: { server: mail } ], transport: to-mail }"}, True, ""),
    ("rewrite-past-a-closed-domain", {"flows": "  content:\n    away: [ rewrite: { recipient: { '@c.test': '@example.net' } }, deliver ]",
                                      "domains": AWAY.format("'@b.test': '@c.test'")}, False, "domain b.test, rewritten -> domain c.test"),
    ("rewrite-not-to-it", {"flows": "  content:\n    away: [ rewrite: { recipient: { '@c.test': '@example.net' } }, deliver ]",
                           "domains": AWAY.format("'@b.test': '@example.org'")}, True, ""),
    ("route", {"domains": "  b.test: { recipients: [ route: internet, accept ], transport: to-mail }"}, False, "a transport that looks up MX"),
    ("smarthost", {"any_domain": "{ recipients: [ accept ], transport: { server: mail } }"}, False, "open-relay"),
]


@pytest.mark.parametrize("name, options, good, text", OTHERS, ids=[name for name, *_ in OTHERS])
def test_other_configurations(scene, name, options, good, text):
    one = scene(**options)
    done = subprocess.run([BUILD / "postern", "check", one.path], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if good is not None:
        assert done.returncode == (0 if good else 1), done.stdout
    assert text in done.stdout, done.stdout
    if done.returncode == 0 and name != "reason":
        one.start()
        assert strangers_try(one) == []


PAST = """  b.test: {{ recipients: [ {steps} ], transport: to-mail }}
  closed.test: {{ recipients: [ reject: {{ when: not authenticated }}, accept ], transport: internet }}"""
TO_CLOSED = "rewrite: { recipient: { '@b.test': '@closed.test' } }"


def test_rewriting_past_another_domains_flow(scene):
    """A listed domain by MX whose own flow would refuse a stranger: told with the way and what to do; `explain` says it at the step."""
    one = scene(domains=PAST.format(steps=f"{TO_CLOSED}, accept"))
    for steps, said in [(f"{TO_CLOSED}, accept", True), (f"lookup-smtp: {{ server: mail, found: next }}, {TO_CLOSED}, accept", False),
                        (f"reject: {{ when: not authenticated }}, {TO_CLOSED}, accept", False),
                        ("rewrite: { recipient: { x@b.test: y@closed.test } }, accept", False),
                        ("rewrite: { recipient: { '@b.test': '@example.org' } }, accept", False)]:
        other = scene(domains=PAST.format(steps=steps))
        done = subprocess.run([BUILD / "postern", "check", other.path], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0 and ("passed-by" in done.stdout) == said, (steps, done.stdout)
        if said:
            assert "-> domain b.test -> b.test.recipients/1 rewrite" in done.stdout and "-> domain closed.test by MX" in done.stdout
            assert "fix: rewrite strangers' recipients only behind a lookup" in done.stdout
    done = subprocess.run([BUILD / "postern", "explain", "x@b.test", one.path], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert "that domain's own recipient flow is not asked" in done.stdout, done.stdout + done.stderr


CLOSED = """  b.test: {{ recipients: [ {steps} ], content: looked-at, transport: to-mail }}
  example.net: {{ recipients: [ reject: {{ when: not authenticated }}, accept ], transport: internet }}"""
MOVES = """function recipient(mail)
  mail:set_recipient((mail.recipient:gsub("@b.test", "@example.net")))
  return "accept"
end
function stays(mail)
  return "accept"
end
"""
LOOKED_UP = "lookup-smtp: { server: mail, found: next }"


@pytest.mark.parametrize("steps, content, moves, protected", [
    ("script: { file: moves.lua }, reject", "hold: { when: size > 1G }", "stays.lua", LOOKED_UP),
    ("accept", "milter: { server: filter }", "milter: { server: filter, recipients: none }", LOOKED_UP),
], ids=["script", "milter"])
def test_scripts_and_milters_past_another_domains_flow(scene, steps, content, moves, protected):
    """Where they lead is not in the file: a stranger's mail reaches the hosts of a domain that refuses it, and check said that it may."""
    milter = Milter({"E": add_rcpt("bob@example.net") + delete_rcpt("bob@b.test") + CONTINUE})

    def make(steps, content):
        one = scene(domains=CLOSED.format(steps=steps), flows=f"  content:\n    looked-at: [ {content}, deliver ]")
        (one.folder / "moves.lua").write_text(MOVES)
        (one.folder / "stays.lua").write_text(MOVES.replace("mail:set_recipient(", "local _ = ("))
        one.path.write_text(one.path.read_text().replace("servers:\n", f'servers:\n  filter: {{ milter: "127.0.0.1:{milter.port}" }}\n'))
        done = subprocess.run([BUILD / "postern", "check", one.path], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stdout
        return one, done.stdout
    try:
        one, said = make(steps, content)
        assert "to domain b.test may be rewritten into domain example.net" in said and "passed-by" in said, said
        one.start()
        with Talk(one.mx, ehlo="c.test") as talk:
            talk.mail("a@a.test")
            assert talk.code("RCPT TO:<bob@example.net>") == 550, "its own flow refuses strangers"
            assert talk.code("RCPT TO:<bob@b.test>") == 250
            assert talk.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
        wait_until(lambda: one.world.messages, "it reaches the closed domain")
        assert one.world.messages[0].recipients == ["bob@example.net"]
        assert "passed-by" not in make(f"{protected}, {steps}", content)[1], "a backend knows the recipient"
        calm = (steps.replace("moves.lua", moves), content) if moves.endswith(".lua") else (steps, moves)
        assert "passed-by" not in make(*calm)[1], "it cannot change recipients"
    finally:
        milter.stop()


def test_sessions_per_listener_that_cannot_relay(scene):
    """Leaving `any` out gives a listener that cannot relay, for nobody."""
    port = free_port()
    one = scene(start=True, listeners=f"""  narrow: {{ listen: [ "127.0.0.1:{port}" ], tls: offered, certificate: main, domains: [ example.org ],
            authentication: {{ flow: staff, required: false }} }}""")
    with Talk(port, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.login("anna", "secret")[0] == 235
        talk.mail("anna@example.org")
        code, text = talk.say("RCPT TO:<b@example.net>")
        assert code == 550 and text.startswith("5.7.1"), text
        assert talk.code("RCPT TO:<bob@example.org>") == 250
    assert one


FORMS = """b@example.net B@EXAMPLE.NET b@EXAMPLE.net b@sub.example.net "b"@example.net "b@example.net"@example.net "b c"@example.net
b%example.net@example.org b%example.net@EXAMPLE.ORG example.net!b@example.org a!b!c@example.org b%example.net%x@example.org
@example.org:b@example.net @example.org,@example.net:b@example.net @EXAMPLE.ORG:b@example.net @example.net:b@example.net
"b@example.net"@example.org "b%example.net"@example.net "example.net!b"@example.net b@example.org@example.net b@example.net@example.org
b@example.net. b@example.org. b@[127.0.0.2] b@[IPv6:::1] b@[127.0.0.1] b@[10.0.0.1] b@[192.0.2.1] b@127.0.0.2 b@[example.org]
b@ b @example.net b@.example.net b@example..net b@-example.net b@example.net:25 b@example.net,c@example.org b@example.org,c@example.net
b@example.net>x b@example.org%00@example.net b%40example.net@example.net b=example.net@example.net b+example.net@example.net
b@xn--bcher-kva.example b@example.org\\@example.net b\\@example.org@example.net "b\\"@example.org\\""@example.net b@localhost
root@localhost.localdomain b@EXAMPLE.ORG.example.net b@example.org.net b@www.example.org b@sub.example.org b@a.b.example.org
b@example.orgx b@xexample.org b@example-org.net b@ExAmPlE.oRg.EXAMPLE.NET relay@example.net postmaster@example.net abuse@example.net
|/bin/sh@example.net /etc/passwd@example.net :include:/etc/passwd@example.net -f@example.net b@example.net/x b..c@example.net
.b@example.net b.@example.net""".split()


def test_address_forms(scene):
    """T-B2: no form of an address gives a stranger what he may not have; sub-domains of ours are not ours."""
    assert len(FORMS) >= 60
    one = scene(start=True)
    forms = FORMS + ['"b c"@example.net', "b c@example.net", "<b@example.net>", " b@example.net", "b@example.net ", "", "b@ex\u00e4mple.net"]
    taken = strangers_try(one, forms)
    wrong = [form for form in taken if not is_ours(form)]
    assert not wrong, wrong
    one.wait_empty()
    assert not one.world.messages
    # the routes that name us in front are stripped, then judged
    assert "@example.org:b@example.net" not in taken


def is_ours(form):
    """What may be taken from anybody: the exact domain, in any case."""
    address = form.rpartition(":")[2] if form.startswith("@") else form
    local, _, domain = address.strip(" <>").rpartition("@")
    return domain.lower() == "example.org" and not any(c in local for c in "%!@") and "\\" not in local


def test_forms_on_submission(scene):
    """Without a login nothing at all; with one, what it gets is the exact address."""
    one = scene(start=True)
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.starttls()
        for sender in ("a@example.net", "anna@example.org", ""):
            assert talk.code(f"MAIL FROM:<{sender}>") == 530
        for form in FORMS[:5]:
            assert talk.code(f"RCPT TO:<{form}>") in (501, 503, 530)
    with Talk(one.submission, ehlo="c.test") as talk:
        talk.starttls()
        assert talk.code("AUTH PLAIN " + plain("anna", "secret")) == 235
        talk.mail("anna@example.org", "b%x@example.net", '"b c"@example.net', "B@Example.NET")
        assert talk.data(b"Subject: x\r\n\r\nx")[0] == 250
    wait_until(lambda: sum(len(m.recipients) for m in one.world.messages) == 3, "all three are delivered")
    assert sorted(r for m in one.world.messages for r in m.recipients) == ['"b c"@example.net', "B@example.net", "b%x@example.net"]


def test_trusted_network_relays(scene):
    """Forced SMTP relaying: an address is enough, on the listener of strangers."""
    one = scene(start=True, top="trusted_networks: [ 127.0.9.0/24 ]",
                any_domain="{ recipients: [ accept: { when: authenticated or client in trusted } ], transport: internet }")
    with Talk(one.mx, ehlo="c.test", source="127.0.9.5") as talk:
        talk.mail("a@example.net", "b@example.net")
        assert talk.data(b"Subject: x\n\nmended for own users\r\n")[0] == 250
    wait_until(lambda: one.world.messages, "it is relayed")
    assert strangers_try(one) == []
