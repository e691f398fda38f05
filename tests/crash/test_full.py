# SPDX-License-Identifier: Apache-2.0
"""
T-D7: the disk fills up. Under the floor mail is answered 452, never 250 and never 5xx; deliveries go on; when there is
space again mail is taken again, and nothing that was acknowledged is missing.
"""
import os
import time

import pytest

from books import Client, Refused, send_one
from rig.gateway import wait_until

TO = ["u@fast.test"]
ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20" if os.environ.get("TEST_TIER") == "full" else "3"))


def fill_up(books, port, size):
    """Send until refused; (code of the refusal, how many were taken)."""
    taken = 0
    client = None
    while taken < 3000:
        try:
            client = client or Client(port)
            send_one(books, client, size, TO)
            taken += 1
        except Refused as refused:
            return refused.code, taken
        except (OSError, EOFError):
            client = None
    raise AssertionError("the disk does not fill up")


def is_accepted(books, port):
    try:
        send_one(books, Client(port), 500, TO)
        return True
    except Refused as refused:
        assert refused.code == 452, str(refused)
        return False


def one_round(one, sinks, books, size):
    sinks[0].refuse = 1.0
    before = len(books.acknowledged)
    code, taken = fill_up(books, one.port, size)
    assert code == 452, f"after {taken} messages: {code}"
    for _ in range(20):
        assert not is_accepted(books, one.port), "taken while the disk is full"
        time.sleep(0.005)
    sinks[0].refuse = 0.0
    wait_until(lambda: not books.lost(TO), "what was taken is delivered although the disk is full")
    return len(books.acknowledged) - before


def run_full(gateway, sinks, books, folder, size, rounds):
    one = gateway(sinks, spool=folder / "spool")
    port = one.port
    taken = []
    for turn in range(rounds):
        taken.append(one_round(one, sinks, books, size))
        start = time.monotonic()
        wait_until(lambda: is_accepted(books, port), "mail is taken again when there is space")
        print(f"round {turn}: {taken[-1]} taken until full, taken again after {time.monotonic() - start:.1f} s")
        one.wait_empty()
        if turn == 0:
            one.kill()
            one.start()
    assert one.find("spool.full") and one.find("spool.space")
    assert not books.lost(TO) and not books.damaged() and not books.strange
    assert min(taken) >= 3, "hardly anything was taken: the floor does not fit the disk"
    return taken


def test_full_ext4(gateway, sinks, books, mounts, tmp_path):
    """48 MB of ext4: the mail itself fills it."""
    disk = mounts.mount(mounts.image(tmp_path / "image", 48 << 20, "mkfs.ext4", "-q", "-F"), tmp_path / "disk", "-o", "loop")
    run_full(gateway, sinks, books, disk, 60_000, ROUNDS)


def test_full_of_large_mail(gateway, sinks, books, mounts, tmp_path):
    """The same with bodies that have files of their own, which are used again."""
    disk = mounts.mount(mounts.image(tmp_path / "image", 96 << 20, "mkfs.ext4", "-q", "-F"), tmp_path / "disk", "-o", "loop")
    run_full(gateway, sinks, books, disk, 700_000, ROUNDS)


def test_space_of_used_files(gateway, sinks, books, mounts, tmp_path):
    """Files of large mail that was delivered wait to be used again; when others take the space they are given back before it is short."""
    disk = mounts.mount(mounts.image(tmp_path / "image", 128 << 20, "mkfs.ext4", "-q", "-F"), tmp_path / "disk", "-o", "loop")
    one = gateway(sinks, spool=disk / "spool")
    bodies = disk / "spool" / "bodies"
    sinks[0].refuse = 1.0
    client = Client(one.port)
    for _ in range(20):
        send_one(books, client, 1_000_000, TO)
    sinks[0].refuse = 0.0
    one.ctl("queue", "retry", "--limit", "100", "--reason", "test", ok=(0, 1))
    one.wait_empty()
    wait_until(lambda: len(list(bodies.iterdir())) == 20, "their files wait")
    floor = (128 << 20) // 20
    with (disk / "hog").open("wb", buffering=0) as hog:
        while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > floor * 3 // 2:
            hog.write(b"x" * 65536)
        wait_until(lambda: not list(bodies.iterdir()), "they are given back")
        assert is_accepted(books, one.port), "there was space, all the time"
    send_one(books, client, 1_000_000, TO)
    one.wait_empty()
    wait_until(lambda: not list(bodies.iterdir()), "no file is kept now")
    assert not one.find("spool.full")
    assert not books.lost(TO) and not books.damaged()


