# SPDX-License-Identifier: Apache-2.0
"""What the option tables produce: schema, suggestions, effective values, manual pages, completion."""
import json
import os
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml

from rig.gateway import BUILD, TOP

FULL = TOP / "tests/data/example/postern.yaml"
CONTENT = TOP / "tests/data/example/content.yaml"  # blocks and sections that the example has no use for


def postern(*words, ok=(0,), env=None):
    done = subprocess.run([BUILD / "postern", *map(str, words)], text=True, capture_output=True,
                          env={**os.environ, **(env or {})})
    assert done.returncode in ok, f"postern {words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def schema():
    text = json.loads(postern("schema"))
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


def rejects(schema, text):
    return [error for error in schema.iter_errors(yaml.safe_load(text))]


# ---- schema ----


@pytest.mark.parametrize("path", [FULL, CONTENT, TOP / "demo/postern.yaml"], ids=lambda path: path.name)
def test_the_schema_takes_whole_examples(schema, path):
    assert rejects(schema, path.read_text()) == []


def test_the_schema_takes_what_init_writes(schema, tmp_path):
    postern("init", "relay-authenticated", "--domain", "example.org", "--server", "mail.example.org:25", "--output", tmp_path)
    assert rejects(schema, (tmp_path / "postern.yaml").read_text()) == []


# What stands in the example, what a hand wrote in its place, and what `check` should say. `#N`: the
# N-th place. No entry in the fourth column: an editor sees it too.
TYPOS = [
    ("hostname:", "hostnam:", "hostname"),
    ("servers:", "server:", "servers"),
    ("servers:", "serevrs:", "servers"),
    ("certificates:", "certficates:", "certificates"),
    ("listeners:", "listners:", "listeners"),
    ("flows:", "flow:", "flows"),
    ("transports:", "transport:", "transports"),
    ("domains:", "domians:", "domains"),
    ("entitlements:", "entitlement:", "entitlements"),
    ("trusted_networks:", "trusted-networks:", "trusted_networks"),
    ("spool:", "spol:", "spool"),
    ("control:", "controll:", "control"),
    ("dns: {", "dn: {", "dns"),
    ("ca_file:", "cafile:", "ca_file"),
    ("smtp: \"mail", "stmp: \"mail", "smtp"),
    ("ldap: \"ldaps", "ldpa: \"ldaps", "ldap"),
    ("base_dn:", "basedn:", "base_dn"),
    ("bind_dn:", "bind-dn:", "bind_dn"),
    ("bind_password_file:", "bind_pasword_file:", "bind_password_file"),
    ("key: tls/key.pem", "keys: tls/key.pem", "key"),
    ("cert: tls", "crt: tls", "cert"),
    ("listen: [ \"0.0.0.0:587\"", "listens: [ \"0.0.0.0:587\"", "listen"),
    ("tls: required", "tls: requird", "required"),
    ("tls: offered", "tls: offerd", "offered"),
    ("tls: implicit", "tls: implict", "implicit"),
    ("tls: verified", "tls: verifed", "verified"),
    ("certificate: main", "certifcate: main", "certificate"),
    ("certificate: main", "certificate: mian", "main", "name"),
    ("authentication: none", "authentification: none", "authentication"),
    ("required: true }", "requierd: true }", "required"),
    ("flow: staff", "flow: stuff", "staff", "name"),
    ("processing: direct", "procesing: direct", "processing"),
    ("processing: direct", "processing: directly", "direct"),
    ("  authentication:\n", "  authentification:\n", "authentication"),
    ("  recipient:\n", "  recipients:\n", "recipient"),
    ("  content:\n", "  contents:\n", "content"),
    ("- limit:", "- limits:", "limit"),
    ("failures:", "failure:", "failures"),
    ("- file:", "- fiel:", "file"),
    ("- lookup-smtp:", "- lookup-stmp:", "lookup-smtp"),
    ("lookup-smtp: { server: mail", "lookup-smtp: { server: mial", "mail", "name"),
    ("cache: 15m", "cahce: 15m", "cache"),
    ("- reject: { reply", "- rejct: { reply", "reject"),
    ("{ reply:", "{ repyl:", "reply"),
    ("      - dkim-sign", "      - dkim-sing", "dkim-sign"),
    ("      - deliver", "      - delivr", "deliver"),
    ("method: server", "method: sever", "server"),
    ("method: lookup-mx", "method: lookup_mx", "lookup-mx"),
    ("direction: inbound", "direction: inbuond", "inbound"),
    ("direction: inbound", "mode: inbound", "direction"),
    ("delays:", "delay:", "delays"),
    ("count: 120", "cuont: 120", "count"),
    ("dsn: [ failure ]", "dsn: [ failures ]", "failure"),
    ("tls: opportunistic", "tls: oportunistic", "opportunistic"),
    ("recipients: local-users", "recipients: local-user", "local-users", "name"),
    ("content: inbound", "contents: inbound", "content"),
    ("content: inbound", "content: inbuond", "inbound", "name"),
    ("transport: internet", "transport: intenet", "internet", "name"),
    ("open_relay_support", "open_relay_suport", "open_relay_support"),
    ("dnssec: none", "dnsec: none", "dnssec"),
    ("socket:", "sokcet:", "socket"),
    ("by: client", "by: clint", "client"),
    ("authenticated or client", "authentcated or client", "authenticated", "expression"),
    ("or client in trusted", "or client in trustd", "trusted", "expression"),
]


