"""A web server on loopback that serves one file as badly as it is told."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shelf:
    """What the server does with the next requests, and what was asked of it.

    `plan`: one word of `Handler` or a (status, headers, body) per request; when it is used up, all is well.
    """

    def __init__(self, content=b""):
        self.content, self.etag, self.plan, self.asked = content, '"v1"', [], []
        self.files = None  #: path -> content, where there is more than one file
        self.hold = threading.Event()  #: set at the end: lets silent answers go
        self.url = ""

    def ranges(self):
        return [headers.get("Range") for _, headers in self.asked]


@contextmanager
def serving(shelf):
    """Serve `shelf` and give its address."""

    class Bound(Handler):
        pass

    Bound.shelf = shelf
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    shelf.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield shelf
    finally:
        shelf.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.shelf.asked.append((self.path, dict(self.headers)))
        step = self.shelf.plan.pop(0) if self.shelf.plan else "whole"
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
        """Status, headers and bytes as a good server chooses them."""
        content, headers = self.shelf.content, {"Content-Type": "application/octet-stream"}
        if self.shelf.files is not None:
            if self.path not in self.shelf.files:
                return 404, {}, b""
            content = self.shelf.files[self.path]
        if self.shelf.etag:
            headers["ETag"] = self.shelf.etag
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if not asked or (condition and condition != self.shelf.etag):
            return 200, headers, content
        start = int(asked[1])
        if start >= len(content):
            return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return 206, headers, content[start:]

    def whole(self):
        self.answer(*self.stored())

    def cut(self):
        """Announce everything, send half, hang up."""
        status, headers, body = self.stored()
        self.answer(status, headers, body[: len(body) // 2 + 1], length=len(body))
        self.close_connection = True
        self.connection.close()

    def stall(self):
        """Announce everything, send half, fall silent."""
        status, headers, body = self.stored()
        self.answer(status, headers, body[: len(body) // 2 + 1], length=len(body))
        self.shelf.hold.wait(60)
        self.close_connection = True

    def silent(self):
        """Say nothing at all."""
        self.shelf.hold.wait(60)
        self.close_connection = True

    def ignore_range(self):
        self.answer(200, {"ETag": self.shelf.etag} if self.shelf.etag else {}, self.shelf.content)

    def understate(self):
        """Announce less than there is: a client reads no further."""
        status, headers, body = self.stored()
        self.answer(status, headers, body, length=len(body) // 2)
        self.close_connection = True

    def wrong_range(self):
        """Send another part than the one that was asked for."""
        size = len(self.shelf.content)
        self.answer(206, {"Content-Range": f"bytes 1-{size - 1}/{size}"}, self.shelf.content[1:])

    def chunked(self):
        """Give no length, as a server that makes the file while it sends it."""
        self.answer(200, {"Transfer-Encoding": "chunked"}, b"")
        for start in range(0, len(self.shelf.content), 5000):
            piece = self.shelf.content[start : start + 5000]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass
