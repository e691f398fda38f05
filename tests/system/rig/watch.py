# SPDX-License-Identifier: Apache-2.0
"""
What a run of tests owes to who reads its end alone: no test hangs it, and what failed is told last, with the last words of the
gateways that it had. For conftest.py: `from rig.watch import *`.
"""
import faulthandler
import os
import signal
import sys

import pytest

from .gateway import Gateway

__all__ = ["pytest_runtest_setup", "pytest_runtest_makereport", "pytest_runtest_protocol", "pytest_terminal_summary"]

# Seconds for a test with what it sets up and takes down; 0: none. The longest needs some thirty; a machine may be ten times slower.
LIMIT = int(os.environ.get("POSTERN_TEST_LIMIT", 0 if os.environ.get("TEST_TIER") == "full" else 900))
WORDS, LINES = "last words of gateways", 12


class Hangs(BaseException):  # no test's own "except Exception" takes it
    pass


def _ring(*_):
    raise Hangs(f"not over within {LIMIT} s")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """After its time a test fails where it is; what does not react to that ends the process, with all stacks, and xdist names the test."""
    if not LIMIT:
        yield
        return
    before = signal.signal(signal.SIGALRM, _ring)
    signal.alarm(LIMIT)
    faulthandler.dump_traceback_later(LIMIT + 180, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    Gateway.made.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and Gateway.made:
        report.sections.append((WORDS, "\n".join(one.last_words(LINES) for one in Gateway.made[-3:])))


def pytest_terminal_summary(terminalreporter):
    """Behind all tracebacks: each test that failed, in few lines. tests/run shows them once more at its end."""
    failed = [report for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])]
    if not failed:
        return
    terminalreporter.section("what failed")
    for report in failed:
        crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None) or str(report.longrepr)
        terminalreporter.write_line(f"{report.nodeid}: {crash.splitlines()[0][:300] if crash else ''}")
        for name, text in report.sections:
            if name == WORDS:
                terminalreporter.write_line("    " + text.replace("\n", "\n    "))
