# SPDX-License-Identifier: Apache-2.0
"""/metrics over the socket and over TCP: what a strict reader makes of it, and that the numbers are those of the mail."""
import datetime
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
            (1, "postern_smtp_tls_handshakes_total", {"listener": "submission", "tls": "1.3", "result": "ok"}),
            (1, "postern_auth_attempts_total", {"listener": "submission", "flow": "staff", "block": "smtp", "result": "ok"}),
            (1, "postern_recipients_accepted_total", {"listener": "submission"}),
            (1, "postern_smtp_rejects_total", {"listener": "inbound", "stage": "rcpt", "reason": "recipient_unknown", "code": "5xx"}),
            (1, "postern_smtp_rejects_total", {"listener": "inbound", "stage": "rcpt", "reason": "relay_denied", "code": "5xx"}),
            (1, "postern_messages_received_total", {"listener": "submission", "direction": "inbound"}),
            (1, "postern_verdicts_total", {"direction": "inbound", "verdict": "delivered"}),
            (1, "postern_verdicts_total", {"direction": "inbound", "verdict": "rejected"}),  # the unknown one: the other is nobody's
            (1, "postern_verdicts_total", {"direction": "none", "verdict": "rejected"}),
            (1, "postern_smtp_sessions_total", {"listener": "submission", "tls": "1.3"}),
            (1, "postern_message_size_bytes_count", {"listener": "submission", "direction": "inbound"}),
            (1, "postern_delivery_latency_seconds_count", {"transport": "to-mail", "direction": "inbound"}),
            (1, "postern_balance_out_recipients_total", {"by": "delivered"}),
            (0, "postern_balance", {}),
            (0, "postern_queue_messages", {"transport": "to-mail", "state": "ready"}),
            (1, "postern_spool_has_room", {})]:
        assert value(counted, name, **labels) == want, (name, labels)
    assert value(counted, "postern_flow_steps_total", type="recipient", flow="local-users", step="2-lookup-smtp",
                 outcome="missing", observed="false") == 1
    assert value(counted, "postern_smtp_sessions_total", listener="submission", tls="none") >= 1  # and who waited for the port
    assert value(counted, "postern_spool_syncs_total") >= 1
    assert value(counted, "process_resident_memory_bytes") > 1 << 20


def test_no_address_is_a_label(counted):
    with counted.client(counted.mx) as client:
        client.docmd("MAIL FROM:<very-special@example.net>")
        client.docmd("RCPT TO:<quite-unknown@example.org>")
    wait_until(lambda: value(counted, "postern_smtp_rejects_total", listener="inbound", stage="rcpt",
                             reason="recipient_unknown", code="5xx") == 1, "it is counted")
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
    sent = {("big", "sent"): 1, ("other", "sent"): 1, ("none", "sent"): 1}
    wait_until(lambda: len(deliveries()) == 4, "each is counted")
    counts = deliveries()
    assert counts.pop(("big", "deferred")) >= 1, "tried again each second"
    assert counts == sent
    assert {event["to"]: event.get("provider") for event in one.find("delivery.sent")} == \
        {"a@one.example": "big", "a@two.example": "other", "anna@example.org": ""}
    assert value(one, "postern_messages_received_total", listener="inbound", direction="mixed") == 1
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
    def queue(what, state):
        return value(counted, f"postern_queue_{what}", transport="to-mail", state=state)
    counted.ctl("transport", "pause", "to-mail", "--reason", "test")
    with counted.client(counted.mx) as client:
        client.sendmail("x@example.net", ["anna@example.org"], MESSAGE)
    wait_until(lambda: queue("messages", "paused") == 1, "it waits")
    assert value(counted, "postern_queue_paused", transport="to-mail", by="admin") == 1
    assert value(counted, "postern_queue_paused", transport="to-mail", by="limit") == 0
    assert queue("bytes", "paused") > 0 and queue("bytes", "ready") == 0
    assert value(counted, "postern_queue_oldest_seconds", transport="to-mail") > 0
    counted.ctl("transport", "resume", "to-mail", "--reason", "test")
    counted.wait_empty()
    assert value(counted, "postern_queue_paused", transport="to-mail", by="admin") == 0
    assert value(counted, "postern_queue_oldest_seconds", transport="to-mail") == 0
    assert sum(queue("messages", state) for state in ("ready", "waiting", "inflight", "held", "content", "paused")) == 0


def test_a_rate_that_mail_waits_for(counted):
    counted.ctl("transport", "slow", "to-mail", "--messages", "1/1h", "--reason", "test")
    with counted.client(counted.mx) as client:
        for _ in range(2):
            client.sendmail("x@example.net", ["anna@example.org"], MESSAGE)
    wait_until(lambda: value(counted, "postern_queue_paused", transport="to-mail", by="limit") == 1, "the second waits for the rate")
    assert value(counted, "postern_queue_paused", transport="to-mail", by="admin") == 0
    counted.ctl("transport", "resume", "to-mail", "--reason", "test")
    counted.wait_empty()
    assert value(counted, "postern_queue_paused", transport="to-mail", by="limit") == 0


