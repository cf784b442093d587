"""Processor time of fetching and decoding, in ms per image: what a worker spends before the model.

python benchmarks/fetch_decode.py --repeats 5

- fetch: `S3Store.get` and, beside it, a bare boto3 `get_object`, in 8 threads, from a server of this script on
  loopback. Only this process's time counts.
- decode: in this process, against Pillow alone (decode, then antialiased bilinear).
- pool: owner and decode process together, against decoding in this process.
"""

import argparse
import io
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from botocore.config import Config
from machine import describe, end_on_sigterm
from PIL import Image, ImageFilter

from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.objects.aws import make_client
from dpiqa.objects.s3 import S3Store
from dpiqa.process_tuning import keep_buffers, share_one_arena
from dpiqa.settings import Settings, load_settings
from dpiqa.types import ImageRef

SIZE = Preprocessing(width=512, height=512)
OBJECTS = {30_000: 800, 344_000: 300, 1_460_000: 100}  #: bytes of an object -> requests of a round
PICTURES = {"512 x 512": (512, 512, 200), "2 MP": (1632, 1224, 30), "12 MP": (4000, 3000, 6)}
THREADS = 8


def serve(listener: socket.socket) -> None:
    """Answer every GET with as many bytes as its key says."""

    def answer(connection: socket.socket) -> None:
        head = b""
        while part := connection.recv(65536):
            head += part
            if head.endswith(b"\r\n\r\n"):
                size = int(head.split(b" ", 2)[1].rpartition(b"/")[2])
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 06:00:00 GMT\r\nx-amz-request-id: 0123456789ABCDEF\r\n"
                    b'Last-Modified: Sun, 29 Nov 2026 05:00:00 GMT\r\nETag: "0123456789abcdef0123456789abcdef"\r\n'
                    b"Accept-Ranges: bytes\r\nContent-Type: image/jpeg\r\nServer: AmazonS3\r\n"
                    b"Content-Length: %d\r\n\r\n" % size
                )
                connection.sendall(bytes(size))
                head = b""

    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def summary(samples: list[float]) -> dict[str, float]:
    """Return median and spread."""
    return {"median": statistics.median(samples), "lowest": min(samples), "highest": max(samples)}


def fetches(settings: Settings, repeats: int) -> dict[str, object]:
    """Measure the product's GET and boto3's, by size."""
    store = S3Store.from_settings(settings)
    config = Config(max_pool_connections=THREADS, s3={"addressing_style": "path"})
    client = make_client("s3", settings, config)

    def product(size: int) -> int:
        return len(store.get(ImageRef(bucket="bucket", key=str(size), etag=""), 1 << 26).data)

    def boto3(size: int) -> int:
        return len(client.get_object(Bucket="bucket", Key=str(size))["Body"].read())

    figures: dict[str, object] = {}
    with ThreadPoolExecutor(THREADS) as threads:
        for size, count in OBJECTS.items():
            samples: dict[Callable[[int], int], list[float]] = {product: [], boto3: []}
            for turn in range(repeats + 1):  # the first warms up
                for get, taken in samples.items():
                    started = time.process_time()
                    if any(n != size for n in threads.map(get, [size] * count)):
                        raise RuntimeError("a body is incomplete")
                    if turn:
                        taken.append(1000 * (time.process_time() - started) / count)
            ours, theirs = map(summary, samples.values())
            figures[f"{size} bytes"] = {"product": ours, "boto3": theirs, "ratio": ours["median"] / theirs["median"]}
    return figures


def jpeg(width: int, height: int) -> bytes:
    """Return smooth noise, which compresses like a photograph."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.filter(ImageFilter.GaussianBlur(1)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    """Decode and resize by Pillow alone."""
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
        size = (SIZE.width, SIZE.height)
        return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR))


def decoders() -> list[psutil.Process]:
    """Return this process's decode processes."""
    return [p for p in psutil.Process().children() if "dpiqa.imaging.child" in " ".join(p.cmdline())]


def decodes(repeats: int, processes: int) -> dict[str, object]:
    """Measure decoding here, by Pillow alone, and in the pool, by size."""
    figures: dict[str, object] = {}
    limits = Limits()
    with DecodePool(processes, limits) as pool:
        for name, (width, height, count) in PICTURES.items():
            data = jpeg(width, height)
            samples: dict[str, list[float]] = {"pillow": [], "here": [], "owner": [], "process": []}
            for turn in range(repeats + 1):
                round_ = _round(pool, data, count, limits)
                for key, value in round_.items() if turn else ():
                    samples[key].append(value)
            medians = {key: summary(values) for key, values in samples.items()}
            here = medians["here"]["median"]
            surplus = (medians["owner"]["median"] + medians["process"]["median"]) / here - 1
            gain = medians["pillow"]["median"] / here
            figures[f"{name}, {len(data) // 1000} kB"] = {
                **medians,
                "gain over Pillow": gain,
                "surplus of the pool": surplus,
            }
    return figures


def _round(pool: DecodePool, data: bytes, count: int, limits: Limits) -> dict[str, float]:
    started = time.process_time()
    for _ in range(count):
        by_pillow(data)
    pillow = time.process_time() - started
    started = time.process_time()
    for _ in range(count):
        decode_and_prepare(data, SIZE, limits)
    here = time.process_time() - started
    pool.submit(data, SIZE).result()
    before = sum(sum(process.cpu_times()[:2]) for process in decoders())
    started = time.process_time()
    for future in [pool.submit(data, SIZE) for _ in range(count)]:
        future.result()
    owner = time.process_time() - started
    process = sum(sum(process.cpu_times()[:2]) for process in decoders()) - before
    whole = {"pillow": pillow, "here": here, "owner": owner, "process": process}
    return {key: 1000 * value / count for key, value in whole.items()}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count, after one that warms up")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1), help="decode processes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    end_on_sigterm()
    share_one_arena()  # as a worker does
    keep_buffers()
    figures: dict[str, object] = {"machine": describe(), "unit": "ms of processor time per image"}
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    server.start()
    settings = load_settings(
        s3_endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
    )
    figures["fetch"] = fetches(settings, options.repeats)
    server.terminate()
    server.join()
    figures["decode"] = decodes(options.repeats, options.processes)
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text + "\n", "utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
