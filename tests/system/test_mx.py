# SPDX-License-Identifier: Apache-2.0
"""Where mail goes by DNS (RFC 5321 5.1, RFC 7505), over a real name server and hosts on loopback."""
import socket
import threading

import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound
from rig.ports import free_port

PORT = free_port()  # of all mail exchangers here
DOWN = "127.0.0.250"


@pytest.fixture
def world(sink):
    """A function: the host at 127.0.0.N (all at one port)."""
    def make(n, **options):
        return sink(host=n if isinstance(n, str) else f"127.0.0.{n}", port=PORT, **options)
    return make


@pytest.fixture
def internet(gateway, sink, dns):
    """A function that starts a gateway which relays by MX: internet(records, transport="", ...)."""
    def make(records=(), transport="allow_private: true", extra=None, servers=None, timeout="20s", **options):
        if extra is None:
            extra = f'dns: {{ servers: [ "{servers or dns(list(records)).address}" ], timeout: {timeout} }}'
        return Outbound(gateway, sink, {"any": Host(whole=f"method: lookup-mx, port: {PORT}", transport=transport)},
                        extra=extra, **options)
    return make


class NoNames:
    """A name server that answers everything with `rcode`, or nothing at all (None)."""

    def __init__(self, rcode):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.asked = 0

        def run():
            while True:
                try:
                    query, client = self.socket.recvfrom(4096)
                except OSError:
                    return
                self.asked += 1
                end = query.index(b"\0", 12) + 5  # of the question
                if rcode is not None:
                    self.socket.sendto(query[:2] + bytes([0x81, 0x80 | rcode]) + query[4:6] + bytes(6) + query[12:end], client)
        threading.Thread(target=run, daemon=True).start()

    def close(self):
        self.socket.close()


def code_of(scene, to):
    word, event = scene.outcome(to)
    return word, event["enhanced"]


def test_order_of_preference(internet, world):
    best, second, third = world(11), world(12), world(13)
    scene = internet(["one.example. MX 20 b.one.example.", "one.example. MX 10 a.one.example.", "one.example. MX 30 c.one.example.",
                      "a.one.example. A 127.0.0.11", "b.one.example. A 127.0.0.12", "c.one.example. A 127.0.0.13"])
    scene.send("x@one.example")
    wait_until(lambda: best.messages, "the best has it")
    assert not second.connections and not third.connections
    scene.gateway.wait_empty()


def test_the_next_when_the_best_is_down_or_unwilling(internet, world):
    unwilling, good = world(12, replies={"MAIL": "451 4.3.0 no"}), world(13)
    scene = internet(["one.example. MX 10 a.one.example.", "one.example. MX 20 b.one.example.", "one.example. MX 30 c.one.example.",
                      f"a.one.example. A {DOWN}", "b.one.example. A 127.0.0.12", "c.one.example. A 127.0.0.13"])
    scene.send("x@one.example")
    wait_until(lambda: good.messages, "the third has it")
    assert unwilling.connections == 1
    event = scene.gateway.wait("delivery.sent", to="x@one.example")
    assert event["attempt"] == 1 and event["mx"] == "c.one.example" and event["ip"].startswith("127.0.0.13")
    scene.gateway.wait_empty()


def test_equal_preferences_share_the_mail(internet, world):
    hosts = [world(11), world(12)]
    scene = internet([f"d{i}.example. MX 10 {h}.one.example." for i in range(24) for h in "ab"]
                     + ["a.one.example. A 127.0.0.11", "b.one.example. A 127.0.0.12"])
    client = scene.gateway.client(scene.port)
    for i in range(24):
        scene.send(f"x@d{i}.example", client=client)
    wait_until(lambda: sum(len(h.messages) for h in hosts) == 24, "all arrived")
    assert all(host.messages for host in hosts), "one of two equal hosts got nothing"


