"""Costs of queries through the HTTP API, on the ledger that `benchmarks/load_results.py` made.

    python benchmarks/queries.py --folder /var/tmp/ledger --repeats 100 --json figures.json

Starts the folder's Postgres and one API process, warms up, and asks each query `--repeats` times, one at a time, each
time with other values. Prints the median and 99th percentile of the time that a client waits, and the processor time
of the API process and of all Postgres processes per request, in ms.
"""

import argparse
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from load_results import JOBS, PROFILES, REJECTED, server
from machine import describe, end_on_sigterm

Ask = Callable[[httpx.Client, int], httpx.Response]

DAYS = [f"{2023 + month // 12}/{month % 12 + 1:02}/{day:02}/" for month in range(36) for day in (3, 11, 19, 27)]
MONTHS = [f"{2023 + month // 12}/{month % 12 + 1:02}/" for month in range(36)]
WITHOUT_ANSWER = ("model that nobody has", "suffix without match")


def pages(**fixed: Any) -> Ask:
    """Ask for a page; values that are lists take turns."""

    def ask(client: httpx.Client, turn: int) -> httpx.Response:
        values = {name: value[turn % len(value)] if isinstance(value, list) else value for name, value in fixed.items()}
        return client.get("/v1/scores", params=values)

    return ask


def deep(**fixed: Any) -> Ask:
    """Ask for a page behind the cursor of a page deep inside."""
    cursors: dict[int, str | None] = {}

    def ask(client: httpx.Client, turn: int) -> httpx.Response:
        low = 0.2 + 0.02 * (turn % 20)
        place = {"min": low, "max": 0.9} if not fixed.get("sort", "").startswith("-") else {"max": 0.95 - low}
        if turn % 20 not in cursors:
            page = client.get("/v1/scores", params=fixed | place | {"limit": 1000}).json()
            cursors[turn % 20] = page["next_cursor"]
        if cursors[turn % 20] is None:
            raise SystemExit(f"no second page of 1,000 for {fixed | place}: load more results")
        return client.get("/v1/scores", params=fixed | place | {"cursor": cursors[turn % 20]})

    return ask


def path(address: str, **fixed: Any) -> Ask:
    """Ask another path; values that are lists take turns."""

    def ask(client: httpx.Client, turn: int) -> httpx.Response:
        values = {name: value[turn % len(value)] if isinstance(value, list) else value for name, value in fixed.items()}
        return client.get(address, params=values)

    return ask


def lookups(n_images: int) -> Ask:
    """Ask for one image with a score by its key."""
    keys = [i for i in random.Random(0).sample(range(1, n_images), 500) if i % 200 != REJECTED]

    def ask(client: httpx.Client, turn: int) -> httpx.Response:
        i = keys[turn % len(keys)]
        day = time.strftime("%Y/%m/%d", time.gmtime(1672531200 + 86400 * round(i * 1096 / n_images - 0.5)))
        bucket = "archive" if i % 50 < 40 else "photos" if i % 50 < 45 else "press" if i % 50 < 49 else "tiny"
        return client.get("/v1/scores/lookup", params={"bucket": bucket, "key": f"{day}/IMG_{i:08}.jpg"})

    return ask


def queries(n_images: int) -> dict[str, Ask]:
    """Return the queries: those with a target first."""
    lows = [round(0.1 + 0.02 * turn, 2) for turn in range(30)]
    near_cut_offs = [low for low in lows if low <= 0.6]  # the highest cut-off
    large, small = str(JOBS["large"]), str(JOBS["small"])
    return {
        "score range": pages(min=lows, max=0.95),
        "score range of a bucket": pages(bucket=["archive", "photos", "tiny"], min=lows, max=0.95),
        "worst of a prefix: day": pages(bucket="archive", prefix=DAYS),
        "worst of a prefix: month": pages(bucket="archive", prefix=MONTHS),
        "worst of a prefix: year": pages(bucket="archive", prefix=["2023/", "2024/", "2025/"]),
        "worst of a prefix: ten images": pages(bucket="archive", prefix=[f"{day}IMG_" for day in DAYS]),
        "worst of a prefix in a small bucket": pages(bucket="tiny", prefix=MONTHS),
        "deep inside a sort": deep(),
        "deep inside a sort, best first": deep(sort="-score"),
        "deep inside a month": deep(bucket="archive", prefix="2024/05/"),
        "newest of a bucket": pages(bucket=["archive", "photos", "press", "tiny"], sort="-updated"),
        "look-up by key": lookups(n_images),
        "failures of a job": path(f"/v1/jobs/{large}/items", state="rejected"),
        "provisional": pages(status="provisional"),
        "provisional of a bucket": pages(status="provisional", bucket=["archive", "tiny"]),
        "worst=5%": pages(worst="5%"),
        "worst=5% of a bucket": pages(worst="5%", bucket=["archive", "photos", "press", "tiny"]),
        "worst=5% of a month": pages(worst="5%", bucket="archive", prefix=MONTHS),
        "worst=5% of a job": pages(worst="5%", job=large),
        "stats": path("/v1/stats"),
        "stats of a bucket": path("/v1/stats", bucket=["archive", "photos", "press", "tiny"]),
        "stats of a month": path("/v1/stats", bucket="archive", prefix=MONTHS),
        "stats of a job": path("/v1/stats", job=large),
        "stats of a job that others scored": path("/v1/stats", job=small),
        "stats by bucket": path("/v1/stats", group_by="bucket"),
        "stats by folder": path("/v1/stats", bucket="archive", prefix=["2023/", "2024/"], group_by="prefix"),
        "stats by day": path("/v1/stats", group_by="day"),
        "stats by band": path("/v1/stats", group_by="band"),
        "model that nobody has": pages(model="nobody"),
        "model: teacher": pages(model="bundled-teacher", min=near_cut_offs),
        "band=fair of a bucket": pages(band="fair", bucket=["archive", "tiny"]),
        "route=budget_spent": pages(route="budget_spent", min=near_cut_offs),
        "suffix without match": pages(bucket="archive", suffix=".png"),
        "dates, worst first": pages(since="2026-01-10T00:00Z", until="2026-01-11T00:00Z"),
        "job of 90 %": pages(job=large),
        "job of 0.2 %": pages(job=small),
    }


