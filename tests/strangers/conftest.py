# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests beside strangers: those of the system tests."""
import importlib.util
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "system"), str(HERE)]
_spec = importlib.util.spec_from_file_location("system_fixtures", HERE.parent / "system" / "conftest.py")
_system = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_system)
gateway, sink, dns, tls_files = _system.gateway, _system.sink, _system.dns, _system.tls_files

from rig.watch import *  # noqa: E402, F403
