# SPDX-License-Identifier: Apache-2.0
"""`postern shadow`: exactly the decisions that another configuration would have made differently."""
import email.message
import email.policy
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.scanners import Rspamd
from rig.setups import known, reception


@pytest.fixture
def scene(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna", "bert")}, users={"anna": "secret"})
    mx, submission = free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission), ports=[mx, submission])
    one.mail, one.mx, one.submission, one.first = mail, mx, submission, one.path.read_text()
    return one


def postern(one, *words):
    return subprocess.run([BUILD / "postern", "--socket", one.folder / "control.sock", *words], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def shadow(one, text, *words):
    (one.folder / "new.yaml").write_text(text)
    return one.ctl_json("shadow", one.folder / "new.yaml", *words, ok=(0, 1))[0]


def some_mail(one):
    """Two messages, three refusals: of five RCPT, two come from bad.example."""
    for sender, to in [("x@good.example", "anna"), ("y@bad.example", "bert"), ("x@good.example", "nobody"),
                       ("y@bad.example", "nobody")]:
        with one.client(one.mx) as client:
            try:
                client.sendmail(sender, [f"{to}@example.org"], "Subject: x\r\n\r\nhello\r\n")
            except OSError:
                pass
            except Exception as error:  # a refusal
                assert "Refused" in type(error).__name__
    with one.client(one.mx) as client:
        client.docmd("MAIL FROM:<x@good.example>")
        assert client.docmd("RCPT TO:<a@foreign.example>")[0] == 550
    one.wait_empty()
    wait_until(lambda: len(one.ctl_json("find", "verdict:rejected")) >= 3, "the history has them")


BEFORE = "      - accept: { when: authenticated or client in trusted }\n"


def test_the_changed_decisions_and_no_others(scene):
    some_mail(scene)
    asked = scene.mail.connections
    same = shadow(scene, scene.first)
    assert same["changed"] == 0 and same["open"] == 0 and same["decisions"] == 7, same
    result = shadow(scene, scene.first.replace(BEFORE, BEFORE + '      - reject: { when: sender.domain == "bad.example" }\n'))
    assert result["changed"] == 1 and result["open"] == 0 and result["same"] == 6, result
    (group,) = result["groups"]
    assert (group["kind"], group["before"], group["after"], group["by"], group["count"]) == \
        ("recipient", "accept", "reject", "local-users/2-reject", 1)
    (example,) = group["examples"]
    assert "127.0.0.1" in example and "<y@bad.example> bert@example.org" in example
    assert scene.ctl("trace", example.split()[0]), "the example leads to its story"
    assert scene.mail.connections == asked, "nobody is asked again"


def test_the_answers_are_those_of_then(scene):
    """Another action for the same answer; a removed lookup; a lookup that was never made."""
    some_mail(scene)
    result = shadow(scene, scene.first.replace("lookup-smtp: { server: mail", "lookup-smtp: { missing: defer, server: mail"))
    assert [(group["before"], group["after"], group["count"]) for group in result["groups"]] == [("reject", "defer", 2)], result
    other = scene.first.replace("servers:\n", 'servers:\n  other: { smtp: "127.0.0.1:1", tls: none }\n').replace(
        "lookup-smtp: { server: mail", "lookup-smtp: { server: other")
    result = shadow(scene, other)
    assert result["changed"] == 0 and result["open"] == 4, result
    assert all(group["by"] == "local-users/2-lookup-smtp" for group in result["groups"])
    assert "4 are undecided" in postern(scene, "shadow", scene.folder / "new.yaml").stdout


def test_what_listeners_allow(scene):
    some_mail(scene)
    result = shadow(scene, scene.first.replace("tls: offered", "tls: required"))
    assert {(group["before"], group["after"]) for group in result["groups"] if group["kind"] == "recipient"} == \
        {("accept", "refused"), ("reject", "refused")}, result


def test_logins(scene):
    with scene.client(scene.submission, tls=True, login=("anna", "secret")) as client:
        client.sendmail("anna@example.org", ["bert@example.org"], "Subject: x\r\n\r\nhello\r\n")
    scene.wait_empty()
    result = shadow(scene, scene.first, "--since", "1h")
    assert (result["decisions"], result["same"]) == (3, 3), result
    result = shadow(scene, scene.first.replace("authentication: { flow: staff, required: true }", "authentication: none"))
    assert [(group["kind"], group["after"]) for group in result["groups"]] == [("login", "refused")], result


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory):
    one = Rspamd(tmp_path_factory.mktemp("scanner"))
    yield one
    one.stop()


