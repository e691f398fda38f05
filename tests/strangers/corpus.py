# SPDX-License-Identifier: Apache-2.0
"""Real messages (see fetch) as SMTP carries them, and the list of what strangers see differently."""
import fnmatch
import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
FOLDER = TOP / "build" / "strangers" / "corpus"
ALL = bool(os.environ.get("POSTERN_STRANGERS_ALL"))
SAMPLE = 300
DIFFERENCES = HERE / "differences.txt"


def messages(count=SAMPLE):
    """(number, name, bytes) of all of them, or of a sample that is the same every time. All lines end in CRLF; the line that
    a mailbox file puts before a message is gone."""
    paths = sorted(FOLDER.glob("*/*.txt"))
    assert len(paths) == 6046, f"{len(paths)} messages in {FOLDER}"
    step = 1 if ALL else len(paths) / count
    for number in sorted({int(i * step) for i in range(len(paths) if ALL else count)}):
        path = paths[number]
        text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if text.startswith(b"From "):
            text = text.partition(b"\r\n")[2]
        if not text.endswith(b"\r\n"):
            text += b"\r\n"
        yield number, f"{path.parent.name}/{path.name.partition('.')[0]}", text


def explained():
    """{difference: its reason}. A difference is what stands before the last tab of its line; a * in it stands for anything."""
    known, reasons = {}, {}
    for line in DIFFERENCES.read_text().splitlines():
        if line.startswith("reason "):
            name, _, text = line[len("reason "):].partition(": ")
            reasons[name] = text
        elif line and not line.startswith(("#", " ")):
            difference, _, reason = line.rpartition("\t")
            assert difference not in known, f"twice in differences.txt: {difference}"
            known[difference] = reason
    assert set(known.values()) == set(reasons), f"reasons without text or use: {set(known.values()) ^ set(reasons)}"
    return known


def judge(found, looked_at, kind):
    """Every difference found is explained, and every explained one among what was looked at was found; one with a * at least
    once. `found`: {difference: what was said}; `looked_at`: all that there could have been."""
    known = [line for line in explained() if line.startswith(kind)]
    new = sorted(line for line in found if not any(fnmatch.fnmatchcase(line, one) for one in known))
    possible = [line for line in known if fnmatch.filter(looked_at, line)]
    gone = sorted(line for line in possible if not fnmatch.filter(found, line))
    assert not new, (f"{len(new)} not explained in differences.txt, the first are:\n"
                     + "\n".join(f"{line}\t({found[line]})" for line in new[:40]))
    assert not gone, "no longer there, take them out of differences.txt:\n" + "\n".join(gone)
