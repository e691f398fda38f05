# SPDX-License-Identifier: Apache-2.0
"""A real name server (nsd) that serves a root zone of the test's making, so no other name exists."""
import pathlib
import re
import shutil
import socket
import subprocess
import threading

from .ports import free_port

NSD = shutil.which("nsd") or "/usr/sbin/nsd"


class NameServer:
    """`records` are lines of a zone file, like "example.net. MX 10 mx.example.net."."""

    def __init__(self, folder, records, host="127.0.0.1"):
        self.folder = pathlib.Path(folder) / "nsd"
        self.folder.mkdir(exist_ok=True)
        self.host, self.port = host, free_port(host)
        self.write_zone(records)
        (self.folder / "nsd.conf").write_text(f"""
server:
    ip-address: {host}@{self.port}
    zonesdir: "{self.folder}"
    database: ""
    pidfile: "{self.folder}/pid"
    xfrdfile: "{self.folder}/xfrd.state"
    zonelistfile: "{self.folder}/zone.list"
    logfile: "{self.folder}/log"
    username: ""
    chroot: ""
    server-count: 1
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: "root.zone"
""")
        self.process = None
        self.start()

    def write_zone(self, records):
        zone = "$ORIGIN .\n$TTL 1\n@ SOA ns. admin. 1 3600 600 86400 1\n@ NS ns.\nns. A 127.0.0.1\n"
        (self.folder / "root.zone").write_text(zone + "\n".join(records) + "\n")

    def change(self, records):
        """Other records from now on."""
        self.stop()
        self.write_zone(records)
        self.start()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        import time
        self.process = subprocess.Popen([NSD, "-d", "-c", self.folder / "nsd.conf"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        query = bytes.fromhex("000101000001000000000000") + b"\x02ns\x00" + bytes.fromhex("00010001")
        for _ in range(1000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.settimeout(0.1)
                probe.sendto(query, (self.host, self.port))
                try:
                    probe.recv(512)
                    return
                except OSError:
                    time.sleep(0.05)
        raise TimeoutError((self.folder / "log").read_text())

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(120)
            self.process = None


class CountingRelay:
    """Passes questions on, by datagram and stream, and keeps the name of each. Names that `failing` (a regular expression) is found
    in are answered with a server failure."""

    def __init__(self, target, failing=None):
        self.failing = failing and re.compile(failing)
        host, _, port = target.rpartition(":")
        self.target, self.names = (host, int(port)), []
        self.stream = socket.create_server(("127.0.0.1", free_port()))
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(self.stream.getsockname())
        self.address = "127.0.0.1:%d" % self.front.getsockname()[1]
        for work in (self.datagrams, self.streams):
            threading.Thread(target=work, daemon=True).start()

    def close(self):
        self.front.close()
        self.stream.close()

    def note(self, packet):
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode(errors="replace").lower())
            at += 1 + packet[at]
        self.names.append(".".join(labels))

    def datagrams(self):
        while True:
            try:
                packet, client = self.front.recvfrom(4096)
            except OSError:
                return
            self.note(packet)
            if self.failing and self.failing.search(self.names[-1]):
                self.front.sendto(packet[:2] + b"\x80\x02" + packet[4:], client)
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
                back.settimeout(60)
                back.sendto(packet, self.target)
                try:
                    self.front.sendto(back.recv(4096), client)
                except OSError:
                    pass

    def streams(self):
        while True:
            try:
                client, _ = self.stream.accept()
            except OSError:
                return
            threading.Thread(target=self.pass_stream, args=(client,), daemon=True).start()

    def pass_stream(self, client):
        try:
            with client, client.makefile("rwb") as near, socket.create_connection(self.target, 60) as back, \
                    back.makefile("rwb") as far:
                while size := near.read(2):
                    packet = near.read(int.from_bytes(size, "big"))
                    self.note(packet)
                    far.write(size + packet)
                    far.flush()
                    size = far.read(2)
                    near.write(size + far.read(int.from_bytes(size, "big")))
                    near.flush()
        except OSError:
            pass
