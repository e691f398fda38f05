# SPDX-License-Identifier: Apache-2.0
"""The configuration that most tests of reception share, with what a test changes in it."""


def reception(mail, mx, certificate=None, submission=None, listeners="", world=None, names=None, mail_extra="",
              inbound="", flows="", top="", steps='[ smtp: { server: mail } ]', lookup="", domains="", any_domain=None,
              entitlements="entitlements: { open_relay_support: true }", shared=""):
    """
    A gateway for example.org before the server `mail` (a sink). `inbound`: further keys of listener inbound; `steps`:
    of authentication flow staff; `lookup`: further parameters of the lookup; `shared`: a port where strangers and users share.
    """
    cert, key = certificate or (None, None)
    tls = "tls: offered, certificate: main," if cert else "tls: none,"
    parts = ["version: 1", "hostname: mx.example.org",
             f'servers:\n  mail: {{ smtp: "127.0.0.1:{mail.port}"{mail_extra or ", tls: none"} }}']
    if cert:
        parts.append(f"certificates:\n  main: {{ cert: {cert}, key: {key} }}")
    parts.append(f'listeners:\n  inbound: {{ listen: [ "127.0.0.1:{mx}" ], {tls} authentication: none{inbound} }}')
    if submission:
        parts.append(f'  submission: {{ listen: [ "127.0.0.1:{submission}" ], tls: required, certificate: main, '
                     "authentication: { flow: staff, required: true } }")
    if listeners:
        parts.append(listeners)
    parts.append("flows:")
    if submission or "staff" in listeners:
        parts.append(f"  authentication:\n    staff: {steps}")
    parts.append("  recipient:\n    local-users:\n      - accept: { when: authenticated or client in trusted }\n"
                 f"      - lookup-smtp: {{ server: mail{lookup} }}")
    if flows:
        parts.append(flows)
    parts.append("transports:\n  to-mail: { method: server, server: mail, retry: { delays: [ 1s ], count: 100 } }")
    if world:
        parts.append(f"  internet: {{ method: lookup-mx, direction: outbound, port: {world.port}, allow_private: true, "
                     "retry: { delays: [ 1s ], count: 100 } }")
    parts.append("domains:\n  example.org: { recipients: local-users, transport: to-mail }")
    if domains:
        parts.append(domains)
    if world:
        parts.append(f"  any: {any_domain or '{ preset: relay-authenticated, transport: internet }'}")
    if world:
        parts.append(entitlements)
    if names:
        parts.append(f'dns: {{ servers: [ "{names.address}" ] }}')
    if top:
        parts.append(top)
    return "\n".join(part for part in parts if part) + "\n"


def known(*names):
    """A reply to RCPT of a mail server that knows only these local parts."""
    return lambda line: "" if any(f"<{name}@" in line.lower() for name in names) else "550 5.1.1 no such user here"
