# SPDX-License-Identifier: Apache-2.0
"""
T-D8: a damaged spool. A queue is written once; copies of it are damaged in the ways of bad disks and of people, then
verified, and every few of them started. What is whole is delivered, what is not is named and set aside, and nothing is
delivered with another body. Each that is missing has a name in an event, or it lay where an event says that bytes are
damaged; and what an event names is in `corrupt`. CRASH_MUTATIONS gives the number, CRASH_SEED the seed. (The full tier
takes five random ones, each with a queue of its own.)
"""
import os
import random
import re
import shutil
import struct
import subprocess
import time

import pytest

from books import Books, Client, Sink, send_one, small_segments, tell_progress, used_segments
from rig.gateway import BUILD, wait_until

FULL = os.environ.get("TEST_TIER") == "full"
MUTATIONS = int(os.environ.get("CRASH_MUTATIONS", "5000" if FULL else "300"))
SEEDS = 5 if FULL and "CRASH_SEED" not in os.environ else 1
START_EVERY = 10
TO = ["u@fast.test"]
SMALL = 100  # messages, and three large ones
LAST = 4  # messages behind those


@pytest.fixture
def seed():
    """The quick tier takes the same damages each time, the full one others."""
    return int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(1 << 30)) if FULL else "1"))


@pytest.fixture
def template(gateway, sinks, books, seed):
    """A spool of several segments and large bodies, as a kill left it; with the same seed much the same. Most segments
    lie in files that were others before: mail that was delivered lies behind their end."""
    random.seed(seed)
    one = gateway(sinks, retry="1h", more=small_segments())
    client = Client(one.port)
    before = Books()
    sinks[0].books = before
    for number in range(400):
        send_one(before, client, random.randrange(10_000, 40_000), TO)
        if number % 20 == 19 and used_segments(one.folder / "spool") > 2:
            break
    one.wait_empty(30)
    assert used_segments(one.folder / "spool") > 2
    # where its removal is damaged, mail that was delivered comes again: as it was
    books.sent.update(before.sent)
    sinks[0].books, sinks[0].attempts = books, 0
    sinks[0].refuse = 1.0
    for number in range(SMALL):
        send_one(books, client, random.randrange(300, 30_000), TO)
    for number in range(3):
        send_one(books, client, 300_000, TO)
    wait_until(lambda: sinks[0].attempts >= SMALL + 3, "each was tried")
    # The batch behind a message says that it was durable; damage to one that nothing is behind cannot be told from a
    # write that a crash cut short, and is dropped without a word. So what is written last is no part of the books: more
    # pages than one damage hits.
    for _ in range(LAST):
        del books.acknowledged[send_one(books, client, 6000, TO)]
    one.kill()
    return one.folder / "spool"


def used_bytes(path):
    """Without the zeros at the end, or what is left of another segment: what is made ahead is no target."""
    data = path.read_bytes()
    if path.suffix == ".free":
        return 0
    if path.suffix == ".log" and data[32:33] == b"\1":
        return records_end(data)
    return len(data.rstrip(b"\0"))


def records_end(data):
    """Where the records end: the unit numbers of those of older segments are lower."""
    at, unit = 64, 0
    while data[at:at + 4] == b"PREC":
        number, size = struct.unpack_from("<QI", data, at + 16)
        if number < unit:
            break
        at, unit = at + (32 + size + 7) // 8 * 8, number
    return at


def a_file(random_of, spool, folders=("log", "bodies")):
    return random_of.choice(sorted(f for name in folders for f in (spool / name).iterdir() if used_bytes(f) > 4096))


def patch(path, at, data):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


# Each gives back how many messages it may hurt.

def flip_bit(r, spool):
    path = a_file(r, spool)
    at = r.randrange(used_bytes(path))
    patch(path, at, bytes([path.read_bytes()[at] ^ 1 << r.randrange(8)]))
    return 1