# The same of the other example.
TYPOS_OF_CONTENT = [
    ("milter: { server", "miltr: { server", "milter"), ("milter: { server", "milter: { sever", "server"),
    ("server: hook", "server: hok", "hook", "name"), ("http: { server", "htpp: { server", "http"),
    ("attachment:", "atachment:", "attachment"), ("encrypted: next", "encripted: next", "encrypted"), ("macro: { quarantine", "macro: { quarantin", "quarantine"),
    ("quarantine: odd }, encrypted", "quarantine: od }, encrypted", "odd", "name"), ("script: { file", "scirpt: { file", "script"),
    ("function: look", "funktion: look", "function"), ("then: contain", "then: contian", "contain"), ("warn_at", "warnat", "warn_at"),
    ("disclaimer:", "disclamer:", "disclaimer"), ("rewrite: { recipient", "rewrit: { recipient", "rewrite"),
    ("rewrite: { recipient", "rewrite: { recipent", "recipient"), ("greylist", "graylist", "greylist"), ("quarantines:", "quarantine:", "quarantines"),
    ("release_by: recipient", "release_by: recipients", "recipient"), ("digest_at", "digestat", "digest_at"), ("providers:", "provider:", "providers"),
    ("domain_checks:", "domain_check:", "domain_checks"), ("checks: [ spf", "checks: [ sfp", "spf"), ("exempt:", "exemt:", "exempt"),
    ("parts: 500", "part: 500", "parts"), ("headers: [", "header: [", "headers"),
]


def check_typo(folder, right, wrong, example=FULL):
    text = example.read_text()
    assert right in text, f"{right!r} stands no longer in the example"
    at = text.index(right)
    path = folder / "postern.yaml"
    path.write_text(text[:at] + wrong + text[at + len(right):])
    line = text[:at].count("\n") + 1
    done = postern("check", path, ok=(0, 1))
    places = [(int(row), int(column)) for row, column in
              re.findall(r"^error\[[a-z-]+\] [^ ]*postern\.yaml:(\d+):(\d+)  ", done, re.M)]
    errors = len(re.findall(r"^error\[", done, re.M))
    return path.read_text(), done, line + wrong.count("\n", 0, len(wrong.rstrip("\n"))), places, errors


@pytest.mark.parametrize("example, typos", [(FULL, TYPOS), (CONTENT, TYPOS_OF_CONTENT)], ids=["fifty", "content"])
def test_typos(schema, tmp_path, example, typos):
    """At least nine of ten get the right word, all a place; an editor sees what a schema can see."""
    shutil.copytree(FULL.parent, tmp_path, dirs_exist_ok=True)
    assert len(TYPOS) >= 50
    unseen, unplaced, unrejected = [], [], []
    for right, wrong, word, *beyond in typos:
        text, told, line, places, errors = check_typo(tmp_path, right, wrong, example)
        if not re.search(rf'did you mean "?{re.escape(word)}"?\?', told):
            unseen.append((wrong, told.splitlines()[0]))
        if len(places) != errors or not any(row == line for row, _ in places):
            unplaced.append((wrong, line, places))
        if not beyond and not rejects(schema, text):
            unrejected.append(wrong)
    assert not unplaced
    assert not unrejected
    assert len(unseen) * 10 <= len(typos), unseen


