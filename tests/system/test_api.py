# SPDX-License-Identifier: Apache-2.0
"""The HTTP API: its description is true of every answer, who may do what, live events that go on where they stopped."""
import json
import os
import re
import smtplib
import stat

import jsonschema
import pytest

from rig.api import UnixConnection, ask, schema_of
from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception

MESSAGE = b"From: anna@example.org\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?= from us\r\n\r\nhello\r\n"


# answered only where reports are configured: test_dmarc_reports.py
REPORTS = {("get", "/api/v1/reports/dmarc"), ("post", "/api/v1/reports/dmarc/send")}
# where there are users files: test_users
USERS = {("get", "/api/v1/users"), ("post", "/api/v1/users"), ("post", "/api/v1/users/{id}/passwords"), ("delete", "/api/v1/users/{id}")}
# where there are webhooks: test_webhooks.py
WEBHOOKS = {(method, "/api/v1/webhook" + path) for method, path in
            (("get", "s"), ("get", "s/{id}"), ("post", "s/{id}/actions"), ("post", "s/{id}/tests"), ("get", "s/{id}/deliveries"),
             ("get", "-deliveries/{id}"), ("post", "-deliveries/{id}/retries"))}
# where there are quarantines: test_quarantine.py
QUARANTINE = {("get", "/api/v1/quarantines"), ("get", "/api/v1/quarantine/messages"), ("get", "/api/v1/quarantine/messages/{id}"),
              ("get", "/api/v1/quarantine/messages/{id}/raw"), ("post", "/api/v1/quarantine/actions"),
              ("post", "/api/v1/quarantine/digests"), ("post", "/api/v1/quarantine/keys")}
# where there are webhooks: test_webhooks.py
WEBHOOKS = {("get", "/api/v1/webhooks"), ("get", "/api/v1/webhooks/{id}"), ("post", "/api/v1/webhooks/{id}/actions"),
            ("post", "/api/v1/webhooks/{id}/tests"), ("get", "/api/v1/webhooks/{id}/deliveries"),
            ("get", "/api/v1/webhook-deliveries/{id}"), ("post", "/api/v1/webhook-deliveries/{id}/retries")}


@pytest.fixture
def served(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna"), "DATA": lambda line: "451 4.2.1 later" if mail.lazy else ""},
                users={"anna": "secret"})
    mail.lazy = False
    mx, port = free_port(), free_port()
    one = gateway(reception(mail, mx, top=f'admin: {{ listen: [ "127.0.0.1:{port}" ] }}'), ports=[mx, port])
    one.mx, one.api_port, one.mail = mx, port, mail
    return one


def send(one, to="anna@example.org"):
    with one.client(one.mx) as client:
        client.sendmail("x@example.net", [to], MESSAGE)
    return one.wait("message.accepted")["message"]


def test_the_document_is_openapi(served):
    status, _, document = ask(served, "GET", "/api/v1/openapi.json")
    assert status == 200 and document["openapi"] == "3.1.0" and document["info"]["title"]
    ids = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert method in {"get", "post", "delete"}, path
            assert operation["operationId"] not in ids, operation["operationId"]
            ids.add(operation["operationId"])
            assert operation["summary"] and operation["x-postern-scope"] in {"read", "operate", "admin"}
            named = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
            assert named == (["id"] if "{id}" in path else []), path
            assert len({(p["in"], p["name"]) for p in operation["parameters"]}) == len(operation["parameters"])
            assert all(p["required"] for p in operation["parameters"] if p["in"] == "path")
            assert operation["responses"]["200"]["description"] and operation["responses"]["default"]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    refs = set()

    def walk(value):
        if isinstance(value, dict):
            if "$ref" in value:
                refs.add(value["$ref"])
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
    walk(document)
    for ref in refs:
        at = document
        for part in ref.removeprefix("#/").split("/"):
            at = at[part]  # KeyError: it leads nowhere
    used = {ref.rpartition("/")[2] for ref in refs if "/schemas/" in ref}
    assert used == set(document["components"]["schemas"]), "schemas that nobody uses"


def closed(needed, /, **properties):
    """An object of OpenAPI: these members, what is required of them, and extensions."""
    return {"type": "object", "required": needed.split(), "properties": properties, "patternProperties": {"^x-": {}}, "additionalProperties": False}


