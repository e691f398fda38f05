# SPDX-License-Identifier: Apache-2.0
"""A message that waits for its content flow and cannot be read for now waits on: no flow judges what it cannot see."""
from books import Client, configuration, send_one
from inject import Inject
from rig.gateway import wait_until

TO = ["u@fast.test"]
REFUSES_AN_EMPTY_HEADER = """reject: { when: 'header("X-Token") == ""', reply: "550 5.7.1 no field" }, deliver"""


def test_a_flow_waits_for_a_header_that_cannot_be_read(gateway, sinks, books, tls_files):
    one = gateway(sinks, start=False)

    def configure(content):
        text = configuration(one.port, sinks, tls_files, retry="1h", content=content)
        one.write_config(text.replace("limits: {", "processing: queued, limits: {"))

    def tried():
        item, = one.queue()
        return item["state"] == "content" and (item["attempt"], item["error"])
    configure("defer")
    one.start()
    message = send_one(books, Client(one.port), 400_000, TO)
    number, _ = wait_until(lambda: tried() if tried() and tried()[0] else None, "its flow ran")
    configure(REFUSES_AN_EMPTY_HEADER)
    assert one.reload()
    broken_disk = Inject(one, "error=EIO", calls="preadv2,pread64")
    one.ctl("queue", "retry", "--all", "--reason", "test")
    wait_until(lambda: tried() and tried()[0] > number, "its flow was to run again")
    broken_disk.detach()
    assert tried()[1].startswith("451 4.3.0 The message cannot be read now"), (message, one.queue())
    assert not one.find("spool.damaged") and not one.find("delivery.failed")
    one.ctl("queue", "retry", "--all", "--reason", "test")
    one.wait_empty()
    assert not books.lost(TO)
