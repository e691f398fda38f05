# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the crash tests. They need root: file systems are mounted, syscalls of others are made to fail."""
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))
sys.path.insert(0, str(HERE))

from books import Books, Sink, configuration  # noqa: E402
from rig.gateway import Gateway  # noqa: E402
from rig.ports import free_port  # noqa: E402
from rig.watch import *  # noqa: E402, F403


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "30", "-subj", "/CN=gateway.test"],
                   check=True, stderr=subprocess.DEVNULL)
    return cert, key


@pytest.fixture(scope="session")
def preload(tmp_path_factory):
    """The library that makes a disk lie (see faulty.c)."""
    os.environ.setdefault("ASAN_OPTIONS", "verify_asan_link_order=0")  # it comes before the sanitizer's library
    path = tmp_path_factory.mktemp("preload") / "faulty.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", path, HERE / "faulty.c", "-ldl"], check=True)
    return path


@pytest.fixture
def books():
    made = Books()
    yield made
    made.close()


@pytest.fixture
def sinks(books):
    """fast, slow, and one that refuses every fifth message for now."""
    made = [Sink(books), Sink(books, delay=0.05), Sink(books, refuse=0.2)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def gateway(tmp_path, tls_files):
    """A function that makes a gateway before sinks: gateway(sinks, spool=..., env={...}, start=True)."""
    made = []

    def make(sinks, start=True, env=None, wrap=(), **options):
        port = free_port()
        folder = tmp_path / f"gateway{len(made)}"
        folder.mkdir()
        one = Gateway(folder, configuration(port, sinks, tls_files, **options), [port])
        one.port, one.env, one.wrap = port, env, wrap
        one.crash_expected = True
        made.append(one)
        return one.start() if start else one

    yield make
    problems = []
    for one in made:
        try:
            one.finish()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            problems.append(str(error))
        finally:
            one.kill()
    assert not problems, "\n".join(problems)


@pytest.fixture
def mounts(tmp_path):
    """A function mount(device, folder, *options); all is unmounted at the end. Never skips: no root is a failure."""
    assert os.geteuid() == 0, "the crash tests mount file systems: run them as root"
    done = []

    class Mounts:
        @staticmethod
        def image(path, size, *mkfs):
            with open(path, "wb") as file:
                file.truncate(size)
            subprocess.run([*mkfs, path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            return path

        @staticmethod
        def mount(device, folder, *options):
            folder.mkdir(exist_ok=True)
            run = subprocess.run(["mount", *options, device, folder], stderr=subprocess.PIPE, text=True)
            assert run.returncode == 0, f"mount {device}: {run.stderr}"
            done.append(folder)
            return folder

        @staticmethod
        def unmount(folder):
            subprocess.run(["umount", folder], check=True)
            done.remove(folder)

    yield Mounts
    for folder in reversed(done):
        if subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode != 0:
            subprocess.run(["umount", "-l", folder])


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.fspath.basename)
