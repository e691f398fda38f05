# SPDX-License-Identifier: Apache-2.0
"""
T-D9: group commit is honest. The whole run is traced; before each 250 to an end of data stands a write of that
message's bytes, and between the two a successful fdatasync of the same file that began after the write had ended.
"""
import re

from books import Load, small_segments, used_segments
from rig.gateway import wait_until

CALLS = "pwrite64,pwritev,pwritev2,fdatasync,fsync,sendto,sendmsg,write,writev"
LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")


def calls_of(path):
    """Each finished call: (begin, end, name, text, result as text). Begin and end are line numbers: their order."""
    begun, calls = {}, []
    for number, line in enumerate(path.open(errors="replace")):
        found = LINE.match(line)
        if not found:
            continue
        thread, _, text = found.groups()
        resumed = RESUMED.match(text)
        if resumed:
            begin, start = begun.pop(thread, (number, ""))
            text = start + resumed.group(2)
        elif text.endswith("<unfinished ...>"):
            begun[thread] = number, text[:-len("<unfinished ...>")]
            continue
        else:
            begin = number
        name = text.partition("(")[0]
        calls.append((begin, number, name, text, text.rpartition(" = ")[2]))
    return calls


def dishonest(calls, tokens):
    """tokens: {message id: token}. The messages whose 250 came too early, and how many were looked at."""
    writes = {}  # token: (end of the call, file)
    syncs = []   # (begin, end, file)
    early, seen = [], 0
    for begin, end, name, text, result in sorted(calls, key=lambda call: call[1]):
        file = text.partition("(")[2].split(",")[0].strip()
        if name.startswith("pwrite"):
            for token in re.findall(r"X-Token: (t\d+-\w{8})", text):
                writes[token] = end, file
        elif name in ("fdatasync", "fsync"):
            if result.startswith("0"):
                syncs.append((begin, end, text.partition("(")[2].partition(")")[0].strip()))
        else:
            for answer in re.findall(r"queued as (\w+)", text):
                token = tokens.get(answer)
                if token is None:
                    continue
                seen += 1
                written, place = writes.get(token, (None, None))
                if written is None or not any(written < s_begin and s_end < begin and s_file == place
                                              for s_begin, s_end, s_file in syncs[-400:]):
                    early.append(token)
    return early, seen


def is_folder_synced(calls, folder):
    """Is a new spool's name in its folder on the disk before the first reply 250?"""
    calls = sorted(calls, key=lambda call: call[1])
    first = min(begin for begin, _, _, text, _ in calls if "queued as" in text)
    return any(name == "fsync" and f"<{folder}>" in text and result.startswith("0") and end < first
               for _, end, name, text, result in calls)


def run_traced(gateway, sinks, books, tmp_path, env=None):
    trace = tmp_path / "trace"
    wrap = ["strace", "-D", "-f", "--seccomp-bpf", "-ttt", "-y", "-s", "400", "-e", f"trace={CALLS}", "-o", trace]
    one = gateway(sinks, env=env, wrap=wrap, more=small_segments())
    load = Load(books, one.port, clients=8, sizes=(100, 20_000), recipients=["u@fast.test"])
    wait_until(lambda: len(books.acknowledged) >= 800, "800 are accepted")
    load.stop()
    one.wait_empty()
    assert used_segments(one.folder / "spool") > 0, "the log lay in new files only"
    one.stop()
    tokens = {message: token.decode() for token, (_, message) in books.acknowledged.items()}
    calls = calls_of(trace)
    return *dishonest(calls, tokens), is_folder_synced(calls, one.folder)


def test_no_250_before_its_sync(gateway, sinks, books, tmp_path):
    early, seen, folder_synced = run_traced(gateway, sinks, books, tmp_path)
    print(f"{seen} replies 250 looked at, {len(early)} before their sync")
    assert seen >= 200, "the trace does not show the replies"
    assert not early, early[:5]
    assert folder_synced, "a power cut may take the spool's folder away"


def test_no_250_before_its_sync_without_sync(gateway, sinks, books, tmp_path, preload):
    """Red control: syncs that do nothing."""
    early, seen, folder_synced = run_traced(gateway, sinks, books, tmp_path, {"LD_PRELOAD": str(preload), "FAULTY": "nosync"})
    assert seen >= 200 and len(early) == seen and not folder_synced, f"{len(early)} of {seen}"
