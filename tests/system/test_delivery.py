# SPDX-License-Identifier: Apache-2.0
"""What a reply of the next host means, and in which form a message goes out: each case has a host that says just that."""
import os
import threading
import time

import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound
from rig.ports import free_port

HANG_UP = None

# What the first endpoint says, and what must come of it: "sent" by the first, "next" host takes it in the same
# attempt, "deferred" (the next host is not asked), "failed" at once.
REPLIES = {
    "banner-554": ({"banner": "554 5.3.2 no service"}, "next"),
    "banner-421": ({"banner": "421 4.3.2 busy"}, "next"),
    "banner-450": ({"banner": "450 4.3.2 busy"}, "next"),
    "banner-hang-up": ({"banner": HANG_UP}, "next"),
    "banner-rubbish": ({"banner": "999 what"}, "next"),
    "ehlo-500-helo-250": ({"EHLO": "500 5.5.1 what?"}, "sent"),
    "ehlo-550-helo-550": ({"EHLO": "550 5.7.1 no", "HELO": "550 5.7.1 no"}, "next"),
    "ehlo-421": ({"EHLO": "421 4.3.2 busy"}, "next"),
    "ehlo-450": ({"EHLO": "450 4.3.2 busy"}, "next"),
    "ehlo-hang-up": ({"EHLO": HANG_UP}, "next"),
    "mail-550-x.1.x": ({"MAIL": "550 5.1.8 bad sender"}, "failed"),
    "mail-552-x.3.4": ({"MAIL": "552 5.3.4 too big"}, "failed"),
    "mail-554-x.6.x": ({"MAIL": "554 5.6.1 no such media"}, "failed"),
    "mail-550-x.7.1": ({"MAIL": "550 5.7.1 we do not like you"}, "next"),
    "mail-554": ({"MAIL": "554 go away"}, "next"),
    "mail-552": ({"MAIL": "552 full"}, "next"),
    "mail-451": ({"MAIL": "451 4.3.0 later"}, "next"),
    "mail-421": ({"MAIL": "421 4.3.2 closing"}, "next"),
    "mail-hang-up": ({"MAIL": HANG_UP}, "next"),
    "rcpt-550": ({"RCPT": "550 5.1.1 nobody"}, "failed"),
    "rcpt-550-bare": ({"RCPT": "550 nobody"}, "failed"),
    "rcpt-550-x.7.1": ({"RCPT": "550 5.7.1 not you"}, "failed"),
    "rcpt-552": ({"RCPT": "552 too many"}, "deferred"),
    "rcpt-552-x.7.0": ({"RCPT": "552 5.7.0 too many"}, "deferred"),
    "rcpt-552-x.2.2": ({"RCPT": "552 5.2.2 full"}, "failed"),
    "rcpt-552-x.3.4": ({"RCPT": "552 5.3.4 too big for him"}, "failed"),
    "rcpt-450": ({"RCPT": "450 4.2.0 busy"}, "deferred"),
    "rcpt-451-wrong-class": ({"RCPT": "451 5.7.1 grey"}, "deferred"),
    "rcpt-452": ({"RCPT": "452 4.2.2 full"}, "deferred"),
    "rcpt-421": ({"RCPT": "421 4.3.2 closing"}, "deferred"),
    "rcpt-hang-up": ({"RCPT": HANG_UP}, "deferred"),
    "data-554": ({"DATA": "554 5.5.0 no"}, "failed"),
    "data-451": ({"DATA": "451 4.3.0 later"}, "deferred"),
    "data-421": ({"DATA": "421 4.3.2 closing"}, "deferred"),
    "data-250": ({"DATA": "250 2.0.0 taken, really"}, "deferred"),
    "data-hang-up": ({"DATA": HANG_UP}, "deferred"),
    "end-554": ({"end": "554 5.7.1 spam"}, "failed"),
    "end-552-x.2.2": ({"end": "552 5.2.2 full"}, "failed"),
    "end-451": ({"end": "451 4.3.0 later"}, "deferred"),
    "end-421": ({"end": "421 4.3.2 closing"}, "deferred"),
    "end-hang-up": ({"end": HANG_UP}, "deferred"),
    "quit-hang-up": ({"QUIT": HANG_UP}, "sent"),
    "many-lines": ({"RCPT": "550-5.1.1 first\r\n550 5.1.1 second"}, "failed"),
}


