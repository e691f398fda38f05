# SPDX-License-Identifier: Apache-2.0
"""A web service that says what it is told to, and writes down what it was asked."""
import email
import http.server
import json
import ssl
import threading

from .ports import free_port


class Asked:
    """One question: `facts`, `message` (bytes or None), `fields` of the request, `path`."""

    def __init__(self, path, fields, body):
        self.path, self.fields, self.body, self.message = path, fields, body, None
        if fields.get_content_type() == "multipart/form-data":
            whole = b"Content-Type: " + fields["Content-Type"].encode() + b"\r\n\r\n" + body
            parts = {part.get_param("name", header="content-disposition"): part
                     for part in email.message_from_bytes(whole).get_payload()}
            self.facts = json.loads(parts["facts"].get_payload())
            boundary = fields.get_param("boundary").encode()
            self.message = body.partition(b"message/rfc822\r\n\r\n")[2].removesuffix(b"\r\n--" + boundary + b"--\r\n")
        else:
            self.facts = json.loads(body)


class Hook:
    """`answer`: an object to say as JSON, bytes to send raw, "hang", "close", or a function of the question giving one of
    these; `status` goes with objects."""

    def __init__(self, answer=None, status=200, tls_files=None):
        hook = self
        self.answer, self.status, self.asked, self.ended = answer or {"outcome": "accept"}, status, [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.asked.append(Asked(self.path, self.headers, body))
                answer = hook.answer(hook.asked[-1]) if callable(hook.answer) else hook.answer
                self.close_connection = True
                if answer == "hang":
                    hook.ended.wait(300)
                elif isinstance(answer, bytes):
                    self.wfile.write(answer)
                elif answer != "close":
                    data = json.dumps(answer).encode()
                    self.send_response(hook.status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # a client that does not trust us hangs up

        self.server = Server(("127.0.0.1", free_port()), Handler)
        if tls_files:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, tls_files))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
