# SPDX-License-Identifier: Apache-2.0
"""A receiver of webhooks: checks signatures with its own code, says what it is told to, writes down what it got."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import ssl
import threading
import time


def secret():
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


def is_signed(secret, fields, body, tolerance=300):
    """As the specification says: one of the signatures is ours, and the time is near."""
    when = fields["webhook-timestamp"]
    content = fields["webhook-id"].encode() + b"." + when.encode() + b"." + body
    mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256)
    expected = base64.b64encode(mac.digest()).decode()
    given = [one.partition(",")[2] for one in fields["webhook-signature"].split() if one.startswith("v1,")]
    return abs(time.time() - int(when)) < tolerance and any(hmac.compare_digest(one, expected) for one in given)


class Got:
    def __init__(self, path, fields, body):
        self.path, self.fields, self.body = path, fields, body
        self.id = fields["webhook-id"]
        self.json = json.loads(body)
        self.type, self.data = self.json["type"], self.json["data"]


class Receiver:
    """`answer`: a status, or a function of what came that gives a status, a pair of it and more fields, or "hang"."""

    def __init__(self, answer=200, port=0, tls_files=None, text=b"thank you"):
        receiver = self
        self.answer, self.text, self.got, self.ended = answer, text, [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got = Got(self.path, self.headers, body)
                receiver.got.append(got)
                answer = receiver.answer(got) if callable(receiver.answer) else receiver.answer
                self.close_connection = True
                if answer == "hang":
                    receiver.ended.wait(60)
                    return
                status, fields = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.text)))
                self.end_headers()
                self.wfile.write(receiver.text)

            do_GET = do_POST  # nobody should follow a redirect

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a client that does not trust us hangs up

        self.server = Server(("127.0.0.1", port), Handler)
        if tls_files:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, tls_files))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def of_type(self, name):
        return [one for one in list(self.got) if one.type == name]

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