@contextmanager
def api(url: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run an API process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | {
            "DPIQA_DATABASE_URL": url,
            "DPIQA_BROKER_URL": "redis://127.0.0.1:1/0",
            "DPIQA_PROFILE": PROFILES[0],
            "DPIQA_API_PORT": str(port),
            "DPIQA_HOME": home,
            "DPIQA_LOG_LEVEL": "warning",
        }
        process = subprocess.Popen([sys.executable, "-m", "dpiqa.api"], env=env)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(300):
                try:
                    httpx.get(f"{address}/healthz").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def seconds(process: psutil.Process) -> float:
    """Return the processor time of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def backends(postmaster: int) -> float:
    """Return the processor time of the server's processes."""
    total = 0.0
    for child in psutil.Process(postmaster).children(recursive=True):
        try:
            total += seconds(child)
        except psutil.NoSuchProcess:
            continue
    return total


def answered(name: str, reply: httpx.Response) -> int:
    """Return the number of items, or of results that statistics count. Ends the program without the answer it needs."""
    if reply.status_code != 200:
        raise SystemExit(f"{name}: {reply.status_code} {reply.text[:1000]}")
    body = reply.json()
    found: int = body["n"] if "n" in body else len(body["scores"] if "scores" in body else body["items"])
    if (found == 0) != (name in WITHOUT_ANSWER):
        raise SystemExit(f"{name}: {found} found by {reply.url}, so this is not the query to measure")
    return found


def measure(
    name: str, client: httpx.Client, ask: Ask, service: psutil.Process, postmaster: int, repeats: int
) -> dict[str, Any]:
    """Ask one query; return its costs in ms per request."""
    for turn in range(repeats):  # all values, so that what is measured is in memory
        n_found = answered(name, ask(client, turn))
    started, before = time.perf_counter(), (seconds(service), backends(postmaster))
    waited = []
    for turn in itertools.count():
        asked = time.perf_counter()
        reply = ask(client, turn)
        waited.append(1000 * (time.perf_counter() - asked))
        if turn + 1 >= repeats or time.perf_counter() - started > 30:
            break
    after = (seconds(service), backends(postmaster))
    quantiles = statistics.quantiles(waited, n=100, method="inclusive")
    return {
        "n": len(waited),
        "found": n_found,
        "partial": bool(reply.json().get("partial")),
        "p50": quantiles[49],
        "p99": quantiles[98],
        "api_cpu": 1000 * (after[0] - before[0]) / len(waited),
        "postgres_cpu": 1000 * (after[1] - before[1]) / len(waited),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dpiqa-ledger")
    parser.add_argument("--repeats", type=int, default=100, help="requests of each query")
    parser.add_argument("--only", default="", help="queries whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    end_on_sigterm()
    figures: dict[str, Any] = {"machine": describe(), "queries": {}}
    with server(options.folder) as postgres, postgres.connect("dpiqa") as connection, api(postgres.url()) as service:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM results), (SELECT max(id) FROM images), pg_database_size('dpiqa')"
        ).fetchone()
        n_results, n_images, size = row or (0, 0, 0)
        figures |= {"results": n_results, "gib": round(size / 2**30, 1)}
        print(figures["machine"], f"{n_results:,} results, {figures['gib']} GiB", flush=True)
        print(f"| {'query':36} | {'found':>9} | {'p50 ms':>7} | {'p99 ms':>7} | {'API CPU-ms':>10} | Postgres CPU-ms |")
        print("|---|---|---|---|---|---|")
        with httpx.Client(base_url=service[0], timeout=60) as client:
            postmaster = postgres.process.pid if postgres.process else 0
            for name, ask in queries(n_images).items():
                if options.only not in name:
                    continue
                row_of = figures["queries"][name] = measure(name, client, ask, service[1], postmaster, options.repeats)
                print(
                    f"| {name:36} | {row_of['found']:9,} | {row_of['p50']:7.1f} | {row_of['p99']:7.1f} "
                    f"| {row_of['api_cpu']:10.1f} | {row_of['postgres_cpu']:15.1f} |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
