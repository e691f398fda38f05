# SPDX-License-Identifier: Apache-2.0
"""Domains and messages that are made to cost: whatever their owner publishes and writes, a message asks DNS at most 40 times,
and its answer comes with little CPU. Questions are counted on the wire, before a real name server; CPU is printed (-s)."""
import base64
import hashlib
import pathlib
import re

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rig.dns import CountingRelay
from rig.gateway import BUILD, wait_until
from rig.ports import free_port

CLIENT = "127.0.0.5"
QUESTIONS_MAX = 40
CPU_MAX_MS = 50

CONFIG = """
version: 1
hostname: mx.example.org
servers: {{ mail: {{ smtp: "127.0.0.1:{sink}", tls: none }} }}
listeners: {{ inbound: {{ listen: [ "127.0.0.1:{port}" ], tls: none, authentication: none }} }}
flows:
  recipient: {{ open: [ spf: {{ fail: note, softfail: note, temperror: note, permerror: note }}, accept ] }}
  content:
    told: [ verify: {{ reject: note, quarantine: note, permerror: note, temperror: note }}, deliver ]
transports: {{ to-mail: {{ server: mail }} }}
domains: {{ open.test: {{ recipients: open, content: told, transport: to-mail }} }}
dns: {{ servers: [ "{names}" ] }}
"""


def texts(long):
    """A TXT record's data in strings of 250."""
    return " ".join(f'"{long[i:i + 250]}"' for i in range(0, len(long), 250))


def public(key):
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


KEY_4096 = public(rsa.generate_private_key(public_exponent=65537, key_size=4096))
# the hash of the body that is sent, so that the keys are asked for
BODY = b"Hello\r\n"
BODY_HASH = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
JUNK = base64.b64encode(bytes(512)).decode()


def signature(domain, selector="s", names="from", canon="relaxed/relaxed", more=""):
    return (f"DKIM-Signature: v=1; a=rsa-sha256; c={canon}; d={domain}; s={selector};{more}\r\n h={names};\r\n bh={BODY_HASH};\r\n"
            f" b={JUNK}\r\n").encode()


def arc_set(i, domain, selector="s", names="from"):
    validation = "none" if i == 1 else "pass"
    return (f"ARC-Seal: i={i}; a=rsa-sha256; t=1; cv={validation}; d={domain}; s={selector};\r\n b={JUNK}\r\n"
            f"ARC-Message-Signature: i={i}; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s={selector};\r\n h={names};\r\n"
            f" bh={BODY_HASH};\r\n b={JUNK}\r\n"
            f"ARC-Authentication-Results: i={i}; x.test; spf=pass\r\n").encode()


def tree(name, depth, width):
    """An SPF record that includes `width` others, each likewise."""
    if depth == 0:
        return [f'{name} TXT "v=spf1 ip4:192.0.2.1 -all"']
    below = [f"i{k}.{name}" for k in range(width)]
    lines = [f'{name} TXT {texts("v=spf1 " + " ".join("include:" + one for one in below) + " -all")}']
    return lines + [line for one in below for line in tree(one, depth - 1, width)]


def mx_bomb(hosts=10, terms=10):
    records = ['b.test. TXT "v=spf1 ' + " ".join(f"mx:m{i}.b.test" for i in range(terms)) + ' -all"']
    for i in range(terms):
        records += [f"m{i}.b.test. MX {k} h{k}.m{i}.b.test." for k in range(hosts)]
        records += [f"h{k}.m{i}.b.test. A 192.0.2.{k}" for k in range(hosts)]
    return records


def ptr_bomb():
    records = ['b.test. TXT "v=spf1 ' + " ".join(f"ptr:p{i}.b.test" for i in range(10)) + ' -all"']
    records += [f"5.0.0.127.in-addr.arpa. PTR host{k}.b.test." for k in range(200)]
    return records + [f"host{k}.b.test. A 192.0.2.{k}" for k in range(200)]


def chain(name, length):
    """CNAMEs behind each other."""
    return [f"c{k}.{name} CNAME c{k + 1}.{name}" for k in range(length)]


LABELS = ".".join("abcdefghijklmnopqrstuvwxyz" * 2)

