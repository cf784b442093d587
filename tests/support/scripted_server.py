"""Web server on loopback that serves files as badly as its script says."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Script:
    """Behaviour of the server for the next requests, and the requests it received.

    `plan`: a method of `Handler` by name, or a (status, headers, body), per request; after the plan all is well.
    """

    def __init__(self, content=b""):
        self.content, self.etag, self.plan, self.requests = content, '"v1"', [], []
        self.files = None  #: path -> content, where there is more than one file
        self.hold = threading.Event()  #: set at the end: releases silent responses
        self.url = ""

    def ranges(self):
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def serving(script):
    """Serve by `script`, whose `url` becomes the address."""

    class Bound(Handler):
        pass

    Bound.script = script
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        script.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.script.requests.append((self.path, dict(self.headers)))
        step = self.script.plan.pop(0) if self.script.plan else "whole"
        if isinstance(step, tuple):
            self.answer(*step)
        else:
            getattr(self, step)()

    def answer(self, status, headers, body=b"", length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in headers:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def stored(self):
        """Status, headers and bytes of a correct server."""
        content, headers = self.script.content, {"Content-Type": "application/octet-stream"}
        if self.script.files is not None:
            if self.path not in self.script.files:
                return 404, {}, b""
            content = self.script.files[self.path]
        if self.script.etag:
            headers["ETag"] = self.script.etag
        requested = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if not requested or (condition and condition != self.script.etag):
            return 200, headers, content
        start = int(requested[1])
        if start >= len(content):
            return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return 206, headers, content[start:]

    def whole(self):
        self.answer(*self.stored())

    def cut(self):
        """Announce everything, send half, close the connection."""
        status, headers, body = self.stored()
        self.answer(status, headers, body[: len(body) // 2 + 1], length=len(body))
        self.close_connection = True
        self.connection.close()

    def stall(self):
        """Announce everything, send half, fall silent."""
        status, headers, body = self.stored()
        self.answer(status, headers, body[: len(body) // 2 + 1], length=len(body))
        self.script.hold.wait(60)
        self.close_connection = True

    def silent(self):
        """Send nothing at all."""
        self.script.hold.wait(60)
        self.close_connection = True

    def ignore_range(self):
        self.answer(200, {"ETag": self.script.etag} if self.script.etag else {}, self.script.content)

    def understate(self):
        """Announce less than the file has: a client reads no further."""
        status, headers, body = self.stored()
        self.answer(status, headers, body, length=len(body) // 2)
        self.close_connection = True

    def wrong_range(self):
        """Send another range than the requested one."""
        size = len(self.script.content)
        self.answer(206, {"Content-Range": f"bytes 1-{size - 1}/{size}"}, self.script.content[1:])

    def chunked(self):
        """Send no length, as a server that makes the file while it sends it."""
        self.answer(200, {"Transfer-Encoding": "chunked"}, b"")
        for start in range(0, len(self.script.content), 5000):
            chunk = self.script.content[start : start + 5000]
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass
