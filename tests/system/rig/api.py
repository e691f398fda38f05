# SPDX-License-Identifier: Apache-2.0
"""The HTTP API, asked as a program would."""
import http.client
import json
import socket


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("postern", timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


def connection_to(one, token=None):
    """Over the socket, or with `token` over TCP ("" is no token)."""
    return UnixConnection(one.folder / "control.sock") if token is None else \
        http.client.HTTPConnection("127.0.0.1", one.api_port, timeout=20)


def ask_all(one, method, path, body=None, token=None, raw_body=None, headers=None):
    """Status, header fields, and what it says."""
    connection = connection_to(one, token)
    fields = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    connection.request(method, path, json.dumps(body) if body is not None else raw_body, fields)
    answer = connection.getresponse()
    data = answer.read()
    kind = (answer.headers["Content-Type"] or "").split(";")[0]
    connection.close()
    return answer.status, answer.headers, json.loads(data) if kind.endswith("json") and data else data


def ask(one, method, path, body=None, token=None, raw_body=None, headers=None):
    """Status, content type, and what it says."""
    status, fields, answer = ask_all(one, method, path, body, token, raw_body, headers)
    return status, (fields["Content-Type"] or "").split(";")[0], answer


def schema_of(document, name):
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
