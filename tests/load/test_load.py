# SPDX-License-Identifier: Apache-2.0
"""What must not break when there is too much of something: memory, idle sessions, descriptors, short connections."""
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from rig.gateway import wait_until
from rig.ports import free_port
from tools import cpu_seconds, descriptors, resident_kb, source, threads

MIB = 1024 * 1024
FULL = os.environ.get("TEST_TIER") == "full"
SANITIZED = "sanitized" in os.environ.get("POSTERN_BUILD", "") or "asan" in os.environ.get("POSTERN_BUILD", "")


def config(listen, sink_port, tls_files=None, limits="", more=""):
    tls = "" if not tls_files else f"""
certificates:
  main: {{ cert: {tls_files[0]}, key: {tls_files[1]} }}"""
    return f"""
version: 1
hostname: mx.example.org
servers:
  sink: {{ smtp: "127.0.0.1:{sink_port}", tls: none }}{tls}
listeners:
  relay:
    listen: [ "127.0.0.1:{listen}" ]
    authentication: none
    {'tls: offered' if tls_files else 'tls: none'}
    {'certificate: main' if tls_files else ''}
    limits: {{ sessions: 20000, sessions_per_client: 20000, size: 100M{limits} }}
flows:
  recipient:
    all: [ accept ]
  content:
    plain: [ deliver ]
transports:
  out: {{ method: server, server: sink, retry: {{ delays: [ 1s ], count: 50 }} }}
domains:
  sink.test: {{ recipients: all, content: plain, transport: out }}
{more}"""


def dialogue(port, lines, wait=20):
    """Send lines one by one, reading a reply after each; the socket and the replies."""
    client = socket.create_connection(("127.0.0.1", port), timeout=wait)
    replies = [client.recv(4096)]
    for line in lines:
        client.sendall(line)
        replies.append(client.recv(4096))
    return client, replies


# ---- memory ----