# name: (records, author, extra fields); MAIL FROM is a@b.test
BOMBS = {
    "include tree": (tree("b.test.", 3, 9), "a@b.test", b""),
    "include of itself": (['b.test. TXT "v=spf1 include:b.test include:b.test include:b.test -all"'], "a@b.test", b""),
    "redirect in a circle": (['b.test. TXT "v=spf1 redirect=c.test"', 'c.test. TXT "v=spf1 redirect=b.test"'], "a@b.test", b""),
    "redirect for ever": ([f'r{i}.test. TXT "v=spf1 redirect=r{i + 1}.test"' for i in range(30)]
                          + ['b.test. TXT "v=spf1 redirect=r0.test"'], "a@b.test", b""),
    "ten mx of ten": (mx_bomb(), "a@b.test", b""),
    "mx of a hundred": (mx_bomb(100, 1), "a@b.test", b""),
    "ptr of two hundred": (ptr_bomb(), "a@b.test", b""),
    "a that are not there": ([f'b.test. TXT {texts("v=spf1 " + " ".join(f"a:n{i}.b.test" for i in range(20)) + " -all")}'], "a@b.test", b""),
    "exists with macros": ([f'b.test. TXT {texts("v=spf1 " + " ".join(f"exists:%{{ir}}.%{{l1r-+}}.%{{d}}.x{i}.b.test" for i in range(10)) + " -all")}',
                            '*.b.test. A 127.0.0.2'], "a@b.test", b""),
    "macros without end": ([f'b.test. TXT {texts("v=spf1 " + "exists:" + "%{l}%{d}%{i}%{h}%{s}" * 800 + ".b.test -all")}'], "a@b.test", b""),
    "explanation of macros": (['b.test. TXT "v=spf1 -all exp=e.b.test"', f'e.b.test. TXT {texts("%{s}%{o}%{i}%{p}" * 900)}']
                              + ptr_bomb()[1:], "a@b.test", b""),
    "chains of CNAME": (['b.test. TXT "v=spf1 ' + " ".join(f"a:c0.n{i}.b.test" for i in range(10)) + ' -all"']
                        + [line for i in range(10) for line in chain(f"n{i}.b.test.", 60)], "a@b.test", b""),
    "CNAME in a circle": (['b.test. CNAME c.test.', 'c.test. CNAME b.test.', '_dmarc.b.test. CNAME _dmarc.c.test.',
                           '_dmarc.c.test. CNAME _dmarc.b.test.'], "a@b.test", signature("b.test")),
    "a record of 60 KB": ([f'b.test. TXT {texts("v=spf1 " + " ".join(f"ip4:10.{i // 250}.{i % 250}.0/24" for i in range(3000)) + " -all")}'],
                          "a@b.test", b""),
    "a thousand records": ([f'b.test. TXT "v=spf1 ip4:192.0.{i // 250}.{i % 250} -all"' for i in range(1000)], "a@b.test", b""),
    "a hundred signatures": ([f"s._domainkey.d{i}.test. TXT {texts('v=DKIM1; p=' + KEY_4096)}" for i in range(100)], "a@b.test",
                             b"".join(signature(f"d{i}.test") for i in range(100))),
    "a hundred signatures of one key": ([f"s._domainkey.b.test. TXT {texts('v=DKIM1; p=' + KEY_4096)}"], "a@b.test",
                                        b"".join(signature("b.test", canon=["simple/simple", "relaxed/relaxed"][i % 2])
                                                 for i in range(100))),
    "a hundred keys at a name": ([f"s._domainkey.b.test. TXT {texts(f'v=DKIM1; n={i}; p=' + KEY_4096)}" for i in range(80)], "a@b.test",
                                 b"".join(signature("b.test") for _ in range(8))),
    "a key of 60 KB": ([f"s._domainkey.b.test. TXT {texts('v=DKIM1; ' + 'x=y; ' * 10000 + 'p=' + KEY_4096)}"], "a@b.test",
                       b"".join(signature("b.test") for _ in range(8))),
    "names and fields": ([f"s._domainkey.b.test. TXT {texts('v=DKIM1; p=' + KEY_4096)}"], "a@b.test",
                         b"".join(signature("b.test", names=":\r\n ".join(["from"] + ["x-y:x-z:x-y:x-w"] * 400)) for _ in range(8))
                         + b"".join(b"X-%c: %d\r\n" % ("yzw"[i % 3].encode(), i) for i in range(900))),
    "fifty sets of ARC": ([f"s._domainkey.d{i}.test. TXT {texts('v=DKIM1; p=' + KEY_4096)}" for i in range(1, 51)], "a@b.test",
                          b"".join(arc_set(i, f"d{i}.test") for i in range(50, 0, -1))),
    "twenty sets of ARC": ([f"s._domainkey.d{i}.test. TXT {texts('v=DKIM1; p=' + KEY_4096)}" for i in range(1, 21)], "a@b.test",
                           b"".join(arc_set(i, f"d{i}.test", names=":".join(["from"] * 50)) for i in range(20, 0, -1))),
    "an author of many labels": (['b.test. TXT "v=spf1 +all"'], f"a@{LABELS}.b.test", signature(f"x.{LABELS}.b.test")),
    "a hundred authors": ([], ", ".join(f"a@{LABELS[:30]}.x{i}.test" for i in range(100)), b""),
    "a hundred From": ([], "a@b.test", b"".join(f"From: a@{LABELS[:30]}.x{i}.test\r\n".encode() for i in range(100))),
    "a policy of 60 KB": ([f'_dmarc.b.test. TXT {texts("v=DMARC1; p=none; rua=" + ",".join(["mailto:a@x.test!10m"] * 2000) + "; x=y" * 4000)}'],
                          "a@b.test", b""),
    "policies everywhere": ([f'_dmarc.{LABELS[2 * i:]}.b.test. TXT "v=DMARC1; p=none; psd=u"' for i in range(50)],
                            f"a@{LABELS}.b.test", b""),
}
FAILING = "silent"  # DNS fails for names with it, and each question is repeated
BOMBS["nothing answers"] = ([], "a@silent.b.test", b"".join(signature(f"silent{i}.test") for i in range(20))
                            + b"".join(arc_set(i, f"silent{i}.test") for i in range(20, 0, -1)))