def judge(scene, first, second, to):
    """sent, next, deferred or failed."""
    word, _ = scene.outcome(to)
    if word == "sent":
        return "next" if second is not None and second.messages else "sent"
    return word


def run_table(gateway, sink, table, lmtp=False, server="tls: none", **sink_options):
    hosts, sinks = {}, {}
    for i, (replies, _) in enumerate(table.values()):
        sinks[i] = sink(replies=replies, lmtp=lmtp, **sink_options), sink(lmtp=lmtp, **sink_options)
        hosts[f"case{i}"] = Host(list(sinks[i]), lmtp=lmtp, server=server)
    scene = Outbound(gateway, sink, hosts)
    client = scene.gateway.client(scene.port)
    for i in range(len(table)):
        scene.send(f"b@case{i}.test", client=client)
    got = {name: judge(scene, *sinks[i], f"b@case{i}.test") for i, name in enumerate(table)}
    wanted = {name: outcome for name, (_, outcome) in table.items()}
    assert got == wanted
    return scene, sinks


def test_meaning_of_replies(gateway, sink):
    scene, sinks = run_table(gateway, sink, REPLIES)
    for i, (name, (_, outcome)) in enumerate(REPLIES.items()):
        if outcome in ("deferred", "failed") and not name.startswith("banner"):
            assert not sinks[i][1].commands, f"{name}: the next host was asked"
    failed = [outcome for _, outcome in REPLIES.values()].count("failed")
    waiting = [outcome for _, outcome in REPLIES.values()].count("deferred")
    wait_until(lambda: len(scene.home.messages) == failed, "a notification for each failure")
    scene.count("table", failed_dsn=failed, generated=failed)
    assert len(scene.gateway.queue()) == waiting
    # the same without the second host: what was "next" waits
    for event in scene.gateway.find("delivery.failed"):
        assert event["reply"] and event["code"] >= 500


def test_meaning_of_replies_of_lmtp(gateway, sink):
    run_table(gateway, sink, {
        "lhlo-550": ({"LHLO": "550 5.7.1 no"}, "next"),
        "mail-451": ({"MAIL": "451 4.3.0 later"}, "next"),
        "rcpt-550": ({"RCPT": "550 5.1.1 nobody"}, "failed"),
        "rcpt-450": ({"RCPT": "450 4.2.0 busy"}, "deferred"),
        "data-554": ({"DATA": "554 5.5.0 no"}, "failed"),
        "end-552": ({"end": "552 5.2.2 full"}, "failed"),
        "end-452": ({"end": "452 4.2.2 nearly full"}, "deferred"),
        "end-hang-up": ({"end": HANG_UP}, "deferred"),
        "all-well": ({}, "sent"),
    }, lmtp=True)


def test_meaning_of_replies_to_a_login(gateway, sink, tmp_path, tls_files):
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    server = f"tls: required, user: relay, password_file: {tmp_path}/password"
    scene, sinks = run_table(gateway, sink, {
        "auth-535": ({"AUTH": "535 5.7.8 no"}, "next"),
        "auth-454": ({"AUTH": "454 4.7.0 later"}, "next"),
        "auth-hang-up": ({"AUTH": HANG_UP}, "next"),
        "starttls-454": ({"STARTTLS": "454 4.7.0 not now"}, "next"),
        "starttls-554": ({"STARTTLS": "554 5.7.3 never"}, "next"),
        "starttls-hang-up": ({"STARTTLS": HANG_UP}, "next"),
        "all-well": ({}, "sent"),
    }, server=server, tls_files=tls_files, users={"relay": "secret"})
    good = sinks[6][0].messages[0]
    assert good.login == "relay" and good.tls
    for first, second in sinks.values():
        assert not any(line.startswith("AUTH") for number, line in first.commands + second.commands
                       if not any(line2.startswith("STARTTLS") for number2, line2 in first.commands + second.commands))
    assert "secret" not in str(scene.gateway.events)


