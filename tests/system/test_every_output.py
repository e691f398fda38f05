# SPDX-License-Identifier: Apache-2.0
"""
T-B5: every byte and two hundred escape sequences in every field that outsiders fill, seen through every output: the log's JSON,
the commands for people and for programs, live events, the API, the history, lines in the words of Postfix, notices and fields
that we write ourselves.
"""
import json
import pathlib
import re
import socket
import subprocess

import pytest

from rig.gateway import BUILD, wait_until
from rig.outbound import Host, Outbound
from rig.ports import free_port, wait_for_port
from rig.setups import known, reception
from rig.talk import Talk
from test_api import UnixConnection

# what a terminal, a reader of lines or an eye could be led astray by
FORMAT = "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\ufff9\ufffb"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escapes():
    """Over two hundred, of every family there is."""
    found = [b"\x1b" + bytes([final]) + b"x" for final in range(0x30, 0x7f)]                       # two bytes: ESC c, ESC 7 …
    found += [b"\x1b[" + bytes([final]) for final in range(0x40, 0x7f)]                            # CSI
    found += [b"\x1b[%d;%dm" % (n, n) for n in (0, 1, 5, 7, 8, 31, 38, 48, 97)] + [b"\x1b[?%dh" % n for n in (1, 25, 47, 1000, 1049, 2004)]
    found += [b"\x1b]%d;title\x07" % n for n in (0, 1, 2, 4, 8, 9, 10, 50, 52, 777, 1337)] + [b"\x1b]8;;http://x/\x1b\\click\x1b]8;;\x1b\\"]
    found += [b"\x1bPq#0;2;0;0;0\x1b\\", b"\x1bP+q544e\x1b\\", b"\x1bP0;1|17/ab\x9c", b"\x1b_Gf=1\x1b\\", b"\x1b^pm\x1b\\", b"\x1bX\x1b\\"]
    found += [bytes([c]) + b"31m" for c in range(0x80, 0xa0)]                                      # C1, as bytes
    found += [bytes([0xc2, c]) + b"31m" for c in range(0x80, 0xa0)]                                # and as UTF-8
    found += [c.encode() + b"gnp.exe" for c in FORMAT] + ["\U000e0041tag".encode(), b"\xc0\x9b31m", b"\xe0\x82\x9b", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
    found += [b'","queue_id":"forged', b'"}\r{"event":"auth.ok"', b"\\u001b[31m", b"\\x1b[31m", b"%s%n%x", b"${x}", b"$(id)", b"`id`", b"\\\\", b"'\"", b"\0x"]
    return found


ESCAPES = escapes()
BYTES = [bytes(b for b in range(start, start + 16) if b not in (10, 13)) for start in range(0, 256, 16)]
PIECES = BYTES + [b" ".join(ESCAPES[i:i + 6]) for i in range(0, len(ESCAPES), 6)]


def clean(text, what):
    found = UNSAFE.search(text)
    assert not found, f"{what}: {text[max(0, found.start() - 60):found.end() + 20]!r}"
    return text


def clean_json(text, what):
    """Lines of JSON that a terminal does not mind."""
    for line in clean(text, what).splitlines():
        assert "queue_id" not in json.loads(line), line
    return text


def raw(port, *lines, wait=True):
    """Say these lines whatever comes back; all that came back."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        file = sock.makefile("rb")
        said = file.readline()
        for line in lines:
            try:
                sock.sendall(line + b"\r\n")
                while wait:
                    answer = file.readline()
                    said += answer
                    if not answer or answer[3:4] != b"-":
                        break
            except OSError:
                break
        return said


def attack(mx, pieces):
    """Each piece in each place; the message itself, too. What the server answered."""
    said = b""
    for piece in pieces:
        flat = piece.replace(b"\0", b"?").replace(b"\r", b"")
        said += raw(mx, b"EHLO " + piece, b"MAIL FROM:<a%s@far.example>" % piece, b"RCPT TO:<%s@example.org>" % piece, b"AUTH PLAIN " + piece, piece)
        said += raw(mx, b"HELO x" + piece, b'MAIL FROM:<"%s"@far.example>' % flat.replace(b'"', b"").replace(b"\\", b""),
                    b'RCPT TO:<"%s"@example.org>' % flat.replace(b'"', b"").replace(b"\\", b""), b"RCPT TO:<anna@example.org> ORCPT=rfc822;" + piece)
        with Talk(mx, ehlo="c.test") as talk:
            talk.mail("a@far.example", "anna@example.org")
            code, text = talk.data(b"From: " + flat + b" <a@far.example>\r\nSubject: " + flat + b"\r\nMessage-ID: <" + flat + b">\r\nX-Mailer: " + flat
                                   + b"\r\nContent-Type: text/plain; name=" + flat + b"\r\n\r\nx\r\n")
            assert code == 250, text
    return said


CONFIG = """  content:
    look:
      - verify: { reject: note }
      - subject-tag: { text: "[X]", when: header("X-Mailer") == "never" }
      - reject: { when: header("X-Mailer") ~ "nothing such" }
      - deliver
"""


@pytest.fixture
def scene(gateway, sink, tls_files):
    mail = sink(tls_files=tls_files, replies={"RCPT": known("anna"), "DATA": lambda line: next(mail.words)}, users={"anna": "secret"})
    mail.words = iter(())
    mx, submission, api = free_port(), free_port(), free_port()
    one = gateway(reception(mail, mx, certificate=tls_files, submission=submission, flows=CONFIG.rstrip(), top=f'admin: {{ listen: [ "127.0.0.1:{api}" ] }}')
                  .replace("recipients: local-users,", "recipients: local-users, content: look,"), ports=[mx, submission, api])
    one.mail, one.mx, one.submission, one.api = mail, mx, submission, api
    return one


def words_of_the_server():
    """A hostile server's answers to DATA: some for now, some for good, then yes."""
    for i, piece in enumerate(PIECES):
        text = piece.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")
        yield f"{'451 4.3.0' if i % 2 else '554 5.6.0'} {text}"
    while True:
        yield "554 5.6.0 \x1b[31mno\x07"


COMMANDS = [["status"], ["queue", "list"], ["queue", "causes"], ["queue", "shape"], ["queue", "shape", "--senders"], ["transport", "list"],
            ["transport", "show", "to-mail"], ["find", "--limit", "1000"], ["shadow"], ["config", "history"], ["metrics"]]


def test_every_output_is_text(scene):
    scene.mail.words = words_of_the_server()
    live = [subprocess.Popen([BUILD / "postern", "--socket", scene.folder / "control.sock", *words], stdout=subprocess.PIPE)
            for words in (["tail"], ["--json", "tail"])]
    stream = UnixConnection(scene.folder / "control.sock")
    stream.request("GET", "/api/v1/events/stream")
    answer = stream.getresponse()
    try:
        assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", attack(scene.mx, PIECES).replace(b"\r\n", b"\n")), "replies are text"
        logins(scene)
        names_in_tls(scene)
        hostile_http(scene)
        wait_until(lambda: len(scene.find("delivery.deferred")) + len(scene.find("delivery.failed")) >= len(PIECES), "the server said it all")
        with Talk(scene.mx, ehlo="the-last-one.test") as talk:
            talk.mail("a@far.example")
            assert talk.say("RCPT TO:<nobody@example.org>")[0] in (550, 451)  # the hostile logins may have made its server hang up
        wait_until(lambda: scene.find("recipient.reject", helo="the-last-one.test") or scene.find("recipient.defer", helo="the-last-one.test"),
                   "the last refusal is told")
        heard = b""
        while b"the-last-one.test" not in heard:
            heard += answer.read1(65536)
    finally:
        stream.close()
        shown = []
        for process in live:
            process.terminate()
            shown.append(process.communicate(timeout=120)[0])
    for line in list(scene.raw):
        clean_json(line.decode(), "the log")
    clean(heard.decode(), "live events over HTTP")
    clean(shown[0].decode(), "tail")
    assert len(shown[0]) > 10000
    clean_json(shown[1].decode().rpartition("\n")[0], "tail --json")
    commands(scene)


def logins(scene):
    import base64
    for piece in PIECES[::3]:
        with Talk(scene.submission, ehlo="c.test") as talk:
            talk.starttls()
            token = base64.b64encode(b"\0" + piece.replace(b"\0", b"") + b"\0secret").decode()
            assert talk.say(f"AUTH PLAIN {token}")[0] in (535, 501, 454, 500)


def names_in_tls(scene):
    for name in ("\x1b[31mred", "\u202egnp.exe", "a\x9b2J"):
        subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{scene.submission}", "-starttls", "smtp", "-servername", name], input=b"QUIT\r\n",
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)