TEXT, NAMED = {"type": "string", "minLength": 1}, "^[A-Za-z0-9._-]+$"
REFERENCE = closed("$ref", **{"$ref": {"type": "string", "pattern": "^#/components/"}})
MEDIA = {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z]+/[a-z0-9.+-]+$"}, "additionalProperties": closed("schema", schema={"type": "object"})}
RESPONSE = {"anyOf": [REFERENCE, closed("description", description=TEXT, content=MEDIA)]}
PARAMETER = closed("name in schema", name=TEXT, description=TEXT, required={"type": "boolean"}, schema={"type": "object"},
                   **{"in": {"enum": ["path", "query", "header", "cookie"]}})
OPERATION = closed("responses", operationId={"type": "string", "pattern": "^[a-z][a-z0-9_]+$"}, summary=TEXT, parameters={"type": "array", "items": PARAMETER},
                   requestBody=closed("content", required={"type": "boolean"}, content=MEDIA),
                   responses={"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^([1-5][0-9X]{2}|default)$"}, "additionalProperties": RESPONSE})
OPENAPI = closed(  # what OpenAPI 3.1 says of the objects that are used here, and of no others
    "openapi info paths", openapi={"type": "string", "pattern": r"^3\.1\.\d+$"}, info=closed("title version", title=TEXT, version=TEXT, description=TEXT),
    paths={"type": "object", "propertyNames": {"pattern": "^/"}, "additionalProperties": closed("", get=OPERATION, post=OPERATION, delete=OPERATION)},
    security={"type": "array", "items": {"type": "object", "propertyNames": {"pattern": NAMED}, "additionalProperties": {"type": "array", "items": TEXT}}},
    components=closed("", schemas={"type": "object", "propertyNames": {"pattern": NAMED}, "additionalProperties": {"type": "object"}},
                      responses={"type": "object", "propertyNames": {"pattern": NAMED}, "additionalProperties": RESPONSE},
                      securitySchemes={"type": "object", "additionalProperties": closed("type scheme", type={"const": "http"}, scheme=TEXT, description=TEXT)}))


def test_the_document_is_openapi_and_nothing_else(served):
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    jsonschema.Draft202012Validator.check_schema(OPENAPI)
    problems = [f"{list(error.absolute_path)}: {error.message[:200]}" for error in jsonschema.Draft202012Validator(OPENAPI).iter_errors(document)]
    assert not problems
    for wish, scheme in [(wish, scheme) for wish in document["security"] for scheme in wish]:
        assert scheme in document["components"]["securitySchemes"], wish
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == set(re.findall(r"{(\w+)}", path))