def test_one_threshold(gateway, sink, rspamd):
    """J4: flipping one threshold shows the exact list, before it is applied; a condition on the text is open."""
    mail = sink()
    mx = free_port()
    one = gateway(reception(mail, mx, flows="  content:\n    scan:\n      - antispam: { server: spam, reject_at: 10 }\n      - deliver").replace(
        "servers:\n", f'servers:\n  spam: {{ rspamd: "http://127.0.0.1:{rspamd.port}" }}\n').replace(
        "recipients: local-users,", "recipients: local-users, content: scan,"), ports=[mx])
    text = one.path.read_text()
    for score in 4, 8, 9, 12:
        with one.client(mx) as client:
            client.docmd("MAIL FROM:<x@example.net>")
            client.docmd("RCPT TO:<anna@example.org>")
            assert client.data(f"X-Test-Score: {score}\r\n\r\nscore {score}\r\n")[0] == (554 if score > 10 else 250)
    one.wait_empty()
    wait_until(lambda: len(one.ctl_json("find", "verdict:rejected")) == 1, "the history has them")
    assert shadow(one, text)["changed"] == 0
    result = shadow(one, text.replace("reject_at: 10", "reject_at: 6"))
    assert [(group["kind"], group["before"], group["after"], group["count"]) for group in result["groups"]] == \
        [("message", "deliver", "reject", 2)] and result["same"] == 6, result
    result = shadow(one, text.replace("reject_at: 10", "reject_at: 14"))
    assert [(group["before"], group["after"], group["count"]) for group in result["groups"]] == [("reject", "deliver", 1)], result
    result = shadow(one, text.replace("      - deliver", '      - reject: { when: header("Subject") == "x" }\n      - deliver'))
    assert result["changed"] == 0 and result["open"] == 3, "the refused one ends before that step"
    assert [group["why"] for group in result["groups"]] == ['header("Subject") is not in the record'], result
    done = postern(one, "shadow", one.folder / "new.yaml", "--last", "2")
    assert "4 decisions (2 messages): 0 would change, 3 not, 1 are undecided" in done.stdout and "scan/2-reject: header(" in done.stdout, \
        done.stdout + done.stderr
    result = shadow(one, text.replace("      - deliver", "      - hold: { when: score > 8.5 }\n      - deliver"))
    assert [(group["before"], group["after"], group["count"]) for group in result["groups"]] == [("deliver", "hold", 1)], result


HEADERS = """  content:
    look:
      - reject: { when: header("X-Mailer") ~ "^Bulk" }
      - deliver
"""


@pytest.mark.parametrize("processing", ["direct", "queued"])
def test_header_fields_and_recipients_are_those_of_then(gateway, sink, processing):
    """What conditions look at is recorded; so is what `events.headers` names. The rest is undecided, and it says why."""
    mx = free_port()
    one = gateway(reception(sink(), mx, inbound=f", processing: {processing}", flows=HEADERS.rstrip(),
                            top="events: { headers: [ List-Id ] }").replace(
        "recipients: local-users,", "recipients: local-users, content: look,"), ports=[mx])
    text = one.path.read_text()
    mails = [("Bulk 1", "", ["a"]), ("Mutt", "<dev.example>", ["a", "b"]), ("Mutt", "", ["b"]), (None, "<dev.example>", ["a"])]
    for mailer, list_id, to in mails:
        with one.client(mx) as client:
            client.docmd("MAIL FROM:<x@example.net>")
            for name in to:
                client.docmd(f"RCPT TO:<{name}@example.org>")
            client.data((f"X-Mailer: {mailer}\r\n" if mailer else "") + f"List-Id: {list_id}\r\nX-Other: 1\r\n\r\nx\r\n")
    wait_until(lambda: shadow(one, text)["decisions"] == 10, "the history has them")
    assert shadow(one, text)["same"] == 10

    def changes(old, new):
        result = shadow(one, text.replace(old, new))
        assert result["open"] == 0, result
        return [(group["before"], group["after"], group["count"]) for group in result["groups"]]
    assert changes('"^Bulk"', '"^Mutt"') == [("deliver", "reject", 3), ("reject", "deliver", 1)]  # a message counts for each recipient
    assert changes('header("X-Mailer") ~ "^Bulk"', 'header("X-Mailer") == ""') == [("deliver", "reject", 1), ("reject", "deliver", 1)]
    assert changes("      - deliver", '      - hold: { when: header("List-Id") ~ "dev" }\n      - deliver') == [("deliver", "hold", 3)]
    assert changes("      - deliver", '      - hold: { when: any(recipient == "b@example.org") }\n      - deliver') == [("deliver", "hold", 3)]
    assert changes("      - deliver", '      - hold: { when: all(recipient == "b@example.org") }\n      - deliver') == [("deliver", "hold", 1)]
    assert changes("      - deliver", "      - hold: { when: recipients > 1 }\n      - deliver") == [("deliver", "hold", 2)]
    result = shadow(one, text.replace("      - deliver", '      - hold: { when: header("X-Other") == "1" }\n      - deliver'))
    assert (result["changed"], result["open"]) == (0, 4) and result["groups"][0]["why"] == 'header("X-Other") is not in the record', result


