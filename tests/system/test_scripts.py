# SPDX-License-Identifier: Apache-2.0
"""Lua scripts over the wire: the guide's custom script, decisions and changes, questions, and attempts of delivery."""
import http.server
import smtplib
import ssl
import threading
import time

import pytest

from rig.gateway import wait_until
from rig.outbound import Host, Outbound
from rig.ports import free_port

# ---- the guide's custom script: local, but not listed ----

LOCAL = """
-- A domain that our mail server hosts, but that is not listed here: a user's mail for it stays inside.
function recipient(mail)
  if postern.lookup("mail", mail.recipient) == "found" then
    mail:route("inside")
    return "accept"
  end
end

function authentication(mail)
  if mail.login:match("^bot%-") then
    return "reject", "535 5.7.8 Robots do not log in"
  end
  local answer = mail:login_by("mail")
  if answer == "yes" then
    return "accept"
  elseif answer == "error" then
    return "defer"
  end
end

function yes(mail)
  return "accept"
end
"""


@pytest.fixture
def office(gateway, sink, dns, tls_files, tmp_path):
    """The mail server knows anna and bob, wherever they are; the world is one sink behind an MX record."""
    mail = sink(tls_files=tls_files, users={"anna": "secret"},
                replies={"RCPT": lambda line: "" if "anna@" in line.lower() or "bob@" in line.lower()
                         else "550 5.1.1 no such user here"})
    world = sink(host="127.0.0.2")
    names = dns(["example.net. MX 10 mx.example.net.", "hosted.example. MX 10 mx.example.net.",
                 "mx.example.net. A 127.0.0.2"])
    mx, submission, open_door = free_port(), free_port(), free_port()
    cert, key = tls_files
    config = f"""
version: 1
hostname: mx.example.org
servers:
  mail: {{ smtp: "127.0.0.1:{mail.port}", tls: verified, ca_file: {cert} }}
certificates:
  main: {{ cert: {cert}, key: {key} }}
listeners:
  inbound: {{ listen: [ "127.0.0.1:{mx}" ], tls: offered, certificate: main, authentication: none }}
  submission: {{ listen: [ "127.0.0.1:{submission}" ], tls: required, certificate: main,
                 authentication: {{ flow: staff, required: true }} }}
  open: {{ listen: [ "127.0.0.1:{open_door}" ], tls: required, certificate: main,
           authentication: {{ flow: anybody, required: true }} }}
flows:
  authentication:
    staff: [ script: scripts/office.lua ]
    anybody: [ script: {{ file: scripts/office.lua, function: "yes" }} ]
  recipient:
    mine:
      - script: {{ file: scripts/office.lua, transports: [ inside ], when: authenticated }}
      - accept: {{ when: authenticated }}
      - reject: {{ reply: "554 5.7.1 Relay access denied" }}
  content:
    plain: [ deliver ]
transports:
  inside: {{ server: mail }}
  internet: {{ method: lookup-mx, direction: outbound, port: {world.port}, allow_private: true, retry: {{ delays: [ 1s ], count: 3 }} }}
domains:
  example.org: {{ recipients: {{ preset: local-users, server: mail }}, content: plain, transport: inside }}
  any: {{ recipients: mine, content: plain, transport: internet }}
entitlements: {{ open_relay_support: true }}
dns: {{ servers: [ "{names.address}" ] }}
"""
    folder = tmp_path / "office"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "office.lua").write_text(LOCAL)
    one = gateway(config, ports=[mx, submission, open_door], folder=folder)
    one.mail, one.world, one.mx, one.submission, one.open = mail, world, mx, submission, open_door
    return one


def say(client, sender, recipient, data=b"Subject: test\r\n\r\nHello\r\n"):
    code, text = client.mail(sender)
    if code == 250:
        code, text = client.rcpt(recipient)
    if code == 250:
        code, text = client.data(data)
    return code, text.decode()


