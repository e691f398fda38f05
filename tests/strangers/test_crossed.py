# SPDX-License-Identifier: Apache-2.0
"""DKIM crossed with strangers over real messages: what we sign they verify, and the other way round; rsa-sha256 and
ed25519-sha256, all four canonicalisations in turn. Every fifth message is also altered after signing, and must not pass."""
import base64
import concurrent.futures
import shutil
import subprocess

import pytest

from corpus import HERE, TOP, judge, messages
from rig.gateway import BUILD

CANONS = ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"]
TOOLS = {"postern": BUILD / "dkim-tool", "opendkim": TOP / "build/strangers/opendkim-tool", "dkimpy": HERE / "dkimpy_tool",
         "mail-dkim": HERE / "mail_dkim_tool"}
KEYS = {"rsa": set(TOOLS), "ed25519": {"postern", "opendkim", "dkimpy"}}  # Debian's Mail::DKIM has no Ed25519
CHUNK = 100  # files a call
PAIRS = [(signer, verifier, key) for key, able in KEYS.items() for signer in TOOLS for verifier in TOOLS
         if {signer, verifier} <= able and "postern" in (signer, verifier)]


def run(command, files):
    """{file: [fields]} of the lines that a tool writes."""
    def one(chunk):
        done = subprocess.run([*command, *chunk], check=True, stdout=subprocess.PIPE, text=True, errors="replace")
        return [line.split("\t") for line in done.stdout.splitlines()]

    files = [str(file) for file in files]
    chunks = [files[i:i + CHUNK] for i in range(0, len(files), CHUNK)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return {line[0]: line[1:] for lines in pool.map(one, chunks) for line in lines}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", folder / "rsa", "2048"], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "ed25519"], check=True)
    lines = []
    for name in KEYS:
        (folder / name).chmod(0o600)
        der = subprocess.run(["openssl", "pkey", "-in", folder / name, "-pubout", "-outform", "DER"], check=True,
                             stdout=subprocess.PIPE).stdout
        public = base64.b64encode(der[-32:] if name == "ed25519" else der).decode()
        lines.append(f"{name}._domainkey.strangers.test\tv=DKIM1; k={name}; p={public}\n")
    (folder / "zone").write_text("".join(lines))
    return folder


def alter(number, text):
    """One octet of the body or of the subject."""
    head, gap, body = text.partition(b"\r\n\r\n")
    letters = [i for i, octet in enumerate(body) if chr(octet).isalnum()]
    if letters and number % 2:
        at = letters[number % len(letters)]
        return head + gap + body[:at] + (b"x" if body[at] != ord("x") else b"y") + body[at + 1:]
    at = head.lower().find(b"\r\nsubject:")
    return head[:at + 10] + b" [x]" + head[at + 10:] + gap + body if at >= 0 else None


class Signed:
    """What one program signed with one key: files by message name and what was done to them."""

    def __init__(self, folder, signer, key, keys):
        self.files, self.refused = {}, {}
        names = {}
        for number, name, text in messages():
            path = folder / str(number)
            path.write_bytes(text)
            names[str(path)] = (number, name, text)
        for canon in CANONS:
            paths = [path for path, (number, _, _) in names.items() if CANONS[number % 4] == canon]
            said = run([TOOLS[signer], "sign", "strangers.test", key, keys / key, canon], paths)
            for path in paths:
                number, name, _ = names[path]
                signed = folder / f"{number}.signed"
                if not signed.exists():
                    self.refused[name] = (said.get(path) or ["?"])[0]
                    continue
                self.files[number, name, "signed"] = signed
                altered = alter(number, signed.read_bytes()) if number % 5 == 0 else None
                if altered:
                    self.files[number, name, "altered"] = folder / f"{number}.altered"
                    self.files[number, name, "altered"].write_bytes(altered)


@pytest.fixture(scope="module")
def signed(keys, tmp_path_factory):
    """A function that gives what a program signed; once each."""
    made = {}

    def make(signer, key):
        if (signer, key) not in made:
            made[signer, key] = Signed(tmp_path_factory.mktemp(f"{signer}-{key}"), signer, key, keys)
        return made[signer, key]

    yield make
    for one in made.values():
        for file in list(one.files.values())[:1]:
            shutil.rmtree(file.parent)


@pytest.mark.parametrize("signer,key", [(signer, key) for key, able in KEYS.items() for signer in TOOLS if signer in able])
def test_all_are_signed(signed, signer, key):
    kind = f"sign\t{signer}\t{key}\t"
    one = signed(signer, key)
    judge({kind + name: why for name, why in one.refused.items()}, {kind + name for _, name, _ in messages()}, kind)


@pytest.mark.parametrize("signer,verifier,key", PAIRS)
def test_crossed(signed, keys, signer, verifier, key):
    kind = f"verify\t{signer}\t{verifier}\t{key}\t"
    files = signed(signer, key).files
    said = run([TOOLS[verifier], "verify", keys / "zone"], files.values())
    assert len(said) == len(files) > 0, "every file has a line"
    found, looked_at = {}, set()
    for (number, name, what), path in files.items():
        result, *rest = said[str(path)]
        line = f"{kind}{CANONS[number % 4]}\t{name}\t{what}"
        looked_at.add(line)
        if (result == "pass") != (what == "signed"):
            found[line] = " ".join([result, *rest])
    judge(found, looked_at, kind)
