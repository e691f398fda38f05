# SPDX-License-Identifier: Apache-2.0
"""trace, find and tail: what was decided can be read, also after a restart, and cannot steer a terminal."""
import json
import re
import smtplib
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk

ESCAPES = [b"\x1b[31mred", b"\x9b2J", b"\x1b]0;title\x07", b"\x7f\x08", b"\xe2\x80\xae", b"\xff\xfe"]


@pytest.fixture
def scene(gateway, sink):
    mail = sink(replies={"RCPT": known("anna")})
    mx = free_port()
    one = gateway(reception(mail, mx), ports=[mx])
    one.mail, one.mx = mail, mx
    return one


def send(scene, to="anna@example.org", client="client.test"):
    with smtplib.SMTP("127.0.0.1", scene.mx, timeout=120) as smtp:
        smtp.ehlo(client)
        smtp.sendmail("a@far.test", [to], "Subject: x\r\nMessage-ID: <m1@far.test>\r\n\r\nx\r\n")
    scene.wait("message.done")
    return scene.find("message.accepted")[-1]["message"]


def refuse(scene):
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.mail("a@far.test")
        code, text = talk.say("RCPT TO:<nobody@example.org>")[:2]
    assert code == 550
    return (text if isinstance(text, str) else text.decode()).rpartition("(ref ")[2].rstrip(")")


def restart(scene):
    scene.stop()
    scene.start()


def is_clean(text):
    return not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c == "\u202e" for c in text)


def test_the_name_that_a_client_gave_is_told_with_what_became_of_it(scene):
    send(scene)
    with Talk(scene.mx, ehlo="c.test") as talk:
        talk.mail("a@far.test")
        talk.say("RCPT TO:<nobody@example.org>")
    for name, helo in (("message.accepted", "client.test"), ("recipient.accept", "client.test"), ("recipient.reject", "c.test")):
        event = scene.wait(name)
        assert event["helo"] == helo, event


def test_the_whole_story_after_a_restart(scene):
    message, ref = send(scene), refuse(scene)
    restart(scene)
    story = scene.ctl_json("trace", message)[0]
    assert story["message"] == message and story["from"] == "a@far.test"
    assert story["session"]["client"] == "127.0.0.1" and story["session"]["listener"] == "inbound"
    assert story["session"]["helo"] == "client.test"
    recipient, = story["recipients"]
    assert recipient["to"] == "anna@example.org" and recipient["verdict"] == "accepted"
    assert [step["block"] for step in recipient["steps"]] == ["accept", "lookup-smtp"]
    attempt, = recipient["attempts"]
    assert attempt["result"] == "sent" and attempt["code"] == 250 and attempt["stages_us"]["transfer"] >= 0
    text = scene.ctl("trace", message)
    assert "delivery" not in text.splitlines()[0] and "they said: 250" in text and "anna@example.org" in text

    story = scene.ctl_json("trace", ref.lower())[0]
    recipient, = story["recipients"]
    assert story["ref"] == ref and recipient["verdict"] == "refused" and recipient["code"] == 550
    assert recipient["reason"] == "recipient_unknown" and recipient["steps"][-1]["step"] == recipient["step"]
    text = scene.ctl("trace", ref)
    assert text.startswith("Refused at RCPT") and "nobody@example.org" in text and "reason recipient_unknown" in text
    assert [e["event"] for e in scene.ctl_json("trace", "--raw", ref)][-1] == "recipient.reject"


def test_what_was_answered_can_be_read_at_once(scene):
    """Whoever has heard a refusal finds it: in the log, in the story, in the numbers. The rig relies on that (Gateway.settle)."""
    def counted():
        return re.findall(r'^postern_recipients_total\{.*reason="recipient_unknown".*\} (\d+)$', scene.ctl("metrics"), re.M)
    for number in range(1, 21):
        ref = refuse(scene)
        if number % 2:
            assert len(scene.find("recipient.reject")) == number
        assert "nobody@example.org" in scene.ctl("trace", ref)
        assert counted() == [str(number)]


