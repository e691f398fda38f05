# SPDX-License-Identifier: Apache-2.0
"""Changes by the API: tried before, made once, not made over somebody else's, told with who, why, before and after."""
import json
import os
import pathlib
import pty
import re
import subprocess
import threading

import jsonschema
import pytest

from rig.api import ask, ask_all, connection_to, schema_of
from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.setups import known, reception

MAIL = {"from": "anna@example.org", "to": ["anna@example.org"], "data": "Subject: once\r\n\r\nonce\r\n"}
BODY_MAX = 64 * 1024 * 1024


@pytest.fixture
def served(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna")})
    mx, submission, port = free_port(), free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, steps="[ file: { path: spool/users/staff } ]",
                            top=f'admin: {{ listen: [ "127.0.0.1:{port}" ] }}'), start=False, ports=[mx, submission])
    (one.folder / "spool" / "users").mkdir(parents=True)
    (one.folder / "spool" / "users" / "staff").touch()
    one.start()
    one.mx, one.mail, one.api_port = mx, mail, port
    one.ctl("transport", "pause", "to-mail")
    return one


def post(one, path, body, key=None, **fields):
    headers = {**({"Idempotency-Key": key} if key else {}), **{name.replace("_", "-"): value for name, value in fields.items()}}
    return ask_all(one, "POST", path, body, headers=headers)


# ---- once ----

def test_the_same_key_sends_one_mail(served):
    first = post(served, "/api/v1/messages", MAIL, "key-1")
    again = post(served, "/api/v1/messages", MAIL, "key-1")
    assert first[0] == again[0] == 200 and first[2] == again[2] and first[2]["accepted"]
    assert first[1]["Idempotency-Replayed"] is None and again[1]["Idempotency-Replayed"] == "true"
    assert len(served.queue()) == 1
    other = post(served, "/api/v1/messages", {**MAIL, "data": "Subject: other\r\n\r\nx\r\n"}, "key-1")
    assert other[0] == 422 and other[2]["type"].endswith("/key-used-before")
    assert post(served, "/api/v1/tokens", {"name": "x"}, "key-1")[0] == 422, "another path, too"
    assert post(served, "/api/v1/messages", MAIL, "key-2")[2]["message"] != first[2]["message"]
    assert len(served.queue()) == 2
    for odd in ["a b", "x" * 256, "\u00e4"]:
        assert post(served, "/api/v1/messages", MAIL, odd.encode("latin-1").decode("latin-1"))[0] == 400
    assert len(served.queue()) == 2


def test_a_refused_request_leaves_its_key_free(served):
    assert post(served, "/api/v1/messages", {"from": "anna@example.org"}, "k")[0] == 400
    refused = post(served, "/api/v1/messages", {**MAIL, "to": ["anna@nowhere.test"]}, "k")
    assert refused[0] == 200 and not refused[2]["accepted"]
    assert post(served, "/api/v1/messages", MAIL, "k")[2]["accepted"], "what was not taken may be mended and sent"
    assert len(served.queue()) == 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_key_outlives_the_process(served, end):
    first = post(served, "/api/v1/messages", MAIL, "key")
    served.crash_expected = end == "kill"
    served.stop() if end == "stop" else served.kill()
    served.start()
    again = post(served, "/api/v1/messages", MAIL, "key")
    assert again[0] == 200 and again[2] == first[2] and again[1]["Idempotency-Replayed"] == "true"
    assert len(served.queue()) == 1


def forget_the_answer(one, which="d "):
    """As the file would be if the process had ended before the answer was written."""
    path = one.folder / "spool" / "once.log"
    lines = path.read_text().splitlines(True)
    assert any(line.startswith(which) for line in lines)
    path.write_text("".join(line for line in lines if not line.startswith(which)))


def test_a_mail_whose_answer_was_lost_is_found_again(served):
    """The process ended behind the durable mail, before it could note that: the mail itself says so."""
    first = post(served, "/api/v1/messages", MAIL, "key")
    served.stop()
    forget_the_answer(served)
    served.start()
    again = post(served, "/api/v1/messages", MAIL, "key")
    assert again[0] == 200 and again[2] == first[2], "from the queue"
    assert len(served.queue()) == 1
    served.ctl("transport", "resume", "to-mail")
    served.wait_empty()
    wait_until(lambda: ask(served, "GET", f"/api/v1/messages/{first[2]['message']}/trace")[0] == 200, "the history has it")
    served.stop()
    forget_the_answer(served)
    served.start()
    assert post(served, "/api/v1/messages", MAIL, "key")[2] == first[2], "from the history"
    assert len(served.mail.messages) == 1