def test_login_needs_tls(gateway, sink, tmp_path):
    """tls: none written out is the operator's permission; opportunistic without TLS is none."""
    (tmp_path / "password").write_text("secret")
    user = f"user: relay, password_file: {tmp_path}/password"
    clear, refused = sink(users={"relay": "secret"}), sink(users={"relay": "secret"})
    scene = Outbound(gateway, sink, {"clear": Host(clear, server=f"tls: none, {user}"),
                                     "refused": Host(refused, server=f"tls: opportunistic, {user}")})
    scene.send("b@clear.test")
    scene.send("b@refused.test")
    assert scene.outcome("b@clear.test")[0] == "sent" and clear.messages[0].login == "relay"
    assert scene.outcome("b@refused.test")[0] == "deferred"
    assert not any(line.startswith("AUTH") for _, line in refused.commands)


def test_each_recipient_has_a_fate_of_its_own(gateway, sink):
    mixed = {"RCPT bad@mixed.test": "550 5.1.1 nobody", "RCPT busy@mixed.test": "450 4.2.0 busy"}
    lmtp = {"end bad@lmtp.test": "550 5.1.1 nobody", "end busy@lmtp.test": "452 4.2.2 full",
            "RCPT none@lmtp.test": "550 5.1.1 none"}
    one, two = sink(replies=mixed), sink(replies=lmtp, lmtp=True)
    scene = Outbound(gateway, sink, {"mixed": Host(one), "lmtp": Host(two, lmtp=True)})
    scene.send(["good@mixed.test", "bad@mixed.test", "busy@mixed.test"])
    scene.send(["good@lmtp.test", "bad@lmtp.test", "busy@lmtp.test", "none@lmtp.test"])
    for name, outcome in {"good@mixed.test": "sent", "bad@mixed.test": "failed", "busy@mixed.test": "deferred",
                          "good@lmtp.test": "sent", "bad@lmtp.test": "failed", "busy@lmtp.test": "deferred",
                          "none@lmtp.test": "failed"}.items():
        assert scene.outcome(name)[0] == outcome, name
    assert one.messages[0].recipients == ["good@mixed.test"]
    assert two.messages[0].recipients == ["good@lmtp.test"]
    assert len(scene.dsn(2)) == 2, "one notification for all that failed in one attempt"
    waiting = {r["to"] for item in scene.gateway.queue() for r in item["to"] if not r["done"]}
    assert waiting == {"busy@mixed.test", "busy@lmtp.test"}
    scene.count("mixed", delivered=4)  # two, and two notifications


def test_too_many_recipients_go_in_more_transactions(gateway, sink):
    """452 to RCPT when some were taken: the rest follows on the same connection."""
    taken = []

    def rcpt(line):
        taken.append(line)
        return "452 4.5.3 too many" if len(host.commands) and sum(
            1 for _, c in host.commands[[i for i, (_, c2) in enumerate(host.commands)
                                         if c2.startswith("MAIL")][-1]:] if c.startswith("RCPT")) > 4 else ""
    host = sink(replies={"RCPT": rcpt}, extensions=("8BITMIME",))
    scene = Outbound(gateway, sink, {"many": Host(host)})
    to = [f"u{i}@many.test" for i in range(10)]
    scene.send(to)
    wait_until(lambda: sum(len(m.recipients) for m in host.messages) == 10, "all ten arrived")
    assert sorted(r for m in host.messages for r in m.recipients) == sorted(to)
    assert host.connections == 1
    scene.gateway.wait_empty()


def test_421_in_the_middle_of_a_kept_connection(gateway, sink):
    """A peer that closes between two messages costs nothing: a new connection is made."""
    def once(_):
        with host.lock:
            mine = [line for number, line in host.commands if number == host.commands[-1][0]]
        return "" if sum(line.startswith("MAIL") for line in mine) < 2 else "421 4.4.2 bye"
    host = sink(replies={"RSET": "421 4.4.2 idle", "MAIL": once})
    hosts = {"shy": Host(host, retry="retry: { delays: [ 1h ], count: 3 }")}
    scene = Outbound(gateway, sink, hosts, extra="workers: 1")  # another one would not have the connection
    for i in range(3):
        scene.send(f"b{i}@shy.test")
        wait_until(lambda: len(host.messages) == i + 1, f"message {i} arrived")
        scene.gateway.wait_empty()  # else the next one may be given a connection of its own
    # also where a slow machine lets the five seconds pass for which a connection is kept
    assert host.connections == 3 and not scene.gateway.find("delivery.deferred")