def test_a_deferred_delivery_tells_its_next_try(scene):
    scene.mail.replies["DATA"] = lambda _: "451 4.3.0 busy now"
    with smtplib.SMTP("127.0.0.1", scene.mx, timeout=120) as smtp:
        smtp.sendmail("a@far.test", ["anna@example.org"], "Subject: x\r\n\r\nx\r\n")
    message = scene.wait("delivery.deferred")["message"]
    scene.kill()
    scene.start()
    attempts = wait_until(lambda: (scene.ctl_json("trace", message, ok=(0, 1))[0].get("recipients") or [{}])[0].get("attempts"),
                          "the attempt is told")
    assert attempts[0]["result"] == "deferred" and "busy" in attempts[0]["reply"]
    assert attempts[0]["next_try"] < attempts[0]["give_up"]


def test_find(scene):
    message, ref = send(scene), refuse(scene)
    ids = lambda *words: [item["id"] for item in scene.ctl_json("find", *words, ok=(0, 1))]
    for words in (["to:ANNA@example.org"], ["from:a@far.test", "verdict:delivered"], ["client:127.0.0.1", "anna"], [message],
                  ["message_id:<m1@far.test>"], ["to:@example.org verdict:accepted today"]):
        assert ids(*words) == [message], words
    refused = scene.ctl_json("find", f"ref:{ref}")[0]
    assert refused["verdict"] == "refused" and refused["ref"] == ref and refused["to"] == ["nobody@example.org"]
    assert ids("reason:recipient_unknown") == [refused["id"]]
    assert ids("from:@far.test") == [refused["id"], message]  # newest first
    assert ids("from:@far.test", "--limit", "1") == [refused["id"]]
    assert ids("to:anna@example.org", "until:1h") == [] and ids("user:nobody") == []
    assert "no such term" in subprocess.run([BUILD / "postern", "--socket", scene.folder / "control.sock", "find", "colour:red"],
                                                stderr=subprocess.PIPE, text=True).stderr
    scene.ctl("find", "verdict:maybe", ok=(2,))


def test_one_box_takes_anything(scene):
    """A word without a key is an id, a ref, an address, a message-id, a client, a domain or a part of any text, and find says which."""
    with smtplib.SMTP("127.0.0.1", scene.mx, timeout=30) as smtp:
        smtp.ehlo("host.far.test")
        smtp.sendmail("a@far.test", ["anna@example.org"], "Subject: Lunch on Friday\r\nMessage-ID: <m1@far.test>\r\n\r\nx\r\n")
    message = scene.wait("message.done")["message"]
    session = scene.find("message.accepted")[-1]["session"]
    ref = refuse(scene)
    scene.wait("recipient.reject", ref=ref)
    refused = scene.ctl_json("find", f"ref:{ref}")[0]["id"]

    def find(*words):
        answer = scene.ctl_json("find", *words, ok=(0, 1))
        text = scene.ctl("find", *words, ok=(0, 1))
        return [item["id"] for item in answer], text

    for word, as_what, found in (
            (message, "an id", [message]), (session, "an id", [message]), (message[:20], "the beginning of an id", [message]),
            (ref, "a ref", [refused]), (ref.lower(), "a ref", [refused]), ("anna@example.org", "a sender, recipient", [message]),
            ("<m1@far.test>", "a sender, recipient", [message]), ("m1@far.test", "message-id", [message]),
            ("127.0.0.1", "a client", [refused, message]), ("example.org", "the domain of a", [refused, message]),
            ("@far.test", "the domain of a", [refused, message]), ("friday", "a part of any text", [message]), ("FRIDAY", "a part", [message]),
            ("host.far.test", "a part of any text", [message]), ("user here", "a part", [refused]), ("nothing-of-it", "a part", []),
            ("2001:db8::1", "a part", []), ('"example.org"', "a part of any text", [refused, message])):
        ids, text = find(word) if word != "user here" else find('"user here"')
        assert ids == found, (word, ids, text)
        assert as_what in text, (word, text)
    assert find("friday", "lunch", "to:anna@example.org")[0] == [message] and find("friday", "verdict:refused")[0] == []


