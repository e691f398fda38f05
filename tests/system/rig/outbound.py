# SPDX-License-Identifier: Apache-2.0
"""A gateway that only relays: each host of the test is a server, a transport and the domain NAME.test."""
import dataclasses

from .gateway import PATIENCE, wait_until
from .ports import free_port


@dataclasses.dataclass
class Host:
    """Where mail for NAME.test goes. `sinks` are its endpoints in order (a Sink, or "address:port")."""
    sinks: object = ()
    server: str = "tls: none"           # more keys of the server
    transport: str = ""                 # more keys of the transport
    whole: str = ""                     # the transport, if it is none to a server
    content: str = ""                   # name of a content flow
    lmtp: bool = False
    retry: str = "retry: { delays: [ 1h ], count: 1 }"


def _endpoint(one):
    if isinstance(one, str):
        return one
    return f"[{one.host}]:{one.port}" if ":" in one.host else f"{one.host}:{one.port}"


class Outbound:
    """Clients from loopback are trusted, so their sender (a@home.test) may get notifications: `home` takes them."""

    def __init__(self, gateway, sink, hosts, flows="", listener="", extra="", start=True, trusted="127.0.0.0/8"):
        self.home = sink()
        self.port = free_port()
        self.hosts = dict(hosts)
        self.hosts.setdefault("home", Host(self.home, retry="retry: { delays: [ 1s ], count: 100 }"))
        self.flows, self.listener, self.extra, self.trusted = flows, listener, extra, trusted
        self.gateway = gateway(self.config(), ports=[self.port], start=start)

    def config(self):
        servers, transports, domains = [], [], []
        for name, host in self.hosts.items():
            sinks = host.sinks if isinstance(host.sinks, (list, tuple)) else [host.sinks]
            if sinks:
                kind = "lmtp" if host.lmtp else "smtp"
                points = ", ".join(f'"{_endpoint(one)}"' for one in sinks)
                servers.append(f"  s-{name}: {{ {kind}: [ {points} ]{', ' + host.server if host.server else ''} }}")
            keys = host.whole or f"server: s-{name}"
            keys += ", direction: outbound" if "direction" not in keys + host.transport and "discard" not in keys else ""
            keys += f", {host.retry}" if host.retry and "discard" not in keys else ""
            keys += f", {host.transport}" if host.transport else ""
            transports.append(f"  t-{name}: {{ {keys} }}")
            content = f", content: {host.content}" if host.content else ""
            domain = "any" if name == "any" else f"{name}.test"
            domains.append(f"  {domain}: {{ recipients: relay{content}, transport: t-{name} }}")
        nl = "\n"
        return f"""
version: 1
hostname: mx.example.org
trusted_networks: [ {self.trusted} ]
servers:
{nl.join(servers)}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{self.port}" ], tls: none, authentication: none{self.listener and ', ' + self.listener} }}
flows:
  recipient:
    relay: [ accept: {{ when: client in trusted }}, reject: {{ reply: "554 5.7.1 No relaying" }} ]
{self.flows}
transports:
{nl.join(transports)}
domains:
{nl.join(domains)}
entitlements: {{ open_relay_support: true }}
postmaster: postmaster@home.test
{self.extra}
"""

    def reload(self):
        self.gateway.write_config(self.config())
        assert self.gateway.reload(), self.gateway.find("config.problem")[-5:]

    def send(self, to, sender="a@home.test", data=b"Subject: test\r\n\r\nHello\r\n", mail=(), rcpt=(), client=None):
        """The message's id; asserts 250 for all."""
        one = client or self.gateway.client(self.port)
        recipients = [to] if isinstance(to, str) else list(to)
        code, text = one.mail(sender, mail)
        assert code == 250, text
        for i, recipient in enumerate(recipients):
            code, text = one.rcpt(recipient, rcpt[i] if rcpt and isinstance(rcpt[0], (list, tuple)) else rcpt)
            assert code == 250, (recipient, text)
        code, text = one.data(data)
        assert code == 250 and b"queued as" in text, text
        if client is None:
            one.quit()
        return text.decode().rpartition("queued as ")[2].split()[0]

    def events(self, name, to, **fields):
        return self.gateway.find(name, to=to, **fields)

    def outcome(self, to, seconds=PATIENCE):
        """What the first attempt came to: sent, deferred, failed or expired; and the event."""
        names = ("sent", "deferred", "failed", "expired")
        return wait_until(lambda: next(((name, events[0]) for name in names
                                        if (events := self.events(f"delivery.{name}", to))), None),
                          f"an attempt for {to}", seconds)

    def dsn(self, count=1, seconds=PATIENCE):
        """The notifications that came home, parsed."""
        import email
        import email.policy
        wait_until(lambda: len(self.home.messages) >= count, f"{count} notifications at home", seconds)
        return [email.message_from_bytes(one.data, policy=email.policy.SMTP) for one in self.home.messages]

    def count(self, what, **wanted):
        """Wait until the books balance and the numbers of status (totals and queue) are as wanted; the status."""
        def settled():
            status = self.gateway.status()
            numbers = {**status["totals"], **status["queue"]}
            return status["balanced"] and all(numbers[key] == value for key, value in wanted.items()) and status
        return wait_until(settled, lambda: f"{what}: the books are balanced, with {wanted}: {self.gateway.status()}")
