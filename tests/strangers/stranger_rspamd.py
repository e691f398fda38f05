# SPDX-License-Identifier: Apache-2.0
"""rspamd with its checks of SPF, DKIM and DMARC and nothing else, asking a name server of the test's."""
import http.client
import json
import pathlib

from rig.ports import free_port
from rig.scanners import Daemon, is_open

SPF = {"R_SPF_ALLOW": "pass", "R_SPF_FAIL": "fail", "R_SPF_SOFTFAIL": "softfail", "R_SPF_NEUTRAL": "neutral", "R_SPF_NA": "none",
       "R_SPF_DNSFAIL": "temperror", "R_SPF_PERMFAIL": "permerror"}
DKIM = {"R_DKIM_ALLOW": "pass", "R_DKIM_REJECT": "fail", "R_DKIM_NA": "none", "R_DKIM_TEMPFAIL": "temperror",
        "R_DKIM_PERMFAIL": "permerror"}
DMARC = {"DMARC_POLICY_ALLOW": "pass", "DMARC_POLICY_REJECT": "fail reject", "DMARC_POLICY_QUARANTINE": "fail quarantine",
         "DMARC_POLICY_SOFTFAIL": "fail none", "DMARC_NA": "none", "DMARC_BAD_POLICY": "permerror", "DMARC_DNSFAIL": "temperror"}


class Rspamd(Daemon):
    def __init__(self, folder, names):
        folder = pathlib.Path(folder) / "rspamd"
        folder.mkdir()
        self.port = free_port()
        (folder / "tlds").write_text("com\nnet\norg\ntest\n")
        local = "check_local = true; check_authed = true;"
        (folder / "rspamd.conf").write_text(f"""
options {{
  pidfile = "{folder}/pid"; filters = "dkim"; tempdir = "{folder}"; url_tld = "{folder}/tlds"; disable_hyperscan = true;
  dns {{ nameserver = ["{names.address}"]; timeout = 2s; retransmits = 3; }}
  control_socket = "{folder}/control mode=0600"; stats_file = "{folder}/stats"; history_file = "{folder}/history";
  {local} task_timeout = 30s;
}}
logging {{ type = "console"; level = "warning"; }}
actions {{ reject = 1500; add_header = 600; greylist = 400; }}
modules {{ path = "/usr/share/rspamd/plugins/dmarc.lua"; path = "/usr/share/rspamd/plugins/spf.lua"; }}
spf {{ {local} min_cache_ttl = 0; }}
dkim {{ {local} }}
dmarc {{ {local} }}
group "policies" {{
  symbols = {{ {" ".join(f'"{name}" {{ weight = 0.1; }}' for name in (*SPF, *DKIM, *DMARC))} }}
}}
worker "normal" {{ bind_socket = "127.0.0.1:{self.port}"; count = 1; }}
""")
        super().__init__(folder, ["/usr/bin/rspamd", "-f", "-i", "-u", "root", "-g", "root", "-c", folder / "rspamd.conf"])
        self.wait_for(lambda: is_open(self.port))

    def verdict(self, text, address, helo, sender):
        """{"spf": ..., "dkim": ..., "dmarc": ...} in our words."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", "/checkv2", body=text, headers={"IP": address, "Helo": helo, "From": sender, "Rcpt": "you@open.test",
                                                                   "Hostname": "unknown"})
        answer = json.loads(connection.getresponse().read())
        connection.close()

        def word(table):
            return next((table[name] for name in table if name in answer["symbols"]), "")

        return {"spf": word(SPF), "dkim": word(DKIM), "dmarc": word(DMARC)}
