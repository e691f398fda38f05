# SPDX-License-Identifier: Apache-2.0
"""
T-D2: power cuts. The spool lies on ext4 in a file; that file lies on XFS and is cloned (FICLONE) at random instants
under load: what the clone holds is what a drive holds that keeps every block handed to it. Each clone is mounted,
verified and compared with the books; every fifth one is started, and must deliver all that was acknowledged.

Red control: with syncs that do nothing the same check must find lost mail.
"""
import fcntl
import os
import random
import subprocess
import time

import pytest

from books import DOMAINS, Books, Load, Sink
from rig.gateway import BUILD, wait_until

CUTS = int(os.environ.get("CRASH_CUTS", "20"))
RECIPIENTS = [f"u@{domain}" for domain in DOMAINS]
FICLONE = 0x40049409


@pytest.fixture
def disk(tmp_path, mounts):
    """The drive: an image on XFS, and its file system mounted."""
    outer = mounts.mount(mounts.image(tmp_path / "xfs", 3 << 30, "mkfs.xfs", "-q"), tmp_path / "outer", "-o", "loop")
    image = mounts.image(outer / "disk", 768 << 20, "mkfs.ext4", "-q", "-F")
    mounts.mount(image, tmp_path / "inner", "-o", "loop")
    (tmp_path / "inner" / "spool").mkdir()
    os.sync()
    return image


def cut(image, number):
    clone = image.with_name(f"cut{number}")
    with image.open("rb") as source, clone.open("wb") as target:
        fcntl.ioctl(target, FICLONE, source.fileno())
    return clone


def entries_in(spool):
    """`postern spool verify`: its exit status, problems, and how many entries of each message there are."""
    done = subprocess.run([BUILD / "postern", "spool", "verify", "--verbose", spool], stdout=subprocess.PIPE, text=True)
    entries, problems = {}, []
    for line in done.stdout.splitlines():
        words = line.split()
        if words[0] == "entry":
            message = words[4].rstrip(":")
            entries[message] = entries.get(message, 0) + 1
        if words[0] == "problem:":
            problems.append(line)
    return done.returncode, problems, entries


class Cut:
    """What was known when the power went."""

    def __init__(self, image, number, books):
        with books.lock:
            self.acknowledged = dict(books.acknowledged)
        self.clone = cut(image, number)
        with books.lock:
            self.arrived = set(books.arrived)

    def owed(self):
        """Recipients of acknowledged messages that no sink had."""
        return {(token, recipient) for token in self.acknowledged for recipient in RECIPIENTS} - self.arrived


def look(mounts, folder, one_cut):
    """Mount the clone, verify, compare: (exit status of verify, its problems, messages with too few entries)."""
    mounts.mount(one_cut.clone, folder, "-o", "loop")
    status, problems, entries = entries_in(folder / "spool")
    owed = {}
    for token, _ in one_cut.owed():
        owed[token] = owed.get(token, 0) + 1
    lost = [token for token, count in owed.items() if entries.get(one_cut.acknowledged[token][1], 0) < count]
    return status, problems, lost


def recover(gateway, books, folder, one_cut):
    """Start on the clone, with sinks and books of its own; what was owed must arrive, whole."""
    fresh = Books()
    fresh.sent = books.sent
    sinks = [Sink(fresh) for _ in DOMAINS]
    one = gateway(sinks, spool=folder / "spool")
    one.wait_empty(60)
    one.stop()
    for sink in sinks:
        sink.close()
    assert not fresh.damaged() and not fresh.strange
    assert not one.find("spool.damaged"), one.find("spool.damaged")
    return one_cut.owed() - set(fresh.arrived)


def start_load(gateway, sinks, books, tmp_path, env=None):
    sinks[1].delay = 0.02
    sinks[2].refuse = 0.9  # so that much of it is still in the spool
    one = gateway(sinks, spool=tmp_path / "inner" / "spool", env=env)
    return one, Load(books, one.port, clients=8, sizes=(500, 40_000), pause=0.01)


def test_power_cuts(gateway, sinks, books, disk, mounts, tmp_path):
    one, load = start_load(gateway, sinks, books, tmp_path)
    lost, recovered, checked = [], 0, 0
    for number in range(CUTS):
        before = len(books.acknowledged)
        wait_until(lambda: len(books.acknowledged) > before, "mail is accepted between two cuts")
        time.sleep(random.uniform(0.01, 0.25))
        one_cut = Cut(disk, number, books)
        status, problems, missing = look(mounts, tmp_path / "clone", one_cut)
        assert status == 0, f"cut {number}: verify says {status}: {problems[:3]}"
        lost += missing
        checked += len(one_cut.owed())
        if number % 5 == 4:
            lost += recover(gateway, books, tmp_path / "clone", one_cut)
            recovered += 1
        mounts.unmount(tmp_path / "clone")
        one_cut.clone.unlink()
    load.stop()
    for sink in sinks:
        sink.refuse = 0.0
    print(f"{CUTS} cuts, {recovered} full recoveries, {len(books.acknowledged)} acknowledged, "
          f"{checked} recipients owed over all cuts, {len(lost)} lost")
    assert checked > 10 * CUTS, "next to nothing was in the spool at the cuts: this proves little"
    assert not lost, lost[:5]


def test_power_cuts_without_sync(gateway, sinks, books, disk, mounts, tmp_path, preload):
    """Red control."""
    env = {"LD_PRELOAD": str(preload), "FAULTY": "nosync"}
    one, load = start_load(gateway, sinks, books, tmp_path, env)
    wait_until(lambda: len(books.acknowledged) > 50, "mail is accepted")
    one_cut = Cut(disk, 0, books)
    _, _, lost = look(mounts, tmp_path / "clone", one_cut)
    load.stop()
    print(f"without syncs: {len(lost)} of {len(one_cut.acknowledged)} acknowledged are lost at the first cut")
    one.kill()
    assert lost, "syncs did nothing, and no loss was seen: the cuts prove nothing"