# ---- effective values ----


def test_effective_values_say_where_they_come_from(tmp_path):
    path = tmp_path / "postern.yaml"
    path.write_text("""version: 1
hostname: mx.example.org
servers: { mail: { smtp: "mail.example.org:25" } }
listeners:
  inbound: { preset: mx, tls: none }
domains:
  example.org: { recipients: { preset: local-users, server: mail }, transport: { server: mail } }
""")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/spool.yaml").write_text("# of this host\nspool: { path: /srv/mail }\n")
    text = postern("config", "show", "--effective", path)
    lines = text.splitlines()
    assert f"hostname: mx.example.org  # {path}:2" in lines
    assert f"  path: /srv/mail  # {tmp_path}/conf.d/spool.yaml:2" in lines
    assert "  segment_size: 64M  # default" in lines
    assert f"    tls: none  # {path}:5" in lines
    assert f"    processing: direct  # default" in lines
    # it is a configuration with the same meaning
    again = tmp_path / "again/postern.yaml"
    again.parent.mkdir()
    again.write_text(text)
    strip = re.compile(r"  # .*$", re.M)
    assert strip.sub("", postern("config", "show", "--effective", again)) == strip.sub("", text)


def test_effective_values_as_json():
    rows = [json.loads(line) for line in postern("--json", "config", "show", "--effective", FULL).splitlines()]
    by_name = {row["setting"]: row for row in rows}
    assert len(by_name) == len(rows) > 100
    assert by_name["hostname"] == {"setting": "hostname", "value": "mx.example.org", "default": False, "place": f"{FULL}:3"}
    assert by_name["listeners.inbound.limits.line"] == {"setting": "listeners.inbound.limits.line", "value": "64K",
                                                        "default": True, "place": ""}
    assert by_name["flows.recipient.relay-authenticated[1]"]["value"].startswith("{ reject: ")
    text = postern("config", "show", "--effective", FULL)
    assert len(rows) == sum("  # " in line for line in text.splitlines())


def test_effective_values_of_a_faulty_file_are_none(tmp_path):
    path = tmp_path / "postern.yaml"
    path.write_text("version: 1\nhostnam: x\n")
    assert postern("config", "show", "--effective", path, ok=(1,)) == ""


# ---- blocks ----


def test_blocks():
    rows = [json.loads(line) for line in postern("--json", "block", "list").splitlines()]
    by_name = {row["block"]: row for row in rows}
    assert by_name["lookup-smtp"]["flows"] == ["recipient"]
    assert "lookup-smtp    -r-  " in postern("block", "list")
    for row in rows:
        assert postern("block", "doc", row["block"]).startswith(row["block"] + "\n")
    text = postern("block", "doc", "lookup-smtp")
    assert "missing → reject" in text and "(default 15m)" in text and "`" not in text
    assert postern("block", "doc", "lookup-smpt", ok=(1,)) == ""


# ---- manual pages ----

PAGES = ["postern.yaml.5", "postern-blocks.7", "postern-scripts.7", "postern-events.7", "postern-metrics.7", "postern.1", "posternd.8"]


@pytest.mark.parametrize("page", PAGES)
def test_manual_pages_are_clean(page):
    path = BUILD / "packaging/man" / page
    lint = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], text=True, capture_output=True)
    assert lint.returncode == 0, lint.stdout
    groff = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path], text=True,
                           capture_output=True, errors="replace")
    assert groff.stderr == ""


def shown(page):
    return subprocess.run(["mandoc", "-Tascii", BUILD / "packaging/man" / page], text=True, capture_output=True,
                          check=True).stdout.replace("_\b", "").replace("\b", "\0")


def plain(page):
    return re.sub(r".\0", "", shown(page))


def test_manual_pages_tell_all():
    settings = plain("postern.yaml.5")
    for key in json.loads(postern("schema"))["properties"]:
        assert re.search(rf"^ +{key}\b", settings, re.M), key
    commands = plain("postern.1")
    usage = subprocess.run([BUILD / "postern", "--help"], text=True, capture_output=True).stdout
    for noun, verb in re.findall(r"^  ([a-z]+) +([a-z]*) ", usage, re.M):
        assert re.search(rf"postern +{noun}( +{verb})?", commands), (noun, verb)
    daemon = plain("posternd.8")
    usage = subprocess.run([BUILD / "posternd", "--help"], text=True, capture_output=True).stdout
    for option in re.findall(r"--[a-z-]+", usage):
        assert option in daemon, option
    for name in ("SIGHUP", "SIGUSR1"):
        assert name in usage and name in daemon