def test_every_route_answers_as_described(served):
    message = send(served)
    served.wait("delivery.sent")
    served.mail.lazy = True
    with served.client(served.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], MESSAGE)
        client.docmd("MAIL FROM:<x@example.net>")
        ref = client.docmd("RCPT TO:<nobody@example.org>")[1].decode().rpartition("(ref ")[2].rstrip(")")
    waiting = served.wait("delivery.deferred")["message"]
    cause = wait_until(lambda: ask(served, "GET", "/api/v1/queue/causes")[2]["items"], "a cause")[0]["cause"]
    asked = [
        ("get", "/api/v1/status", "", None), ("get", "/api/v1/domains", "", None), ("get", "/metrics", "", None), ("get", "/api/v1/openapi.json", "", None),
        ("get", "/api/v1/queue/messages", "?to=@example.org&limit=5", None),
        ("get", "/api/v1/queue/messages/{id}", waiting, None),
        ("get", "/api/v1/queue/causes", "", None), ("get", "/api/v1/queue/causes/{id}", cause, None),
        ("get", "/api/v1/queue/shape", "", None), ("get", "/api/v1/queue/shape", "?by=sender", None),
        ("get", "/api/v1/transports", "", None), ("get", "/api/v1/transports/{id}", "to-mail", None),
        ("get", "/api/v1/transports/{id}/destinations", "to-mail", None),
        ("get", "/api/v1/problems", "", None), ("get", "/api/v1/problems/{id}", "not-found", None),
        ("post", "/api/v1/transports/{id}/actions", "to-mail", {"verb": "slow", "messages": "100/1m", "reason": "why"}),
        ("get", "/api/v1/transports/{id}", "to-mail", None),
        ("post", "/api/v1/transports/{id}/tests", "to-mail", {}),
        ("post", "/api/v1/queue/actions", "", {"verb": "hold", "select": {}, "dry_run": True}),
        ("post", "/api/v1/queue/selections", "", {"select": {}}), ("get", "/api/v1/queue/selections/{id}", "SELECTION", None),
        ("post", "/api/v1/explanations", "", {"address": "anna@example.org", "from": "", "client": "192.0.2.1"}),
        ("post", "/api/v1/explanations", "", {"address": "a@foreign.test"}),
        ("post", "/api/v1/queue/actions", "", {"verb": "hold", "select": {"id": waiting}, "expect": 1}),
        ("post", "/api/v1/incidents", "", {"user": "mallory", "reason": "asked for"}),
        ("post", "/api/v1/incidents", "", {"user": "Mallory"}), ("get", "/api/v1/incidents", "", None),
        ("get", "/api/v1/incidents/{id}", "1", None),
        ("post", "/api/v1/incidents/{id}/closings", "1", {"held": "release", "reason": "answered for"}),
        ("get", "/api/v1/incidents", "?state=all", None), ("get", "/api/v1/incidents/{id}", "1", None),
        ("post", "/api/v1/messages", "", {"from": "anna@example.org", "to": ["anna@example.org"], "data": "Subject: y\r\n\r\ny\r\n"}),
        ("get", "/api/v1/messages/{id}/raw", waiting, None),
        ("get", "/api/v1/messages/{id}/events", message, None), ("get", "/api/v1/messages/{id}/trace", message, None),
        ("get", "/api/v1/messages/{id}/trace", ref, None), ("get", "/api/v1/messages/{id}/trace", waiting, None),
        ("get", "/api/v1/events", "?q=to:@example.org&limit=10", None), ("get", "/api/v1/events", "?q=reason:recipient_unknown", None),
        ("get", "/api/v1/config", "", None), ("get", "/api/v1/config/revisions", "", None), ("get", "/api/v1/config/revisions/{id}", "r1", None),
        ("get", "/api/v1/config/decisions", "?last=10", None),
        ("post", "/api/v1/config/applications", "", {"files": [{"name": str(served.path), "text": served.path.read_text() + "\n# more\n"}],
                                                     "reason": "a line more", "confirm_seconds": 600}),
        ("get", "/api/v1/config", "", None), ("post", "/api/v1/config/confirmations", "", {}),
        ("post", "/api/v1/config/rollbacks", "", {"revision": "r1"}),
        ("post", "/api/v1/tokens", "", {"name": "one", "scope": "read", "expires": "90d"}),
        ("get", "/api/v1/tokens", "", None), ("delete", "/api/v1/tokens/{id}", "one", None)]
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    left = {(method, path) for path, operations in document["paths"].items() for method in operations}
    left -= {("get", "/api/v1/events/stream"), *REPORTS, *QUARANTINE, *USERS, *WEBHOOKS}  # they have tests of their own
    for method, path, rest, body in asked:
        if rest == "SELECTION":
            rest = answer["selection"]
        where = path.replace("{id}", rest) if "{id}" in path else path + rest
        operation = document["paths"][path][method]
        if body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            jsonschema.validate(body, {**schema, "components": document["components"]})
        status, kind, answer = ask(served, method.upper(), where, body)
        assert status == 200, (where, answer)
        (described, content), = operation["responses"]["200"]["content"].items()
        assert kind == described, where
        if kind == "application/json":
            jsonschema.validate(answer, {**content["schema"], "components": document["components"]},
                                format_checker=jsonschema.FormatChecker())
        left.discard((method, path))
    assert not left, "routes that nobody asked"
    ask(served, "POST", "/api/v1/queue/actions", {"verb": "drop", "select": {}})