def test_what_cannot_be_told_whole_is_not_told(gateway, sink):
    """Too long, not UTF-8, or a subject that nobody shall read: undecided, never misjudged."""
    mx = free_port()
    one = gateway(reception(sink(), mx, flows=HEADERS.rstrip().replace('header("X-Mailer") ~ "^Bulk"',
                            'header("Subject") == "secret" or header("X-Mailer") == "x"'), top="events: { subjects: false }").replace(
        "recipients: local-users,", "recipients: local-users, content: look,"), ports=[mx])
    for mailer in "y" * 2000, b"\xff\xfe".decode("latin-1"), "fine":
        with one.client(mx) as client:
            client.docmd("MAIL FROM:<x@example.net>")
            client.docmd("RCPT TO:<a@example.org>")
            client.data(f"X-Mailer: {mailer[:900]}\r\n {mailer[900:]}\r\nSubject: secret-word\r\n\r\nx\r\n".encode("latin-1"))
    one.wait_empty()
    text = one.path.read_text()
    wait_until(lambda: shadow(one, text)["decisions"] == 6, "the history has them")
    result = shadow(one, text)
    assert {group["why"] for group in result["groups"]} == {'header("Subject") is not in the record'} and result["open"] == 3, result
    result = shadow(one, text.replace('header("Subject") == "secret" or ', ""))
    assert (result["open"], result["changed"]) == (2, 0), result
    stories = [one.ctl("trace", "--raw", item["id"]) for item in one.ctl_json("find", "from:x@example.net")]
    assert stories and not any("secret-word" in story for story in stories)


CHECKED = """  content:
    look:
      - verify: { checks: [ spf, dkim, dmarc ] }
      - attachment: { forbidden: next, mismatch: next }
      - deliver
"""
PROGRAM = b"MZ\x90\0\x03\0\0\0\x04\0\0\0" + bytes(100)


def with_attachment(sender, name, content):
    message = email.message.EmailMessage()
    message["From"], message["Subject"] = sender, "an attachment"
    message.set_content("hello")
    message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes(policy=email.policy.SMTP)


@pytest.mark.parametrize("processing", ["direct", "queued"])
def test_results_of_checks_and_findings_are_those_of_then(gateway, sink, dns, processing):
    """dkim.domain, dmarc.policy, spf, findings: what conditions read then. What match looks for in the text stays undecided."""
    names = dns(['good.example. TXT "v=spf1 ip4:127.0.0.1 -all"', '_dmarc.good.example. TXT "v=DMARC1; p=reject"',
                 'bad.example. TXT "v=spf1 -all"', '_dmarc.bad.example. TXT "v=DMARC1; p=quarantine"'])
    mx = free_port()
    one = gateway(reception(sink(), mx, names=names, inbound=f", processing: {processing}", flows=CHECKED.rstrip()).replace(
        "recipients: local-users,", "recipients: local-users, content: look,"), ports=[mx])
    text = one.path.read_text()
    for sender, name, content in [("x@good.example", "a.txt", b"hello"), ("x@bad.example", "b.exe", PROGRAM),
                                  ("x@none.example", "c.txt", b"hello")]:
        with one.client(mx) as client:
            client.sendmail(sender, ["anna@example.org"], with_attachment(sender, name, content))
    one.wait_empty()
    wait_until(lambda: shadow(one, text)["decisions"] == 6, "the history has them")
    assert shadow(one, text)["same"] == 6

    def changes(condition, opened=0):
        result = shadow(one, text.replace("      - deliver", f"      - hold: {{ when: {condition} }}\n      - deliver"))
        assert result["open"] == opened, result
        return sum(group["count"] for group in result["groups"] if group["after"] == "hold")
    assert changes('dmarc.policy == "reject"') == 0  # what is asked for a message that fails, and it passed
    assert changes('dmarc.policy == "quarantine"') == 1
    assert changes('dkim.domain == ""') == 3
    assert changes('spf == "pass" and dmarc == "pass"') == 1
    assert changes('findings ~ "attachment-forbidden"') == 1
    assert changes('findings == ""') == 2
    bodies = shadow(one, text.replace("      - deliver", '      - match: { body: [ "hello" ], matched: hold }\n      - deliver'))
    assert (bodies["changed"], bodies["open"]) == (0, 3) and bodies["groups"][0]["why"] == 'whether the body pattern "hello" fits is not in the record', bodies


