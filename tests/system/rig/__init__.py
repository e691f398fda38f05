# SPDX-License-Identifier: Apache-2.0
"""What the system tests are made of: the gateway under test, and the world around it."""
import socket

# smtplib and http.server ask DNS what this machine is called, which takes its time where no name server answers
socket.getfqdn = lambda name="": name or "client.test"
