"""A mail server and a webhook receiver for tests: aiosmtpd, and signatures checked by the published library.

The mail server refuses by the recipient's name: `busy-…` once with 451, `nobody-…` with 550. The receiver answers by
the path: /ok, /hang, /gone, /redirect, /later (500 until the third), /busy (429 with Retry-After once), /fail.
/control/log tells what arrived, /control/verify checks one request of it with a secret.
"""

import base64
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

mails, calls, counts = [], [], {}
lock = threading.Lock()


def count(key):
    with lock:
        counts[key] = counts.get(key, 0) + 1
        return counts[key]


class Mail:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody-"):
            return f"550 5.1.1 <{address}>: no such user"
        if address.startswith("busy-") and count(address) == 1:
            return "451 4.7.1 try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        with lock:
            mails.append({
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "data": envelope.content.decode("utf-8", "replace"),
                "tls": session.ssl is not None,
                "user": getattr(session, "auth_data", None) and session.auth_data.login.decode(),
            })
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    good = (data.login, data.password) == (b"tollbook", b"secret")
    return AuthResult(success=good, auth_data=data)


class Receiver(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with lock:
            seen = {"mails": mails, "calls": calls}
            self.answer(200, json.dumps(seen).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/control/verify":
            asked = json.loads(body)
            try:
                Webhook(asked["secret"]).verify(asked["body"], asked["headers"])
                return self.answer(200, b'{"verified": true}')
            except WebhookVerificationError as error:
                return self.answer(200, json.dumps({"verified": False, "error": str(error)}).encode())
        headers = {name.lower(): value for name, value in self.headers.items()}
        with lock:
            calls.append({"path": self.path, "headers": headers, "body": body.decode()})
        nth, kind = count((self.path, headers.get("webhook-id"))), self.path.split("/")[1]
        if kind == "hang":
            time.sleep(30)
        elif kind == "gone":
            self.answer(410)
        elif kind == "redirect":
            self.answer(307, headers=[("Location", "/ok")])
        elif kind == "fail" or (kind == "later" and nth < 3):
            self.answer(500, f"cannot post {self.path}".encode())
        elif kind == "busy" and nth == 1:
            self.answer(429, headers=[("Retry-After", "60")])
        else:
            self.answer(204)


def mail_server(**options):
    controller = Controller(Mail(), hostname="127.0.0.1", port=0, **options)
    # Its own start asks the port that was given, not the one that was got.
    loop, made = controller.loop, {}

    def run():
        import asyncio

        asyncio.set_event_loop(loop)
        made["server"] = loop.run_until_complete(
            loop.create_server(controller.factory, host="127.0.0.1", port=0)
        )
        ready.set()
        loop.run_forever()

    ready = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    ready.wait()
    return made["server"].sockets[0].getsockname()[1]


certificate = sys.argv[1]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate + "/cert.pem", certificate + "/key.pem")
http = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
http.daemon_threads = True
ports = {
    "http": http.server_address[1],
    "smtp": mail_server(),
    "smtp_tls": mail_server(
        tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate
    ),
}
print(json.dumps(ports), flush=True)
http.serve_forever()
