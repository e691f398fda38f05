# SPDX-License-Identifier: Apache-2.0
"""
T-D2: power cuts. The spool lies on ext4 (in the full tier also ext4 with data=writeback, XFS and btrfs) in a file; that file lies on XFS and is cloned (FICLONE) at random instants
under load: what the clone holds is what a drive holds that keeps every block handed to it. Each clone is mounted,
verified and compared with the books; every fifth one (20th in the full tier) is started, and must deliver all that was acknowledged.
Log files are small, and half of the time all mail is delivered, so that they are used again.

Red control: with syncs that do nothing the same check must find lost mail.
"""
import fcntl
import os
import random
import shutil
import subprocess
import time

import pytest

from books import DOMAINS, Books, Load, Sink, small_segments, tell_progress, used_bodies, used_segments
from rig.gateway import BUILD, wait_until

FULL = os.environ.get("TEST_TIER") == "full"
CUTS = int(os.environ.get("CRASH_CUTS", "2500" if FULL else "20"))
RECOVER_EVERY = 20 if FULL else 5
RECIPIENTS = [f"u@{domain}" for domain in DOMAINS]
FICLONE = 0x40049409


class Kind:
    """A file system: how it is made, mounted, and how its clone is (that has the same id as the one it was made of)."""

    def __init__(self, name, *mkfs, options="loop", clone="loop"):
        self.name, self.mkfs, self.options, self.clone = name, mkfs, options, clone

    def check(self):
        """Skips where it cannot be tried: a test of a file system that was not there must not count as passed."""
        subprocess.run(["modprobe", self.name], stderr=subprocess.DEVNULL, check=False) if shutil.which("modprobe") else None
        with open("/proc/filesystems") as known:
            if self.name not in known.read().split():
                pytest.skip(f"this kernel has no {self.name}")
        if not shutil.which(self.mkfs[0]):
            pytest.skip(f"no {self.mkfs[0]} here")


KINDS = {
    "ext4": Kind("ext4", "mkfs.ext4", "-q", "-F"),
    "writeback": Kind("ext4", "mkfs.ext4", "-q", "-F", options="loop,data=writeback", clone="loop,data=writeback"),
    "xfs": Kind("xfs", "mkfs.xfs", "-q", clone="loop,nouuid"),
    "btrfs": Kind("btrfs", "mkfs.btrfs", "-q"),
}


@pytest.fixture
def kind():
    return KINDS["ext4"]


@pytest.fixture
def disk(tmp_path, mounts, kind):
    """The drive: an image on XFS, and its file system mounted."""
    kind.check()
    outer = mounts.mount(mounts.image(tmp_path / "xfs", 3 << 30, "mkfs.xfs", "-q"), tmp_path / "outer", "-o", "loop")
    image = mounts.image(outer / "disk", 768 << 20, *kind.mkfs)
    mounts.mount(image, tmp_path / "inner", "-o", kind.options)
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


def look(mounts, folder, one_cut, kind):
    """Mount the clone, verify, compare: (exit status of verify, its problems, messages with too few entries)."""
    mounts.mount(one_cut.clone, folder, "-o", kind.clone)
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


def keep_bounded(books, sinks, one_cut, number):
    """Now all is delivered, now much waits; what arrived everywhere leaves the books, and the queue does not fill the disk."""
    sinks[2].refuse = 0.0 if number % 8 < 5 or len(one_cut.owed()) > 4000 else 0.9
    with books.lock:
        for token in [token for token in books.acknowledged if all((token, to) in books.arrived for to in RECIPIENTS)]:
            del books.acknowledged[token]


def start_load(gateway, sinks, books, tmp_path, env=None):
    sinks[1].delay = 0.02
    sinks[2].refuse = 0.9  # so that much of it is still in the spool
    one = gateway(sinks, more=small_segments(tmp_path / "inner" / "spool"), env=env)
    return one, Load(books, one.port, clients=8, sizes=(500, 40_000), pause=0.01, large=0.1)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=name, marks=[] if FULL or name == "ext4" else
                                               pytest.mark.skip(reason="TEST_TIER=full")) for name, kind in KINDS.items() if name != "btrfs"])
