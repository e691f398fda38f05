# SPDX-License-Identifier: Apache-2.0
"""What parsers cost is counted in instructions, not in time: for twice the input twice as many, whatever the input is made of."""
import concurrent.futures
import io
import re
import shutil
import subprocess
import zipfile

import pytest

from rig.gateway import BUILD

# linear is 2.0, quadratic 4.0; a table that doubles now and then is in between
RATIO_MAX = 2.7
UNIT = 40_000  # bytes of the smallest input; the others have twice and four times as many
SMALLER = {"mime-value": 8}  # does many things with each byte

pytestmark = [pytest.mark.skipif("sanitize" in BUILD.name, reason="valgrind and sanitizers do not go together"),
              pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind (tools/packages test)")]


def filled(begin, piece, end=b""):
    """A function of a size: text of about that size."""
    return lambda size: begin + piece * ((size - len(begin) - len(end)) // len(piece)) + end


def members(size):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for i in range(size // 5000):
            archive.writestr(f"{i}.txt", b"x" * 4880)
    return out.getvalue()


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
ATTACHED = b"Content-Disposition: attachment; filename=a.bin\r\nContent-Transfer-Encoding: "

# replay program: {name: function of a size}
INPUTS = {
    "mime": {
        "fields": filled(b"", b"Subject: a\r\n", b"\r\n"),
        "one long field": filled(b"Content-Type: text/plain;", b" x=y;", b"\r\n\r\n"),
        "lines like boundaries": filled(MULTIPART, b"--bx\r\n"),
        "a header of a part without an end": filled(MULTIPART + b"--b\r\nContent-Type: text/plain;", b"\r\n x=y;"),
        "base64 without sense": filled(ATTACHED + b"base64\r\n\r\n", b"=A=\r\n"),
        "quoted-printable without sense": filled(ATTACHED + b"quoted-printable\r\n\r\n", b"=\r\n=3=\r\n==\r\n"),
        "tags without end": filled(b"Content-Type: text/html\r\n\r\n", b"<a <!-- &#x &"),
        "blanks in front of a soft break": filled(ATTACHED + b"quoted-printable\r\n\r\n", b"= \t \t"),
    },
    "filename": {
        "encoded words that are none": filled(b"", b"Content-Type: x; name=\"" + b"=?x?q?y " * 60 + b"\"\r\n"),
        "comments in comments": filled(b"", b"Content-Type: " + b"(" * 200 + b"\r\n"),
        "names in pieces": filled(b"", b"Content-Type: x" + b";name*1=a" * 40 + b"\r\n"),
    },
    "mail-header": {
        "fields": filled(b"", b"Subject: a\r\n"),
        "folds": filled(b"Subject: a", b"\r\n "),
        "lines that are no fields": filled(b"", b"nothing\r\n"),
    },
    "unpack": {
        "members": members,
        "records of Excel": filled(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x85\0\x0e\0"),
        "records of PowerPoint": filled(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\2\0\0\4\x0c\0\0\0"),
        "entries of a directory": filled(b"PK\3\4", b"PK\1\2" + bytes(24) + b"\2\0" + bytes(16) + b"ab"),
        "attributes of winmail.dat": filled(b"\x78\x9f\x3e\x22\1\0", b"\1\4\x80\0\0\1\0\0\0x\0\0"),
    },
    "mime-value": {
        "parameters": filled(b"x", b";name=a"),
        "encoded words that are none": filled(b"", b"=?x?q?y "),
        "encoded words that do not end": filled(b"", b"=?utf-8?b?"),
    },
}


def instructions(program, name, data, folder):
    place = folder / f"{name.replace(' ', '-')}-{len(data)}"
    place.mkdir()
    (place / "input").write_bytes(data)
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", BUILD / f"replay-{program}", place, "whole"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    assert "replayed 1 inputs" in done.stdout
    return int(re.search(r"Collected : (\d+)", done.stdout).group(1))


@pytest.mark.parametrize("program", INPUTS)
def test_linear(program, tmp_path):
    unit = UNIT // SMALLER.get(program, 1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        counts = {name: [pool.submit(instructions, program, name, make(unit * factor), tmp_path) for factor in (1, 2, 4)]
                  for name, make in INPUTS[program].items()}
    for name, futures in counts.items():
        small, middle, large = (future.result() for future in futures)
        # the difference of two runs leaves out what every run costs
        ratio = (large - middle) / (middle - small)
        print(f"{program:12} {name:36} {(large - middle) / (2 * unit):8.1f} instructions a byte, ratio {ratio:.2f}")
        assert ratio < RATIO_MAX, (program, name, small, middle, large)
