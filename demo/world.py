#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The world around the demo gateway: your mail server, and the mail servers of others.

Everything listens on loopback. The mail server knows a few users and their passwords; the sinks
take mail for every domain of the demo's DNS zone. Magic local parts make a sink misbehave:
tempfail@ (451), permfail@ (550), slow@ (waits 5 s), anything else is taken.

SIGUSR1 takes the mail server down, SIGUSR2 brings it back (for the seventh case of the demo).
"""
import argparse
import asyncio
import os
import signal
import ssl
import time

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USERS = {"anna": "demo", "bob": "demo"}
KNOWN = {f"{name}@example.org" for name in ("anna", "bob", "postmaster")}


def store(folder, envelope):
    """Keep a message where a person can look at it; returns the file's name."""
    os.makedirs(folder, exist_ok=True)
    name = os.path.join(folder, f"{time.time_ns()}.eml")
    with open(name, "wb") as file:
        file.write(f"X-Envelope-From: <{envelope.mail_from}>\n".encode())
        for recipient in envelope.rcpt_tos:
            file.write(f"X-Envelope-To: <{recipient}>\n".encode())
        file.write(envelope.content)
    return name


class MailServer:
    """Your own mail server: accounts, and mailboxes for some addresses."""

    def __init__(self, folder):
        self.folder = folder

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.lower() not in KNOWN:
            return f"550 5.1.1 <{address}>: no such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        name = store(self.folder, envelope)
        print(f"mail server: {envelope.mail_from or '<>'} -> {', '.join(envelope.rcpt_tos)}  {name}", flush=True)
        return "250 2.0.0 delivered to the mailbox"


def authenticate(server, session, envelope, mechanism, data):
    """Login with or without the domain."""
    if not isinstance(data, LoginPassword):
        return AuthResult(success=False)
    login = data.login.decode(errors="replace").removesuffix("@example.org")
    return AuthResult(success=USERS.get(login) == data.password.decode(errors="replace"), handled=False)


class Sink:
    """Somebody else's mail server."""

    def __init__(self, folder):
        self.folder = folder

    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.partition("@")[0].lower()
        if local == "tempfail":
            return "451 4.2.1 The mailbox is busy, try again later"
        if local == "permfail":
            return "550 5.1.1 No such user"
        if local == "slow":
            await asyncio.sleep(5)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        name = store(self.folder, envelope)
        print(f"the world:   {envelope.mail_from or '<>'} -> {', '.join(envelope.rcpt_tos)}  {name}", flush=True)
        return "250 2.0.0 taken"


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--mail-server-port", type=int, default=2526)
    parser.add_argument("--sink-port", type=int, default=2627)
    args = parser.parse_args()
    loop = asyncio.get_running_loop()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{args.folder}/tls/cert.pem", f"{args.folder}/tls/key.pem")

    def mail_server():
        return SMTP(MailServer(f"{args.folder}/mailboxes"), hostname="mail.example.org", tls_context=tls,
                    authenticator=authenticate, auth_required=False, enable_SMTPUTF8=True)

    def sink():
        return SMTP(Sink(f"{args.folder}/world"), hostname="mx.world.test", tls_context=tls,
                    enable_SMTPUTF8=True)

    async def start_mail_server():
        return await loop.create_server(mail_server, "127.0.0.1", args.mail_server_port)

    state = {"server": await start_mail_server()}
    sinks = [await loop.create_server(sink, host, args.sink_port) for host in ("127.0.0.2", "127.0.0.3")]

    def down():
        if state["server"]:
            state["server"].close()
            state["server"] = None

    async def up():
        if not state["server"]:
            state["server"] = await start_mail_server()

    loop.add_signal_handler(signal.SIGUSR1, down)
    loop.add_signal_handler(signal.SIGUSR2, lambda: loop.create_task(up()))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print("world ready", flush=True)
    await stop.wait()
    for server in sinks:
        server.close()


asyncio.run(main())