@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not the gateway's")
def test_memory_ceiling_holds_with_many_large_messages(memory_group, gateway, counting_sink, tools):
    """256 MiB for all of it, many sessions that send large mail at once (T-L1): nobody is killed, nothing is lost."""
    size, seconds = (int(os.environ.get("LOAD_SIZE", 10 * MIB)), 1500) if FULL else (MIB, 300)
    sessions = 2000
    sink = counting_sink()
    listen = free_port()
    folder, prefix = memory_group(256 * MIB)
    one = gateway(config(listen, sink.port), [listen], start=False)
    one.wrap = prefix
    one.start()
    child = one.child_pid()
    sink.ctl("begin", "large")
    peak = [0]
    done = threading.Event()

    def watch():
        while not done.wait(0.05):
            peak[0] = max(peak[0], resident_kb(child, "RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        figures = source(tools, listen, "large", "-m", sessions, "-c", sessions, "-s", size, "--retry", "--timeout", seconds,
                         seconds=2 * seconds)
        sink.ctl("wait", int(figures["accepted"]), seconds)
    finally:
        done.set()
        watcher.join()
    books = sink.ctl("stats")
    assert one.child_pid() == child, "the process was killed"
    print(f"{sessions} sessions of {size // MIB} MiB: {figures['accepted']:.0f} accepted in {figures['seconds']:.1f} s, "
          f"{figures['refused_4xx']:.0f} told to come again, {peak[0]} KiB at the peak")
    assert figures["accepted"] >= 0.7 * sessions, figures
    assert f"unique={figures['accepted']:.0f} dup=0 unknown=0 corrupt=0" in books, (books, figures)
    assert peak[0] < 200 * 1024, f"{peak[0]} KiB at the peak"


# ---- idle sessions ----

def test_idle_sessions_cost_little_and_end_in_time(gateway, counting_sink, tls_files):
    """1,000 sessions, half of them with TLS, that send a byte now and then; ordinary mail flows meanwhile."""
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, sink.port, tls_files), [listen])
    child = one.child_pid()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    base = resident_kb(child, "RssAnon")
    held = []

    def open_some(count, tls, number):
        for i in range(count):
            client = socket.socket()
            client.settimeout(60)
            client.bind((f"127.8.{number}.{i % 50 + 1}", 0))
            client.connect(("127.0.0.1", listen))
            assert client.recv(512).startswith(b"220")
            client.sendall(b"EHLO client.test\r\n")
            assert b"250 " in client.recv(1024)
            if tls:
                client.sendall(b"STARTTLS\r\n")
                assert client.recv(512).startswith(b"220")
                client = context.wrap_socket(client)
                client.sendall(b"EHLO client.test\r\n")
                client.recv(1024)
            held.append(client)

    openers = [threading.Thread(target=open_some, args=(250, number % 2 == 1, number)) for number in range(4)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert len(held) == 1000
    if not SANITIZED:  # what handshakes and greetings took goes back within seconds
        wait_until(lambda: resident_kb(child, "RssAnon") - base < 500 * 16 + 500 * 64, "500 plain and 500 TLS sessions cost little")
    begin = cpu_seconds(child)
    time.sleep(2)
    for client in held:
        client.sendall(b"N")
    time.sleep(1)
    assert cpu_seconds(child) - begin < 0.6, "idle sessions keep it busy"
    with one.client(listen) as client:
        client.sendmail("a@example.com", ["b@sink.test"], b"Subject: among them\r\n\r\nhello\r\n")
    wait_until(lambda: one.find("message.done"), "ordinary mail flows")
    for client in held:
        client.close()
    wait_until(lambda: one.status()["sessions"] == 0, "all are gone")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not the gateway's")
def test_many_idle_sessions(gateway, counting_sink, tools, tls_files):
    """10,000 idle sessions, half of them with TLS (T-L2; 2,000 in the quick tier), and mail flows as without them."""
    half = 5000 if FULL else 1000
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, sink.port, tls_files), [listen])
    child = one.child_pid()

    def cost_of_mail(run):
        """Milliseconds of the gateway's CPU for each of 1,000 messages: a rate would be of all that runs on the machine."""
        sink.ctl("begin", run)
        before = cpu_seconds(child)
        figures = source(tools, listen, run, "-m", 1000, "-c", 10)
        assert figures["accepted"] == 1000, figures
        assert "unique=1000 dup=0" in sink.ctl("wait", 1000, 110)
        return cpu_seconds(child) - before

    alone = min(cost_of_mail(f"before{turn}") for turn in range(2))
    base = resident_kb(child, "RssAnon")
    idle, begin = [], time.monotonic()
    for net, options in ((3, []), (4, ["--starttls"])):
        idle.append(subprocess.Popen([tools / "bench-source", "--idle", "300", "-c", str(half), "--timeout", "300", "--src",
                                      f"127.77.{net}.1/50", *options, f"127.0.0.1:{listen}"], stdout=subprocess.PIPE, text=True))
    try:
        ready = [process.stdout.readline() for process in idle]
        greeted = time.monotonic() - begin
        assert [line.split()[:2] for line in ready] == [["ready", str(half)]] * 2, ready
        # what handshakes and greetings took goes back within seconds
        wait_until(lambda: resident_kb(child, "RssAnon") - base < half * 16 + half * 48, "they cost little at rest")
        cost = resident_kb(child, "RssAnon") - base
        busy = cpu_seconds(child)
        time.sleep(3)
        busy = (cpu_seconds(child) - busy) / 3
        beside = min(cost_of_mail(f"beside{turn}") for turn in range(2))
        print(f"{2 * half} sessions greeted in {greeted:.1f} s; {cost} KiB, {busy * 100:.1f} % of a core while idle; "
              f"{alone:.2f} ms of CPU a message alone, {beside:.2f} beside them")
        assert one.status()["sessions"] >= 2 * half
        assert busy < 0.2
        assert beside < 2 * alone + 0.05
    finally:
        for process in idle:
            process.kill()
            process.wait()
    wait_until(lambda: one.status()["sessions"] == 0, "all are gone")


