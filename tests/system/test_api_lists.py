# SPDX-License-Identifier: Apache-2.0
"""Lists of the API in pages: a cursor goes on where the page before ended, whatever comes and goes meanwhile."""
import base64
import threading
import urllib.parse

import pytest

from rig.api import ask
from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception

# every path of the description whose answer has `next`: what an item is known by
LISTS = {"/api/v1/queue/messages": "entry", "/api/v1/queue/messages/{id}": "entry", "/api/v1/queue/causes": "cause",
         "/api/v1/queue/shape": "destination", "/api/v1/domains": "domain", "/api/v1/transports": "transport",
         "/api/v1/transports/{id}": "destination", "/api/v1/transports/{id}/destinations": "destination",
         "/api/v1/incidents": "incident", "/api/v1/events": "id", "/api/v1/quarantines": "quarantine",
         "/api/v1/quarantine/messages": "entry", "/api/v1/quarantine/messages/{id}": "entry", "/api/v1/users": "user",
         "/api/v1/tokens": "name", "/api/v1/config/revisions": "revision", "/api/v1/config/decisions": "id",
         "/api/v1/problems": "problem", "/api/v1/reports/dmarc": "domain", "/api/v1/webhooks": "webhook", "/api/v1/webhooks/{id}/deliveries": "id"}
USERS = "".join(f"user{i}:$y$x:\n" for i in range(5))


@pytest.fixture
def served(gateway, sink, tls_files, tmp_path):
    mail = sink(replies={"RCPT": known("anna")})
    mx, submission = free_port(), free_port()
    (tmp_path / "users").write_text(USERS)
    secret = tmp_path / "hook-secret"
    secret.write_text("whsec_" + base64.b64encode(b"0" * 32).decode() + "\n")
    secret.chmod(0o600)
    hook = f'secret_file: {secret}, url: "http://127.0.0.1:9/x", events: [ recipient.reject ]'
    one = gateway(reception(
        mail, mx, certificate=tls_files, submission=submission, steps=f"[ file: {{ path: {tmp_path}/users }} ]",
        domains="".join(f"  d{i}.example: {{ recipients: local-users, transport: to-mail }}\n" for i in range(3)),
        top=f"webhooks:\n  one: {{ {hook} }}\n  two: {{ {hook} }}\nquarantines: {{ spam: {{}}, virus: {{}} }}\nreports: {{ dmarc: {{ from: dmarc@example.org }} }}\n"
            "domain_checks: { every: 0s }"), ports=[mx, submission])
    one.mx = mx
    return one


def hold_back(one):
    """What comes now stays in the queue."""
    one.ctl("transport", "pause", "to-mail")


def send(one, count, client=None):
    with (client or one.client(one.mx)) as client:
        for i in range(count):
            client.sendmail(f"x{i}@example.net", ["anna@example.org"], b"Subject: x\r\n\r\nx\r\n")


def page(one, path, **query):
    status, _, answer = ask(one, "GET", path + ("&" if "?" in path else "?") + urllib.parse.urlencode(query))
    assert status == 200, (path, query, answer)
    return answer


def walk(one, path, between=lambda: None, **query):
    """All items, page after page."""
    answer = page(one, path, **query)
    items = list(answer.get("items", answer.get("destinations")))
    while answer["next"]:
        between()
        answer = page(one, path, cursor=answer["next"], **query)
        items += answer.get("items", answer.get("destinations"))
    return items


def test_a_cursor_is_not_moved_by_what_comes_and_goes(served):
    hold_back(served)
    send(served, 9)
    wait_until(lambda: len(served.queue()) == 9, "all wait")
    first = [item["entry"] for item in served.queue()]
    gone = [first[1], first[3], first[6]]

    def change():
        """One that was shown goes, or one that is next; and one more comes, at the end."""
        if gone:
            served.ctl("queue", "drop", gone.pop(0))
        if len(gone) == 2:
            send(served, 2)
    seen = [item["entry"] for item in walk(served, "/api/v1/queue/messages", change, limit=2)]
    assert len(set(seen)) == len(seen), "none twice"
    left = [item["entry"] for item in served.queue()]
    assert [entry for entry in left if entry not in seen] == [], "none was passed over"
    assert seen == sorted(seen)
    assert set(seen) - set(left) <= {first[1], first[3], first[6]}
    # the cursor's own entry may be gone
    cursor = page(served, "/api/v1/queue/messages", limit=2)["next"]
    served.ctl("queue", "drop", left[1])
    assert [item["entry"] for item in page(served, "/api/v1/queue/messages", cursor=cursor)["items"]] == left[2:]


def test_totals_are_counted_when_asked_for(served):
    hold_back(served)
    send(served, 5)
    wait_until(lambda: len(served.queue()) == 5, "all wait")
    assert "total" not in page(served, "/api/v1/queue/messages", limit=2)
    answer = page(served, "/api/v1/queue/messages", limit=2, count="exact")
    assert answer["total"] == 5 and len(answer["items"]) == 2
    assert "2 of 5 shown" in served.ctl("queue", "list", "--limit", "2")
    assert "5 of 5 shown" in served.ctl("queue", "list")


