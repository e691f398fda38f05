# SPDX-License-Identifier: Apache-2.0
"""/metrics over the socket and over TCP: what a strict reader makes of it, and that the numbers are those of the mail."""
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rig.gateway import wait_until
from rig.ports import free_port
from rig.setups import known, reception

MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


@pytest.fixture
def counted(gateway, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna")}, users={"anna": "secret"})
    mx, submission, port = free_port(), free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission,
                            top=f'metrics: {{ listen: [ "127.0.0.1:{port}" ] }}'), ports=[mx, submission])
    one.mx, one.submission, one.metrics_port = mx, submission, port
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
    wait_until(lambda: value(counted, "postern_deliveries_total", transport="to-mail", result="sent") == 1, "one is sent")
    for want, name, labels in [
            (1, "postern_smtp_tls_handshakes_total", {"listener": "submission", "tls": "TLSv1.3", "result": "ok"}),
            (1, "postern_auth_attempts_total", {"listener": "submission", "flow": "staff", "result": "ok"}),
            (1, "postern_recipients_total", {"listener": "submission", "verdict": "accepted", "reason": ""}),
            (1, "postern_recipients_total", {"listener": "inbound", "verdict": "rejected", "reason": "recipient_unknown"}),
            (1, "postern_recipients_total", {"listener": "inbound", "verdict": "rejected", "reason": "relay_denied"}),
            (1, "postern_messages_total", {"listener": "submission", "verdict": "accepted", "reason": ""}),
            (1, "postern_message_size_bytes_count", {"listener": "submission"}),
            (1, "postern_delivery_latency_seconds_count", {"transport": "to-mail"}),
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
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_over_tcp_there_is_nothing_else(counted):
    kind, text = fetch(counted, "/metrics")
    assert kind.startswith("text/plain; version=0.0.4") and "postern_build_info" in text
    for path, options, status in [("/api/v1/status", {}, 404), ("/api/v1/queue/messages", {}, 404),
                                  ("/metrics", {"method": "POST", "data": b"x"}, 405)]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(counted, path, **options)
        assert refused.value.code == status, path