def test_a_silent_host_ends_with_the_attempt(gateway, sink):
    silent = threading.Event()
    host = sink(replies={"banner": lambda line: silent.wait(300) and None})
    scene = Outbound(gateway, sink, {"silent": Host(host, transport="attempt_timeout: 1s")})
    scene.send("b@silent.test")
    word, event = scene.outcome("b@silent.test")
    silent.set()
    assert word == "deferred" and "attempt_timeout" in event["reply"], event


# ---- TLS ----

def make_certificate(folder, name, days=30, subject="localhost", start=""):
    """A self-signed certificate in `folder`."""
    import subprocess
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-days", str(days), "-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{subject}"],
                   check=True, stderr=subprocess.DEVNULL)
    return cert, key


def expired_certificate(folder):
    """OpenSSL 3.0's req has no start date; ca has."""
    import subprocess
    key, request, cert = folder / "old.key", folder / "old.csr", folder / "old.pem"
    ca_cert, ca_key = make_certificate(folder, "old-ca", subject="old.test")
    run = dict(check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder)
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", request, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], **run)
    (folder / "index.txt").write_text("")
    (folder / "ca.cnf").write_text(f"""
[ca]
default_ca = it
[it]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
""")
    subprocess.run(["openssl", "ca", "-batch", "-config", folder / "ca.cnf", "-cert", ca_cert, "-keyfile", ca_key, "-in", request,
                    "-out", cert, "-startdate", "200101000000Z", "-enddate", "210101000000Z"], **run)
    return (cert, key), ca_cert


def test_tls_policies(gateway, sink, tls_files, tmp_path):
    """Never in clear text, and never to the wrong host, where policy asks for TLS."""
    cert, _ = tls_files
    other = make_certificate(tmp_path, "other")
    wrong_name = make_certificate(tmp_path, "name", subject="another.test")
    expired, old_ca = expired_certificate(tmp_path)
    good = f"tls: verified, ca_file: {cert}"
    inject = {"STARTTLS": "220 2.0.0 go\r\n250 2.0.0 injected"}
    table = {  # sink options, server keys, outcome, arrives under TLS
        "none-ignores-it": (dict(tls_files=tls_files), "tls: none", "sent", False),
        "opportunistic": (dict(tls_files=tls_files), "tls: opportunistic", "sent", True),
        "opportunistic-any-certificate": (dict(tls_files=expired), "tls: opportunistic", "sent", True),
        "opportunistic-not-offered": (dict(), "tls: opportunistic", "sent", False),
        "opportunistic-refused": (dict(tls_files=tls_files, replies={"STARTTLS": "454 4.7.0 no"}), "tls: opportunistic", "sent",
                                  False),
        "opportunistic-broken": (dict(tls_files=tls_files, break_tls=True), "tls: opportunistic", "sent", False),
        "opportunistic-injected": (dict(tls_files=tls_files, replies=inject), "tls: opportunistic", "deferred", None),
        "required": (dict(tls_files=tls_files), "tls: required", "sent", True),
        "required-any-certificate": (dict(tls_files=other), "tls: required", "sent", True),
        "required-not-offered": (dict(), "tls: required", "deferred", None),
        "required-refused": (dict(tls_files=tls_files, replies={"STARTTLS": "554 5.7.3 no"}), "tls: required", "deferred", None),
        "required-broken": (dict(tls_files=tls_files, break_tls=True), "tls: required", "deferred", None),
        "required-injected": (dict(tls_files=tls_files, replies=inject), "tls: required", "deferred", None),
        "verified": (dict(tls_files=tls_files), good, "sent", True),
        "verified-not-offered": (dict(), good, "deferred", None),
        "verified-wrong-ca": (dict(tls_files=other), good, "deferred", None),
        "verified-wrong-name": (dict(tls_files=wrong_name), f"tls: verified, ca_file: {wrong_name[0]}", "deferred", None),
        "verified-expired": (dict(tls_files=expired), f"tls: verified, ca_file: {old_ca}", "deferred", None),
        "verified-broken": (dict(tls_files=tls_files, break_tls=True), good, "deferred", None),
    }
    sinks = {name: sink(**options) for name, (options, *_) in table.items()}
    scene = Outbound(gateway, sink, {f"case{i}": Host(sinks[name], server=table[name][1]) for i, name in enumerate(table)})
    for i in range(len(table)):
        scene.send(f"b@case{i}.test")
    got = {}
    for i, name in enumerate(table):
        word, event = scene.outcome(f"b@case{i}.test")
        got[name] = word, (sinks[name].messages[0].tls if sinks[name].messages else None)
    assert got == {name: row[2:] for name, row in table.items()}
    for name, row in table.items():
        if row[2] == "deferred":
            assert not any(line.startswith(("MAIL", "RCPT", "DATA", "AUTH")) for _, line in sinks[name].commands), name
    assert sinks["opportunistic-broken"].connections == 2, "clear text needs a new connection"
    assert sinks["opportunistic-injected"].connections == 1, "no clear text after an injection"