def test_full_with_a_liar(gateway, sinks, books, mounts, tmp_path, preload):
    """Red control: a disk that says there is room, and that it wrote what it had no room for. It must be found out."""
    disk = mounts.mount(mounts.image(tmp_path / "image", 48 << 20, "mkfs.ext4", "-q", "-F"), tmp_path / "disk", "-o", "loop")
    one = gateway(sinks, spool=disk / "spool", retry="1h", env={"LD_PRELOAD": str(preload), "FAULTY": "full"})
    sinks[0].refuse = 1.0
    client = Client(one.port)
    for _ in range(1200):  # 72 MB
        try:
            send_one(books, client, 60_000, TO)
        except (Refused, OSError, EOFError):
            break
    assert len(books.acknowledged) * 60_000 > 48 << 20, "the lie is not believed"
    one.kill()
    sinks[0].refuse = 0.0
    one.env = None
    one.start()
    one.ctl("queue", "retry", "--limit", "100000", "--reason", "test", ok=(0, 1))
    wait_until(lambda: not [entry for entry in one.queue() if entry["state"] != "held"], "what there is is delivered")
    assert books.lost(TO) or books.damaged(), "more mail than fits, and none is missing: the books prove nothing"


def test_full_by_others(gateway, sinks, books, mounts, tmp_path):
    """64 MB, and somebody else takes the space while mail flows."""
    disk = mounts.mount(mounts.image(tmp_path / "image", 64 << 20, "mkfs.ext4", "-q", "-F"), tmp_path / "disk", "-o", "loop")
    one = gateway(sinks, spool=disk / "spool")
    sinks[0].refuse = 1.0
    assert is_accepted(books, one.port)
    hog = (disk / "hog").open("wb", buffering=0)
    with pytest.raises(OSError):
        while True:
            hog.write(b"x" * 65536)
    hog.close()
    wait_until(lambda: not is_accepted(books, one.port), "452 on a full disk")
    sinks[0].refuse = 0.0
    wait_until(lambda: not books.lost(TO), "deliveries go on on a full disk")
    (disk / "hog").unlink()
    wait_until(lambda: is_accepted(books, one.port), "mail is taken again when there is space")
    one.wait_empty()
    one.kill()
    one.start()
    assert not books.lost(TO) and not books.damaged()


def test_full_of_files(gateway, sinks, books, mounts, tmp_path):
    """A tmpfs with 64 inodes, and others who take them."""
    disk = mounts.mount("tmpfs", tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m,nr_inodes=64")

    def hog():
        count = 0
        try:
            while count < 100:
                (disk / f"file{count}").touch()
                count += 1
        except OSError:
            return
    one = gateway(sinks, spool=disk / "spool")
    sinks[0].refuse = 1.0
    assert is_accepted(books, one.port)
    hog()
    wait_until(lambda: not is_accepted(books, one.port), "452 without inodes")
    sinks[0].refuse = 0.0
    wait_until(lambda: not books.lost(TO), "deliveries go on without inodes")
    for file in disk.glob("file*"):
        file.unlink()
    wait_until(lambda: is_accepted(books, one.port), "mail is taken again when there are inodes")
    one.wait_empty()
    one.kill()
    one.start()
    assert not books.lost(TO) and not books.damaged()