def test_errors_are_problems(served):
    document = ask(served, "GET", "/api/v1/openapi.json")[2]
    for method, path, body, status in [
            ("GET", "/api/v1/nothing", None, 404), ("GET", "/", None, 404), ("PUT", "/api/v1/status", None, 405),
            ("GET", "/api/v1/queue/messages?state=odd", None, 400), ("GET", "/api/v1/queue/messages/x", None, 404),
            ("GET", "/api/v1/messages/!!/trace", None, 400), ("GET", "/api/v1/events?q=nope:x", None, 400),
            ("GET", "/api/v1/events/stream?q=nope:x", None, 400), ("GET", "/api/v1/transports/none", None, 404),
            ("POST", "/api/v1/queue/actions", "no object", 400), ("POST", "/api/v1/queue/actions", {"verb": "eat", "select": {}}, 400),
            ("POST", "/api/v1/queue/actions", {"verb": "hold", "select": {}, "expect": 99}, 409),
            ("POST", "/api/v1/messages", {"from": "a@b"}, 400), ("POST", "/api/v1/tokens", {"name": "a b"}, 400),
            ("POST", "/api/v1/tokens", {"name": "x", "scope": "god"}, 400),
            ("GET", "/api/v1/incidents?state=odd", None, 400), ("GET", "/api/v1/incidents/7", None, 404),
            ("GET", "/api/v1/incidents/x", None, 404), ("POST", "/api/v1/incidents", {}, 400),
            ("POST", "/api/v1/incidents", {"user": "x" * 513}, 400), ("POST", "/api/v1/incidents", {"user": 5}, 400),
            ("POST", "/api/v1/incidents", {"user": "192.0.2.0"}, 400),
            ("POST", "/api/v1/incidents/7/closings", {"held": "drop"}, 404),
            ("POST", "/api/v1/incidents/7/closings", {"held": "burn"}, 400),
            ("POST", "/api/v1/tokens", {"name": "x", "expires": "soon"}, 400),
            ("POST", "/api/v1/tokens", {"name": "x", "expires": "99999d"}, 400),
            ("DELETE", "/api/v1/tokens/none", None, 404)]:
        got, kind, answer = ask(served, method, path, body)
        assert (got, kind) == (status, "application/problem+json"), (path, got, answer)
        jsonschema.validate(answer, schema_of(document, "Problem"))
        assert answer["status"] == status and answer["detail"]


def make_token(one, name, *options):
    return one.ctl("token", "create", name, *options).strip()


def test_tokens_open_the_port_as_far_as_they_reach(served):
    tokens = {scope: make_token(served, scope, "--scope", scope, "--expires", "1d") for scope in ("read", "operate", "admin")}
    document = ask(served, "GET", "/api/v1/openapi.json", token=tokens["read"])[2]
    order = ["read", "operate", "admin"]
    for path, operations in document["paths"].items():
        if path.endswith("/stream"):
            continue
        for method, operation in operations.items():
            for scope, token in tokens.items():
                # what it is asked for does not exist or is no object: the point is who gets that far
                status, kind, answer = ask(served, method.upper(), path.replace("{id}", "none"), token=token,
                                           raw_body="0" if method == "post" else None)
                may = order.index(scope) >= order.index(operation["x-postern-scope"])
                assert (status != 403) == may and status != 401, (method, path, scope, answer)
    refused = served.wait("admin.refused")
    assert refused["actor"].startswith("token ") and refused["detail"] == "not within its scope"


def test_without_a_token_there_is_nothing(served):
    good = make_token(served, "good")
    for token in ["", "pst_", good[:-1], good + "0", good.upper(), "pst_" + "0" * 32]:
        for path in ["/api/v1/status", "/metrics", "/api/v1/openapi.json", "/", "/api/v1/tokens"]:
            status, kind, answer = ask(served, "GET", path, token=token)
            assert (status, kind) == (401, "application/problem+json"), (token, path)
    assert ask(served, "POST", "/api/v1/tokens", {"name": "evil", "scope": "admin"}, token="")[0] == 401
    assert ask(served, "GET", "/api/v1/status", token=good)[0] == 200, "others' failures lock nobody out"
    served.wait("admin.refused")
    told = served.find("admin.refused")
    assert 1 <= len(told) <= 20, "bounded: 10 a minute, and a minute may end meanwhile"
    assert told[0]["actor"] == "no token" and told[0]["object"] == "/api/v1/status"


def test_tokens_live_and_die(served):
    keeper, other = make_token(served, "keeper", "--scope", "operate"), make_token(served, "other")
    path = served.folder / "spool" / "tokens.json"
    assert keeper not in path.read_text() and stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "409" in str(ask(served, "POST", "/api/v1/tokens", {"name": "keeper"})[0])
    assert ask(served, "GET", "/api/v1/status", token=other)[0] == 200
    served.ctl("token", "revoke", "other")
    assert ask(served, "GET", "/api/v1/status", token=other)[0] == 401
    served.stop()
    served.start()
    assert ask(served, "GET", "/api/v1/status", token=keeper)[0] == 200
    assert ask(served, "GET", "/api/v1/status", token=other)[0] == 401
    listed, = served.ctl_json("token", "list")
    assert (listed["name"], listed["scope"], listed["expires"]) == ("keeper", "operate", None)
    assert listed["last_used"] and "token" not in listed
    everything = " ".join(str(line) for line in served.raw) + served.ctl("tail", "--help")
    assert keeper not in everything and other not in everything
    served.ctl("token", "revoke", "none", ok=(1,))


