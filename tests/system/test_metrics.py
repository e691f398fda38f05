# SPDX-License-Identifier: Apache-2.0
"""/metrics over the socket and over TCP: what a strict reader makes of it, and that the numbers are those of the mail."""
import json
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from rig.gateway import BUILD, wait_until
from rig.ports import free_port
from rig.setups import known, reception

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture
def counted(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna")}, users={"anna": "secret"})
    mx, submission, port = free_port(), free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission,
                            top=f'metrics: {{ listen: [ "127.0.0.1:{port}" ] }}'), ports=[mx, submission])
    one.mx, one.submission, one.metrics_port, one.mail = mx, submission, port, mail
    return one


def read(one):
    """Sample values by name and labels. The reader itself refuses what is no valid exposition."""
    samples = {}
    for family in text_string_to_metric_families(one.ctl("metrics")):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"twice: {key}"
            samples[key] = sample.value
    return samples


def value(one, name, **labels):
    return read(one).get((name, tuple(sorted(labels.items()))), 0)


def test_numbers_are_those_of_the_mail(counted):
    with counted.client(counted.submission, tls=True, login=("anna", "secret")) as client:
        client.sendmail("anna@example.org", ["anna@example.org"], MESSAGE)
    with counted.client(counted.mx) as client:
        client.docmd("MAIL FROM:<x@example.net>")
        assert client.docmd("RCPT TO:<nobody@example.org>")[0] == 550
        assert client.docmd("RCPT TO:<a@foreign.example>")[0] == 550
    counted.wait_empty()
    wait_until(lambda: value(counted, "postern_delivery_attempts_total", transport="to-mail", provider="none", result="sent") == 1, "one is sent")
    for want, name, labels in [
            (1, "postern_smtp_tls_handshakes_total", {"listener": "submission", "tls": "TLSv1.3", "result": "ok"}),
            (1, "postern_auth_attempts_total", {"listener": "submission", "flow": "staff", "block": "smtp", "result": "ok"}),
            (1, "postern_recipients_total", {"listener": "submission", "verdict": "accepted", "reason": ""}),
            (1, "postern_recipients_total", {"listener": "inbound", "verdict": "rejected", "reason": "recipient_unknown"}),
            (1, "postern_recipients_total", {"listener": "inbound", "verdict": "rejected", "reason": "relay_denied"}),
            (1, "postern_messages_total", {"listener": "submission", "direction": "inbound", "verdict": "accepted", "reason": ""}),
            (1, "postern_message_size_bytes_count", {"listener": "submission", "direction": "inbound"}),
            (1, "postern_delivery_latency_seconds_count", {"transport": "to-mail", "direction": "inbound"}),
            (1, "postern_balance_out_recipients_total", {"by": "delivered"}),
            (0, "postern_balance", {}),
            (0, "postern_queue_entries", {}),
            (1, "postern_spool_has_room", {})]:
        assert value(counted, name, **labels) == want, (name, labels)
    assert value(counted, "postern_flow_steps_total", type="recipient", flow="local-users", step="2-lookup-smtp",
                 outcome="missing", observed="false") == 1
    assert value(counted, "postern_smtp_sessions_total", listener="submission") >= 1  # and who waited for the port
    assert value(counted, "postern_spool_syncs_total") >= 1
    assert value(counted, "process_resident_memory_bytes") > 1 << 20


def test_no_address_is_a_label(counted):
    with counted.client(counted.mx) as client:
        client.docmd("MAIL FROM:<very-special@example.net>")
        client.docmd("RCPT TO:<quite-unknown@example.org>")
    wait_until(lambda: value(counted, "postern_recipients_total", listener="inbound", verdict="rejected",
                             reason="recipient_unknown") == 1, "it is counted")
    text = counted.ctl("metrics")
    assert "very-special" not in text and "quite-unknown" not in text and "127.0.0.1" not in text


def fetch(one, path, **options):
    request = urllib.request.Request(f"http://127.0.0.1:{one.metrics_port}{path}", **options)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_over_tcp_there_is_nothing_else(counted):
    kind, text = fetch(counted, "/metrics")
    assert kind.startswith("text/plain; version=0.0.4") and "postern_build_info" in text
    for path, options, status in [("/api/v1/status", {}, 404), ("/api/v1/queue/messages", {}, 404),
                                  ("/metrics", {"method": "POST", "data": b"x"}, 405)]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(counted, path, **options)
        assert refused.value.code == status, path


