# SPDX-License-Identifier: Apache-2.0
"""A real LDAP directory (slapd) in a folder of the test's."""
import contextlib
import pathlib
import socket
import subprocess
import threading

from .ports import free_port, wait_for_port

BASE = "dc=example,dc=org"
PEOPLE = f"ou=people,{BASE}"
SERVICE = f"cn=postern,{BASE}"
SERVICE_PASSWORD = "service"


class Ldap:
    """`users` maps uid to (mail, password). With `tls_files`, STARTTLS and a port of its own for ldaps."""

    def __init__(self, folder, users=None, tls_files=None):
        self.folder = pathlib.Path(folder) / "slapd"
        self.folder.mkdir(exist_ok=True)
        (self.folder / "db").mkdir(exist_ok=True)
        self.users = users or {"anna": ("anna@example.org", "pass-of-user"), "bob": ("bob@example.org", "pass-of-user")}
        self.port = free_port()
        self.tls_port = free_port() if tls_files else None
        self.process = None
        tls = f"TLSCertificateFile {tls_files[0]}\nTLSCertificateKeyFile {tls_files[1]}\n" if tls_files else ""
        (self.folder / "slapd.conf").write_text(f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {self.folder}/pid
{tls}modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "{BASE}"
rootdn "cn=admin,{BASE}"
rootpw admin
directory {self.folder}/db
maxsize 104857600
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{SERVICE}" read by * none
""")
        entries = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n",
                   f"dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people\n",
                   f"dn: {SERVICE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
                   f"cn: postern\nuserPassword: {SERVICE_PASSWORD}\n"]
        for uid, (mail, password) in self.users.items():
            entries.append(f"dn: uid={uid},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\n"
                           f"mail: {mail}\nuserPassword: {password}\n")
        (self.folder / "start.ldif").write_text("\n".join(entries))
        subprocess.run(["/usr/sbin/slapadd", "-f", self.folder / "slapd.conf", "-l", self.folder / "start.ldif"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def url(self):
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self):
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/slapd", "-d", "0", "-f", self.folder / "slapd.conf", "-h",
                                         f"{self.url} {self.tls_url}" if self.tls_port else self.url],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port)
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(120)
            self.process = None

    def add(self, ldif):
        subprocess.run(["ldapadd", "-x", "-H", self.url, "-D", f"cn=admin,{BASE}", "-w", "admin"], input=ldif, text=True,
                       check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def hanging_up(port, word):
    """The URL of a door to the server at this port; it closes a connection on which a client says `word`."""
    def pump(source, sink, watched):
        with contextlib.suppress(OSError):
            while (piece := source.recv(65536)) and not (watched and word in piece):
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                client = door.accept()[0]
                server = socket.create_connection(("127.0.0.1", port), 10)
                ends.extend([client, server])
                threading.Thread(target=pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=pump, args=(server, client, False), daemon=True).start()

    ends = []
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"ldap://127.0.0.1:{door.getsockname()[1]}"
        finally:
            door.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()
