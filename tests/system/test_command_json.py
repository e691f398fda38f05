# SPDX-License-Identifier: Apache-2.0
"""What `postern --json` prints is the API's body, with the names of the log; --plain says the same in columns; exit codes are those promised."""
import json
import os
import re
import subprocess

import jsonschema
import pytest

from rig.api import ask, schema_of
from rig.gateway import BUILD, TOP, wait_until
from rig.ports import free_port
from rig.setups import known, reception

MAIL = b"From: anna@example.org\r\nSubject: one\r\n\r\nhello\r\n"


@pytest.fixture
def served(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna"), "DATA": lambda line: "451 4.2.1 later" if mail.lazy else ""})
    mail.lazy = True
    mx, submission = free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, steps="[ file: { path: spool/users/staff } ]",
                            top="quarantines: { spam: {} }\nreports: { dmarc: { from: dmarc@example.org } }"), start=False, ports=[mx, submission])
    (one.folder / "spool" / "users").mkdir(parents=True)
    (one.folder / "spool" / "users" / "staff").touch()
    one.start()
    one.mx = mx
    return one


def fill(one):
    """Something of everything; the ids of it."""
    with one.client(one.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], MAIL)
        client.docmd("MAIL FROM:<x@example.net>")
        ref = client.docmd("RCPT TO:<nobody@example.org>")[1].decode().rpartition("(ref ")[2].rstrip(")")
    message = one.wait("delivery.deferred")["message"]
    one.ctl("queue", "hold", "--all")
    one.ctl("token", "create", "robot")
    one.ctl("user", "add", "anna", "--senders", "anna@example.org", stdin="secret\n")
    one.ctl("contain", "mallory", "--reason", "asked for")
    one.ctl("transport", "slow", "to-mail", "--messages", "5/1m")
    wait_until(lambda: ask(one, "GET", f"/api/v1/messages/{message}/trace")[0] == 200 and ask(one, "GET", f"/api/v1/messages/{ref}/trace")[0] == 200,
               "the history has them")
    return message, ref, one.queue()[0]["entry"]


# what the command prints, and where the API says the same; a list is its items
SAME = [
    (["status"], "/api/v1/status"), (["queue", "list"], "/api/v1/queue/messages"), (["queue", "list", "--state", "held"], "/api/v1/queue/messages?state=held"),
    (["queue", "show", "{entry}"], "/api/v1/queue/messages/{entry}"), (["queue", "causes"], "/api/v1/queue/causes"),
    (["queue", "shape"], "/api/v1/queue/shape"), (["queue", "shape", "--senders"], "/api/v1/queue/shape?by=sender"),
    (["transport", "list"], "/api/v1/transports"), (["transport", "show", "to-mail"], "/api/v1/transports/to-mail"),
    (["incident", "list"], "/api/v1/incidents"), (["incident", "show", "1"], "/api/v1/incidents/1"),
    (["find", "to:anna@example.org"], "/api/v1/events?q=to:anna@example.org"), (["trace", "{message}"], "/api/v1/messages/{message}/trace"),
    (["trace", "{ref}"], "/api/v1/messages/{ref}/trace"), (["message", "events", "{message}"], "/api/v1/messages/{message}/events"),
    (["token", "list"], "/api/v1/tokens"), (["user", "list"], "/api/v1/users"), (["domain", "list"], "/api/v1/domains"),
    (["config", "history"], "/api/v1/config/revisions"), (["quarantine", "list"], "/api/v1/quarantine/messages"),
    (["quarantine", "status"], "/api/v1/quarantines"), (["report", "list"], "/api/v1/reports/dmarc"),
]
MOVES = {"last_used", "looked", "sessions", "per_minute", "connections", "oldest_seconds", "next_try", "give_up", "next", "connections_allowed"}


def still(value):
    """Without what moves by itself between two looks."""
    if isinstance(value, dict):
        return {name: still(part) for name, part in value.items() if name not in MOVES}
    return [still(part) for part in value] if isinstance(value, list) else value


