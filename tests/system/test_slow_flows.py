# SPDX-License-Identifier: Apache-2.0
"""Hundreds of content flows wait for a slow scanner at the same time, on one worker, and hold up nobody's mail."""
import asyncio
import threading

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from rig.talk import Talk

SLOW = 400
CONFIG = """
version: 1
hostname: mx.example.org
workers: 1
servers:
  mail: {{ smtp: "127.0.0.1:{mail}", tls: none }}
  slow: {{ clamd: "127.0.0.1:{scanner}", timeout: 10m }}
listeners:
  inbound:
    listen: [ "127.0.0.1:{mx}" ]
    tls: none
    authentication: none
    limits: {{ sessions_per_client: 2000 }}
    processing: {processing}
flows:
  recipient:
    everybody: [ accept ]
  content:
    slow: [ antivirus: {{ server: slow }}, deliver ]
    quick: [ header: "X-Quick: yes", deliver ]
transports:
  to-mail: {{ method: server, server: mail, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  slow.example: {{ recipients: everybody, content: slow, transport: to-mail }}
  quick.example: {{ recipients: everybody, content: quick, transport: to-mail }}
"""
MESSAGE = b"From: a@example.net\r\nSubject: x\r\n\r\n" + b"Hello, this is some text of a letter.\r\n" * 100


class SlowScanner:
    """clamd, but for the time it takes: it answers nobody before `go` is called."""

    def __init__(self):
        self.waiting = self.most = self.asked = 0
        self.loop = asyncio.new_event_loop()
        self.port = free_port()
        started = threading.Event()

        async def serve():
            self.gate = asyncio.Event()
            self.server = await asyncio.start_server(self.answer, "127.0.0.1", self.port, backlog=1000)
            started.set()

        self.loop.create_task(serve())
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        started.wait(120)

    async def answer(self, reader, writer):
        await reader.readexactly(len(b"zINSTREAM\0"))
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            await reader.readexactly(size)
        self.asked += 1
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.gate.wait()
        self.waiting -= 1
        writer.write(b"stream: OK\0")
        await writer.drain()
        writer.close()

    def go(self):
        self.loop.call_soon_threadsafe(self.gate.set)

    def stop(self):
        self.go()
        wait_until(lambda: not self.waiting, "nobody waits any more")
        self.loop.call_soon_threadsafe(self.loop.stop)


async def send(port, to):
    """The reply to a message from a client of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def say(line):
        writer.write(line)
        while (reply := await reader.readline())[3:4] == b"-":
            pass
        return int(reply[:3])

    assert await say(b"") == 220
    assert await say(b"EHLO c.test\r\n") == 250
    assert await say(b"MAIL FROM:<a@example.net>\r\n") == 250
    assert await say(b"RCPT TO:<%s>\r\n" % to.encode()) == 250
    assert await say(b"DATA\r\n") == 354
    code = await say(MESSAGE + b".\r\n")
    writer.close()
    return code


@pytest.fixture
def scanner():
    one = SlowScanner()
    yield one
    one.stop()


def start(gateway, sink, scanner, processing):
    mail, mx = sink(), free_port()
    one = gateway(CONFIG.format(mail=mail.port, mx=mx, scanner=scanner.port, processing=processing), ports=[mx])
    one.mail, one.mx = mail, mx
    return one


def quick_mail_gets_through(one):
    for number in range(1, 4):
        with Talk(one.mx, ehlo="c.test") as talk:
            talk.mail("a@example.net", "anna@quick.example")
            assert talk.data(MESSAGE, b".\r\n")[0] == 250
        wait_until(lambda: len(one.mail.messages) >= number, "quick mail is delivered")
        assert b"X-Quick: yes" in one.mail.messages[-1].data


def test_direct(gateway, sink, scanner):
    one = start(gateway, sink, scanner, "direct")
    codes = []

    async def everybody():
        codes.extend(await asyncio.gather(*(send(one.mx, f"x{n}@slow.example") for n in range(SLOW))))

    clients = threading.Thread(target=lambda: asyncio.run(everybody()))
    clients.start()
    wait_until(lambda: scanner.waiting == SLOW, f"all are at the scanner at once, not {scanner.most}")
    quick_mail_gets_through(one)
    assert scanner.waiting == SLOW and not codes  # still
    scanner.go()
    clients.join(120)
    assert codes == [250] * SLOW
    wait_until(lambda: len(one.mail.messages) == SLOW + 3, "all is delivered")


def test_queued(gateway, sink, scanner):
    """From the queue only so many flows run at once, and what waits for its turn holds up no mail of another flow."""
    one = start(gateway, sink, scanner, "queued")

    async def everybody():
        return await asyncio.gather(*(send(one.mx, f"x{n}@slow.example") for n in range(SLOW)))

    assert asyncio.run(everybody()) == [250] * SLOW
    wait_until(lambda: scanner.waiting >= 150, f"more than a hundred run at once, not {scanner.most}")
    quick_mail_gets_through(one)
    assert 150 <= scanner.most < SLOW and len(one.mail.messages) == 3  # there are some that wait for their turn
    scanner.go()
    wait_until(lambda: len(one.mail.messages) == SLOW + 3, "all is delivered")
    assert scanner.asked == SLOW
