# SPDX-License-Identifier: Apache-2.0
"""
The books of the gateway itself. Red control: one entry is dropped behind the queue's back, by a tombstone written into
the log of the stopped gateway. From then on the books must not balance. (That the audit names an entry which the spool
lost under a running queue is shown by the unit test of the queue, test_audit.) With CRASH_SLOW=1 the event of the
periodic audit is waited for: two minutes.
"""
import os
import struct

from books import Client, send_one
from rig.gateway import wait_until

TO = ["u@fast.test"]
REMOVE = 7


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def records(data):
    """(offset, type, unit, payload) of each record of a segment."""
    at = 64
    while data[at:at + 4] == b"PREC":
        kind, _, _, _, unit, size = struct.unpack_from("<HHHHQI", data, at + 8)
        yield at, kind, unit, data[at + 32:at + 32 + size]
        at += (32 + size + 7) // 8 * 8


def drop_behind_the_back(spool, entry):
    """Append the tombstone of `entry`, 16 bytes, to the newest segment that has records."""
    for path in sorted((spool / "log").glob("*.log"), reverse=True):
        data = path.read_bytes()
        found = list(records(data))
        if found:
            break
    at, _, _, payload = found[-1]
    end = (at + 32 + len(payload) + 7) // 8 * 8
    unit = max(one[2] for one in found) + 1
    tail = struct.pack("<HHHHQII", REMOVE, 0, 1, 0, unit, len(entry), crc32c(entry))
    crc = crc32c(struct.pack("<QQ", int(path.stem, 16), end) + tail)
    with path.open("r+b") as file:
        file.seek(end)
        file.write(b"PREC" + struct.pack("<I", crc) + tail + entry)


def entries(spool):
    found = []
    for path in sorted((spool / "log").glob("*.log")):
        found += [payload[:16] for _, kind, _, payload in records(path.read_bytes()) if kind == 5]
    return found


def test_books_do_not_balance(gateway, sinks, books):
    sinks[0].refuse = 1.0
    one = gateway(sinks, retry="1h")
    client = Client(one.port)
    for _ in range(5):
        send_one(books, client, 1000, TO)
    wait_until(lambda: sinks[0].attempts >= 5, "each was tried")
    assert one.stop() == 0
    one.start()
    wait_until(lambda: len(one.queue()) == 5, "all five are back")
    assert one.status()["balanced"]
    one.kill()
    spool = one.folder / "spool"
    all_entries = entries(spool)
    assert len(all_entries) == 5
    drop_behind_the_back(spool, all_entries[2])
    one.start()
    wait_until(lambda: len(one.queue()) == 4, "four are back")
    assert not one.status()["balanced"], "an entry vanished, and the books say nothing"
    if os.environ.get("CRASH_SLOW"):
        event = one.wait("balance.difference", seconds=130)
        assert event["count"] == 1, event