def test_backends_tell_how_long_they_took(counted):
    with counted.client(counted.mx) as client:
        client.docmd("MAIL FROM:<x@example.net>")
        assert client.docmd("RCPT TO:<anna@example.org>")[0] == 250
    wait_until(lambda: value(counted, "postern_backend_duration_seconds_count", backend="mail", result="answered") == 1,
               "the callout is counted")
    assert value(counted, "postern_backend_duration_seconds_count", backend="mail", result="failed") == 0
    counted.mail.replies["RCPT"] = lambda _: "421 4.3.2 closing"
    with counted.client(counted.mx) as client:
        client.docmd("MAIL FROM:<x@example.net>")
        assert client.docmd("RCPT TO:<bert@example.org>")[0] == 451
    wait_until(lambda: value(counted, "postern_backend_duration_seconds_count", backend="mail", result="failed") >= 1,
               "the failure is counted")
    answer = counted.find("backend.answer", outcome="failed")
    assert answer == [] or answer[-1]["backend"] == "mail"  # debug events are in no log, unless asked for
    story = next(item for item in counted.ctl_json("find", "to:bert@example.org"))
    told = [event for event in counted.ctl_json("trace", "--raw", story["id"]) if event["event"] == "backend.answer"]
    assert told[-1]["backend"] == "mail" and told[-1]["outcome"] == "failed" and told[-1]["error"] and told[-1]["duration_us"] >= 0


def test_replies_by_command_and_class(counted):
    def replies():
        return {(labels["command"], labels["code"]): number for (name, pairs), number in read(counted).items()
                for labels in [dict(pairs)] if name == "postern_smtp_replies_total" and labels["listener"] == "submission"}
    wait_until(lambda: ("connect", "2xx") in replies(), "who waited for the port is counted")
    before = replies()
    with counted.client(counted.submission, tls=True) as client:
        client.docmd("NOOP")
        assert client.docmd("MAIL FROM:<x@example.net>")[0] == 530
        assert client.docmd("NONSENSE")[0] == 500
        client.login("anna", "secret")
        client.sendmail("anna@example.org", ["anna@example.org"], MESSAGE)
    wait_until(lambda: replies().get(("data", "2xx")), "the session ended")
    more = {key: number - before.get(key, 0) for key, number in replies().items() if number != before.get(key, 0)}
    assert more == {("connect", "2xx"): 1, ("helo", "2xx"): 2, ("starttls", "2xx"): 1, ("other", "2xx"): 2, ("mail", "5xx"): 1,
                    ("other", "5xx"): 1, ("auth", "2xx"): 1, ("mail", "2xx"): 1, ("rcpt", "2xx"): 1, ("data", "3xx"): 1,
                    ("data", "2xx"): 1}, more  # other: NOOP and QUIT; NONSENSE


def test_providers_by_their_hosts(gateway, sink, dns):
    """A short list of large receivers, and `other`; whose outage it is shows while they do not answer, too."""
    names = dns(["one.example. MX 10 mx1.big.example.", "mx1.big.example. A 127.0.0.1", "two.example. MX 10 mx.notbig.example.",
                 "mx.notbig.example. A 127.0.0.1", "down.example. MX 10 a.down.big.example.", "a.down.big.example. A 127.0.0.9"])
    mail, world, mx = sink(replies={"RCPT": known("anna")}), sink(), free_port()
    one = gateway(reception(mail, mx, world=world, names=names,
                            top="trusted_networks: [ 127.0.0.0/8 ]\nproviders: { big: [ big.example ], google: [] }"), ports=[mx])
    with one.client(mx) as client:
        client.sendmail("anna@example.org", ["a@one.example", "a@two.example", "a@down.example", "anna@example.org"], MESSAGE)
    wait_until(lambda: len(world.messages) == 2 and one.find("delivery.deferred", to="a@down.example"), "each was tried")

    def deliveries():
        return {(labels["provider"], labels["result"]): number for (name, pairs), number in read(one).items()
                for labels in [dict(pairs)] if name == "postern_delivery_attempts_total"}
    wait_until(lambda: sum(deliveries().values()) == 4, "each is counted")
    assert deliveries() == {("big", "sent"): 1, ("other", "sent"): 1, ("big", "deferred"): 1, ("none", "sent"): 1}
    assert {event["to"]: event.get("provider") for event in one.find("delivery.sent")} == \
        {"a@one.example": "big", "a@two.example": "other", "anna@example.org": ""}
    assert value(one, "postern_messages_total", listener="inbound", direction="mixed", verdict="accepted", reason="") == 1
    assert one.find("delivery.deferred")[0]["direction"] == "outbound"


