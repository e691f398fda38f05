# SPDX-License-Identifier: Apache-2.0
"""Your own mail server, for real: Postfix with logins from Dovecot, in a folder of the test's."""
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

from .ports import free_port, wait_for_port


class MailServer:
    """Postfix for one domain: `users` have a mailbox and a password; nobody else exists."""

    def __init__(self, tls_files, domain="example.org", users=None, extra=()):
        # short: Dovecot puts sockets deep below, and a socket's path has at most 108 characters
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mail"))
        self.domain, self.users = domain, users or {"anna": "pass-of-user", "bob": "pass-of-user"}
        self.port = free_port()
        self.tls_files = tls_files
        self.extra = list(extra)
        self.dovecot = None
        self._write()

    def _write(self):
        place = self.folder
        for name in ("etc", "queue", "data", "mail", "auth"):
            (place / name).mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)  # Postfix works as its own user
        postfix = pwd.getpwnam("postfix")
        os.chown(place / "data", postfix.pw_uid, postfix.pw_gid)
        os.chown(place / "mail", postfix.pw_uid, postfix.pw_gid)
        cert, key = self.tls_files
        boxes = "".join(f"{user}@{self.domain} {user}/\n" for user in self.users)
        (place / "etc/mailboxes").write_text(boxes)
        (place / "etc/main.cf").write_text(f"""
compatibility_level = 3.6
myhostname = mail.{self.domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {place}/queue
data_directory = {place}/data
mynetworks = 127.0.0.0/8
maillog_file = {place}/queue/log
maillog_file_prefixes = {place}
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
virtual_mailbox_domains = {self.domain}
virtual_mailbox_maps = texthash:{place}/etc/mailboxes
virtual_mailbox_base = {place}/mail
virtual_uid_maps = static:{postfix.pw_uid}
virtual_gid_maps = static:{postfix.pw_gid}
virtual_minimum_uid = 1
message_size_limit = 60000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {place}/auth/socket
smtpd_recipient_restrictions = permit_sasl_authenticated, reject_unauth_destination, reject_unlisted_recipient
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
""" + "\n".join(self.extra) + "\n")
        (place / "etc/master.cf").write_text(f"""
127.0.0.1:{self.port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""")
        (place / "auth/users").write_text("".join(
            f"{user}:{{PLAIN}}{password}\n{user}@{self.domain}:{{PLAIN}}{password}\n"
            for user, password in self.users.items()))
        (place / "auth/dovecot.conf").write_text(f"""
base_dir = {place}/auth/run
log_path = {place}/auth/log
protocols =
ssl = no
default_login_user = nobody
default_internal_user = nobody
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {place}/auth/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {place}/auth/socket {{
    mode = 0666
  }}
}}
service stats {{
  chroot =
}}
""")
        (place / "auth").chmod(0o755)

    def start(self):
        self.dovecot = subprocess.Popen([shutil.which("dovecot") or "/usr/sbin/dovecot", "-F", "-c",
                                         self.folder / "auth/dovecot.conf"])
        done = subprocess.run(["/usr/sbin/postfix", "-c", self.folder / "etc", "start"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120)
        assert done.returncode == 0, done.stdout
        wait_for_port(self.port)
        return self

    def stop(self):
        subprocess.run(["/usr/sbin/postfix", "-c", self.folder / "etc", "stop"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=120)
        if self.dovecot:
            self.dovecot.terminate()
            self.dovecot.wait(120)
            self.dovecot = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        path = self.folder / "queue/log"
        return path.read_text(errors="replace") if path.exists() else ""

    def mailbox(self, user):
        """The messages in a user's mailbox, as bytes."""
        folder = self.folder / "mail" / user / "new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.exists() else []