def test_a_users_mail_to_a_domain_that_is_local_but_not_listed(office):
    client = office.client(office.submission, tls=True, login=("anna", "secret"))
    assert say(client, "anna@example.org", "bob@hosted.example")[0] == 250
    wait_until(lambda: office.mail.messages, "the mail server has it")
    assert office.mail.messages[0].recipients == ["bob@hosted.example"]
    office.wait_empty()
    assert not office.world.messages


def test_a_users_mail_to_the_world_goes_there(office):
    client = office.client(office.submission, tls=True, login=("anna", "secret"))
    assert say(client, "anna@example.org", "carol@hosted.example")[0] == 250
    wait_until(lambda: office.world.messages, "the world has it")
    office.wait_empty()
    assert not office.mail.messages


def test_a_strangers_mail_to_that_domain_is_refused(office):
    code, text = say(office.client(office.mx), "a@example.net", "bob@hosted.example")
    assert code == 554 and text.startswith("5.7.1")
    assert not any("RCPT" in line for _, line in office.mail.commands), "a lookup was made"


FLOW_TESTS = """
given:
  servers: { mail: { recipients: [ bob@hosted.example ], logins: { anna: secret } } }
tests:
  - name: a user, local but not listed
    session: { listener: submission, client: 192.0.2.7, tls: true, user: anna, password: secret }
    mail: { from: anna@example.org, to: bob@hosted.example }
    expect: { recipient: accept, step: 1-script }
  - name: a user, the world
    session: { listener: submission, client: 192.0.2.7, tls: true, user: anna, password: secret }
    mail: { from: anna@example.org, to: carol@hosted.example }
    expect: { recipient: accept, step: 2-accept }
  - name: a robot
    session: { listener: submission, client: 192.0.2.7, tls: true, user: bot-1, password: secret }
    expect: { auth: reject, reply: "535 5.7.8 Robots" }
"""


def test_flow_tests_run_scripts(office):
    (office.folder / "tests").mkdir()
    (office.folder / "tests/scripts.test.yaml").write_text(FLOW_TESTS)
    said = office.ctl("test", "--config", str(office.path), ok=(0, 1))
    assert "3 passed" in said, said


# ---- logins ----

@pytest.mark.parametrize("login, password, code, words", [
    ("anna", "wrong", 535, "5.7.8 Auth"), ("bot-1", "secret", 535, "5.7.8 Robots do not log in")])
def test_a_login_that_a_script_refuses(office, login, password, code, words):
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        office.client(office.submission, tls=True, login=(login, password))
    assert refused.value.smtp_code == code and words in refused.value.smtp_error.decode()


def test_a_scripts_yes_is_no_login(office):
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        office.client(office.open, tls=True, login=("anna", "secret"))
    assert refused.value.smtp_code == 454
    assert "no backend said yes" in office.wait("auth.error")["detail"]


# ---- content ----

CONTENT = """
local helper = require "lib.helper"

function content(mail)
  local subject = mail:header("Subject") or ""
  if subject == "reject" then return "reject", "550 5.7.1 Not this" end
  if subject == "fault" then helper.fault() end
  if subject == "loop" then while true do end end
  if subject == "ask" then
    local answer, why = postern.http { url = "http://127.0.0.1:PORT/judge", body = mail.sender, timeout = "2s" }
    if not answer then return "defer", "451 4.7.1 " .. why end
    mail:add_header("X-Answer", answer.status .. " " .. answer.body .. " " .. answer.headers["x-more"])
  end
  if subject == "count" and not postern.count("sender:" .. mail.sender, 2, "1h") then
    return "defer", "450 4.7.1 Too many"
  end
  n = (n or 0) + 1
  mail:set_header("X-Runs", n)
  mail:set_header("X-Words", helper.words(mail:text()))
end
"""
HELPER = """
local helper = {}
function helper.words(text)
  local count = 0
  for _ in text:gmatch("%w+") do count = count + 1 end
  return count
end
function helper.fault()
  local nothing
  return nothing.field
end
return helper
"""