def test_manual_pages_begin_with_examples():
    for page in PAGES:
        headings = re.findall(r"^([A-Z][A-Z ]+)$", plain(page), re.M)
        assert headings[:4] in (["NAME", "SYNOPSIS", "EXAMPLES", "DESCRIPTION"], ["NAME", "EXAMPLES", "DESCRIPTION", *headings[3:4]]), (page, headings)
    metrics = re.sub(r"\s+", " ", plain("postern-metrics.7"))
    assert "postern_smtp_rejects_total (counter; listener, stage, reason, code) What clients were refused" in metrics


def test_commands_that_are_advised_exist():
    """What events and examples tell to type: each command is there, with each of its options."""
    advised = set(re.findall(r"`((?:postern|posternd) [^`]+)`", postern("docs", "events")))
    for page in PAGES:
        advised |= set(re.findall(r"^ +((?:postern|posternd) [^\n]+)$", plain(page).partition("EXAMPLES")[2].partition("DESCRIPTION")[0], re.M))
    assert len(advised) > 40
    for command in advised:
        words = command.split()
        if words[0] == "posternd":
            continue
        words = [word for word in words[1:] if word not in ("--json", "--yes")]
        two = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
        done = subprocess.run([BUILD / "postern", *two, "--help"], text=True, capture_output=True)
        if done.returncode != 0 or f"postern {' '.join(two)}" not in done.stdout:  # its second word is an argument
            done = subprocess.run([BUILD / "postern", *two[:1], "--help"], text=True, capture_output=True)
        assert done.returncode == 0 and f"postern {two[0]}" in done.stdout, (command, done.stdout + done.stderr)
        for option in re.findall(r" (--?[a-z][a-z-]*)", command.partition(" -q '")[0]):
            assert option in done.stdout or option in ("--json", "--yes"), (command, option, done.stdout)


# ---- completion ----


def complete(words, cwd=None):
    """What bash offers for the last of the words."""
    script = BUILD / "packaging/completion/postern"
    program = f"""
source {script}
COMP_WORDS=({' '.join(words) if words[-1] else ' '.join(words[:-1]) + ' ""'})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_postern
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-uc", program], text=True, capture_output=True, cwd=cwd)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return sorted(done.stdout.split())


def test_bash_really_completes(tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    assert complete(["postern", "que"]) == ["queue"]
    assert complete(["postern", "queue", "re"]) == ["release", "retry"]
    assert complete(["postern", "--json", "queue", "sh"]) == ["shape", "show"]
    assert complete(["postern", "--socket", "/x", "block", ""]) == ["doc", "list"]
    assert complete(["postern", "queue", "drop", "--d"]) == ["--destination", "--dry-run"]
    assert "--socket" in complete(["postern", "status", "--"])
    assert complete(["postern", "completion", ""]) == ["bash", "fish", "zsh"]
    assert complete(["postern", "docs", "e"]) == ["events"]
    assert complete(["postern", "check", "mi"], cwd=tmp_path) == ["mine.yaml"]
    assert complete(["postern", "send", "--file", "mi"], cwd=tmp_path) == ["mine.yaml"]
    assert complete(["postern", "queue", "list", "mi"], cwd=tmp_path) == []


def test_every_verb_and_option_of_the_help_completes():
    usage = subprocess.run([BUILD / "postern", "--help"], text=True, capture_output=True).stdout
    rows = re.findall(r"^  ([a-z]+) +([a-z]+)?(?: {1,})", usage.split("\nexpressions")[0], re.M)
    assert len(rows) > 30
    nouns = set(complete(["postern", ""]))
    assert nouns == {noun for noun, _ in rows}
    for noun in nouns:
        shown = subprocess.run([BUILD / "postern", noun, "--help"], text=True, capture_output=True).stdout
        verbs = re.findall(r"^  ([a-z]+) ", shown, re.M) if "has these verbs" in shown else []
        assert not verbs or set(complete(["postern", noun, ""])) == set(verbs), noun


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_parse_theirs(shell):
    script = postern("completion", shell)
    assert "queue" in script and "dry-run" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