# ---- forms ----

def test_what_is_passed_on(gateway, sink):
    """DSN parameters, BODY, SIZE and SMTPUTF8 go on as far as the host offers them."""
    full = sink()
    bare = sink(extensions=("PIPELINING",))
    scene = Outbound(gateway, sink, {"full": Host(full), "bare": Host(bare)})
    mail = ["RET=HDRS", "ENVID=QQ314159", "BODY=8BITMIME"]
    rcpt = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob+20@full.test"]
    scene.send("b@full.test", mail=mail, rcpt=rcpt, data="Subject: x\r\n\r\nGrüße\r\n".encode())
    scene.send("b@bare.test", mail=mail, rcpt=rcpt)
    wait_until(lambda: full.messages and bare.messages, "both arrived")
    got = full.messages[0]
    assert {"RET=HDRS", "ENVID=QQ314159", "BODY=8BITMIME"} <= set(got.mail_parameters.split())
    assert any(word.startswith("SIZE=") for word in got.mail_parameters.split())
    assert sorted(got.rcpt_parameters[0].split()) == sorted(["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob+20@full.test"])
    assert "SMTPUTF8" not in got.mail_parameters
    assert bare.messages[0].mail_parameters == "" and bare.messages[0].rcpt_parameters == [""]


def test_extensions_that_are_ignored(gateway, sink):
    all_of_them = ("PIPELINING", "8BITMIME", "SIZE 0", "DSN", "CHUNKING")
    plain, trusted = sink(extensions=all_of_them), sink(extensions=all_of_them)
    scene = Outbound(gateway, sink, {"plain": Host(plain, transport="ignore_extensions: [ chunking, dsn ]"), "trusted": Host(trusted)})
    for name in ("plain", "trusted"):
        scene.send(f"b@{name}.test", rcpt=["NOTIFY=FAILURE"])
    wait_until(lambda: plain.messages and trusted.messages, "both arrived")
    assert trusted.messages[0].rcpt_parameters == ["NOTIFY=FAILURE"]
    assert any(line.startswith("BDAT") for line in trusted.messages[0].commands)
    assert plain.messages[0].rcpt_parameters == [""]
    assert not any(line.startswith("BDAT") for line in plain.messages[0].commands)