class Judge:
    """A web service that says what was asked, after a while."""

    def __init__(self):
        judge = self
        self.delay, self.asked = 0, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                judge.asked.append((self.path, body))
                time.sleep(judge.delay)
                self.send_response(201)
                self.send_header("X-More", "more")
                self.end_headers()
                self.wfile.write(body.upper().encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def judge():
    one = Judge()
    yield one
    one.close()


def scene_of(gateway, sink, files, flows="", listener="", **hosts):
    one = Outbound(gateway, sink, hosts, flows=flows, listener=listener, start=False)
    for name, text in files.items():
        path = one.gateway.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    one.gateway.write_config(one.config())
    return one


@pytest.fixture
def scene(gateway, sink, judge, request):
    one = scene_of(gateway, sink,
                   {"scripts/content.lua": CONTENT.replace("PORT", str(judge.port)), "scripts/lib/helper.lua": HELPER},
                   flows="  content:\n    asked: [ script: scripts/content.lua, deliver ]",
                   listener=getattr(request, "param", ""), out=Host(sink(), content="asked"))
    one.out = one.hosts["out"].sinks
    one.judge = judge
    one.gateway.start()
    return one


def letter(subject):
    return f"Subject: {subject}\r\n\r\none two three\r\n".encode()


def send(scene, subject):
    return say(scene.gateway.client(scene.port), "a@home.test", "x@out.test", letter(subject))


@pytest.mark.parametrize("scene", ["", "processing: queued"], indirect=True, ids=["direct", "queued"])
def test_a_script_changes_the_header_and_keeps_nothing(scene):
    for _ in range(2):
        assert send(scene, "hello")[0] == 250
    wait_until(lambda: len(scene.out.messages) == 2, "both are there")
    for message in scene.out.messages:
        assert b"X-Runs: 1\r\n" in message.data and b"X-Words: 3\r\n" in message.data


def test_a_script_refuses_in_its_words(scene):
    code, text = send(scene, "reject")
    assert code == 550 and text.startswith("5.7.1 Not this")


@pytest.mark.parametrize("subject, words", [
    ("fault", ["lib/helper.lua:10: attempt to index a nil value (local 'nothing')", "content.lua:7: in function 'content'"]),
    ("loop", ["content.lua:8: the script works longer than it may"])])
def test_a_fault_defers_and_stands_in_the_trace(scene, subject, words):
    code, text = send(scene, subject)
    assert code == 451 and text.startswith("4.3.5")
    detail = scene.gateway.wait("message.deferred")["detail"]
    assert all(word in detail for word in words), detail


def test_a_script_asks_a_web_service(scene):
    assert send(scene, "ask")[0] == 250
    wait_until(lambda: scene.out.messages, "it is there")
    assert b"X-Answer: 201 A@HOME.TEST more\r\n" in scene.out.messages[0].data
    assert scene.judge.asked == [("/judge", "a@home.test")]


def test_a_web_service_must_be_who_it_says(scene, tls_files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, tls_files))
    plain = scene.judge.server.socket
    scene.judge.server.socket = context.wrap_socket(plain, server_side=True)
    path = scene.gateway.folder / "scripts/content.lua"
    path.write_text(path.read_text().replace("http://127", "https://127"))
    assert scene.gateway.reload()
    code, text = send(scene, "ask")
    assert code == 451 and "certificate" in text, text
    assert not scene.judge.asked


def test_others_go_on_while_a_script_waits(scene):
    scene.judge.delay = 60
    waiting = threading.Thread(target=lambda: replies.append(send(scene, "ask")))
    replies = []
    waiting.start()
    wait_until(lambda: scene.judge.asked, "it was asked")
    assert send(scene, "hello")[0] == 250
    waiting.join(120)
    scene.judge.delay = 0
    assert replies and replies[0][0] == 451, replies


def test_a_script_counts_over_messages(scene):
    assert [send(scene, "count")[0] for _ in range(3)] == [250, 250, 450]


