# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests; each test has its own gateway, servers, ports and folder."""
import datetime
import os
import pathlib
import subprocess
import time

import pytest

from rig.dns import NameServer
from rig.gateway import Gateway
from rig.ldap import Ldap
from rig.mailserver import MailServer
from rig.sink import Sink
from rig.watch import *  # noqa: F403


# Files that take longest come first: those side by side end at about the same time.
LONGEST = ["test_parser_cost.py", "test_secrets.py", "test_tables.py", "test_every_output.py", "test_trace.py", "test_milter.py", "test_retry.py",
           "test_quarantine.py", "test_contain.py", "test_delivery.py", "test_engine.py", "test_auth.py", "test_every_ending.py", "test_mistakes.py"]


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def one_day():
    """No test runs over a midnight, here or in UTC: what is of "today", and what is done once a day, is of one day."""
    for zone in (None, datetime.timezone.utc):
        now = datetime.datetime.now(zone).astimezone(zone)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + datetime.timedelta(days=1)
        left = (midnight - now).total_seconds()
        if left < 120:
            time.sleep(left + 1)


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory):
    """Certificate and key for localhost and the test's host names; the certificate is its own CA."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "30", "-subj", "/CN=mx.example.org", "-addext",
                    "subjectAltName=DNS:mx.example.org,DNS:localhost,DNS:mail.example.org,IP:127.0.0.1"],
                   check=True, stderr=subprocess.DEVNULL)
    key.chmod(0o644)
    return cert, key


@pytest.fixture
def gateway(tmp_path):
    """A function that starts a gateway: gateway(config, ports=[...], start=True, folder=None)."""
    started = []

    def make(config, ports=(), start=True, folder=None):
        place = pathlib.Path(folder or tmp_path / f"gateway{len(started)}")
        place.mkdir(exist_ok=True)
        one = Gateway(place, config, ports)
        started.append(one)
        return one.start() if start else one

    yield make
    problems = []
    for one in started:
        try:
            one.finish()
        except AssertionError as error:
            problems.append(str(error))
        finally:
            one.kill()
    assert not problems, "\n".join(problems)


@pytest.fixture
def sink():
    """A function that makes a programmable receiving server: sink(replies={...}, ...)."""
    made = []

    def make(**options):
        made.append(Sink(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def dns(tmp_path):
    """A function that starts a name server: dns(["example.net. MX 10 mx.example.net.", ...])."""
    made = []

    def make(records):
        made.append(NameServer(tmp_path, records))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def pytest_report_header():
    return f"posternd of {os.environ.get('POSTERN_BUILD', 'build')}"


@pytest.fixture
def mail_server(tls_files):
    """A function that starts Postfix with Dovecot's logins: mail_server(users={...})."""
    made = []

    def make(**options):
        made.append(MailServer(tls_files, **options))
        return made[-1].start()

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def ldap(tmp_path):
    """A function that starts slapd: ldap(users={...})."""
    made = []

    def make(**options):
        made.append(Ldap(tmp_path, **options))
        return made[-1].start()

    yield make
    for one in made:
        one.stop()