def test_slow_clients_are_ended(gateway, counting_sink):
    """Who says a byte now and then and never a command is ended at his deadline, and not before."""
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, sink.port, limits=", command_timeout: 5s"), [listen])
    ended = []

    def drip():
        begin = time.monotonic()
        client = dialogue(listen, [b"EHLO client.test\r\n"])[0]
        client.settimeout(0.25)
        for _ in range(400):
            client.sendall(b"N")
            try:
                said = client.recv(512)
                break
            except TimeoutError:
                pass
        ended.append((said[:3], time.monotonic() - begin))
        client.close()
    clients = [threading.Thread(target=drip) for _ in range(50)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert [said for said, _ in ended] == [b"421"] * 50, "not told why"
    assert min(after for _, after in ended) >= 5, "ended before its time"
    wait_until(lambda: one.status()["sessions"] == 0, "all are ended")


# ---- descriptors ----

def test_out_of_descriptors(gateway, counting_sink, tools):
    """128 descriptors, 500 clients: no spinning, the control socket still answers, mail flows again after."""
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, sink.port), [listen], start=False)
    one.wrap = ["prlimit", "--nofile=128:128"]
    one.start()
    child = one.child_pid()
    sink.ctl("begin", "few")
    clients = []
    for i in range(500):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", listen))
        clients.append(client)
    wait_until(lambda: one.find("daemon.warning"), "it tells that it cannot accept more")
    begin = cpu_seconds(child)
    time.sleep(2)
    busy = cpu_seconds(child) - begin
    assert busy < 1, f"{busy} s of CPU in 2 s without descriptors"
    assert one.status()["health"] == "ok"
    assert descriptors(child) <= 128
    for client in clients:
        client.close()
    figures = source(tools, listen, "few", "-m", 100, "-c", 20, "--retry", "--timeout", 110)
    assert figures["accepted"] == 100, figures
    sink.ctl("wait", 100, 110)
    assert "unique=100 dup=0" in sink.ctl("stats")


def fetch(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_many_descriptors_do_not_deafen_the_control_socket(gateway):
    """Its connections have numbers above 1024 then, and so have those of the metrics."""
    listen, metrics = free_port(), free_port()
    one = gateway(config(listen, free_port(), more=f'metrics: {{ listen: [ "127.0.0.1:{metrics}" ] }}'), [listen, metrics])
    child = one.child_pid()
    clients = [dialogue(listen, [])[0] for _ in range(1200)]
    assert descriptors(child) > 1200
    wait_until(lambda: one.status()["sessions"] == 1200, "all are counted")
    assert b"200 OK" in fetch(metrics, "/metrics")
    for client in clients:
        client.close()
    assert one.child_pid() == child


# ---- short connections ----

HELLO = [b"EHLO client.test\r\n"]
MAIL = HELLO + [b"MAIL FROM:<a@example.com>\r\n"]
RCPT = MAIL + [b"RCPT TO:<b@sink.test>\r\n"]
DATA = RCPT + [b"DATA\r\n"]
POINTS = {
    "after connect": None,
    "banner": [],
    "hello": HELLO,
    "mail": MAIL,
    "rcpt": RCPT,
    "data": DATA,
    "in data": DATA,
    "end of data": DATA + [b"Subject: x\r\n\r\nx\r\n.\r\n"],
    "quit": DATA + [b"Subject: x\r\n\r\nx\r\n.\r\n", b"QUIT\r\n"],
}


def hang_up(port, point, reset):
    if POINTS[point] is None:
        client = socket.create_connection(("127.0.0.1", port), timeout=120)
    else:
        client, _ = dialogue(port, POINTS[point])
    if point == "in data":
        client.sendall(b"Subject: never ended\r\n\r\nbegun\r\n")
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_connections_that_end_anywhere_leave_nothing(gateway, counting_sink):
    """Clients that go away at each of nine points, half of them with a reset."""
    sink = counting_sink()
    listen = free_port()
    one = gateway(config(listen, sink.port), [listen])
    child = one.child_pid()
    each = 60

    def churn():
        for point in POINTS:
            for i in range(each):
                hang_up(listen, point, i % 2 == 1)

    def settled():
        return one.status()["sessions"] == 0 and not one.queue()

    churn()  # pools and caches fill
    wait_until(settled, "the first turn is over")
    before = descriptors(child), threads(child), resident_kb(child, "RssAnon")
    accepted = len(one.find("message.accepted"))
    churn()
    wait_until(settled, "the second turn is over")
    wait_until(lambda: descriptors(child) <= before[0] + 2, "descriptors come back")
    wait_until(lambda: threads(child) <= before[1], "threads end")  # there is one for who asks for the status, too
    if not SANITIZED:
        wait_until(lambda: resident_kb(child, "RssAnon") < before[2] * 1.05 + 2048, "memory comes back")
    # what was not ended is not there; what was acknowledged is
    wait_until(lambda: len(one.find("message.accepted")) == accepted + 2 * each, "the ended ones were accepted")
    wait_until(lambda: len(one.find("message.done")) == len(one.find("message.accepted")), "and delivered")
    assert not one.find("message.accepted", size=0)