def test_what_nobody_knows_is_not_done_again(served):
    post(served, "/api/v1/incidents", {"user": "mallory"}, "key")
    served.stop()
    forget_the_answer(served)
    served.start()
    status, _, problem = post(served, "/api/v1/incidents", {"user": "mallory"}, "key")
    assert status == 409 and problem["type"].endswith("/outcome-not-known")
    assert post(served, "/api/v1/incidents", {"user": "mallory"}, "another")[0] == 200


def test_secrets_are_remembered_and_never_written(served):
    first = post(served, "/api/v1/tokens", {"name": "robot"}, "t")
    assert post(served, "/api/v1/tokens", {"name": "robot"}, "t")[2] == first[2]
    user = {"user": "bert", "password": "canary-9X-secret"}
    assert post(served, "/api/v1/users", user, "u")[0] == 200 and post(served, "/api/v1/users", user, "u")[0] == 200
    assert post(served, "/api/v1/users", user)[0] == 409
    post(served, "/api/v1/messages", MAIL, "m")
    kept = (served.folder / "spool" / "once.log").read_bytes()
    assert kept.count(b"\nb ") == 1 and first[2]["token"].encode() not in kept and b"canary" not in kept
    assert oct((served.folder / "spool" / "once.log").stat().st_mode & 0o777) == "0o600"


def test_two_at_the_same_time_make_one(served):
    answers = []

    def go():
        answers.append(post(served, "/api/v1/messages", MAIL, "race"))
    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for status, _, _ in answers} <= {200, 409}
    assert all(answer["type"].endswith("/still-being-done") and fields["Retry-After"] for status, fields, answer in answers if status == 409)
    assert len({answer["message"] for status, _, answer in answers if status == 200}) == 1
    assert len(served.queue()) == 1


# ---- not over somebody else's ----

CHANGES = [  # what to read, how to change it, and a change by somebody else
    ("/api/v1/users", lambda one, tag: post(one, "/api/v1/users", {"user": "carl", "password": "x"}, If_Match=tag),
     lambda one: one.ctl("user", "add", "dora", stdin="pw\n")),
    ("/api/v1/tokens", lambda one, tag: post(one, "/api/v1/tokens", {"name": "mine"}, If_Match=tag),
     lambda one: one.ctl("token", "create", "yours")),
    ("/api/v1/transports/to-mail", lambda one, tag: post(one, "/api/v1/transports/to-mail/actions", {"verb": "resume"}, If_Match=tag),
     lambda one: one.ctl("transport", "slow", "to-mail", "--messages", "5/1m")),
    ("/api/v1/config", lambda one, tag: post(one, "/api/v1/config/applications",
                                             {"files": [{"name": str(one.path), "text": one.path.read_text() + "# mine\n"}]}, If_Match=tag),
     lambda one: (one.write_config(one.path.read_text() + "# yours\n"), one.ctl("apply", one.path, "--ignore-tests"))),
]


@pytest.mark.parametrize("path, change, other", CHANGES, ids=[row[0].rpartition("/")[2] for row in CHANGES])
def test_a_change_with_a_version_is_not_made_over_another(served, path, change, other):
    seen = ask_all(served, "GET", path)[1]["ETag"]
    assert seen.startswith('"') and len(seen) > 2
    other(served)
    status, _, problem = change(served, seen)
    now = ask_all(served, "GET", path)[1]["ETag"]
    assert status == 412 and problem["type"].endswith("/changed-meanwhile"), problem
    assert seen != now and problem["current"] == now.strip('"') and problem["expected"].strip('"') == seen.strip('"')
    assert change(served, f'"no", {now}')[0] == 200
    assert ask_all(served, "GET", path)[1]["ETag"] != now
    assert change(served, now)[0] == 412
    assert change(served, "W/" + ask_all(served, "GET", path)[1]["ETag"])[0] == 412, "a weak one does not do"


def test_if_match_where_there_are_no_versions_is_refused(served):
    status, _, problem = post(served, "/api/v1/incidents", {"user": "eve"}, If_Match='"x"')
    assert status == 400 and "no versions" in problem["detail"]
    assert ask(served, "GET", "/api/v1/incidents")[2]["items"] == []


