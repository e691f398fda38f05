# SPDX-License-Identifier: Apache-2.0
"""Counts and answers go on where they were when the gateway stops and starts again."""
import pytest

from rig.ports import free_port
from rig.setups import known, reception
from rig.talk import Talk


@pytest.fixture
def counting(gateway, sink):
    mail = sink(replies={"RCPT": known("anna")})
    mx = free_port()
    config = reception(mail, mx, lookup=", cache: 1h").replace(
        "      - lookup-smtp", "      - limit: { by: client, recipients: 3/1h, then: defer }\n      - lookup-smtp", 1)
    one = gateway(config, ports=[mx])
    one.mail, one.mx = mail, mx
    return one


def codes(one, count):
    with Talk(one.mx, ehlo="c.test") as talk:
        talk.code("MAIL FROM:<a@example.net>")
        return [talk.code("RCPT TO:<anna@example.org>") for _ in range(count)]


def protected(one):
    return one.status()["protected_mailboxes"]


def rcpts(one):
    return [line for _, line in one.mail.commands if line.startswith("RCPT")]


def test_a_restart_forgives_nothing(counting):
    assert codes(counting, 2) == [250, 250]
    counting.stop()
    counting.start()
    assert codes(counting, 2) == [250, 450]


def test_what_is_known_is_not_asked_again(counting):
    assert codes(counting, 1) == [250]
    asked = rcpts(counting)
    counting.stop()
    counting.start()
    assert codes(counting, 1) == [250]
    assert rcpts(counting) == asked


def test_the_count_of_mailboxes_goes_on(counting):
    config = counting.path.read_text().replace("method: server, server: mail,", "method: server, server: mail, direction: inbound,")
    counting.write_config(config)
    counting.stop()
    counting.start()
    for recipient in ("anna@example.org", "ANNA@example.org"):
        with Talk(counting.mx, ehlo="c.test") as talk:
            assert talk.mail("a@example.net", recipient).data(b"Subject: x\r\n\r\nx")[0] == 250
    counting.wait_empty()
    assert protected(counting) == 1
    counting.stop()
    counting.start()
    assert protected(counting) == 1