def test_a_reload_brings_the_new_script(scene):
    assert send(scene, "hello")[0] == 250
    path = scene.gateway.folder / "scripts/content.lua"
    path.write_text("function content(mail) return 'reject', '550 5.7.1 New' end")
    assert scene.gateway.reload()
    code, text = send(scene, "hello")
    assert code == 550 and text.startswith("5.7.1 New")
    path.write_text("function content(mail) retrun 1 end")
    assert not scene.gateway.reload()
    assert send(scene, "hello")[0] == 550


def test_check_shows_the_place(scene):
    path = scene.gateway.folder / "scripts/lib/helper.lua"
    path.write_text("local helper = {}\nfunction helper.words(\nreturn helper\n")
    code, problems = scene.gateway.check()
    assert code != 0 and "script" in str(problems[0])
    text = scene.gateway.ctl("check", str(scene.gateway.path), ok=(1, 2))
    assert "scripts/lib/helper.lua:3:1" in text and "return helper" in text, text


# ---- attempts ----

ATTEMPTS = """
function before(mail)
  if mail.recipients[1]:match("^night") and mail.attempt == 1 then
    return "defer", { reply = "451 4.3.2 Not at night", delay = "1s" }
  end
  if mail.recipients[1]:match("^side") then return "route", "s-side" end
  if mail.recipients[1]:match("^never") then return "reject", "550 5.7.1 Never" end
  if mail.recipients[1]:match("^hold") then return "hold", "a person must look" end
  if mail.recipients[1]:match("^fault") then error("oops") end
end

function after(mail)
  for _, reply in ipairs(mail.replies) do
    if reply.outcome == "failed" and reply.text:find("mailbox full") then
      return "defer", { delay = "1s" }
    end
  end
end
"""


@pytest.fixture
def ways(gateway, sink):
    out = sink(replies={"RCPT": lambda line: ["550 5.2.2 mailbox full"][0] if "full@" in line and not out.messages else ""})
    one = scene_of(gateway, sink, {"scripts/ways.lua": ATTEMPTS},
                   out=Host(out, transport="script: { file: scripts/ways.lua, before: before, after: after, "
                                           "servers: [ s-side ] }"),
                   side=Host(sink()))
    one.out, one.side = out, one.hosts["side"].sinks
    one.gateway.start()
    return one


def test_before_an_attempt(ways):
    ways.send("night@out.test")
    wait_until(lambda: ways.out.messages, "it came in the second attempt")
    deferred = ways.gateway.wait("delivery.deferred")
    assert "Not at night" in deferred["reply"]
    ways.gateway.wait_empty()


def test_another_server_for_an_attempt(ways):
    ways.send("side@out.test")
    wait_until(lambda: ways.side.messages, "the other server has it")
    assert ways.side.messages[0].recipients == ["side@out.test"] and not ways.out.messages
    ways.gateway.wait_empty()


def test_giving_up_before_an_attempt(ways):
    ways.send("never@out.test")
    wait_until(lambda: ways.home.messages, "the sender is told")
    assert b"550 5.7.1 Never" in ways.home.messages[0].data
    assert not ways.out.commands
    ways.gateway.wait_empty()


def test_holding_before_an_attempt(ways):
    ways.send("hold@out.test")
    wait_until(lambda: ways.gateway.status()["queue"]["held"] == 1, "it is held")


def test_a_fault_before_an_attempt_puts_it_off(ways):
    ways.send("fault@out.test")
    fault = ways.gateway.wait("script.fault")
    assert "ways.lua:9: oops" in fault["detail"] and fault["step"] == "before"
    assert "script failed" in ways.gateway.wait("delivery.deferred")["reply"]
    assert not ways.out.commands


def test_a_refusal_that_is_one_for_now(ways):
    ways.send("full@out.test")
    deferred = ways.gateway.wait("delivery.deferred")
    assert "mailbox full" in deferred["reply"]
    ways.send("other@out.test")
    wait_until(lambda: len(ways.out.messages) == 2, "it was taken in the end")
    assert not ways.home.messages
    ways.gateway.wait_empty()