BOMBS["keys do not answer"] = (mx_bomb(), "a@b.test", b"".join(signature(f"silent{i}.test") for i in range(20)))
BOMBS["authors do not answer"] = (tree("b.test.", 3, 9), ", ".join(f"a@{LABELS[:30]}.silent{i}.test" for i in range(20)), b"")
BOMBS["mx do not answer"] = (['b.test. TXT "v=spf1 ' + " ".join(f"mx:m{i}.b.test" for i in range(10)) + ' -all"']
                             + [f"m{i}.b.test. MX {k} silent{k}.b.test." for i in range(10) for k in range(10)], "a@b.test", b"")
BOMBS["all of it"] = (
    mx_bomb() + [f"s._domainkey.d{i}.test. TXT {texts('v=DKIM1; p=' + KEY_4096)}" for i in range(1, 51)],
    ", ".join(f"a@{LABELS[:30]}.x{i}.test" for i in range(100)),
    b"".join(signature(f"d{i}.test") for i in range(1, 51)) + b"".join(arc_set(i, f"d{i}.test") for i in range(20, 0, -1)))


def cpu_ms(pid):
    """What all threads of a process have used."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e6


def own(number, text):
    """Each bomb under a top of its own, of the same length, for all are in one zone."""
    return re.sub(r"\btest\b", f"t{number:03}", text)


def test_bombs(gateway, sink, dns):
    mail, port = sink(), free_port()
    names = dns([own(number, line) for number, (lines, _, _) in enumerate(BOMBS.values()) for line in lines])
    counter = CountingRelay(names.address, FAILING)
    one = gateway(CONFIG.format(sink=mail.port, port=port, names=counter.address), ports=[port])
    pid = one.child_pid()
    too_many, too_long, busiest = [], [], 0
    try:
        for number, (name, (_, author, extra)) in enumerate(BOMBS.items()):
            author, extra = own(number, author), own(number, extra.decode())
            client = one.client(port, ehlo="client.test", source_address=(CLIENT, 0))
            asked, used = len(counter.names), cpu_ms(pid)
            assert client.mail(own(number, "a@b.test"))[0] == 250
            code, said = client.rcpt("you@open.test")
            assert code == 250, (name, said)
            code, said = client.data(f"{extra}From: {author}\r\nSubject: {name}\r\n\r\n".encode() + BODY)
            asked, used = len(counter.names) - asked, cpu_ms(pid) - used
            assert code == 250, (name, said)
            client.quit()
            print(f"{name:32} {asked:3} questions {used:6.1f} ms")
            busiest = max(busiest, asked)
            if asked > QUESTIONS_MAX:
                too_many.append((name, asked, counter.names[-asked:]))
            if used > CPU_MAX_MS:
                too_long.append((name, used))
        wait_until(lambda: len(mail.messages) == len(BOMBS), "all have arrived")
    finally:
        counter.close()
    assert not too_many
    assert busiest > 20, "the bombs were none"
    if "sanitize" not in BUILD.name:
        assert not too_long