def test_what_did_not_change_is_not_sent_again(served):
    for path in ["/api/v1/openapi.json", "/api/v1/users", "/api/v1/incidents", "/api/v1/config/revisions", "/api/v1/problems/not-found"]:
        status, fields, _ = ask_all(served, "GET", path)
        tag = fields["ETag"]
        status, fields, data = ask_all(served, "GET", path, headers={"If-None-Match": tag})
        assert (status, fields["ETag"], data) == (304, tag, b""), path
        assert ask_all(served, "GET", path, headers={"If-None-Match": '"else"'})[0] == 200
        assert ask_all(served, "HEAD", path)[0] == 200 and ask_all(served, "HEAD", path)[2] == b""
    tag = ask_all(served, "GET", "/api/v1/users")[1]["ETag"]
    served.ctl("user", "add", "new", stdin="pw\n")
    assert ask_all(served, "GET", "/api/v1/users", headers={"If-None-Match": tag})[0] == 200


# ---- tried ----

def test_a_dry_run_changes_nothing(served):
    served.ctl("user", "add", "bert", stdin="pw\n")
    served.ctl("token", "create", "old")
    ask(served, "POST", "/api/v1/incidents", {"user": "mallory"})
    post(served, "/api/v1/messages", MAIL)
    before = state(served)
    told = len(served.find("admin.action"))
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    files = [{"name": str(served.path), "text": served.path.read_text() + "# more\n"}]
    tried = {
        ("POST", "/api/v1/queue/actions"): {"verb": "drop", "select": {}},
        ("POST", "/api/v1/transports/{id}/actions"): {"verb": "resume"},
        ("POST", "/api/v1/incidents"): {"user": "eve"},
        ("POST", "/api/v1/incidents/{id}/closings"): {"held": "release"},
        ("POST", "/api/v1/quarantine/actions"): {"verb": "delete", "select": {}},
        ("POST", "/api/v1/users"): {"user": "carl", "password": "x"},
        ("POST", "/api/v1/users/{id}/passwords"): {"password": "x"},
        ("DELETE", "/api/v1/users/{id}"): None,
        ("POST", "/api/v1/tokens"): {"name": "new"},
        ("DELETE", "/api/v1/tokens/{id}"): None,
        ("POST", "/api/v1/config/applications"): {"files": files},
    }
    names = {"transports": "to-mail", "incidents": "1", "users": "bert", "tokens": "old"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            known_here = any(p["name"] == "dry_run" for p in operation["parameters"])
            changes = "x-postern-audit" in operation and method != "get"
            row = (method.upper(), path)
            where = path.replace("{id}", names.get((path.split("/") + [""] * 3)[3], "none")) + "?dry_run=true"
            if known_here and path != "/api/v1/reports/dmarc/send":
                status, _, answer = ask(served, method.upper(), where, tried.pop(row))
                assert status == 200 and answer["dry_run"] is True, (row, answer)
                schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema.validate(answer, {**schema, "components": document["components"]})
            elif changes and not known_here:
                status, _, answer = ask(served, method.upper(), where, {} if method == "post" else None)
                assert status == 400, (row, answer)
    assert not tried
    assert state(served) == before
    post(served, "/api/v1/messages", MAIL)  # its event comes behind those that there must not be
    wait_until(lambda: len(served.find("admin.action")) > told, "the last change is told")
    assert [event["verb"] for event in served.find("admin.action")[told:]] == ["send"]
    assert ask(served, "POST", "/api/v1/tokens?dry_run=true", {"name": "old"})[0] == 409
    assert ask(served, "DELETE", "/api/v1/users/nobody?dry_run=true")[0] == 404
    assert ask(served, "POST", "/api/v1/users?dry_run=true", {"user": "a b", "password": "x"})[0] == 400
    assert ask(served, "POST", "/api/v1/tokens?dry_run=perhaps", {"name": "x"})[0] == 400


def state(one):
    """All that a change could change."""
    return json.dumps([ask(one, "GET", path)[2] for path in [
        "/api/v1/queue/messages", "/api/v1/incidents?state=all", "/api/v1/users", "/api/v1/tokens", "/api/v1/config/revisions"]]
        + [ask(one, "GET", "/api/v1/transports/to-mail")[2]["orders"]])


# ---- told ----

def test_the_audit_says_who_why_and_what_it_was(served):
    token = served.ctl("token", "create", "robot", "--scope", "admin").strip()
    ask(served, "POST", "/api/v1/transports/to-mail/actions", {"verb": "resume", "reason": "they are back"}, token=token)
    told = served.wait("admin.action", verb="transport", why="they are back")
    assert (told["actor"], told["client"], told["object"]) == ("token robot", "127.0.0.1", "to-mail")
    assert told["before"] and told["after"] and told["before"] != told["after"]
    ask(served, "DELETE", "/api/v1/tokens/robot?reason=it+left")
    gone = served.wait("admin.action", verb="token revoke", why="it left")
    assert gone["actor"] == f"uid {os.getuid()}" and gone["before"] != gone["after"]
    ask(served, "POST", "/api/v1/users", {"user": "anna", "password": "x", "reason": "she is new"})
    served.wait("admin.action", verb="user add", why="she is new")


# ---- what a request says ----

def test_every_wrong_part_of_a_body_is_named(served):
    status, _, problem = post(served, "/api/v1/queue/actions",
                              {"verb": 5, "select": {"to": 1, "form": "x"}, "expect": "3", "a/b~c": 1})
    assert status == 400
    assert {error["pointer"] for error in problem["errors"]} == {"#/verb", "#/select/to", "#/select/form", "#/expect", "#/a~1b~0c"}
    assert problem["instance"] == "/api/v1/queue/actions" and problem["detail"]
    for body, pointer in [({"from": "a@b.test", "data": "x"}, "#/to"), ({"from": "a@b.test", "to": ["x", 5], "data": "x"}, "#/to/1"),
                          ({"from": None, "to": ["x"], "data": "x"}, "#/from")]:
        status, _, problem = post(served, "/api/v1/messages", body)
        assert status == 400 and [error["pointer"] for error in problem["errors"]] == [pointer]
    for raw in ["", "{", "[]", "5", '{"a": 1, "a": 2}', '{"verb": "hold", "select": {}} x', "\xff\xfe", "[" * 100000]:
        status, kind, problem = ask(served, "POST", "/api/v1/queue/actions", raw_body=raw.encode("latin-1"))
        assert (status, kind) == (400, "application/problem+json"), raw[:20]
    status, _, problem = ask(served, "GET", "/api/v1/queue/messages?stat=held&limt=5")
    assert status == 400 and {error["parameter"] for error in problem["errors"]} == {"stat", "limt"}


def test_every_problem_has_a_page(served):
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    seen = set()
    for method, path, body, status in [("GET", "/api/v1/nothing", None, 404), ("PUT", "/api/v1/status", None, 405), ("DELETE", "/api/v1/users", None, 405),
                                       ("POST", "/api/v1/queue/actions", {}, 400), ("GET", "/api/v1/messages/!/trace", None, 400)]:
        got, fields, problem = ask_all(served, method, path, body)
        assert got == status and fields["Content-Type"] == "application/problem+json"
        jsonschema.validate(problem, schema_of(document, "Problem"))
        assert (got == 405) == (fields["Allow"] is not None)
        status, _, page = ask(served, "GET", problem["type"])
        assert status == 200 and page["title"] == problem["title"] and page["text"]
        seen.add(problem["type"])
    assert len(seen) == 4
    assert ask_all(served, "PUT", "/api/v1/users")[1]["Allow"] == "GET, HEAD, POST"
    source = "".join(path.read_text() for path in sorted((served_source()).glob("*.c")))
    titles = {page["title"] for page in ask(served, "GET", "/api/v1/problems")[2]["items"]}
    used = set(re.findall(r'admin_problem\([^;]*?\d\d\d(?: : \d\d\d)?,\s*"([^"]+)"', source))
    assert len(used) > 10 and used <= titles, used - titles


def served_source():
    return pathlib.Path(__file__).resolve().parents[2] / "src" / "admin"


# ---- how large it may be ----

class Slow:
    """A request whose body comes as told."""

    def __init__(self, one, path, size):
        self.connection = connection_to(one)
        self.connection.putrequest("POST", path)
        self.connection.putheader("Content-Length", str(size))
        self.connection.endheaders()

    def give(self, size):
        self.connection.send(b" " * size)

    def answer(self):
        answer = self.connection.getresponse()
        data = answer.read()
        self.connection.close()
        return answer.status, answer.headers, json.loads(data)


def test_bodies_have_a_budget_together(served):
    big = Slow(served, "/api/v1/messages", BODY_MAX)
    big.give(BODY_MAX - 4096)  # nearly all that there is, and the rest does not come yet

    def second():
        slow = Slow(served, "/api/v1/messages", 1024 * 1024)
        slow.give(1024 * 1024)
        return slow.answer()
    status, fields, problem = wait_until(lambda: (lambda got: got[0] == 503 and got)(second()), "there is no room beside it")
    assert problem["type"].endswith("/too-busy") and int(fields["Retry-After"]) > 0
    assert post(served, "/api/v1/messages", MAIL)[2]["accepted"], "small ones go on"
    big.give(4096)
    assert big.answer()[0] == 400
    assert wait_until(lambda: second()[0] == 400, "the room is back")


def test_a_body_is_not_taken_where_it_has_no_place(served):
    token = served.ctl("token", "create", "reader").strip()
    for path, size, status in [("/api/v1/messages", BODY_MAX + 1, 413), ("/api/v1/tokens", 2 * 1024 * 1024, 413),
                               ("/api/v1/nothing", 10 * 1024 * 1024, 404), ("/api/v1/status", 10 * 1024 * 1024, 405)]:
        assert Slow(served, path, size).answer()[0] == status, path  # not a byte of it was sent
    connection = connection_to(served, token)
    connection.putrequest("POST", "/api/v1/messages")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", str(BODY_MAX))
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()


# ---- frozen selections ----

def test_an_order_acts_on_exactly_what_was_kept(served):
    for i in range(7):
        post(served, "/api/v1/messages", MAIL)
    wait_until(lambda: len(served.queue()) == 7, "they wait")
    entries = [item["entry"] for item in served.queue()]
    status, _, kept = post(served, "/api/v1/queue/selections", {"select": {"limit": "6"}})
    assert status == 200 and kept["count"] == 6 and [item["entry"] for item in kept["sample"]] == entries[:5] and kept["expires"]
    served.ctl("queue", "drop", entries[0])
    post(served, "/api/v1/messages", MAIL)  # it would fit the selectors, too
    assert ask(served, "GET", f"/api/v1/queue/selections/{kept['selection']}")[2]["count"] == 6
    tried = post(served, "/api/v1/queue/actions?dry_run=true", {"verb": "hold", "selection": kept["selection"]})[2]
    assert tried["matched"] == 6 and len(served.queue("--state", "held")) == 0
    assert post(served, "/api/v1/queue/actions", {"verb": "hold", "selection": kept["selection"], "expect": 7})[0] == 409
    done = post(served, "/api/v1/queue/actions", {"verb": "hold", "selection": kept["selection"], "expect": 6})[2]
    assert (done["matched"], done["count"], done["skipped"], done["failed"]) == (6, 5, 1, 0)
    assert [item["entry"] for item in served.queue("--state", "held")] == entries[1:6]
    for body, status in [({"verb": "hold", "selection": "0" * 26}, 404), ({"verb": "hold", "selection": "x"}, 404), ({"verb": "hold"}, 400),
                         ({"verb": "hold", "selection": kept["selection"], "select": {}}, 400)]:
        assert post(served, "/api/v1/queue/actions", body)[0] == status, body
    for _ in range(40):  # the oldest make room
        post(served, "/api/v1/queue/selections", {"select": {}})
    assert ask(served, "GET", f"/api/v1/queue/selections/{kept['selection']}")[0] == 404


def test_a_person_is_shown_what_the_order_will_act_on(served):
    for i in range(2):
        post(served, "/api/v1/messages", MAIL)
    wait_until(lambda: len(served.queue()) == 2, "they wait")
    for typed, left in [(b"n\n", 2), (b"y\n", 0)]:
        master, slave = pty.openpty()
        command = subprocess.Popen([BUILD / "postern", "--socket", served.folder / "control.sock", "queue", "drop", "--all"],
                                   stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        seen = b""
        while b"drop 2 entries? [y/N]" not in seen:
            seen += os.read(master, 4096)
        assert seen.count(b"from anna@example.org") == 2
        os.write(master, typed)
        assert command.wait(30) == (1 if left else 0)
        os.close(master)
        assert len(served.queue()) == left
