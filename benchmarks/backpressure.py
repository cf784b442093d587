"""Memory of a worker whose surroundings are ten times slower: S3, the database, or the device.

python benchmarks/backpressure.py --json figures.json

One real worker (`real_worker.py`) with a simulated device scores a job of 512 x 512 JPEGs. After a while one part
becomes ten times slower than it was measured to be: the S3 server is one whose answers come later, Postgres is behind
a proxy that delays each answer, or the device takes longer for a batch, as a teacher does. Printed for each: images
per second, and memory (RSS) of the worker and its decode processes over the time, which must not grow.
"""

import argparse
import asyncio
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import static_s3
from machine import describe, end_on_sigterm
from real_worker import Bench

from dpiqa.local.ports import free_port

BATCH, RATE = 16, 60.0
CASES = {"none": {}, "s3": {"s3": 1.0}, "database": {"database": 0.02}, "device": {"device": 10.0}}


class Delay:
    """A TCP proxy whose answers come `seconds` late, while that is above 0."""

    def __init__(self, port: int) -> None:
        self._target, self.port, self.seconds = port, free_port(), 0.0
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait(10)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self._ready.set()
        await server.serve_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_server, from_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(to_server, writer, late=True), self._pump(reader, from_server, late=False))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, late: bool) -> None:
        try:
            while data := await source.read(1 << 16):
                if late and self.seconds:
                    await asyncio.sleep(self.seconds)
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()


@contextmanager
def system(slow_device: float) -> Iterator[tuple[Bench, Delay, Delay]]:
    """Give a worker whose S3 server and database are behind proxies."""
    with static_s3.running(side=512) as url:
        s3 = Delay(urllib.parse.urlsplit(url).port or 0)
        with Bench(f"http://127.0.0.1:{s3.port}", batch_seconds=BATCH / RATE * slow_device, between=Delay) as bench:
            assert isinstance(bench.proxy, Delay)
            yield bench, s3, bench.proxy


def observe(case: str, seconds: float) -> dict[str, Any]:
    """Work for some seconds, then as long with the slow part; return rates and memory."""
    slow = CASES[case]
    with system(slow.get("device", 1.0)) as (bench, s3, database):
        job = bench.submit(100_000)
        while not bench.n_ended(job):
            time.sleep(0.2)
        time.sleep(5)
        memory: list[int] = []
        s3.seconds, database.seconds = slow.get("s3", 0.0), slow.get("database", 0.0)
        before, began = bench.n_ended(job), time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(0.5)
            memory.append(bench.rss())
        rate = (bench.n_ended(job) - before) / seconds
        s3.seconds = database.seconds = 0.0
    quarter = len(memory) // 4
    return {
        "images_per_s": rate,
        "rss_mb": [round(value / 1e6) for value in memory[:: max(1, len(memory) // 10)]],
        "growth": max(memory[-quarter:]) / max(memory[:quarter]) - 1,
    }


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=float, default=20, help="with the slow part")
    parser.add_argument("--json", type=argparse.FileType("w"), help="also write the figures here")
    options = parser.parse_args()
    end_on_sigterm()
    figures: dict[str, Any] = {"machine": describe()}
    print(figures["machine"])
    for case in options.cases:
        figures[case] = observe(case, options.seconds)
        print(case, json.dumps(figures[case]), flush=True)
    if options.json:
        json.dump(figures, options.json, indent=2)


if __name__ == "__main__":
    main()