def test_forms_that_the_host_cannot_take(gateway, sink):
    seven = ("PIPELINING", "DSN")
    utf8 = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN")
    sinks = {name: sink(extensions=extensions) for name, extensions in {
        "utf8-address": ("8BITMIME",), "utf8-header": ("8BITMIME",), "utf8-unneeded": ("8BITMIME",), "utf8-offered": utf8,
        "eight-send": seven, "eight-fail": seven, "eight-ok": ("8BITMIME",), "big": ("SIZE 2000",)}.items()}
    keys = {"eight-fail": "eight_bit: fail", "eight-ok": "eight_bit: fail"}
    scene = Outbound(gateway, sink, {name: Host(one, transport=keys.get(name, "")) for name, one in sinks.items()})
    body8 = "Subject: x\r\n\r\nGrüße\r\n".encode()
    header8 = "Subject: Grüße\r\n\r\nHello\r\n".encode()
    utf = ["SMTPUTF8", "BODY=8BITMIME"]
    client = scene.gateway.client(scene.port)
    client.command_encoding = "utf-8"
    scene.send("jürgen@utf8-address.test", mail=utf, client=client)
    scene.send("b@utf8-header.test", mail=utf, data=header8)
    scene.send("b@utf8-unneeded.test", mail=utf, data=body8)
    scene.send("jürgen@utf8-offered.test", mail=utf, data=header8, client=client)
    scene.send("b@eight-send.test", mail=["BODY=8BITMIME"], data=body8)
    scene.send("b@eight-fail.test", mail=["BODY=8BITMIME"], data=body8)
    scene.send("b@eight-ok.test", mail=["BODY=8BITMIME"], data=body8)
    scene.send("b@big.test", data=b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 40)
    wanted = {"jürgen@utf8-address.test": ("failed", "5.6.7"), "b@utf8-header.test": ("failed", "5.6.9"),
              "b@utf8-unneeded.test": ("sent", None), "jürgen@utf8-offered.test": ("sent", None),
              "b@eight-send.test": ("sent", None), "b@eight-fail.test": ("failed", "5.6.3"),
              "b@eight-ok.test": ("sent", None), "b@big.test": ("failed", "5.3.4")}
    for to, (word, code) in wanted.items():
        got, event = scene.outcome(to)
        assert got == word and (code is None or event["enhanced"] == code), (to, event)
    assert "SMTPUTF8" in sinks["utf8-offered"].messages[0].mail_parameters.split()
    assert sinks["utf8-offered"].messages[0].recipients == ["jürgen@utf8-offered.test"]
    assert "BODY=8BITMIME" in sinks["eight-ok"].messages[0].mail_parameters
    assert sinks["eight-send"].messages[0].body == "Grüße\r\n".encode()
    for name in ("utf8-address", "utf8-header", "eight-fail", "big"):
        assert not any(line.startswith(("MAIL", "RCPT")) for _, line in sinks[name].commands), name
    assert len(scene.dsn(4)) == 4


@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_a_large_message_arrives_byte_for_byte(gateway, sink, chunking):
    """25 MB with dots at line starts, empty lines and 8-bit text."""
    extensions = ("PIPELINING", "8BITMIME", "SIZE 0") + (("CHUNKING",) if chunking else ())
    host = sink(extensions=extensions)
    scene = Outbound(gateway, sink, {"far": Host(host)})
    line = b".dot\r\n..two\r\n\r\n" + bytes(range(128, 192)) + b"\r\n.\x20\r\n"
    body = line * (25 * 1024 * 1024 // len(line)) + os.urandom(16).hex().encode() + b"\r\n"
    content = (b"Subject: large\r\n\r\n" + body).replace(b"\r\n.", b"\r\n..") + b".\r\n"
    with scene.gateway.client(scene.port) as client:
        assert client.mail("a@home.test", ["BODY=8BITMIME"])[0] == 250 and client.rcpt("b@far.test")[0] == 250
        assert client.docmd("DATA")[0] == 354
        client.sock.sendall(content)  # made before: smtplib would make it now, and who is silent for a minute is too slow
        assert client.getreply()[0] == 250
    wait_until(lambda: host.messages, "it arrived")
    got = host.messages[0]
    assert got.body == body, "the body was changed"
    assert got.data.startswith(b"Received: ") and b"\r\nSubject: large\r\n\r\n" in got.data[:4096]
    assert any(c.startswith("BDAT") for c in got.commands) == chunking
    scene.gateway.wait_empty()


# ---- many ----

def test_a_hundred_recipients_over_fifty_domains(gateway, sink):
    """Each recipient exactly once; one transaction a domain and server."""
    far = [sink() for _ in range(5)]
    scene = Outbound(gateway, sink, {f"d{i}": Host(far[i % 5]) for i in range(50)})
    to = [f"{user}@d{i}.test" for i in range(50) for user in ("one", "two")]
    scene.send(to)
    wait_until(lambda: sum(len(m.recipients) for s in far for m in s.messages) >= 100, "all arrived")
    assert sorted(r for s in far for m in s.messages for r in m.recipients) == sorted(to)
    scene.count("hundred", accepted=100)
    scene.gateway.wait_empty()


def test_connections_are_kept_and_limited(gateway, sink):
    """Forty messages: far fewer connections than messages, and never more at once than allowed."""
    busy, most = [], []

    def end(line):
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.01)
        busy.pop()
        return ""
    host = sink(replies={"end": end})
    scene = Outbound(gateway, sink, {"far": Host(host, transport="limits: { connections: 2 }")})
    client = scene.gateway.client(scene.port)
    for i in range(40):
        scene.send(f"b{i}@far.test", client=client)
    wait_until(lambda: len(host.messages) == 40, "all arrived")
    assert max(most) <= 2, max(most)
    assert host.connections <= 8, host.connections
    scene.gateway.wait_empty()


