# SPDX-License-Identifier: Apache-2.0
"""`postern check --live`: backends that never say no, that know more than is listed, or that are not there."""
import json
import socket
import subprocess
import threading

import pytest

from rig.gateway import BUILD
from rig.ldap import PEOPLE, SERVICE, SERVICE_PASSWORD
from rig.ports import free_port
from rig.scanners import VIRUS_NAME
from rig.setups import known


def check(path, *words, code=0):
    """Questions and problems of `check --live`, each a dictionary."""
    done = subprocess.run([BUILD / "postern", "--json", "check", "--live", path, *words], text=True, capture_output=True,
                          timeout=120)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}{done.stderr}"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line for line in lines if "probe" in line], [line for line in lines if "code" in line]


def live(problems):
    """Without what the file alone tells."""
    return [problem for problem in problems if problem["code"] not in ("unused-name", "secret-readable")]


def codes(problems):
    return sorted(problem["code"] for problem in problems)


def configuration(folder, servers, recipients="[ lookup-smtp: mail ]", authentication="", hostname="mx.example.org",
                  domains=("example.org",), tls=None):
    """Who gives flows of `authentication` gives a certificate with `tls`, too."""
    users = "tls: offered, certificate: main, authentication: { flow: staff }" if authentication else "tls: none, authentication: none"
    certificates = f"certificates:\n  main: {{ cert: {tls[0]}, key: {tls[1]} }}" if tls else ""
    path = folder / "postern.yaml"
    path.write_text(f"""version: 1
hostname: {hostname}
servers:
{servers}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{free_port()}" ], {users} }}
{certificates}
flows:
  recipient:
    local-users: {recipients}
{authentication}
transports:
  to-mail: {{ method: server, server: mail }}
domains:
""" + "".join(f"  {domain}: {{ recipients: local-users, transport: to-mail }}\n" for domain in domains)
        + "spool: { path: spool }\n")
    return path


def smtp(server, name="mail", more=""):
    return f'  {name}: {{ smtp: "127.0.0.1:{server.port}", tls: none{more} }}'


def test_a_server_that_knows_its_users_is_fine(tmp_path, sink):
    mail = sink(replies={"RCPT": known("anna")})
    probes, problems = check(configuration(tmp_path, smtp(mail)))
    assert problems == []
    assert [(probe["result"], probe["probe"].split("@")[-1]) for probe in probes[:2]] == \
        [("answers", "mail"), ("missing", "example.org")]
    assert all(isinstance(probe["ms"], int) for probe in probes)
    # there was no message, not even the beginning of one
    assert not mail.messages and not any(line.upper().startswith(("DATA", "BDAT")) for _, line in mail.commands)