def zero_page(r, spool):
    path = a_file(r, spool)
    patch(path, r.randrange(used_bytes(path)) // 4096 * 4096, bytes(4096))
    return 15


def noise(r, spool):
    path = a_file(r, spool)
    patch(path, r.randrange(used_bytes(path)), r.randbytes(r.randrange(1, 2000)))
    return 8


def swap_pages(r, spool):
    path = a_file(r, spool, ("log",))
    pages = used_bytes(path) // 4096
    one, two = r.randrange(pages), r.randrange(pages)
    data = path.read_bytes()
    patch(path, one * 4096, data[two * 4096:(two + 1) * 4096])
    patch(path, two * 4096, data[one * 4096:(one + 1) * 4096])
    return 30


def cut_body(r, spool):
    path = a_file(r, spool, ("bodies",))
    os.truncate(path, r.randrange(used_bytes(path)))
    return 1


def cut_sealed(r, spool):
    path = sorted((spool / "log").glob("*.log"))[0]
    size = used_bytes(path)
    os.truncate(path, r.randrange(size - size // 4, size))
    return 60


def lose_body(r, spool):
    a_file(r, spool, ("bodies",)).unlink()
    return 1


def double_segment(r, spool):
    path = a_file(r, spool, ("log",))
    shutil.copy(path, path.with_name(f"{r.randrange(1 << 20, 1 << 30):016x}.log"))
    return 0


def foreign_files(r, spool):
    for folder in ("log", "bodies", "."):
        (spool / folder / "a name\nwith a newline.log").write_bytes(r.randbytes(3000))
        (spool / folder / f"{r.randrange(1 << 30)}_0_1_haraka").write_bytes(b'{"queue_time":1}')
    (spool / "log" / f"{r.randrange(1 << 20, 1 << 30):016x}.log").write_bytes(r.randbytes(5000))
    return 0


KINDS = [flip_bit, flip_bit, zero_page, noise, swap_pages, cut_body, cut_sealed, lose_body, double_segment, foreign_files]


def verify(spool):
    start = time.monotonic()
    done = subprocess.run([BUILD / "postern", "spool", "verify", spool], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120)
    assert done.returncode in (0, 1), f"verify: exit {done.returncode}: {done.stderr[-500:]}"
    assert b"Sanitizer" not in done.stderr
    return done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - start


def start_and_deliver(gateway, books, spool):
    """Start on that spool before sinks and books of their own: those books, and the events of damage."""
    fresh = Books()
    fresh.sent = books.sent
    sinks = [Sink(fresh) for _ in range(3)]
    one = gateway(sinks, more=small_segments(spool))
    assert one.find("spool.open")
    one.ctl("queue", "retry", "--limit", "100000", "--reason", "test", ok=(0, 1))
    wait_until(lambda: not [e for e in one.queue("--limit", "100000") if e["state"] != "held"], "all that is whole is delivered")
    one.stop()
    for sink in sinks:
        sink.close()
    damages = one.find("spool.damaged")
    kept = {file.name for file in (spool / "corrupt").iterdir()}
    astray = [event for event in damages if event.get("file", "") not in kept | {""} and not is_kept_whole(event, kept)]
    assert not astray, (astray, kept)  # (the queue tells of it too, and knows no file)
    return fresh, damages


def is_kept_whole(event, kept):
    """A file in which nothing can be told apart is kept as it is."""
    return f"{event['segment']:016x}.log" in kept


def places(spool):
    """{message: (segment, offset)} of what is there."""
    done = subprocess.run([BUILD / "postern", "spool", "verify", "--verbose", spool], stdout=subprocess.PIPE, text=True, check=True)
    found = re.findall(r"^entry \S+ of message (\S+): segment (\w+) offset (\d+)", done.stdout, re.M)
    return {message: (int(segment, 16), int(offset)) for message, segment, offset in found}


def is_told(place, damages):
    """Does an event without a name cover the place?"""
    return any(event["segment"] == place[0] and event["offset"] <= place[1] < event["offset"] + max(event["size"], 1)
               for event in damages if not event.get("message"))


def judge(what, books, fresh, damages, may_hurt, where):
    assert not fresh.damaged(), f"{what}: delivered with another body: {fresh.damaged()[:3]}"
    assert not fresh.strange, f"{what}: delivered what was never sent: {fresh.strange[:1]}"
    named = {event.get("message") for event in damages}
    missing = [books.acknowledged[token][1] for token in books.acknowledged if (token, TO[0]) not in fresh.arrived]
    silent = [message for message in missing if message not in named]
    assert len(missing) <= may_hurt, f"{what}: {len(missing)} are missing, {may_hurt} may be; damages {damages[:5]}"
    untold = [message for message in silent if not is_told(where[message], damages)]
    assert not untold, f"{what}: {[(m, where[m]) for m in untold]} are missing, and no event says so: {damages[:5]}"
    return len(missing), len(silent)


@pytest.mark.parametrize("run", range(SEEDS))
def test_damaged_spools(gateway, template, books, tmp_path, seed, run):  # pylint: disable=unused-argument
    r = random.Random(seed)
    mutations = MUTATIONS // SEEDS
    assert verify(template)[0] == 0, "the spool is whole before"
    where = places(template)
    assert len(where) == len(books.acknowledged) + LAST
    found = missing = silent = started = 0
    slowest = 0.0
    for number in range(mutations):
        tell_progress(number, mutations)
        kind = KINDS[number % len(KINDS)]
        what = f"seed {seed}, number {number}, {kind.__name__}"
        spool = tmp_path / "spool"
        shutil.copytree(template, spool)
        may_hurt = kind(r, spool)
        status, text, seconds = verify(spool)
        slowest = max(slowest, seconds)
        found += status
        assert status == 1 or kind not in (cut_body, lose_body), f"{what}: not seen: {text}"
        if (number + number // len(KINDS)) % START_EVERY == 0:  # each kind in its turn
            fresh, damages = start_and_deliver(gateway, books, spool)
            gone, unnamed = judge(what, books, fresh, damages, may_hurt, where)
            assert not gone or status == 1, f"{what}: {gone} are missing, and verify saw nothing"
            missing, silent, started = missing + gone, silent + unnamed, started + 1
        shutil.rmtree(spool)
    print(f"seed {seed}: {mutations} damaged spools verified, {found} with problems, slowest {slowest:.2f} s; {started} started, "
          f"{missing} of {started * len(books.acknowledged)} messages set aside, {silent} of them without a name")
    assert found > mutations // 3 and started >= mutations // 20


def test_loss_and_change_are_noticed(gateway, template, books):
    """Red control: a spool that lost mail without a word, and mail with another body, must fail the judgement."""
    where = places(template)
    fresh, damages = start_and_deliver(gateway, books, template)
    assert judge("whole", books, fresh, damages, 0, where) == (0, 0)
    token, to = next(key for key in fresh.arrived if key[0] in books.acknowledged)
    copies = fresh.arrived.pop((token, to))
    message = books.acknowledged[token][1]
    with pytest.raises(AssertionError, match="no event says so"):
        judge("lost in silence", books, fresh, [], 1, where)
    elsewhere = {"segment": where[message][0] + 1, "offset": 0, "size": 1 << 30}
    with pytest.raises(AssertionError, match="no event says so"):
        judge("told of another place", books, fresh, [elsewhere], 1, where)
    assert judge("named", books, fresh, [{"message": message}], 1, where) == (1, 0)
    with pytest.raises(AssertionError, match="may be"):
        judge("too many", books, fresh, [{"message": message}], 0, where)
    fresh.arrived[token, to] = [(copies[0][0], b"another")]
    with pytest.raises(AssertionError, match="another body"):
        judge("changed", books, fresh, [], 0, where)