def test_one_client_does_not_starve_another(gateway, sink):
    """A pile of mail for a slow host does not hold up mail of others for another host; and at the same host, another
    sender's few do not wait behind the pile."""
    all_sent = threading.Event()
    slow, quick = sink(replies={"end": lambda line: all_sent.wait(600) and time.sleep(0.02) or ""}), sink()
    scene = Outbound(gateway, sink, {"slow": Host(slow, transport="limits: { connections: 1 }"), "quick": Host(quick)})
    client = scene.gateway.client(scene.port)
    for i in range(40):
        scene.send(f"b{i}@slow.test", client=client)
    scene.send("b@quick.test", client=client)
    other = scene.gateway.client(scene.port, source_address=("127.0.9.1", 0))
    scene.send("other@slow.test", client=other)
    wait_until(lambda: quick.messages, "mail for the quick host does not wait for the slow one")
    assert not slow.messages
    all_sent.set()
    wait_until(lambda: len(slow.messages) == 41, "all arrived")
    order = [m.recipients[0] for m in slow.messages]
    assert order.index("other@slow.test") < 38, order.index("other@slow.test")


def test_as_many_recipients_as_the_host_says(gateway, sink):
    """LIMITS RCPTMAX (RFC 9422): no transaction has more."""
    host = sink(extensions=("PIPELINING", "LIMITS RCPTMAX=10"))
    scene = Outbound(gateway, sink, {"far": Host(host)})
    to = [f"u{i}@far.test" for i in range(35)]
    scene.send(to)
    wait_until(lambda: sum(len(m.recipients) for m in host.messages) == 35, "all arrived")
    assert sorted(r for m in host.messages for r in m.recipients) == sorted(to)
    assert max(len(m.recipients) for m in host.messages) <= 10 and host.connections == 1
    scene.gateway.wait_empty()


def test_a_rate_is_kept(gateway, sink):
    """limits.messages: the burst at once, the rest no faster than the rate; nothing fails for it."""
    host = sink()
    scene = Outbound(gateway, sink, {"far": Host(host, transport="limits: { messages: 4/2s }")})
    client = scene.gateway.client(scene.port)
    for i in range(8):
        scene.send(f"b{i}@far.test", client=client)
    wait_until(lambda: len(host.messages) == 8, "all arrived")
    times = sorted(m.time for m in host.messages)
    assert times[7] - times[0] >= 1.0, "eight at once, at 4 in 2 s"
    assert not scene.gateway.find("delivery.deferred")
    scene.gateway.wait_empty()


# ---- other ways ----

def test_source_address_and_name(gateway, sink):
    """`helo` and `source_address` are what the peer sees."""
    seen = []
    host = sink(replies={"MAIL": lambda line: seen.append(1) or ""})
    scene = Outbound(gateway, sink, {"far": Host(host, transport="helo: out.example.org, source_address: 127.0.0.9")})
    peers = []
    real = host.server.verify_request
    host.server.verify_request = lambda request, client: peers.append(client[0]) or real(request, client)
    scene.send("b@far.test")
    wait_until(lambda: host.messages, "it arrived")
    assert host.messages[0].helo == "out.example.org" and peers == ["127.0.0.9"]


