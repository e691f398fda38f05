# SPDX-License-Identifier: Apache-2.0
"""`postern spool verify`: what is in a spool, of a running gateway and of a dead one, against what was sent."""
import re
import subprocess

from books import Client, Load, send_one
from rig.gateway import BUILD, wait_until

TO = ["u@fast.test", "u@slow.test"]


def verify(spool, *options):
    done = subprocess.run([BUILD / "postern", "spool", "verify", *options, spool], stdout=subprocess.PIPE, text=True, timeout=120)
    return done.returncode, done.stdout


def listed(text):
    """{message: how many entries}, and the sum of their bytes."""
    found, total = {}, 0
    for message, size in re.findall(r"^entry \S+ of message (\S+): segment \w+ offset \d+, (\d+) bytes$", text, re.M):
        found[message] = found.get(message, 0) + 1
        total += int(size)
    return found, total


def test_verify_tells_what_is_there(gateway, sinks, books):
    for sink in sinks:
        sink.refuse = 1.0
    one = gateway(sinks, retry="1h")
    client = Client(one.port)
    sizes = [500, 3000, 40_000, 400_000]
    for size in sizes:
        send_one(books, client, size, TO)
    wait_until(lambda: sum(sink.attempts for sink in sinks) >= 2 * len(sizes), "each was tried")
    spool = one.folder / "spool"
    messages = {message: 2 for _, message in books.acknowledged.values()}
    for state in ("running", "dead"):
        status, text = verify(spool, "--verbose")
        found, total = listed(text)
        assert status == 0 and found == messages, (state, text)
        assert 2 * sum(sizes) < total < 2 * sum(sizes) + 2 * len(sizes) * 4000
        assert f"{2 * len(sizes)} entries, {total} bytes of mail, 0 problems" in text.splitlines()[-1], text
        assert verify(spool)[1].splitlines() == text.splitlines()[-1:], "without --verbose only the sum"
        one.kill()
    for sink in sinks:
        sink.refuse = 0.0
    one.start()
    one.ctl("queue", "retry", "--limit", "100", "--reason", "test", ok=(0, 1))
    one.wait_empty()
    assert one.stop() == 0
    assert listed(verify(spool, "--verbose")[1]) == ({}, 0), "what is delivered is not in it any more"


def test_verify_of_what_is_no_spool(tmp_path):
    status, text = verify(tmp_path)
    assert status == 1 and not text, "what is wrong goes to standard error"


def test_verify_beside_mail_that_is_delivered(gateway, sinks, books):
    """Bodies go while it reads: nothing of that is a problem."""
    one = gateway(sinks[:2])
    load = Load(books, one.port, clients=4, sizes=(300_000, 600_000), recipients=TO)
    try:
        for _ in range(20):
            status, text = verify(one.folder / "spool")
            assert status == 0 and "problem:" not in text, text
            assert text.splitlines()[-1].endswith(" 0 problems"), text
    finally:
        load.stop()
    one.wait_empty()
    assert books.acknowledged and not books.damaged()