def test_a_token_expires(served):
    token = make_token(served, "short", "--expires", "1s")
    wait_until(lambda: ask(served, "GET", "/api/v1/status", token=token)[0] == 401, "it is over")


def test_changes_tell_who(served):
    token = make_token(served, "robot", "--scope", "operate")
    ask(served, "POST", "/api/v1/transports/to-mail/actions", {"verb": "pause"}, token=token)
    ask(served, "POST", "/api/v1/queue/actions", {"verb": "retry", "select": {}})
    served.ctl("token", "revoke", "robot")
    me = f"uid {os.getuid()}"
    for verb, actor, thing in [("token create", me, "robot operate"), ("transport", "token robot", "to-mail"),
                               ("queue", me, None), ("token revoke", me, "robot")]:
        told = served.wait("admin.action", verb=verb)
        assert told["actor"] == actor and (thing is None or told["object"] == thing), told


def test_damaged_tokens_let_nobody_in_and_mail_goes_on(gateway, sink, tmp_path):
    mail = sink(replies={"RCPT": known("anna")})
    mx, port = free_port(), free_port()
    one = gateway(reception(mail, mx, top=f'admin: {{ listen: [ "127.0.0.1:{port}" ] }}'), ports=[mx, port])
    one.mx, one.api_port = mx, port
    token = make_token(one, "good")
    one.stop()
    path = one.folder / "spool" / "tokens.json"
    path.write_text(path.read_text()[:40])
    one.start()
    assert "not a file of tokens" in one.wait("daemon.warning")["detail"]
    assert ask(one, "GET", "/api/v1/status", token=token)[0] == 401
    assert ask(one, "POST", "/api/v1/tokens", {"name": "new"})[0] == 503
    send(one)
    one.wait_empty()


# ---- live events ----

