#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The seven cases of "relay authenticated users", each with its dialogue, against the demo."""
import argparse
import glob
import os
import signal
import smtplib
import socket
import ssl
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--folder", required=True)
folder = parser.parse_args().folder

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


class Dialogue(smtplib.SMTP):
    """A client that prints what is said; a password is not."""

    def __init__(self, port):
        self.secret = False
        super().__init__(timeout=30)
        self._host = "localhost"
        code, text = self.connect("127.0.0.1", port)
        print(f"    S: {code} {text.decode(errors='replace')}")

    def putcmd(self, cmd, args=""):
        line = f"{cmd} {args}".strip()
        print("    C: AUTH PLAIN ********" if cmd == "AUTH" else f"    C: {line}")
        super().putcmd(cmd, args)
        self.reading = True

    def getreply(self):
        code, text = super().getreply()
        if getattr(self, "reading", False):
            for line in text.decode(errors="replace").split("\n"):
                print(f"    S: {code} {line}")
        return code, text


def envelope(client, sender, recipient, subject):
    """MAIL, RCPT and, if both are taken, the message; the deciding code and text."""
    code, text = client.mail(sender)
    if code == 250:
        code, text = client.rcpt(recipient)
    if code == 250:
        code, text = client.data(f"From: {sender}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nHello.\r\n")
    return code, text.decode(errors="replace")


def stranger(recipient, subject):
    with Dialogue(2525) as client:
        client.ehlo("client.world.test")
        return envelope(client, "alice@world.test", recipient, subject)


def user(recipient, subject, password="demo"):
    with Dialogue(2587) as client:
        client.ehlo("laptop.example.org")
        client.starttls(context=context)
        client.ehlo("laptop.example.org")
        client.user, client.password = "anna", password
        try:
            client.auth("PLAIN", client.auth_plain)
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code, error.smtp_error.decode(errors="replace")
        return envelope(client, "anna@example.org", recipient, subject)


def user_without_tls():
    with Dialogue(2587) as client:
        client.ehlo("laptop.example.org")
        if client.has_extn("auth"):
            return 0, "AUTH is offered in clear"
        code, text = client.docmd("AUTH", "PLAIN AGFubmEAZGVtbw==")
        return code, text.decode(errors="replace")


def arrived(part, subject):
    """Wait for a message with that subject in a folder of the world."""
    for _ in range(100):
        for name in glob.glob(f"{folder}/{part}/*.eml"):
            with open(name, errors="replace") as file:
                if f"Subject: {subject}" in file.read():
                    return True
        time.sleep(0.1)
    return False


def nobody_listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def mail_server(signal_number, down):
    with open(f"{folder}/world.pid") as file:
        os.kill(int(file.read()), signal_number)
    for _ in range(100):
        if nobody_listens(2526) == down:
            return
        time.sleep(0.05)


def without_mail_server():
    mail_server(signal.SIGUSR1, down=True)
    try:
        return user("bob@gmail.test", "never")
    finally:
        mail_server(signal.SIGUSR2, down=False)


for _ in range(100):
    if not nobody_listens(2525):
        break
    time.sleep(0.1)

stamp = f"{time.time_ns()}"
cases = [
    ("a stranger to a known user: looked up at the mail server, accepted, delivered to it",
     lambda: stranger("anna@example.org", f"one {stamp}"), (250,), "mailboxes", f"one {stamp}"),
    ("a stranger to an unknown user: refused with the mail server's own text",
     lambda: stranger("nobody@example.org", "two"), (550,), None, "no such user here"),
    ("a stranger to anyone elsewhere: refused, nothing is even looked up",
     lambda: stranger("bob@gmail.test", "three"), (554,), None, "5.7.1"),
    ("a user to anyone at example.org: not looked up, delivered to the mail server",
     lambda: user("bob@example.org", f"four {stamp}"), (250,), "mailboxes", f"four {stamp}"),
    ("a user to anyone elsewhere: accepted, delivered by MX lookup",
     lambda: user("bob@gmail.test", f"five {stamp}"), (250,), "world", f"five {stamp}"),
    ("a user without TLS: AUTH is not offered, and refused with 530 5.7.0",
     user_without_tls, (530,), None, "5.7.0"),
    ("a user while the mail server is away: 454, never 535",
     without_mail_server, (454,), None, "4.7.0"),
]
failed = 0
for number, (title, run, codes, part, expected) in enumerate(cases, 1):
    print(f"\n{number}. {title}")
    code, text = run()
    good = code in codes and (arrived(part, expected) if part else expected in text)
    failed += not good
    print(f"  => {'as it must be' if good else 'WRONG'}: {code} {text}")
    if part and good:
        print(f"     arrived in {folder}/{part}")
print(f"\n{len(cases) - failed} of {len(cases)} cases as they must be")
sys.exit(1 if failed else 0)
