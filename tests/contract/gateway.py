"""A gateway in front of the functions, for what `cargo lambda watch` does differently from API Gateway.

`cargo lambda watch` adds an `access-control-allow-origin` to every answer to a page. API Gateway does not, so in
production a browser reads the function's own header.
"""

import http.client
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Answer:
    """A test may change it."""

    status: int
    headers: Message
    body: bytes


Change = Callable[[Answer], None]


def with_status(status: int) -> Change:
    def change(answer: Answer) -> None:
        answer.status = status

    return change


def without_header(name: str) -> Change:
    def change(answer: Answer) -> None:
        del answer.headers[name]

    return change


class Gateway(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.api = urlsplit(api).netloc
        # Changes an answer on its way to the caller.
        self.change: Change | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Gateway
    protocol_version = "HTTP/1.1"
    # Otherwise a body waits until its head is acknowledged.
    disable_nagle_algorithm = True

    def do_OPTIONS(self) -> None:
        """A browser asks this before a page's call. A REST API answers it without the function."""
        self.send_response(200)
        self.send_header("access-control-allow-origin", "*")
        self.send_header("access-control-allow-headers", "content-type")
        self.send_header("access-control-allow-methods", "OPTIONS,POST")
        self.send_header("content-length", "0")
        self.end_headers()

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "origin")}
        line = http.client.HTTPConnection(self.server.api)
        line.request(self.command, self.path, body, headers)
        received = line.getresponse()
        answer = Answer(received.status, received.headers, received.read())
        line.close()
        if self.server.change:
            self.server.change(answer)

        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name not in ("access-control-allow-credentials", "content-length", "transfer-encoding", "vary"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_TRACE = do_QUERY = forward

    def log_message(self, *_: object) -> None:
        pass