def test_dns_questions_and_the_cached_share(gateway, sink, dns):
    names = dns(["far.example. MX 10 mx.far.example.", "mx.far.example. A 127.0.0.1"])
    mail, world, mx = sink(replies={"RCPT": known("anna")}), sink(), free_port()
    one = gateway(reception(mail, mx, world=world, names=names, top="trusted_networks: [ 127.0.0.0/8 ]"), ports=[mx])
    for to in ("a@far.example", "b@far.example", "c@gone.far.example"):
        with one.client(mx) as client:
            client.sendmail("anna@example.org", [to], MESSAGE)
    wait_until(lambda: len(world.messages) == 2 and one.find("delivery.failed", to="c@gone.far.example"), "what can be sent is sent")

    def asked(cached, **labels):
        return value(one, "postern_dns_queries_total", cached=cached, **labels)
    assert asked("false", type="MX", result="found") >= 1 and asked("false", type="MX", result="no_name") >= 1
    assert asked("false", type="A", result="found") >= 1
    samples = read(one)
    total = {cached: sum(number for (name, labels), number in samples.items()
                         if name == "postern_dns_queries_total" and ("cached", cached) in labels) for cached in ("true", "false")}
    assert samples[("postern_dns_query_seconds_count", ())] == total["false"] > 0
    assert samples[("postern_dns_query_seconds_bucket", (("le", "+Inf"),))] == total["false"]
    assert samples[("postern_dns_cached_ratio", ())] == pytest.approx(total["true"] / sum(total.values()), abs=1e-6)


def test_a_change_that_waits_for_its_confirmation(counted):
    assert value(counted, "postern_config_unconfirmed") == 0 and value(counted, "postern_config_unconfirmed_left_seconds") == 0
    counted.path.write_text(counted.path.read_text().replace("hostname: mx.example.org", "hostname: mx2.example.org"))
    counted.ctl("apply", "--confirm", "10m", "--reason", "try")
    assert value(counted, "postern_config_unconfirmed") == 1
    assert 0 < value(counted, "postern_config_unconfirmed_left_seconds") <= 600
    counted.ctl("config", "confirm")
    assert value(counted, "postern_config_unconfirmed") == 0 and value(counted, "postern_config_unconfirmed_left_seconds") == 0


def test_transports_have_their_own_numbers(counted):
    counted.ctl("transport", "pause", "to-mail", "--reason", "test")
    with counted.client(counted.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], MESSAGE)
    wait_until(lambda: value(counted, "postern_transport_messages", transport="to-mail", state="paused") == 1, "it waits")
    assert value(counted, "postern_transport_paused", transport="to-mail") == 1
    assert value(counted, "postern_transport_bytes", transport="to-mail") > 0
    assert value(counted, "postern_transport_oldest_seconds", transport="to-mail") >= 0
    counted.ctl("transport", "resume", "to-mail", "--reason", "test")
    counted.wait_empty()
    assert value(counted, "postern_transport_paused", transport="to-mail") == 0
    assert sum(value(counted, "postern_transport_messages", transport="to-mail", state=state)
               for state in ("ready", "waiting", "inflight", "held", "content", "paused")) == 0


# ---- alerts and dashboard ----

MONITORING = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "monitoring"


def known_metrics():
    """Names and labels, as the manual has them."""
    text = subprocess.run([BUILD / "postern", "docs", "metrics"], text=True, capture_output=True, check=True).stdout
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", text, re.M)
    assert len(rows) > 60
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def check_expression(expression, known):
    """Each metric is one of ours, of the kind that its suffix says; each label is one of theirs or Prometheus'."""
    labels = {"instance", "le"}
    names = re.findall(r"\b(?:postern|process)_\w+", expression)
    assert names, expression
    for name in names:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert name in known or known.get(base, ("",))[0] == "histogram", (name, expression)
        labels |= known[name if name in known else base][1]
    used = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expression))
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        used |= set(re.split(r",\s*", group))
    assert used <= labels, (used - labels, expression)


def test_alerts_are_about_what_there_is():
    known = known_metrics()
    rules = [rule for group in yaml.safe_load((MONITORING / "postern.rules.yml").read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 8 and len({rule["alert"] for rule in rules}) == len(rules)
    manual = (MONITORING.parents[1] / "docs" / "manual" / "11-metrics.md").read_text()
    for rule in rules:
        assert re.fullmatch(r"Postern[A-Z]\w+", rule["alert"])
        check_expression(rule["expr"], known)
        assert (MONITORING.parents[1] / rule["annotations"]["page"]).is_file(), rule["annotations"]["page"]
    for expression in re.findall(r"^\| [^|`]+ \| `(.*)` \|$", manual, re.M):
        check_expression(expression, known)
    with pytest.raises(AssertionError):
        check_expression('sum by (instance) (postern_queue_oldest_minutes) > 1', known)
    with pytest.raises(AssertionError):
        check_expression('sum by (planet) (postern_queue_oldest_seconds) > 1', known)


def test_the_dashboard_shows_what_there_is():
    known = known_metrics()
    board = json.loads((MONITORING / "postern-dashboard.json").read_text())
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(targets) > 20 and len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for target in targets:
        check_expression(target["expr"], known)
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert re.search(rf"\bby \([^)]*\b{label}\b", target["expr"]), (label, target["expr"])