def fill(one):
    """Something in every list; its name for {id}."""
    send(one, 3)
    wait_until(lambda: len(one.find("delivery.sent")) == 3, "delivered")
    hold_back(one)
    send(one, 4)
    entries = wait_until(lambda: len(one.queue()) == 4 and one.queue(), "they wait")
    for i in range(4):
        ask(one, "POST", "/api/v1/tokens", {"name": f"t{i}"})
        ask(one, "POST", "/api/v1/incidents", {"user": f"u{i}"})
        one.write_config(one.path.read_text() + f"# {i}\n")
        one.ctl("apply", one.path, "--ignore-tests")
    wait_until(lambda: len(page(one, "/api/v1/events")["items"]) >= 8, "the history has all")
    return {"/api/v1/queue/messages/{id}": entries[0]["entry"], "/api/v1/transports/{id}": "to-mail",
            "/api/v1/transports/{id}/destinations": "to-mail", "/api/v1/webhooks/{id}/deliveries": "one", "/api/v1/quarantine/messages/{id}": "none"}


def lists_of(one):
    document = ask(one, "GET", "/api/v1/openapi.json")[2]
    for path, operations in document["paths"].items():
        content = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        if "next" in document["components"]["schemas"].get(name, {}).get("properties", {}):
            yield path


def test_every_list_comes_in_pages(served):
    named = fill(served)
    assert set(lists_of(served)) == set(LISTS), "a list without a row here"
    several = []
    for path, key in LISTS.items():
        where = path.replace("{id}", named.get(path, ""))
        if named.get(path) == "none":
            continue
        whole = page(served, where)
        whole = whole.get("items", whole.get("destinations"))
        parts = walk(served, where, limit=1)
        assert [item[key] for item in parts] == [item[key] for item in whole], path
        assert len({str(item[key]) + str(item.get("file")) for item in whole}) == len(whole), path
        several.append(path) if len(whole) > 1 else None
    assert len(several) >= 9, several
    for path in ["/api/v1/queue/causes", "/api/v1/queue/shape"]:
        assert walk(served, path, sort="name", limit=1) == page(served, path, sort="name")["items"]


def test_a_cursor_that_is_none_is_refused(served):
    hold_back(served)
    send(served, 2)
    wait_until(lambda: len(served.queue()) == 2, "they wait")
    good = page(served, "/api/v1/queue/messages", limit=1)["next"]
    plain = base64.urlsafe_b64decode(good + "=" * (-len(good) % 4))
    assert plain.startswith(b"queue  ")

    def made(text):
        return base64.urlsafe_b64encode(text).decode().rstrip("=")
    hostile = ["x", "!!!!", "====", "a" * 20000, "%00", "../../etc", made(b"queue"), made(b"queue "), made(b"queue  "),
               made(b"queue  x"), made(b"queue x " + b"0" * 26), made(b"\0" * 100), made(b"queue  " + b"\xff" * 26),
               made(b"tokens  " + plain[7:]), good + "A", good + "=", good + "AAAA", good[:-1], made(plain + b" x"), made(plain * 300)]
    for path in LISTS:
        where = path.replace("{id}", "one" if "webhook" in path else "to-mail")
        for cursor in hostile if path == "/api/v1/queue/messages" else [*hostile[:6], good]:
            if cursor == good and path in ("/api/v1/queue/messages", "/api/v1/queue/messages/{id}"):
                continue
            status, kind, answer = ask(served, "GET", f"{where}?" + urllib.parse.urlencode({"cursor": cursor}))
            if len(cursor) > 10000 and status == 414:
                continue  # the door does not even read it
            assert status == 400 and kind == "application/problem+json", (path, cursor[:60], status)
            assert answer["errors"][0]["parameter"] == "cursor"
    for query, name in [("limit=0", "limit"), ("limit=x", "limit"), ("limit=-1", "limit"), ("count=all", "count"), ("sort=size", "sort")]:
        status, _, answer = ask(served, "GET", f"/api/v1/queue/messages?{query}")
        assert status == 400 and answer["errors"][0]["parameter"] == name, query
    assert len(page(served, "/api/v1/queue/messages", limit=10 ** 6)["items"]) == 2
    assert ask(served, "GET", f"/api/v1/queue/messages?cursor={good}")[0] == 200


def test_the_command_turns_the_pages(served):
    """More than one page has."""
    hold_back(served)
    clients = [served.client(served.mx) for _ in range(6)]
    threads = [threading.Thread(target=send, args=(served, 168, client)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [item["entry"] for item in served.queue()]
    assert len(entries) == len(set(entries)) == 1008 and entries == sorted(entries)
    assert len(page(served, "/api/v1/queue/messages")["items"]) == 1000
    assert len(served.queue("--limit", "1004")) == 1004
    assert "1004 of 1008 shown" in served.ctl("queue", "list", "--limit", "1004")
    found = served.ctl_json("find", "to:anna@example.org", "--limit", "1005", ok=(0, 1))
    wait_until(lambda: len(served.ctl_json("find", "to:anna@example.org", "--limit", "1005", ok=(0, 1))) == 1005, "the history has them")
    assert len({item["id"] for item in found}) == len(found)
    assert "drop: 1008 of 1008 entries" in served.ctl("--yes", "queue", "drop", "--all")