def test_a_server_that_takes_everybody_is_found_for_each_domain(tmp_path, sink):
    mail = sink()
    path = configuration(tmp_path, smtp(mail), domains=("example.org", "example.net"))
    _, problems = check(path)
    assert codes(problems) == ["accepts-everything"] * 2
    assert ["example.net" in problem["text"] for problem in problems].count(True) == 1
    line = problems[0]["line"]
    assert "lookup-smtp" in path.read_text().splitlines()[line - 1]
    # for people: the place, the source line and the fix
    done = subprocess.run([BUILD / "postern", "check", "--live", path], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and f"{path}:{line}:" in done.stdout and "catch-all" in done.stdout
    assert "0 errors, 2 warnings." in done.stdout and "mail: answers (220" in done.stdout


def test_a_lookup_that_refuses_whom_it_finds_may_find_all(tmp_path, sink):
    mail = sink()
    _, problems = check(configuration(tmp_path, smtp(mail), "[ lookup-smtp: { server: mail, found: reject } ]"))
    assert "accepts-everything" not in codes(problems)


def test_a_server_that_is_down_is_asked_once(tmp_path):
    port = free_port()
    servers = f'  mail: {{ smtp: "127.0.0.1:{port}", tls: none }}'
    probes, problems = check(configuration(tmp_path, servers, domains=("example.org", "example.net")))
    assert [probe["result"] for probe in probes] == ["no answer"]
    assert codes(problems) == ["no-answer"] and str(port) in problems[0]["text"]


def test_a_server_that_is_silent_costs_its_time_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f'  mail: {{ smtp: "127.0.0.1:{silent.getsockname()[1]}", tls: none, timeout: 1s }}'
        probes, problems = check(configuration(tmp_path, servers))
    assert codes(problems) == ["no-answer"] and probes[0]["ms"] >= 900


def test_a_server_that_refuses_the_question(tmp_path, sink):
    mail = sink(replies={"RCPT": "554 5.7.1 go away"})
    _, problems = check(configuration(tmp_path, smtp(mail)))
    assert codes(problems) == ["lookup-denied"] and "go away" in problems[0]["text"]


# ---- domains that nobody listed ----


def answers_for(*domains):
    """Knows postmaster of these domains, and refuses to relay."""
    def reply(line):
        local, _, domain = line.partition("<")[2].partition(">")[0].lower().partition("@")
        if domain not in domains:
            return "554 5.7.1 relay access denied"
        return "" if local == "postmaster" else "550 5.1.1 no such user here"
    return reply


def test_domains_that_the_server_answers_for_but_nobody_listed(tmp_path, sink):
    mail = sink(replies={"RCPT": answers_for("example.org", "example.com", "mail.test"), "banner": "220 box.mail.test ESMTP"})
    path = configuration(tmp_path, smtp(mail), hostname="gw.example.com", domains=("example.org",))
    _, problems = check(path)
    assert codes(problems) == ["unlisted-domain"] * 2
    text = " ".join(problem["text"] for problem in problems)
    assert "example.com" in text and "mail.test" in text and "example.org" not in text
    path = configuration(tmp_path, smtp(mail), hostname="gw.example.com", domains=("example.org", "example.com", "mail.test"))
    assert check(path)[1] == []


def test_a_server_that_relays_for_the_gateway_tells_nothing_of_domains(tmp_path, sink):
    def reply(line):
        return "550 5.1.1 no such user here" if "@example.org>" in line.lower() else ""
    mail = sink(replies={"RCPT": reply})
    assert check(configuration(tmp_path, smtp(mail), hostname="gw.example.com"))[1] == []


# ---- logins ----

STAFF = "  authentication:\n    staff: [ smtp: { server: mail } ]"


@pytest.mark.parametrize("auth, code, expected", [
    ("235 2.7.0 welcome", 1, ["accepts-any-login"]),
    ("535 5.7.8 wrong", 0, []),
    ("454 4.7.0 not now", 0, ["no-answer"]),
])
def test_a_login_by_the_mail_server(tmp_path, sink, tls_files, auth, code, expected):
    mail = sink(replies={"RCPT": known("anna"), "AUTH": auth}, users={"anna": "correct"}, extensions=("AUTH PLAIN", "ENHANCEDSTATUSCODES"))
    _, problems = check(configuration(tmp_path, smtp(mail), authentication=STAFF, tls=tls_files), code=code)
    assert [one for one in codes(problems) if one not in ("auth-clear", "secret-readable")] == expected
    if code:
        assert [one["severity"] for one in problems if one["code"] == "accepts-any-login"] == ["error"]


def ldap_server(directory):
    (directory.folder / "password").write_text(SERVICE_PASSWORD + "\n")
    return (f'  dir: {{ ldap: "{directory.url}", base_dn: "{PEOPLE}", bind_dn: "{SERVICE}", '
            f'bind_password_file: {directory.folder}/password }}')


def test_ldap_knows_its_people_only(tmp_path, sink, ldap, tls_files):
    directory = ldap()
    servers = smtp(sink()) + "\n" + ldap_server(directory)
    flows = "  authentication:\n    staff: [ ldap: { server: dir } ]"
    probes, problems = check(configuration(tmp_path, servers, "[ lookup-ldap: dir ]", flows, tls=tls_files))
    results = {probe["probe"].split(",")[1].strip(): probe["result"] for probe in probes if probe["probe"].startswith("dir,")}
    assert results == {"lookup-ldap": "missing", "ldap": "unknown"} and not {"no-answer", "accepts-everything"} & set(codes(problems))
    # a filter that finds somebody for every address
    path = configuration(tmp_path, servers, '[ lookup-ldap: { server: dir, filter: "(|(mail={address})(objectClass=person))" } ]', flows, tls=tls_files)
    assert "accepts-everything" in codes(check(path)[1])
    directory.stop()
    assert codes(check(path)[1]).count("no-answer") == 1


def test_files(tmp_path, sink, tls_files):
    (tmp_path / "recipients").write_text("anna@example.org\n@example.net\n")
    (tmp_path / "users").write_text("")
    path = configuration(tmp_path, smtp(sink()), "[ lookup-file: recipients ]",
                         "  authentication:\n    staff: [ file: users ]", domains=("example.org", "example.net"), tls=tls_files)
    probes, problems = check(path)
    found = [problem for problem in problems if problem["code"] == "accepts-everything"]
    assert len(found) == 1 and "example.net" in found[0]["text"]
    assert any(probe["result"] == "unknown" and ", file, login " in probe["probe"] for probe in probes)


# ---- scanners ----


def one_answer(answer):
    """A server that reads a little, answers and closes; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        try:
            while True:
                peer, _ = listening.accept()
                with peer:
                    peer.settimeout(10)
                    asked.append(peer.recv(1000))
                    peer.sendall(answer)
        except OSError:
            pass
    asked = []
    threading.Thread(target=serve, daemon=True).start()
    return listening, asked


@pytest.mark.parametrize("kind, answer, question", [
    ("clamd", b"PONG\0", b"zPING\0"),
    ("rspamd", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npong\r\n", b"GET /ping HTTP/1.0\r\n"),
    ("spamd", b"SPAMD/1.5 0 PONG\r\n", b"PING SPAMC/1.2\r\n"),
])
def test_scanners_are_pinged(tmp_path, sink, kind, answer, question):
    mail = sink(replies={"RCPT": known("anna")})
    listening, asked = one_answer(answer)
    port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}" if kind == "rspamd" else f"127.0.0.1:{port}"
    path = configuration(tmp_path, smtp(mail) + f'\n  scan: {{ {kind}: "{url}" }}')
    probes, problems = check(path)
    assert {"probe": "scan", "result": "answers", "detail": "PONG"}.items() <= probes[1].items()
    assert asked[0].startswith(question)
    # a PONG is no answer to the question about a virus
    assert ("no-answer" in codes(problems)) == (kind == "clamd")
    listening.close()
    other, _ = one_answer(b"what?\0")
    path.write_text(path.read_text().replace(str(port), str(other.getsockname()[1])))
    problems = [one for one in check(path)[1] if one["code"] == "no-answer"]
    assert len(problems) == 1 and "what?" in problems[0]["text"]
    other.close()


def test_milters_are_greeted(tmp_path, sink):
    mail = sink(replies={"RCPT": known("anna")})
    listening, asked = one_answer(b"\0\0\0\x0dO" + bytes([0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0]))
    path = configuration(tmp_path, smtp(mail) + f'\n  scan: {{ milter: "127.0.0.1:{listening.getsockname()[1]}" }}')
    probes, problems = check(path)
    assert {"probe": "scan", "result": "answers", "detail": "it speaks version 4"}.items() <= probes[1].items()
    assert asked[0].startswith(b"\0\0\0\x0dO\0\0\0\x06") and "no-answer" not in codes(problems)
    listening.close()


def test_a_file_with_errors_is_not_tried(tmp_path, sink):
    mail = sink()
    path = configuration(tmp_path, smtp(mail), "[ lookup-smtp: mial ]")
    probes, _ = check(path, code=1)
    assert probes == [] and mail.connections == 0


# ---- the real ones ----


@pytest.fixture(scope="module")
def scanners(tmp_path_factory):
    from rig.scanners import Clamd, Rspamd, Spamd
    running = []
    try:
        running += [Clamd(tmp_path_factory.mktemp("clamd")), Rspamd(tmp_path_factory.mktemp("rspamd")), Spamd()]
        yield running
    finally:
        for one in running:
            one.stop()


def test_real_scanners(tmp_path, sink, scanners):
    clamd, rspamd, spamd = scanners
    servers = smtp(sink(replies={"RCPT": known("anna")})) + (f'\n  virus: {{ clamd: "unix:{clamd.socket}" }}'
                                                             f'\n  spam: {{ rspamd: "http://127.0.0.1:{rspamd.port}" }}'
                                                             f'\n  old: {{ spamd: "127.0.0.1:{spamd.port}" }}')
    probes, problems = check(configuration(tmp_path, servers))
    assert {probe["probe"]: (probe["result"], probe["detail"]) for probe in probes if probe["probe"] in ("virus", "spam", "old")} == \
        {name: ("answers", "PONG") for name in ("virus", "spam", "old")}
    assert [(probe["result"], probe["detail"]) for probe in probes if probe["probe"].startswith("virus,")] == [("found", f"{VIRUS_NAME}.UNOFFICIAL")]
    assert live(problems) == []
    # at the port of another: something answers, and it is not what was asked for
    crossed = servers.replace(f"unix:{clamd.socket}", f"127.0.0.1:{rspamd.port}").replace(f"http://127.0.0.1:{rspamd.port}", f"http://127.0.0.1:{spamd.port}") \
        .replace(f'spamd: "127.0.0.1:{spamd.port}"', f'spamd: "unix:{clamd.socket}"')
    _, problems = check(configuration(tmp_path, crossed))
    assert codes(live(problems)) == ["no-answer"] * 3, problems


def test_a_virus_scanner_without_signatures_is_found(tmp_path, sink):
    """It answers, and everything is clean."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            with peer:
                said = peer.recv(1000)
                while not said.startswith(b"zPING") and not said.endswith(b"\0\0\0\0"):
                    said += peer.recv(1000)
                peer.sendall(b"PONG\0" if said.startswith(b"zPING") else b"stream: OK\0")
    threading.Thread(target=serve, daemon=True).start()
    servers = smtp(sink(replies={"RCPT": known("anna")})) + f'\n  virus: {{ clamd: "127.0.0.1:{listening.getsockname()[1]}" }}'
    probes, problems = check(configuration(tmp_path, servers))
    assert codes(live(problems)) == ["finds-nothing"], problems
    assert [probe["result"] for probe in probes if probe["probe"].startswith("virus")] == ["answers", "clean"]
    listening.close()


# ---- TLS ----


def ldap_over_tls(directory, url, more):
    (directory.folder / "password").write_text(SERVICE_PASSWORD + "\n")
    return (f'  dir: {{ ldap: "{url}", base_dn: "{PEOPLE}", bind_dn: "{SERVICE}", bind_password_file: {directory.folder}/password{more} }}')


@pytest.fixture
def other_authority(tmp_path):
    """Of a certificate that signed nothing here."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "other.key",
                    "-out", tmp_path / "other.crt", "-days", "30", "-subj", "/CN=other.test"], check=True, stderr=subprocess.DEVNULL)
    return tmp_path / "other.crt"


@pytest.mark.parametrize("kind", ["ldaps", "starttls"])
def test_ldap_with_a_certificate_that_nobody_trusts(tmp_path, sink, ldap, tls_files, other_authority, kind):
    directory = ldap(tls_files=tls_files)
    url = f"ldaps://127.0.0.1:{directory.tls_port}" if kind == "ldaps" else f"ldap://127.0.0.1:{directory.port}"
    more = ", starttls: true" if kind == "starttls" else ""
    servers = smtp(sink()) + "\n" + ldap_over_tls(directory, url, f"{more}, ca_file: {tls_files[0]}")
    probes, problems = check(configuration(tmp_path, servers, "[ lookup-ldap: dir ]"))
    assert [probe["result"] for probe in probes if probe["probe"].startswith("dir,")] == ["missing"] and live(problems) == [], (probes, problems)
    servers = smtp(sink()) + "\n" + ldap_over_tls(directory, url, f"{more}, ca_file: {other_authority}")
    probes, problems = check(configuration(tmp_path, servers, "[ lookup-ldap: dir ]"))
    assert codes(live(problems)) == ["no-answer"] and "certificate" in live(problems)[0]["text"].lower(), problems


@pytest.mark.parametrize("tls", ["verified", "required"])
def test_a_mail_server_with_a_certificate_that_nobody_trusts(tmp_path, sink, tls_files, other_authority, tls):
    mail = sink(tls_files=tls_files, replies={"RCPT": known("anna")})
    servers = f'  mail: {{ smtp: "localhost:{mail.port}", tls: {tls}, ca_file: {other_authority} }}'
    probes, problems = check(configuration(tmp_path, servers))
    if tls == "required":  # that it is encrypted is enough
        assert problems == [], problems
        return
    assert codes(problems) == ["no-answer"] and "certificate" in problems[0]["text"].lower(), problems
    assert not any(line.upper().startswith("RCPT") for _, line in mail.commands), "nobody is asked who is not the one"
    servers = servers.replace(str(other_authority), str(tls_files[0]))
    assert check(configuration(tmp_path, servers))[1] == []


def test_a_mail_server_that_lost_its_tls(tmp_path, sink, tls_files):
    mail = sink(replies={"RCPT": known("anna")})
    _, problems = check(configuration(tmp_path, f'  mail: {{ smtp: "localhost:{mail.port}", tls: verified, ca_file: {tls_files[0]} }}'))
    assert codes(problems) == ["no-answer"] and "does not offer TLS" in problems[0]["text"], problems