def hostile_http(scene):
    """Paths, methods, fields of requests: over TCP, where nobody has a token, and over the socket."""
    for piece in PIECES[::4] + [b"/api/v1/status\x1b[31m", b"/../../etc/passwd\x07", b"/api/v1/messages/%1b%5b31m/trace"]:
        flat = piece.replace(b"\r", b"").replace(b"\n", b"")
        for family, where in ((socket.AF_INET, ("127.0.0.1", scene.api)), (socket.AF_UNIX, str(scene.folder / "control.sock"))):
            with socket.socket(family) as sock:
                sock.settimeout(20)
                sock.connect(where)
                sock.sendall(b"GET /api/v1/messages/" + flat.replace(b" ", b"%20") + b"/trace HTTP/1.1\r\nHost: x\r\nUser-Agent: " + flat.replace(b"\0", b"")
                             + b"\r\nAuthorization: Bearer " + flat.replace(b"\0", b"") + b"\r\nConnection: close\r\n\r\n")
                said = b""
                while piece_read := _recv(sock):
                    said += piece_read
                clean(said.decode("utf-8", "replace").replace("\r\n", "\n"), "an answer of the API")


def _recv(sock):
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def commands(scene):
    for words in COMMANDS:
        clean(scene.ctl(*words, ok=(0, 1)), words)
        if words != ["metrics"]:
            clean_json(scene.ctl("--json", *words, ok=(0, 1)), words)
    ids = [item.get("ref") or item["id"] for item in scene.ctl_json("find", "--limit", "1000", ok=(0, 1))]
    assert len(ids) > 2 * len(PIECES)
    for one in ids[:: max(1, len(ids) // 25)]:
        for words in (["trace", one], ["trace", "--raw", one], ["trace", "--story", one]):
            clean(scene.ctl(*words), words)
            clean_json(scene.ctl("--json", *words), words)
    for piece in PIECES[::10]:  # what was looked for is said again, with what it was taken for
        word = piece.replace(b"\0", b"").decode("latin-1").replace('"', "")
        for words in (["find", word], ["find", f'"{word}"'], ["find", f"subject:{word}"], ["find", f"{word}@example.org"]):
            done = scene.run_ctl(*words)
            assert done.returncode in (0, 1, 2), (words, done)
            clean(done.stdout + done.stderr, words)
            clean_json(scene.run_ctl("--json", *words).stdout, words)
    for item in scene.queue()[:8]:
        clean(scene.ctl("queue", "show", item["entry"] if "entry" in item else item["id"], ok=(0, 1)), "queue show")
    for cause in scene.ctl_json("queue", "causes", ok=(0, 1))[:8]:
        clean(scene.ctl("queue", "cause", "show", cause["cause"], ok=(0, 1)), "queue cause show")


def test_fields_and_notices_of_ours(scene):
    """Received, Authentication-Results and the notice about a failure quote what others said: as text, in whole lines."""
    scene.mail.words = iter([""] * len(PIECES))
    attack(scene.mx, PIECES)
    wait_until(lambda: len(scene.mail.messages) >= len(PIECES), "all arrived")
    for message in scene.mail.messages:
        head = message.data.partition(b"\r\n\r\n")[0] if hasattr(message, "data") else bytes(message).partition(b"\r\n\r\n")[0]
        ours = []
        for line in head.split(b"\r\n"):
            if line.startswith((b"From:", b"Subject:")):
                break  # from here on it is the sender's
            ours.append(line)
        assert any(line.startswith(b"Received:") for line in ours)
        clean(b"\n".join(ours).replace(b"\t", b" ").decode(), "fields of ours")


def test_the_words_of_postfix(gateway, sink):
    """compat: postfix is read by line: no field can begin another line, or forge a part of one."""
    mail = sink(replies={"RCPT": known("anna"), "DATA": lambda line: next(words)})
    words = words_of_the_server()
    mx = free_port()
    one = gateway(reception(mail, mx, top="log: { to: file, path: mail.log, compat: postfix }"), start=False)
    one.start(wait=False)
    wait_for_port(mx)
    log = one.folder / "mail.log"
    attack(mx, PIECES)
    wait_until(lambda: log.read_text().count("status=") >= len(PIECES), "the attempts are told")
    for line in log.read_text().splitlines():
        clean(line, "compat")
        assert re.match(r"\w{3} [ \d]\d [\d:]{8} \S+ (postfix|postern)\S*\[\d+\]: ", line), line
        assert line.count(" to=<") <= 2 and "queue_id" not in line.partition(": ")[0]


def test_whole_messages_on_a_terminal(gateway, sink):
    """Into a pipe every byte goes, onto a terminal none that it would obey: of what waits, what lies in quarantine, and of files of others."""
    one = Outbound(gateway, sink, {"far": Host(sink(replies={"RCPT": "450 4.2.0 busy"})), "kept": Host(sink(), content="kept")},
                   flows="  content:\n    kept: [ quarantine: { id: stop, name: spam }, deliver ]\n", extra="quarantines: { spam: { keep: 30d } }\n# \u202e\n")
    body = b"Subject: \xc3\xbc\r\n\r\n" + b"\r\n".join(piece.replace(b"\0", b"?").replace(b"\r", b"") for piece in PIECES) + b"\r\nend\r\n"
    waiting = one.send("x@far.test", data=body)
    one.send("x@kept.test", data=body)
    kept = wait_until(lambda: one.gateway.ctl_json("quarantine", "list"), "it is in quarantine")[0]["entry"]
    wait_until(lambda: one.gateway.queue(), "it waits")
    for words in [("message", "raw", waiting), ("quarantine", "raw", kept)]:
        seen = one.gateway.ctl_on_terminal(*words).decode().replace("\t", " ")
        assert clean(seen, words).endswith("end\n") and "Subject: \u00fc\n" in seen and "\\x1b[" in seen
        piped = subprocess.run([BUILD / "postern", "--socket", one.gateway.folder / "control.sock", *words], stdout=subprocess.PIPE, check=True).stdout
        assert piped.endswith(body), words
    assert "# \\xe2\\x80\\xae\n" in clean(one.gateway.ctl_on_terminal("config", "show").decode(), "a revision")


def test_names_of_files(tmp_path):
    """The path of a configuration is shown in problems: by the daemon as JSON, by the command as text."""
    for piece in ("\x1b[31mred", "\u202egnp", "\x9b2J", 'a"b', "tab\there", "\x7f"):
        path = tmp_path / f"{piece}.yaml"
        path.write_text("version: 1\nnonsense: true\n")
        done = subprocess.run([BUILD / "posternd", "--config", path, "--check"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        clean_json(done.stdout.decode(), "posternd --check")
        clean(done.stderr.decode(), "posternd --check")
        done = subprocess.run([BUILD / "postern", "check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        clean((done.stdout + done.stderr).decode(), "postern check")
        assert b"nonsense" in done.stdout + done.stderr
        pathlib.Path(path).unlink()