def test_the_command_prints_the_apis_body(served):
    message, ref, entry = fill(served)
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    lists = 0
    for words, path in SAME:
        names = {"message": message, "ref": ref, "entry": entry}
        words, path = [word.format(**names) for word in words], path.format(**names)
        printed = served.ctl_json(*words, ok=(0, 1))
        body = ask(served, "GET", path)[2]
        is_list = "items" in body and words != ["quarantine", "status"]  # that one shows the key, too
        wanted = body["items"] if is_list else [body]
        assert still(printed) == still(wanted), words
        lists += is_list and len(wanted) > 0
    assert lists >= 10
    # fields of the log that the API has too bear the same names
    keys = set(re.findall(r'EVENT_KEY\(\w+,\s*"(\w+)"\)', (TOP / "src" / "event" / "keys.h").read_text()))
    schemas = document["components"]["schemas"]
    for name in ["message", "entry", "transport", "destination", "reason", "from", "to", "size", "attempt", "error", "next_try", "give_up"]:
        assert name in keys and name in schemas["Entry"]["properties"], name
    for event in ask(served, "GET", f"/api/v1/messages/{message}/events")[2]["items"]:
        assert set(event) - {"time", "event", "severity", "node", "rev", "seq"} <= keys, event


def test_changes_print_the_apis_answer(served):
    fill(served)
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    for words, name in [(["queue", "release", "--all", "--reason", "why"], "QueueActed"), (["queue", "hold", "--all", "--dry-run"], "QueueActed"),
                        (["transport", "pause", "to-mail", "--dry-run"], "TransportActed"), (["transport", "resume", "to-mail"], "TransportActed"),
                        (["contain", "eve", "--dry-run"], "IncidentOpened"), (["contain", "eve"], "IncidentOpened"),
                        (["incident", "close", "1", "--release", "--dry-run"], "IncidentClosed"), (["incident", "close", "1", "--release"], "IncidentClosed"),
                        (["token", "create", "t2", "--dry-run"], "TokenMade"), (["token", "create", "t2"], "TokenMade"),
                        (["token", "revoke", "t2", "--dry-run"], "TokenRevoked"), (["token", "revoke", "t2", "--reason", "why"], "TokenRevoked"),
                        (["user", "rm", "anna", "--dry-run"], "UserChanged"), (["user", "rm", "anna"], "UserChanged"),
                        (["report", "send", "--dry-run"], "ReportsSent"), (["apply", str(served.path), "--dry-run", "--ignore-tests"], "ConfigDone")]:
        answer, = served.ctl_json(*words)
        jsonschema.validate(answer, schema_of(document, name))
        assert answer.get("dry_run", False) == ("--dry-run" in words), words
    assert "a dry run: nothing was done" in served.ctl("contain", "carl", "--dry-run")
    assert "carl" not in served.ctl("incident", "list", "--all")
    wait_until(lambda: [event for event in served.find("admin.action") if event["why"] == "why"], "the reasons are told")