def test_power_cuts(gateway, sinks, books, kind, disk, mounts, tmp_path):
    one, load = start_load(gateway, sinks, books, tmp_path)
    recovered = checked = used = bodies = 0
    for number in range(CUTS):
        tell_progress(number, CUTS)
        newest = books.newest
        wait_until(lambda: books.newest != newest, "mail is accepted between two cuts")
        time.sleep(random.uniform(0.01, 0.25))
        one_cut = Cut(disk, number, books)
        status, problems, missing = look(mounts, tmp_path / "clone", one_cut, kind)
        assert status == 0, f"cut {number}: verify says {status}: {problems[:3]}"
        assert not missing, f"cut {number}: {missing[:5]}"
        checked += len(one_cut.owed())
        used += used_segments(tmp_path / "clone" / "spool") > 0
        bodies += used_bodies(tmp_path / "clone" / "spool") > 0
        if number % RECOVER_EVERY == RECOVER_EVERY - 1:
            lost = recover(gateway, books, tmp_path / "clone", one_cut)
            assert not lost, f"cut {number}, started: {sorted(lost)[:5]}"
            recovered += 1
        mounts.unmount(tmp_path / "clone")
        one_cut.clone.unlink()
        keep_bounded(books, sinks, one_cut, number)
    load.stop()
    for sink in sinks:
        sink.refuse = 0.0
    print(f"{kind.name} {kind.options}: {CUTS} cuts, {recovered} full recoveries, {len(books.sent)} sent, "
          f"{checked} recipients owed over all cuts, none lost; in {used} cuts log files were used again, in {bodies} files of large bodies")
    assert used > CUTS // 4, "hardly a log file was used again: this proves little of them"
    assert checked > 10 * CUTS, "next to nothing was in the spool at the cuts: this proves little"


@pytest.mark.skipif(not FULL, reason="TEST_TIER=full")
@pytest.mark.parametrize("kind", [pytest.param(KINDS["btrfs"], id="btrfs"), pytest.param(KINDS["ext4"], id="ext4")])
def test_power_goes_and_comes_back(gateway, sinks, books, kind, disk, mounts, tmp_path):
    """Life goes on with what the cut left. (btrfs mounts no two file systems of one id, so no clone beside its original.)"""
    sinks[1].delay, sinks[2].refuse = 0.02, 0.9
    checked, inner = 0, tmp_path / "inner"
    one = gateway(sinks, more=small_segments(inner / "spool"))
    for number in range(CUTS // 5):
        tell_progress(number, CUTS // 5)
        load = Load(books, one.port, clients=8, sizes=(500, 40_000), pause=0.01, large=0.1)
        before = len(books.acknowledged)
        wait_until(lambda: len(books.acknowledged) > before + 10, "mail is accepted between two cuts")
        time.sleep(random.uniform(0.01, 0.3))
        one_cut = Cut(disk, number, books)
        one.kill()
        load.stop()
        books.acknowledged = one_cut.acknowledged  # what came after it came to a world that was never
        mounts.unmount(inner)
        status, problems, missing = look(mounts, inner, one_cut, kind)
        assert status == 0, f"cut {number}: verify says {status}: {problems[:3]}"
        assert not missing, f"cut {number}: {missing[:5]}"
        checked += len(one_cut.owed())
        disk = one_cut.clone
        one.start()
    for sink in sinks:
        sink.refuse = 0.0
    one.wait_empty(300)  # a list is empty as long as a long log is loaded
    print(f"{kind.name}: {CUTS // 5} times the power went and came back, {len(books.acknowledged)} acknowledged, "
          f"{checked} recipients owed over all cuts, none lost")
    one.stop()
    assert checked > CUTS and not books.lost(RECIPIENTS) and not books.damaged()
    assert not one.find("spool.damaged"), one.find("spool.damaged")


def test_power_cuts_without_sync(gateway, sinks, books, kind, disk, mounts, tmp_path, preload):
    """Red control."""
    env = {"LD_PRELOAD": str(preload), "FAULTY": "nosync"}
    one, load = start_load(gateway, sinks, books, tmp_path, env)
    wait_until(lambda: len(books.acknowledged) > 50, "mail is accepted")
    one_cut = Cut(disk, 0, books)
    _, _, lost = look(mounts, tmp_path / "clone", one_cut, kind)
    load.stop()
    print(f"without syncs: {len(lost)} of {len(one_cut.acknowledged)} acknowledged are lost at the first cut")
    one.kill()
    assert lost, "syncs did nothing, and no loss was seen: the cuts prove nothing"
