# SPDX-License-Identifier: Apache-2.0
"""A real name server (nsd) that serves a root zone of the test's making, so no other name exists."""
import pathlib
import shutil
import subprocess

from .ports import free_port

NSD = shutil.which("nsd") or "/usr/sbin/nsd"


class NameServer:
    """`records` are lines of a zone file, like "example.net. MX 10 mx.example.net."."""

    def __init__(self, folder, records, host="127.0.0.1"):
        self.folder = pathlib.Path(folder) / "nsd"
        self.folder.mkdir(exist_ok=True)
        self.host, self.port = host, free_port(host)
        zone = "$ORIGIN .\n$TTL 1\n@ SOA ns. admin. 1 3600 600 86400 1\n@ NS ns.\nns. A 127.0.0.1\n"
        (self.folder / "root.zone").write_text(zone + "\n".join(records) + "\n")
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

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        import socket
        import time
        self.process = subprocess.Popen([NSD, "-d", "-c", self.folder / "nsd.conf"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        query = bytes.fromhex("000101000001000000000000") + b"\x02ns\x00" + bytes.fromhex("00010001")
        for _ in range(200):
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
            self.process.wait(10)
            self.process = None