def commands():
    """All there are, as their own page lists them."""
    text = subprocess.run([BUILD / "postern", "docs", "commands"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return text


def test_json_of_what_is_a_text(served, tmp_path):
    message, _, _ = fill(served)
    for words, names in [(["block", "doc", "accept"], {"block", "text"}), (["block", "list"], {"block", "flows", "text"}), (["docs", "events"], {"page", "text"}),
                         (["completion", "bash"], {"shell", "text"}), (["spool", "verify", str(served.folder / "spool")], {"folder", "problems", "text"}),
                         (["config", "write"], {"file", "revision"}), (["config", "show"], {"name", "text"}),
                         (["init", "relay-authenticated", "--domain", "example.org", "--server", "127.0.0.1:25", "--output", str(tmp_path / "new")], {"file", "folder"})]:
        for line in served.ctl_json(*words, ok=(0, 1)):
            assert names <= set(line), words
    json.loads(served.ctl("--json", "schema"))


def test_plain_is_tabs_without_a_header(served):
    message, _, entry = fill(served)
    line, = served.ctl("--plain", "queue", "list").splitlines()
    columns = line.split("\t")
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    assert len(columns) == len(document["components"]["schemas"]["Entry"]["properties"])
    assert columns[:3] == [entry, message, "held"] and "anna@example.org" in columns[4]
    assert served.ctl("--plain", "user", "list").startswith("anna\tanna@example.org\t")
    shown = dict(row.split("\t", 1) for row in served.ctl("--plain", "incident", "show", "1").splitlines())
    assert shown["user"] == "mallory" and shown["state"] == "open"
    assert served.ctl("--plain", "queue", "list", "--state", "inflight") == "", "nothing is nothing"
    for words in [["transport", "list"], ["token", "list"], ["find"], ["config", "history"], ["block", "list"], ["domain", "list"], ["status"]]:
        text = served.ctl("--plain", *words, ok=(0, 1))
        assert text and "next:" not in text and all("\t" in row for row in text.splitlines()), words


def test_exit_codes(served, tmp_path):
    """0 yes, 1 no, 2 usage, 3 no daemon, 4 not allowed, 5 conflict, 7 try again (ux 2.2); 6 is for what only some of was done."""
    message, ref, entry = fill(served)
    (tmp_path / "bad.yaml").write_text("version: 1\nnonsense: 5\n")
    for words, code in [
            (["status"], 0), (["queue", "list"], 0), (["queue", "show", entry], 0), (["queue", "show", "01AAAAAAAAAAAAAAAAAAAAAAAA"], 1),
            (["queue", "list", "--state", "odd"], 2), (["queue", "list", "--limit", "0"], 2), (["queue", "list", "--limit", "x"], 2),
            (["queue", "retry"], 2), (["queue", "retry", "--to", "x@nowhere.test"], 1), (["queue", "hold", "--all", "--expect", "99"], 5),
            (["queue", "cause", "show", "C0"], 1), (["transport", "show", "none"], 1), (["transport", "pause"], 2), (["transport", "slow", "to-mail"], 2),
            (["transport", "pause", "to-mail", "--dry-run"], 0), (["incident", "show", "99"], 1), (["incident", "close", "1"], 2),
            (["incident", "close", "99", "--release"], 1), (["contain", "mallory"], 0), (["token", "create", "robot"], 5), (["token", "create", "a b"], 2),
            (["token", "revoke", "none"], 1), (["user", "rm", "nobody"], 1), (["user", "list"], 0), (["find", "to:anna@example.org"], 0),
            (["find", "to:x@nowhere.test"], 1), (["find", "nope:x"], 2), (["trace", message], 0), (["trace", ref], 0), (["trace", "0" * 26], 1), (["trace", "!"], 2),
            (["config", "history"], 0), (["config", "show", "r99"], 1), (["config", "confirm"], 5), (["config", "diff"], 0), (["rollback", "r99"], 1),
            (["check", str(served.path)], 0), (["check", str(tmp_path / "bad.yaml")], 1), (["check", str(tmp_path / "none.yaml")], 1),
            (["apply", str(tmp_path / "bad.yaml")], 1), (["quarantine", "list"], 0), (["quarantine", "show", "0" * 26], 1), (["quarantine", "digest", "none"], 1),
            (["explain", "nobody@example.org", str(served.path)], 0), (["explain", "a@foreign.test", str(served.path)], 1),
            (["block", "doc", "none"], 1), (["docs", "none"], 2), (["nonsense"], 2), (["queue", "nonsense"], 2), (["status", "--nonsense"], 2), (["status", "more"], 2)]:
        done = served.run_ctl(*words)
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert code in (0, 1) or done.stderr, (words, "why, on standard error")
    reader = [BUILD / "postern", "--socket", tmp_path / "none.sock"]
    assert subprocess.run([*reader, "status"], stderr=subprocess.PIPE).returncode == 3
    served.stop()
    assert served.run_ctl("queue", "list").returncode == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="asks as somebody else")
def test_exit_code_for_who_may_not(served):
    def as_nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    served.folder.chmod(0o755)
    done = subprocess.run([BUILD / "postern", "--socket", served.folder / "control.sock", "status"], stderr=subprocess.PIPE, preexec_fn=as_nobody)
    assert done.returncode in (3, 4), done.stderr  # 3 where a folder above is closed