def test_each_certificate_by_its_name(counted, tls_files):
    ends, = {number for (name, labels), number in read(counted).items()
             if name == "postern_certificate_expiry_timestamp_seconds" and dict(labels)["name"]}
    told = subprocess.run(["openssl", "x509", "-in", tls_files[0], "-noout", "-enddate", "-dateopt", "iso_8601"], text=True,
                          capture_output=True, check=True).stdout
    assert ends == datetime.datetime.fromisoformat(told.split("=")[1].strip().replace("Z", "+00:00")).timestamp()


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
    names = re.findall(r"(?<![\w:])(?:postern|process)_\w+", expression)
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
    groups = yaml.safe_load((MONITORING / "postern.rules.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"] if "record" in rule):
        check_expression(rule["expr"], known)
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert len(rules) >= 8 and len({rule["alert"] for rule in rules}) == len(rules)
    manual = (MONITORING.parents[1] / "docs" / "manual" / "11-metrics.md").read_text()
    for rule in rules:
        assert re.fullmatch(r"Postern[A-Z]\w+", rule["alert"])
        if ":" not in rule["expr"]:  # else it is about what a rule recorded
            check_expression(rule["expr"], known)
        assert (MONITORING.parents[1] / rule["annotations"]["page"]).is_file(), rule["annotations"]["page"]
    assert set(re.findall(r"`(Postern[A-Z]\w+)`", manual)) == {rule["alert"] for rule in rules}
    with pytest.raises(AssertionError):
        check_expression('sum by (instance) (postern_queue_oldest_minutes) > 1', known)
    with pytest.raises(AssertionError):
        check_expression('sum by (planet) (postern_queue_oldest_seconds) > 1', known)


def promtool(*words, **options):
    return subprocess.run(["promtool", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def test_each_alert_fires_when_it_should():
    """promtool runs the rules over made-up series: tests/monitoring; each alert once quiet and once not."""
    tests = MONITORING.parents[1] / "tests" / "monitoring" / "postern.rules.test.yml"
    for words in (["check", "rules", MONITORING / "postern.rules.yml"], ["test", "rules", tests]):
        done = promtool(*words)
        assert done.returncode == 0, done.stdout
    rules = yaml.safe_load((MONITORING / "postern.rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    seen = {(check["alertname"], bool(check["exp_alerts"])) for case in yaml.safe_load(tests.read_text())["tests"]
            for check in case["alert_rule_test"]}
    assert seen == {(alert, fired) for alert in alerts for fired in (True, False)}


DESIGNED = """
postern_build_info version
postern_config_info revision
postern_config_last_apply_timestamp_seconds
postern_config_unconfirmed
postern_smtp_sessions_total listener tls
postern_smtp_sessions listener
postern_smtp_replies_total listener command code
postern_smtp_rejects_total listener stage reason
postern_auth_attempts_total flow block result
postern_messages_received_total listener direction
postern_message_size_bytes listener direction
postern_flow_steps_total type flow step outcome
postern_flow_step_duration_seconds flow step
postern_verdicts_total direction verdict
postern_queue_messages transport state
postern_queue_bytes transport state
postern_queue_oldest_seconds transport
postern_queue_paused transport by
postern_delivery_attempts_total transport provider result
postern_delivery_stage_seconds transport stage
postern_delivery_latency_seconds direction
postern_delivery_tls_total transport policy result
postern_dsn_total kind
postern_quarantine_messages quarantine
postern_backend_up backend
postern_backend_duration_seconds backend
postern_dns_queries_total type result
postern_incidents_open
postern_domains_unhealthy check
postern_certificate_expiry_timestamp_seconds name
postern_events_dropped_total sink
process_cpu_seconds_total
process_resident_memory_bytes
process_open_fds
process_max_fds
process_start_time_seconds
"""


def test_what_the_gateway_shows_is_what_the_manual_names(counted):
    """Names, kinds and labels: those that were agreed on, with the same labels at each sample; and promtool has nothing to say."""
    known = known_metrics()
    for name, *labels in (line.split() for line in DESIGNED.split("\n") if line):
        assert name in known and set(labels) <= known[name][1], (name, labels, known.get(name))
    with counted.client(counted.submission, tls=True, login=("anna", "secret")) as client:
        client.sendmail("anna@example.org", ["anna@example.org"], MESSAGE)
    with counted.client(counted.mx) as client:
        client.docmd("MAIL FROM:<x@example.net>")
        assert client.docmd("RCPT TO:<nobody@example.org>")[0] == 550
    counted.wait_empty()
    wait_until(lambda: value(counted, "postern_verdicts_total", direction="inbound", verdict="delivered") == 1, "it is counted")
    text = counted.ctl("metrics")
    done = promtool("check", "metrics", input=text)
    assert done.returncode == 0 and not done.stdout.strip(), done.stdout
    shown = {}
    for family in text_string_to_metric_families(text):
        name = family.name + "_total" if family.type == "counter" else family.name
        shown[name] = family
        assert known[name][0] == family.type, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == known[name][1], sample
    assert set(shown) <= set(known)
    missing = {name for name in set(known) - set(shown) if not name.startswith("postern_webhook_")}  # there are no webhooks here
    assert not missing


def test_the_dashboard_shows_what_there_is():
    known = known_metrics()
    board = json.loads((MONITORING / "postern-dashboard.json").read_text())
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(targets) > 20 and len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for target in targets:
        check_expression(target["expr"], known)
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert re.search(rf"\bby \([^)]*\b{label}\b", target["expr"]), (label, target["expr"])
