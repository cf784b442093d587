"""A cheap S3 server of one process, to measure clients with: any number of JPEG objects, made of a few pictures.

python benchmarks/static_s3.py --port 18990 --side 512 --latency-ms 30

The buckets are all alike. A prefix that ends in a number, such as `run-1000/`, has that many objects,
`run-1000/000000.jpg` and so on. No two keys have the same bytes: behind the picture stands the MD5 of the key. It knows
ListObjectsV2, GetObject with ranges, and HeadObject, signs nothing and checks nothing.
"""

import argparse
import asyncio
import hashlib
import io
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageFilter

PAGE = 1000  #: keys in a listing
PICTURES = 16
_N_OBJECTS = re.compile(r"(\d+)/?$")
_NUMBER = re.compile(r"(\d+)\.jpg$")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


def picture(seed: int, side: int) -> bytes:
    """Return smooth noise as a JPEG: it compresses like a photograph, unlike white noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (max(side // 4, 1), max(side // 4, 1), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((side, side)).filter(ImageFilter.GaussianBlur(1 + seed % 4))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


class Connection(asyncio.Protocol):
    """One connection of a client; requests are answered in turn."""

    def __init__(self, pictures: list[bytes], latency: float) -> None:
        self._pictures, self._latency = pictures, latency
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete; none has a body."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            answer = self._answer(head.decode("latin-1"))
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._write, answer)
            else:
                self._write(answer)

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)

    def _answer(self, head: str) -> bytes:
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        url = urllib.parse.urlsplit(target)
        key = urllib.parse.unquote(url.path).lstrip("/").partition("/")[2]
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if not key:
            return _response("200 OK", listing(query, self.body), {"Content-Type": "application/xml"}, method)
        if _NUMBER.search(key) is None:
            missing = b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
            return _response("404 Not Found", missing, {"Content-Type": "application/xml"}, method)
        body = self.body(key)
        tags = {
            "ETag": f'"{etag(body)}"',
            "Last-Modified": _DATE,
            "Accept-Ranges": "bytes",
            "Content-Type": "image/jpeg",
        }
        wanted = _RANGE.match(headers.get("range", ""))
        if wanted is None:
            return _response("200 OK", body, tags, method)
        start = int(wanted[1]) if wanted[1] else len(body) - int(wanted[2])
        stop = min(int(wanted[2]) + 1, len(body)) if wanted[1] and wanted[2] else len(body)
        tags["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
        return _response("206 Partial Content", body[start:stop], tags, method)

    def body(self, key: str) -> bytes:
        """Return the bytes of an object whose key ends in its number."""
        number = _NUMBER.search(key)
        assert number is not None
        own = hashlib.md5(key.encode(), usedforsecurity=False).digest()
        return self._pictures[int(number[1]) % len(self._pictures)] + own


def etag(body: bytes) -> str:
    """Return the ETag of an object's bytes, whose end is its own."""
    return body[-16:].hex()


def _response(status: str, body: bytes, headers: dict[str, str], method: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n".encode()
    return head if method == "HEAD" else head + body


def listing(query: dict[str, str], body_of: Callable[[str], bytes]) -> bytes:
    """Return a page of ListObjectsV2; continuation tokens are keys."""
    prefix = query.get("prefix", "")
    found = _N_OBJECTS.search(prefix)
    after = query.get("continuation-token") or query.get("start-after", "")
    number = _NUMBER.search(after)
    start = int(number[1]) + 1 if number else 0
    n_objects = int(found[1]) if found else 0
    stop = min(n_objects, start + int(query.get("max-keys", PAGE)), start + PAGE)
    folder = prefix.rstrip("/")
    objects = ((key, body_of(key)) for key in (f"{folder}/{index:06}.jpg" for index in range(start, stop)))
    rows = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{etag(body)}&quot;</ETag><Size>{len(body)}</Size></Contents>"
        for key, body in objects
    )
    token = f"<NextContinuationToken>{folder}/{stop - 1:06}.jpg</NextContinuationToken>" if stop < n_objects else ""
    return (
        f"<ListBucketResult><Prefix>{prefix}</Prefix><KeyCount>{stop - start}</KeyCount>"
        f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
    ).encode()


async def serve(port: int, side: int, latency: float) -> None:
    """Serve until the process is terminated."""
    pictures = [picture(seed, side) for seed in range(PICTURES)]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(pictures, latency), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


@contextmanager
def running(*, side: int, latency_ms: float = 0.0) -> Iterator[str]:
    """Run the server in a process of its own on a free port; yields its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, __file__, f"--port={port}", f"--side={side}", f"--latency-ms={latency_ms}"]
    process = subprocess.Popen(argv)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--side", type=int, default=512, help="pixels a side of the pictures")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="that every answer waits")
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.side, options.latency_ms / 1000))


if __name__ == "__main__":
    main()
