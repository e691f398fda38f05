# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the load tests: those of the system tests, the tools of bench/, and memory ceilings."""
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

SYSTEM = pathlib.Path(__file__).resolve().parents[1] / "system"
sys.path.insert(0, str(SYSTEM))
_spec = importlib.util.spec_from_file_location("system_fixtures", SYSTEM / "conftest.py")
_system = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_system)
gateway, tls_files = _system.gateway, _system.tls_files

from rig.ports import free_port  # noqa: E402
from rig.watch import *  # noqa: E402, F403
from tools import Sink, build  # noqa: E402


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """The load generator and the sink of bench/."""
    return build(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def counting_sink(tools):
    """A function that starts a sink which keeps books."""
    made = []

    def make():
        made.append(Sink(tools, free_port(), free_port()))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def memory_group():
    """A function that makes a control group with a ceiling: the words to start a command in it with."""
    made = []

    def make(ceiling):
        name = f"postern-test-{os.getpid()}-{len(made)}"
        first = pathlib.Path("/sys/fs/cgroup/memory")
        if first.is_dir():
            folder, limit = first / name, "memory.limit_in_bytes"
        else:
            folder, limit = pathlib.Path("/sys/fs/cgroup") / name, "memory.max"
        try:
            folder.mkdir()
            made.append(folder)
            (folder / limit).write_text(str(ceiling))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        return folder, ["sh", "-c", f'echo $$ >{folder}/cgroup.procs; exec "$@"', "sh"]

    yield make
    for folder in made:
        subprocess.run(["rmdir", folder], check=False)
