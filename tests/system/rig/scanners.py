# SPDX-License-Identifier: Apache-2.0
"""Real scanners (clamd, rspamd, spamd) with rules of ours alone, and one that misbehaves as it is told to."""
import base64
import io
import pathlib
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import zipfile

from .ports import free_port

# the harmless file that every scanner calls a virus, in two parts so that none finds it here
EICAR = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*").encode()
VIRUS_NAME = "Postern.Test.Eicar"


class Daemon:
    """A program in the foreground, ended by its pid."""

    def __init__(self, folder, command):
        self.log = pathlib.Path(folder) / "log"
        self.process = subprocess.Popen(command, stdout=self.log.open("wb"), stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL)

    def wait_for(self, ready, seconds=240):
        end = time.monotonic() + seconds
        while not ready():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Clamd(Daemon):
    """ClamAV with one signature."""

    def __init__(self, folder, limit="5M"):
        folder = pathlib.Path(folder) / "clamd"
        (folder / "db").mkdir(parents=True)
        self.socket = folder / "socket"
        (folder / "db/test.ndb").write_text(f"{VIRUS_NAME}:0:*:{EICAR.hex()}\n")
        (folder / "clamd.conf").write_text(f"DatabaseDirectory {folder}/db\nLocalSocket {self.socket}\nForeground yes\n"
                                           f"StreamMaxLength {limit}\nUser root\n")
        super().__init__(folder, ["/usr/sbin/clamd", "-c", folder / "clamd.conf"])
        self.wait_for(self.answers)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0


class Rspamd(Daemon):
    """rspamd without its rules: the score of a message is what its field X-Test-Score says."""

    def __init__(self, folder):
        folder = pathlib.Path(folder) / "rspamd"
        folder.mkdir()
        self.port, self.milter_port = free_port(), free_port()
        (folder / "tlds").write_text("com\nnet\norg\n")
        (folder / "rules.lua").write_text("""
rspamd_config:register_symbol({ name = 'TEST_SCORE', group = 'test', score = 1.0, callback = function(task)
  local value = task:get_header('X-Test-Score')
  if value then return true, tonumber(value) end
  return false
end })
rspamd_config:register_symbol({ name = 'TEST_ENVELOPE', group = 'test', score = 0.125, callback = function(task)
  local from, to, ip = task:get_from('smtp'), task:get_recipients('smtp'), task:get_from_ip()
  local user, helo, id = task:get_user(), task:get_helo(), task:get_queue_id()
  if from and to and from[1].addr == 'a@example.net' and to[1].addr == 'anna@example.org' and helo == 'c.test'
    and ip:is_valid() and tostring(ip) == '127.0.0.1' and id and #id == 26 then return true, 1.0 end
  return false
end })
""")
        (folder / "rspamd.conf").write_text(f"""
options {{
  pidfile = "{folder}/pid"; filters = ""; tempdir = "{folder}"; url_tld = "{folder}/tlds"; disable_hyperscan = true;
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
  control_socket = "{folder}/control mode=0600"; stats_file = "{folder}/stats"; history_file = "{folder}/history";
}}
logging {{ type = "console"; level = "warning"; }}
lua = "{folder}/rules.lua";
actions {{ reject = 15; add_header = 6; greylist = 4; }}
worker "normal" {{ bind_socket = "127.0.0.1:{self.port}"; count = 1; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{self.milter_port}"; milter = yes; timeout = 20s; count = 1;
  upstream "local" {{ default = yes; hosts = "127.0.0.1:{self.port}"; }}
}}
""")
        super().__init__(folder, ["/usr/bin/rspamd", "-f", "-i", "-u", "root", "-g", "root", "-c", folder / "rspamd.conf"])
        self.wait_for(lambda: is_open(self.port) and is_open(self.milter_port))


class Spamd(Daemon):
    """SpamAssassin with one rule. It reads it as nobody, so not from a folder of the test's."""

    def __init__(self):
        self.place = tempfile.TemporaryDirectory(prefix="spamd-")
        folder = pathlib.Path(self.place.name)
        folder.chmod(0o755)
        self.port = free_port()
        (folder / "10_test.cf").write_text("header TEST_FIELD X-Test-Score =~ /15/\nscore TEST_FIELD 15\nrequired_score 5\n"
                                         "use_bayes 0\n")
        (folder / "init.pre").write_text("loadplugin Mail::SpamAssassin::Plugin::Check\n")
        super().__init__(folder, ["/usr/sbin/spamd", "-s", "stderr", "-L", "-x", "-p", str(self.port), "-i", "127.0.0.1", "-m", "2",
                                  "--min-children=1", f"--siteconfigpath={folder}", f"--configpath={folder}", "-r", folder / "pid"])
        self.wait_for(lambda: is_open(self.port))


class Odd:
    """A server that does one thing to each connection: "hang", "close", "garbage", "half", or bytes to answer with."""

    def __init__(self, deed):
        odd = self
        self.deed, self.connections, self.received = deed, 0, []
        self.ended = threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                odd.connections += 1
                if odd.deed == "close":
                    return
                self.request.settimeout(1)
                data = b""
                try:
                    while odd.deed == "hang" or not odd.is_whole(data):
                        piece = self.request.recv(65536)
                        if not piece:
                            break
                        data += piece
                except TimeoutError:
                    pass
                odd.received.append(data)
                if odd.deed == "hang":
                    odd.ended.wait(300)
                elif odd.deed == "garbage":
                    self.request.sendall(b"\x00\xff\n\r\nrubbish" * 100)
                elif odd.deed == "half":
                    self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"score\": 1")
                else:
                    self.request.sendall(odd.deed)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", free_port()), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def is_whole(self, data):
        return data.endswith(b"\x00\x00\x00\x00") or data.endswith(b"\r\n.\r\n") or b"END\r\n" in data

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


def zipped(name, content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def with_attachment(content, fields=b""):
    """A message with one attachment."""
    return (fields + b"From: a@example.net\r\nTo: anna@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: text/plain\r\n\r\nhello\r\n--B\r\n"
            b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
            b"Content-Disposition: attachment; filename=x.bin\r\n\r\n"
            + base64.encodebytes(content).replace(b"\n", b"\r\n") + b"--B--\r\n")