def test_the_beginning_of_an_id(gateway, sink):
    """Eight characters and more name what there is one of; of several it says which."""
    mail, mx = sink(replies={"RCPT": known("anna"), "DATA": "451 4.3.0 busy now"}), free_port()
    scene = gateway(reception(mail, mx).replace("delays: [ 1s ]", "delays: [ 1h ]"), ports=[mx])

    def take_two():
        """Ids are made at MAIL, so these are of about the same time."""
        with smtplib.SMTP("127.0.0.1", mx, timeout=30) as first, smtplib.SMTP("127.0.0.1", mx, timeout=30) as second:
            for smtp in (first, second):
                smtp.ehlo("c.test")
            for smtp in (first, second):
                smtp.mail("a@far.test")
            for smtp in (first, second):
                smtp.rcpt("anna@example.org")
                yield smtp.data("Subject: x\r\n\r\nx\r\n")[1].decode().rpartition("queued as ")[2]

    one, two = next(pair for pair in (list(take_two()) for _ in range(100)) if pair[0][:8] == pair[1][:8])
    scene.wait("delivery.deferred", message=one)
    scene.wait("delivery.deferred", message=two)
    common = next(i for i in range(26) if one[i] != two[i])
    prefix = two[:max(common + 1, 20)]  # entries have ids, too, of about the same time
    for words in (["trace"], ["trace", "--raw"], ["queue", "show"], ["message", "raw"]):
        for text in (prefix, prefix.lower()):
            shown = scene.ctl("--json", *words, text)
            assert two in shown and one not in shown, (words, shown)
        done = scene.run_ctl(*words, two[:8])
        assert done.returncode == 2 and "several ids begin with" in done.stderr and one in done.stderr and two in done.stderr, (words, done)
        done = scene.run_ctl(*words, two[:7])
        assert done.returncode in (1, 2), (words, done)
    done = scene.run_ctl("queue", "drop", two[:8])
    assert done.returncode == 2 and "several ids" in done.stderr and {item["message"] for item in scene.queue()} >= {one, two}
    scene.ctl("queue", "drop", prefix)
    wait_until(lambda: two not in {item["message"] for item in scene.queue()}, "the one is dropped")
    assert one in {item["message"] for item in scene.queue()}


def test_tail(scene):
    process = subprocess.Popen([BUILD / "postern", "--json", "--socket", scene.folder / "control.sock", "tail", "-q", "event:recipient."],
                               stdout=subprocess.PIPE, text=True)
    try:
        seen = []
        # whether it listens yet shows only in what it hears
        import threading
        threading.Thread(target=lambda: seen.extend(json.loads(line) for line in iter(process.stdout.readline, "")), daemon=True).start()
        wait_until(lambda: refuse(scene) and seen, "an event is heard")
        assert {event["event"] for event in seen} == {"recipient.reject"}
    finally:
        process.terminate()
        process.wait(120)


def test_nothing_steers_the_terminal(scene):
    for piece in ESCAPES + [bytes([b]) for b in range(1, 256, 7) if b not in (10, 13)]:
        with Talk(scene.mx) as talk:
            talk.send(b"EHLO %s\r\n" % piece)
            try:
                talk.reply()
                talk.send(b"EHLO c.test\r\n")
                talk.reply()
                talk.send(b"MAIL FROM:<%s@far.test>\r\n" % piece)
                talk.reply()
                talk.send(b"RCPT TO:<%s@example.org>\r\n" % piece)
                talk.reply()
            except (EOFError, OSError):
                pass
    scene.mail.replies["RCPT"] = lambda _: "550 5.1.1 no \x1b[31m user"
    ref = refuse(scene)
    for item in scene.ctl_json("find", "--limit", "1000"):
        for words in (["trace", item["id"]], ["trace", "--raw", item["id"]]):
            assert is_clean(scene.ctl(*words))
            for line in scene.ctl("--json", *words).splitlines():
                assert is_clean(line) and json.loads(line)
    assert is_clean(scene.ctl("find")) and is_clean(scene.ctl("trace", ref))
    scene.ctl("trace", "00000000", ok=(1,))