def test_eight_bit_text_is_converted_on_demand(gateway, sink):
    """`eight_bit: convert`: a 7-bit host gets 7-bit text that reads the same; an 8-bit host gets it as it is."""
    import email
    import email.policy
    seven, eight = sink(extensions=()), sink()
    keys = "eight_bit: convert"
    scene = Outbound(gateway, sink, {"seven": Host(seven, transport=keys), "eight": Host(eight, transport=keys)})
    text = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" \
           "Grüße = {}\r\n.dot \r\n".format("x" * 100)
    scene.send(["b@seven.test", "b@eight.test"], mail=["BODY=8BITMIME"], data=text.encode())
    wait_until(lambda: seven.messages and eight.messages, "both arrived")
    assert eight.messages[0].body == text.partition("\r\n\r\n")[2].encode()
    got = seven.messages[0].data
    assert got.isascii() and "BODY" not in seven.messages[0].mail_parameters
    parsed = email.message_from_bytes(got, policy=email.policy.SMTP)
    assert parsed.get_content().replace("\r\n", "\n") == text.partition("\r\n\r\n")[2].replace("\r\n", "\n")
    scene.gateway.wait_empty()


def test_discard_is_counted(gateway, sink):
    scene = Outbound(gateway, sink, {"void": Host(whole="method: discard")})
    scene.send(["a@void.test", "b@void.test"])
    scene.count("void", discarded=2, delivered=0)
    assert not scene.gateway.queue() and not scene.home.messages


def test_protected_mailboxes_count_inbound_only(gateway, sink):
    """Deliveries inbound count distinct mailboxes; over the entitlement is an event, never a refusal."""
    own, world = sink(), sink()
    scene = Outbound(gateway, sink, {"own": Host(own, transport="direction: inbound"), "world": Host(world)},
                     extra="entitlements: { open_relay_support: true, protected_mailboxes: 2 }", start=False)
    scene.gateway.write_config(scene.config().replace("entitlements: { open_relay_support: true }\n", "", 1))
    scene.gateway.start()
    scene.send([f"u{i}@world.test" for i in range(5)])
    scene.send(["a@own.test", "A@own.test", "a+tag@own.test"])
    wait_until(lambda: sum(len(m.recipients) for m in own.messages) == 3, "three arrived")
    wait_until(lambda: scene.gateway.status()["protected_mailboxes"] == 1, "one mailbox is counted")
    assert not scene.gateway.find("entitlement.mailboxes")
    scene.send(["b@own.test", "c@own.test"])
    scene.gateway.wait("entitlement.mailboxes")
    assert scene.gateway.status()["protected_mailboxes"] == 3
    scene.gateway.wait_empty()


def test_lmtp_at_a_unix_socket(gateway, sink, tmp_path):
    """A reply a recipient, and an address to be seen in the events."""
    place = tmp_path / "lmtp"
    host = sink(path=place, lmtp=True, replies={"end busy@example.org": "452 4.2.2 full"})
    port = free_port()
    one = gateway(f"""
version: 1
hostname: mx.example.org
servers: {{ mail: {{ lmtp: "unix:{place}" }} }}
listeners: {{ mx: {{ listen: "127.0.0.1:{port}", tls: none, authentication: none }} }}
flows: {{ recipient: {{ all: [ accept ] }} }}
transports: {{ inside: {{ method: lmtp, server: mail, retry: {{ delays: [ 1s ], count: 20 }} }} }}
domains: {{ example.org: {{ recipients: all, transport: inside }} }}
""", ports=[port])

    def send(*to):
        with one.client(port) as client:
            client.sendmail("a@example.net", [f"{name}@example.org" for name in to], "Subject: x\r\n\r\n.dot\r\n")

    send("good", "busy", "fine")
    wait_until(lambda: host.messages, "it is delivered")
    assert host.messages[0].recipients == ["good@example.org", "fine@example.org"] and host.messages[0].data.endswith(b"\r\n.dot\r\n")
    one.wait("delivery.sent", to="good@example.org", ip=f"unix:{place}")
    one.wait("delivery.deferred", to="busy@example.org")
    del host.replies["end busy@example.org"]
    one.wait("delivery.sent", to="busy@example.org")
    one.wait_empty()
    tries = 2 + len(one.find("delivery.deferred", to="busy@example.org"))
    assert host.connections <= tries, "one connection an attempt at most: the next may use the first again"
