# SPDX-License-Identifier: Apache-2.0
"""
What lies in log files that wait to be used again: mail that was delivered, until it is written over. Of mail whose flow,
run from the queue, may put it into quarantine, encrypted, no plain text: those files go.
"""
import pytest

from books import Client, send_one, small_segments, used_segments
from rig.gateway import wait_until

TO = ["u@fast.test"]


def waiting_files(spool):
    """Those of the pool, and those that became log files again."""
    return used_segments(spool) + len(list((spool / "log").glob("*.free")))


@pytest.mark.parametrize("quarantine", [False, True], ids=["without", "quarantine"])
def test_text_that_may_be_sealed(gateway, sinks, books, quarantine):
    more = small_segments() + ("\nquarantines: { spam: { keep: 30d } }" if quarantine else "")
    flow = "quarantine: { when: size > 5M, name: spam }, deliver" if quarantine else "deliver"
    one = gateway(sinks, start=False, more=more, content=flow)
    one.write_config(one.path.read_text().replace("authentication: none,", "authentication: none, processing: queued,"))
    one.start()
    client = Client(one.port)
    for _ in range(250):  # ten log files
        send_one(books, client, 40_000, TO)
    one.wait_empty(30)
    if quarantine:
        assert not waiting_files(one.folder / "spool")
    else:
        wait_until(lambda: waiting_files(one.folder / "spool"), "log files are used again")
    assert not books.damaged() and not books.lost(TO)