def test_several_addresses_and_families(internet, world):
    """The first address is down, the other is tried in the same attempt; IPv6 too; a host without MX by its address."""
    six, four = world("::1"), world(14)
    scene = internet(["six.example. MX 10 mx.six.example.", "mx.six.example. AAAA ::1",
                      "both.example. MX 10 mx.both.example.", f"mx.both.example. A {DOWN}", "mx.both.example. AAAA ::1",
                      "plain.example. A 127.0.0.14",
                      "two.example. MX 10 mx.two.example.", f"mx.two.example. A {DOWN}", "mx.two.example. A 127.0.0.14",
                      "alias.example. MX 10 cname.example.", "cname.example. CNAME plain.example."])
    for name in ("six", "both", "plain", "two", "alias"):
        scene.send(f"x@{name}.example")
        assert scene.outcome(f"x@{name}.example")[0] == "sent", name
    assert {r for m in six.messages for r in m.recipients} == {"x@six.example", "x@both.example"}
    assert {r for m in four.messages for r in m.recipients} == {"x@plain.example", "x@two.example", "x@alias.example"}
    scene.gateway.wait_empty()


def test_what_the_name_server_says(internet, world):
    """No such name, null MX, MX without addresses: final, each with its own code; the sender is told."""
    scene = internet(["null.example. MX 0 .", "noaddress.example. MX 10 mx.noaddress.example.",
                      "mx.noaddress.example. TXT nothing", "nohost.example. MX 10 nothing.nohost.example.",
                      "notmail.example. TXT only"])
    wanted = {"null": "5.1.10", "nowhere": "5.1.2", "noaddress": "5.4.4", "nohost": "5.4.4", "notmail": "5.4.4"}
    for name in wanted:
        scene.send(f"x@{name}.example")
    assert {name: code_of(scene, f"x@{name}.example") for name in wanted} == {name: ("failed", code) for name, code in
                                                                              wanted.items()}
    assert len(scene.dsn(5)) == 5
    scene.gateway.wait_empty()


@pytest.mark.parametrize("rcode", [2, 5, None], ids=["servfail", "refused", "timeout"])
def test_a_name_server_in_trouble_is_a_retry(internet, rcode):
    names = NoNames(rcode)
    scene = internet(servers=names.address, timeout="2s" if rcode is None else "20s")
    scene.send("x@one.example")
    word, event = scene.outcome("x@one.example")
    assert (word, event["enhanced"]) == ("deferred", "4.4.3"), event
    assert names.asked and len(scene.gateway.queue()) == 1 and not scene.home.messages
    names.close()


def test_private_addresses_are_refused(internet, world):
    """A public domain cannot make us talk to our own network, unless the transport allows it."""
    inside = world(11)
    scene = internet(["in.example. MX 10 mx.in.example.", "mx.in.example. A 127.0.0.11", "mx.in.example. AAAA ::1",
                      "ten.example. MX 10 mx.ten.example.", "mx.ten.example. A 10.1.2.3",
                      "mapped.example. MX 10 mx.mapped.example.", "mx.mapped.example. AAAA ::ffff:127.0.0.11",
                      "link.example. MX 10 mx.link.example.", "mx.link.example. A 169.254.1.1",
                      "plain.example. A 127.0.0.11"], transport="")
    names = ("in", "ten", "mapped", "link", "plain")
    for name in names:
        scene.send(f"x@{name}.example")
    assert {name: code_of(scene, f"x@{name}.example") for name in names} == {name: ("failed", "5.4.4") for name in names}
    assert not inside.connections


# ---- ourselves ----

def test_we_are_the_best_host(gateway, sink, dns, world):
    """An address and port of a listener: that preference and all worse are dropped; nothing left is a loop."""
    backup, better = world(12), world(13)
    names = dns(["us.example. MX 10 mx.us.example.", "us.example. MX 20 backup.us.example.", "mx.us.example. A 127.0.0.2",
                 "backup.us.example. A 127.0.0.12",
                 "second.example. MX 10 better.us.example.", "second.example. MX 20 mx.us.example.",
                 "second.example. MX 30 backup.us.example.", "better.us.example. A 127.0.0.13",
                 "name.example. MX 10 mx.example.org.", "mx.example.org. A 127.0.0.12",
                 "nat.example. MX 10 nat.us.example.", "nat.us.example. A 127.0.0.77"])
    scene = Outbound(gateway, sink, {"any": Host(whole="method: lookup-mx, port: PORT", transport="allow_private: true")},
                     extra=f'dns: {{ servers: [ "{names.address}" ] }}\nown_addresses: [ "127.0.0.77" ]', start=False)
    # the mail exchangers' port is one of our own here, at another address
    scene.gateway.write_config(scene.config().replace("PORT", str(PORT)).replace(
        f'listen: [ "127.0.0.1:{scene.port}" ]', f'listen: [ "127.0.0.1:{scene.port}", "127.0.0.2:{PORT}" ]'))
    scene.gateway.start()
    for name in ("us", "second", "name", "nat"):
        scene.send(f"x@{name}.example")
    assert code_of(scene, "x@us.example") == ("failed", "5.4.6")
    assert code_of(scene, "x@name.example") == ("failed", "5.4.6")
    assert code_of(scene, "x@nat.example") == ("failed", "5.4.6")
    assert scene.outcome("x@second.example")[0] == "sent" and better.messages
    assert not backup.connections, "a host worse than ourselves was asked"