def test_patterns_that_were_looked_for_then(gateway, sink):
    """The text is gone, but which pattern fitted is known, and that none did: only a new pattern is undecided, counted and named."""
    mx = free_port()
    one = gateway(reception(sink(), mx, flows="""  content:
    look:
      - match: { body: [ lottery, "(?i)casino" ], matched: reject }
      - match: { when: sender.domain == "b.example", header: [ "^Subject: offer" ], matched: hold }
      - deliver""").replace("recipients: local-users,", "recipients: local-users, content: look,"), ports=[mx])
    text = one.path.read_text()
    for sender, subject, words in [("a", "x", "the Lottery"), ("a", "x", "the lottery"), ("a", "x", "our CASINO"), ("b", "offer", "hello"),
                                   ("b", "hello", "hello"), ("a", "offer", "hello")]:
        with one.client(mx) as client:
            client.docmd(f"MAIL FROM:<x@{sender}.example>")
            client.docmd("RCPT TO:<anna@example.org>")
            client.data(f"Subject: {subject}\r\n\r\n{words}\r\n")
    wait_until(lambda: shadow(one, text)["decisions"] == 12, "the history has them")
    assert shadow(one, text)["same"] == 12

    def changes(*pairs):
        new = text
        for old, by in pairs:
            assert old in new
            new = new.replace(old, by)
        result = shadow(one, new)
        return [(group["before"], group["after"], group["count"]) for group in result["groups"] if not group["open"]], result["undecided"]
    assert changes(('body: [ lottery, "(?i)casino" ]', 'body: [ "(?i)casino", gambling, lottery ]')) == \
        ([], [{"why": 'whether the body pattern "gambling" fits is not in the record', "count": 4}])
    assert changes(('"(?i)casino" ], matched: reject', '"(?i)casino" ], when: sender.domain == "b.example", matched: reject')) == \
        ([("reject", "deliver", 2)], [])
    assert changes(('      - match: { body: [ lottery, "(?i)casino" ], matched: reject }',
                    '      - match: { body: [ "(?i)casino" ], matched: hold }\n      - match: { body: [ lottery ], matched: reject }')) == \
        ([("reject", "hold", 1)], [{"why": 'whether the body pattern "(?i)casino" fits is not in the record', "count": 1}])
    assert changes((' when: sender.domain == "b.example", header', " header")) == \
        ([], [{"why": 'whether the header pattern "^Subject: offer" fits is not in the record', "count": 2}])
    (one.folder / "new.yaml").write_text(text.replace("body: [ lottery,", "body: [ poker, lottery,"))
    said = postern(one, "shadow", one.folder / "new.yaml").stdout
    assert said.splitlines()[-2:] == ["12 decisions (6 messages): 0 would change, 8 not, 4 are undecided: the record does not say enough",
                                      '     4 whether the body pattern "poker" fits is not in the record'], said


def test_findings_stand_in_the_story(gateway, sink):
    """As data with --json, and in a line for people."""
    mx = free_port()
    one = gateway(reception(sink(), mx, flows=CHECKED.replace("      - verify: { checks: [ spf, dkim, dmarc ] }\n", "").rstrip()).replace(
        "recipients: local-users,", "recipients: local-users, content: look,"), ports=[mx])
    with one.client(mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], with_attachment("x@example.net", "b.exe", PROGRAM))
    message = one.wait("message.accepted")["message"]
    story = wait_until(lambda: one.ctl_json("trace", message, ok=(0, 1)), "the story")[0]
    (step,) = [step for step in story["content"]["steps"] if step["block"] == "attachment"]
    assert [finding["name"] for finding in step["findings"]] == ["attachment-forbidden"] * 2  # by its name, and by its type
    assert all(finding["text"].startswith("b.exe: ") for finding in step["findings"])
    assert "found attachment-forbidden (b.exe" in one.ctl("trace", message)
    assert "findings" not in [step for step in story["content"]["steps"] if step["block"] == "deliver"][0]