def test_a_damaged_history_is_set_aside_and_mail_goes_on(scene):
    send(scene)
    scene.stop()
    (scene.folder / "spool/events.db").write_bytes(b"no database" * 1000)
    scene.start()
    scene.wait("events.damaged")
    before = len(scene.find("message.done"))
    message = send(scene)
    wait_until(lambda: len(scene.find("message.done")) > before, "it is delivered")
    message = scene.find("message.accepted")[-1]["message"]
    assert scene.ctl_json("trace", message)[0]["message"] == message


def test_a_history_that_somebody_removes_is_begun_anew(scene):
    send(scene)
    scene.ctl("find", ok=(0,))
    (scene.folder / "spool/events.db").unlink()
    scene.wait("events.damaged")
    before = len(scene.find("message.done"))
    send(scene)
    scene.wait("message.done", count=before + 1)
    message = scene.find("message.accepted")[-1]["message"]
    assert scene.ctl_json("trace", message)[0]["message"] == message
    restart(scene)
    assert scene.ctl_json("trace", message)[0]["message"] == message


def test_mail_goes_on_without_a_history(gateway, sink):
    """A folder that cannot be: it is told, nobody can look back, and mail flows."""
    mail, mx = sink(replies={"RCPT": known("anna")}), free_port()
    one = gateway(reception(mail, mx, top="events: { path: /proc/history }"), ports=[mx])
    one.mx = mx
    assert "/proc/history" in one.wait("events.failed")["file"]
    send(one)
    wait_until(lambda: mail.messages, "it is delivered")
    done = one.run_ctl("trace", one.find("message.accepted")[0]["message"])
    assert done.returncode == 7 and "there is no history" in done.stderr, done


def test_subjects_are_told_decoded_and_bounded(scene):
    def accepted(subject):
        before = len(scene.find("message.accepted"))
        with smtplib.SMTP("127.0.0.1", scene.mx, timeout=120) as smtp:
            smtp.sendmail("a@far.test", ["anna@example.org"], b"From: a@far.test\r\nSubject: " + subject + b"\r\n\r\nx\r\n")
        return scene.wait("message.accepted", count=before + 1)

    told = accepted(b"=?utf-8?q?gr=C3=BC=C3=9Fe?= =?iso-8859-1?b?/A==?= here")
    assert told["subject"] == "gr\u00fc\u00dfe\u00fc here"
    assert len(accepted(b"x" * 900)["subject"]) == 256
    for piece in ESCAPES:
        evil = accepted(b"=?utf-8?q?" + b"".join(b"=%02X" % byte for byte in piece) + b"?= " + piece)
        for words in (["trace", evil["message"]], ["trace", "--raw", evil["message"]], ["find", evil["message"]]):
            assert is_clean(scene.ctl(*words)) and is_clean(scene.ctl("--json", *words))
    found = scene.ctl_json("find", "subject:GR\u00dc\u00dfe".replace("\u00dc", "\u00fc"))
    assert [item["message"] for item in found] == [told["message"]] and found[0]["subject"] == told["subject"]
    assert scene.ctl_json("trace", told["message"])[0]["subject"] == told["subject"]


def test_subjects_can_be_kept_out(gateway, sink):
    mx = free_port()
    one = gateway(reception(sink(replies={"RCPT": known("anna")}), mx, top="events: { subjects: false }"), ports=[mx])
    one.mx = mx
    message = send(one)
    assert one.find("message.accepted")[0]["subject"] == ""
    assert "subject" not in one.ctl_json("trace", message)[0]