class Stream:
    """Reads server-sent events; `events`: (id, what) as they come."""

    def __init__(self, one, query="", last_id=None):
        self.connection = UnixConnection(one.folder / "control.sock")
        headers = {"Last-Event-ID": last_id} if last_id else {}
        self.connection.request("GET", f"/api/v1/events/stream?q={query}", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200 and self.answer.headers["Content-Type"] == "text/event-stream"

    def next(self):
        """The next event's id and data; comments are passed over."""
        number, data = None, None
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
            elif line == "" and data:
                return number, data

    def close(self):
        self.answer.close()
        self.connection.close()


def test_a_stream_goes_on_where_it_stopped(served):
    stream = Stream(served, "event:recipient.reject")

    def refuse(name):
        with served.client(served.mx) as client:
            client.docmd("MAIL FROM:<x@example.net>")
            client.docmd(f"RCPT TO:<{name}@example.org>")

    refuse("one")
    number, first = stream.next()
    assert first["to"] == "one@example.org" and first["node"] == "mx.example.org"
    stream.close()
    refuse("two")
    refuse("three")
    served.wait("recipient.reject", count=3)
    stream = Stream(served, "event:recipient.reject", last_id=number)
    assert [stream.next()[1]["to"] for _ in range(2)] == ["two@example.org", "three@example.org"]
    refuse("four")
    assert stream.next()[1]["to"] == "four@example.org"
    stream.close()


def test_a_stream_says_what_it_cannot_know(served):
    with served.client(served.mx) as client:
        client.docmd("MAIL FROM:<x@example.net>")
        client.docmd("RCPT TO:<one@example.org>")
    served.wait("recipient.reject")
    stream = Stream(served, "event:recipient.reject", last_id="1-17")  # of another life of the daemon
    number, told = stream.next()
    assert (told["event"], told["restarted"]) == ("stream.dropped", True) and number is None
    assert stream.next()[1]["to"] == "one@example.org"
    stream.close()


def test_an_explanation_is_that_of_the_command(served):
    """By the configuration in force; the command reads a file. What cannot be understood is a 400 with the reason."""
    for body, words in [({"address": "anna@example.org", "from": "x@example.net", "client": "192.0.2.1"}, ["--from", "x@example.net", "--client", "192.0.2.1"]),
                        ({"address": "a@foreign.test"}, []), ({"address": "anna@example.org", "user": "anna"}, ["--user", "anna"])]:
        said = served.ctl_json("explain", body["address"], served.path, *words, ok=(0, 1, 7))[0]
        status, _, got = ask(served, "POST", "/api/v1/explanations", body)
        assert status == 200
        got.pop("domain_place", None), said.pop("domain_place", None)  # the file in the words of who read it
        assert got == said
    assert ask(served, "POST", "/api/v1/explanations", {"address": "anna@example.org"})[2]["answer"] == "accept"
    for body, why in [({}, "#/address: is missing"), ({"address": "a b@@c"}, "no address"), ({"address": "a@b.test", "listener": "none"}, "there are: inbound"),
                      ({"address": "a@b.test", "client": "somewhere"}, "no IP address")]:
        status, kind, problem = ask(served, "POST", "/api/v1/explanations", body)
        assert status == 400 and kind == "application/problem+json" and why in problem["detail"], problem


def test_users(gateway, sink, tls_files, tmp_path):
    """A users file under the spool's folder is the gateway's to change, and takes effect at once; another is read and left alone."""
    mail, mx, submission = sink(), free_port(), free_port()
    foreign = tmp_path / "foreign"
    foreign.write_text("carol:$y$x:info@example.org\n")
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission,
                            steps=f"[ file: {{ path: spool/users/staff }}, file: {{ path: {foreign} }} ]"), start=False, ports=[mx, submission])
    (one.folder / "spool" / "users").mkdir(parents=True)
    own = one.folder / "spool" / "users" / "staff"
    own.touch()
    one.start()
    document = ask(one, "GET", "/api/v1/openapi.json")[2]

    def asked(method, path, name, body=None, status=200, rest=""):
        got, _, answer = ask(one, method, path.replace("{id}", rest), body)
        assert got == status, answer
        if status == 200:
            jsonschema.validate(answer, schema_of(document, name))
        return answer

    def login(user, password):
        try:
            with one.client(submission, tls=True, login=(user, password)):
                return True
        except smtplib.SMTPAuthenticationError:
            return False
    files = {item["file"]: item["writable"] for item in asked("GET", "/api/v1/users", "Users")["files"]}
    assert files == {str(own): True, str(foreign): False}
    secret = "canary-7Q-secret"
    asked("POST", "/api/v1/users", "", {"user": "anna", "password": secret}, status=404)  # which file?
    asked("POST", "/api/v1/users", "", {"user": "anna", "password": secret, "file": str(foreign)}, status=409)
    asked("POST", "/api/v1/users", "", {"user": "an na", "password": secret, "file": str(own)}, status=400)
    asked("POST", "/api/v1/users", "", {"user": "anna", "password": "", "file": str(own)}, status=400)
    asked("POST", "/api/v1/users", "UserChanged", {"user": "anna", "password": secret, "senders": "anna@example.org", "file": str(own)})
    asked("POST", "/api/v1/users", "", {"user": "Anna", "password": secret, "file": str(own)}, status=409)
    assert login("anna", secret), "at once"
    users = asked("GET", "/api/v1/users", "Users")["items"]
    assert [(user["user"], user["senders"]) for user in users] == [("anna", "anna@example.org"), ("carol", "info@example.org")]
    assert "$y$" not in json.dumps(users)
    asked("POST", "/api/v1/users/{id}/passwords", "UserChanged", {"password": secret + "2", "file": str(own)}, rest="anna")
    assert login("anna", secret + "2") and not login("anna", secret)
    asked("POST", "/api/v1/users/{id}/passwords", "", {"password": secret, "file": str(own)}, status=404, rest="bert")
    asked("DELETE", "/api/v1/users/{id}", "", status=404, rest=f"bert?file={own}")
    asked("DELETE", "/api/v1/users/{id}", "UserChanged", rest=f"anna?file={own}")
    assert not login("anna", secret + "2"), "she is gone"
    assert foreign.read_text() == "carol:$y$x:info@example.org\n" and secret not in own.read_text()
    wait_until(lambda: len(one.find("admin.action")) >= 3, "each change is told")
    assert {(event["verb"], event["object"]) for event in one.find("admin.action")} == \
        {("user add", "anna"), ("user passwd", "anna"), ("user rm", "anna")}
    assert secret not in "".join(map(str, one.find("admin.action")))
    # the command without --file asks the gateway, which wants to know the file where there are two
    one.write_config(one.path.read_text().replace(f", file: {{ path: {foreign} }}", ""))
    assert one.reload()
    one.ctl("user", "add", "bert", stdin=secret + "\n")
    assert [user["user"] for user in one.ctl_json("user", "list")] == ["bert"]
    one.ctl("user", "passwd", "bert", stdin=secret + "3\n")
    assert login("bert", secret + "3"), "bert's new password"
    one.ctl("user", "rm", "bert")
    assert one.ctl_json("user", "list") == [] and one.run_ctl("user", "rm", "bert").returncode == 1