def test_wildcard_listeners_are_all_our_addresses(internet, gateway, sink, dns):
    names = dns(["us.example. MX 10 mx.us.example.", "mx.us.example. A 127.0.0.1"])
    scene = Outbound(gateway, sink, {"any": Host(whole=f"method: lookup-mx, port: {PORT}", transport="allow_private: true")},
                     extra=f'dns: {{ servers: [ "{names.address}" ] }}', start=False)
    scene.gateway.write_config(scene.config().replace(f'"127.0.0.1:{scene.port}"', f'"127.0.0.1:{scene.port}", "0.0.0.0:{PORT}"'))
    scene.gateway.start()
    scene.send("x@us.example")
    assert code_of(scene, "x@us.example") == ("failed", "5.4.6")


def test_a_port_that_is_not_ours_is_no_loop(internet, world):
    """The same address at another port is another host."""
    here = world(1)
    scene = internet(["us.example. MX 10 mx.us.example.", "mx.us.example. A 127.0.0.1",
                      "name.example. MX 10 mx.example.org.", "mx.example.org. A 127.0.0.1"])
    scene.send("x@us.example")
    scene.send("x@name.example")
    wait_until(lambda: len(here.messages) == 2, "both arrived")


# ---- TLS ----

def test_tls_towards_mail_exchangers(gateway, sink, dns, world, tls_files):
    """Opportunistic by default, with any certificate; a broken handshake falls back; required and verified never do."""
    hosts = {"good": world(21, tls_files=tls_files), "broken": world(22, tls_files=tls_files, break_tls=True), "clear": world(23),
             "injects": world(24, tls_files=tls_files, replies={"STARTTLS": "220 go\r\n250 injected"})}
    records = [f"{name}{way}.example. MX 10 {name}.hosts.example." for name in hosts for way in ("o", "r", "v")]
    records += [f"{name}.hosts.example. A {host.host}" for name, host in hosts.items()]
    names = dns(records)
    ways = {"o": "", "r": ", tls: required", "v": ", tls: verified"}
    scene = Outbound(gateway, sink, {f"{name}{way}": Host(
        whole=f"method: lookup-mx, port: {PORT}, allow_private: true{keys}") for name in hosts for way, keys in ways.items()},
        extra=f'dns: {{ servers: [ "{names.address}" ] }}', start=False)
    scene.gateway.write_config("".join(line if "t-home" in line else line.replace(".test: {", ".example: {")
                                       for line in scene.config().splitlines(True)))
    scene.gateway.start()
    got = {}
    for name, host in hosts.items():
        for way in ways:
            scene.send(f"x@{name}{way}.example")
            word, event = scene.outcome(f"x@{name}{way}.example")
            taken = [m for m in host.messages if m.recipients == [f"x@{name}{way}.example"]]
            got[name + way] = word, taken[0].tls if taken else None
    assert got == {"goodo": ("sent", True), "goodr": ("sent", True), "goodv": ("deferred", None),
                   "brokeno": ("sent", False), "brokenr": ("deferred", None), "brokenv": ("deferred", None),
                   "clearo": ("sent", False), "clearr": ("deferred", None), "clearv": ("deferred", None),
                   "injectso": ("deferred", None), "injectsr": ("deferred", None), "injectsv": ("deferred", None)}
    assert "TLSv1" in scene.gateway.find("delivery.sent", to="x@goodo.example")[0]["tls"]


def test_names_of_the_file(internet, world):
    """dns.static answers before any name server."""
    host = world(31)
    scene = internet(extra='dns: { servers: [ "127.0.0.1:9" ], static: { "mail.local": [ 127.0.0.31 ], '
                           '"mx:static.example": [ "10 mail.local" ] } }')
    scene.send("x@static.example")
    wait_until(lambda: host.messages, "it arrived")
    scene.gateway.wait_empty()
