"""Time and size of the pages, on the ledger that `benchmarks/load_results.py` made.

    python benchmarks/pages.py --folder /var/tmp/ledger

Starts the folder's Postgres and, in each round, a new API process, which is asked for each page, one at a time, without
its thumbnails: once, which counts apart, and `--repeats` times. Then each of a few pages is the first request of a new
process. Times are to the last byte, in ms: median (lowest to highest) of all rounds. `!` marks what is beyond 300 ms or
300 kB. What Postgres and the system keep in memory from earlier rounds and runs stays there.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from load_results import JOBS, PROFILES, server
from machine import describe, end_on_sigterm
from queries import api

from dpiqa.profiles import load_profile

TARGET_MS, TARGET_KB = 300, 300
#: Pages that somebody may open first.
FIRST_PAGES = ("overview", "job", "scores", "scores: bucket", "image", "threshold", "compare")


def addresses(client: httpx.Client, bucket: str, key: str) -> dict[str, str]:
    """Return the pages, by what they show."""
    large, small = JOBS["large"], JOBS["small"]
    month = {"bucket": "archive", "prefix": "2024/05/"}
    day = {"since": "2026-01-10T00:00Z", "until": "2026-01-11T00:00Z"}
    profiles = {"profile": load_profile(PROFILES[0]).id, "second": load_profile(PROFILES[1]).id}
    views: dict[str, tuple[str, dict[str, Any]]] = {
        "overview": ("/", {}),
        "jobs": ("/jobs", {}),
        "job": (f"/jobs/{large}", {}),
        "job: images that were rejected": (f"/jobs/{large}/items", {"state": "rejected"}),
        "job: images that wait": (f"/jobs/{large}/items", {"state": "queued"}),
        "scores": ("/scores", {}),
        "scores: bucket": ("/scores", {"bucket": "archive"}),
        "scores: folder of a year": ("/scores", {"bucket": "archive", "prefix": "2024/"}),
        "scores: folder of a month": ("/scores", month),
        "scores: folder of a day": ("/scores", {"bucket": "archive", "prefix": "2024/05/03/"}),
        "scores: prefix within a day": ("/scores", {"bucket": "archive", "prefix": "2024/05/03/IMG_"}),
        "scores: range": ("/scores", {"min": 0.4, "max": 0.6}),
        "scores: range in a folder": ("/scores", month | {"min": 0.4, "max": 0.6}),
        "scores: worst 5 %": ("/scores", {"worst": "5%"}),
        "scores: worst 5 % of a bucket": ("/scores", {"bucket": "archive", "worst": "5%"}),
        "scores: band": ("/scores", {"band": "fair"}),
        "scores: band in a folder": ("/scores", month | {"band": "fair"}),
        "scores: route": ("/scores", {"route": "budget_spent"}),
        "scores: route in a folder": ("/scores", month | {"route": "budget_spent"}),
        "scores: model": ("/scores", {"model": "bundled-teacher"}),
        "scores: model in a folder": ("/scores", month | {"model": "bundled-teacher"}),
        "scores: a day": ("/scores", day),
        "scores: a day, in a bucket": ("/scores", day | {"bucket": "archive"}),
        "scores: a day, in a folder": ("/scores", month | day),
        "scores: newest first": ("/scores", {"sort": "-updated"}),
        "scores: provisional": ("/scores", {"status": "provisional"}),
        "scores: provisional, in a folder": ("/scores", month | {"status": "provisional"}),
        "scores: job of 90 %": ("/scores", {"job": large}),
        "scores: job of 0.2 %": ("/scores", {"job": small}),
        "scores: no key ends so": ("/scores", {"bucket": "archive", "suffix": ".png"}),
        "scores: after 20,000": ("/scores", {"cursor": deep(client, {})}),
        "scores: after 20,000 of a folder": ("/scores", month | {"cursor": deep(client, month)}),
        "image": ("/image", {"bucket": bucket, "key": key}),
        "threshold": ("/threshold", {}),
        "threshold: bucket": ("/threshold", {"bucket": "archive"}),
        "threshold: folder": ("/threshold", month),
        "threshold: job": ("/threshold", {"job": large}),
        "compare": ("/compare", profiles),
        "compare: folder": ("/compare", profiles | month),
        "requirements": ("/requirements", {}),
        "requirement, new": ("/requirements/new", {}),
    }
    return {name: f"{path}?{urlencode(query)}" if query else path for name, (path, query) in views.items()}


def deep(client: httpx.Client, query: dict[str, Any]) -> str:
    """Return the cursor of the place after 20,000 scores, or of the last page where there are fewer."""
    cursors: list[str] = []
    for _ in range(20):
        place = {"cursor": cursors[-1]} if cursors else {}
        page = client.get("/v1/scores", params=query | {"limit": 1000} | place).raise_for_status().json()
        if page["next_cursor"] is None:
            break
        cursors.append(page["next_cursor"])
    return cursors[-1] if cursors else ""


def measure(client: httpx.Client, address: str, repeats: int) -> dict[str, Any]:
    """Ask for one page; return the times to the last byte in ms, and its size."""
    waited = []
    for _ in range(repeats + 1):
        asked = time.perf_counter()
        reply = client.get(address)
        waited.append(1000 * (time.perf_counter() - asked))
        if reply.status_code != 200:
            raise SystemExit(f"{address}: {reply.status_code} {reply.text[:1000]}")
    return {"first": waited[0], "later": waited[1:], "kb": len(reply.content) / 1000}


@contextmanager
def browser(url: str) -> Iterator[httpx.Client]:
    """Start an API process, and yield a client of it."""
    with (
        api(url) as service,
        httpx.Client(base_url=service[0], timeout=60, headers={"Accept-Encoding": "identity"}) as client,
    ):
        yield client


def shown(name: str, values: list[float]) -> str:
    """Return a row of a table: median (lowest to highest)."""
    text = f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"
    return f"| {name + (' !' if max(values) > TARGET_MS else ''):36} | {text:20} |"


def ask_all(url: str, image: tuple[str, str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Ask each round's new process for every page; return the times and the size of each."""
    pages: dict[str, dict[str, Any]] = {}
    for _ in range(options.rounds):
        with browser(url) as client:
            for name, address in addresses(client, *image).items():
                if options.only in name:
                    row = measure(client, address, options.repeats)
                    kept = pages.setdefault(name, {"first": [], "later": [], "kb": 0})
                    kept["first"].append(row["first"])
                    kept["later"] += row["later"]
                    kept["kb"] = max(kept["kb"], row["kb"])
    return pages


def ask_new_processes(url: str, image: tuple[str, str], options: argparse.Namespace) -> dict[str, list[float]]:
    """Ask a new process for each page and round: return the times of its first request, in ms."""
    with browser(url) as client:
        found = addresses(client, *image)
    chosen = [name for name in FIRST_PAGES if options.only in name]
    waited: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(options.rounds):
        for name in chosen:
            with browser(url) as client:
                waited[name].append(measure(client, found[name], 0)["first"])
    return waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dpiqa-ledger")
    parser.add_argument("--rounds", type=int, default=3, help="API processes, each asked for every page")
    parser.add_argument("--repeats", type=int, default=20, help="requests of each page and process after the first")
    parser.add_argument("--only", default="", help="pages whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    end_on_sigterm()
    with server(options.folder) as postgres, postgres.connect("dpiqa") as connection:
        counted = connection.execute("SELECT count(*) FROM results").fetchone()
        image = connection.execute("SELECT bucket, key FROM images WHERE current ORDER BY id LIMIT 1").fetchone()
        assert counted is not None
        assert image is not None
        figures: dict[str, Any] = {"machine": describe(), "results": counted[0]}
        print(figures["machine"], f"{counted[0]:,} results", flush=True)
        pages = figures["pages"] = ask_all(postgres.url(), image, options)
        print(f"| {'page':36} | {'ms':20} | {'first, ms':20} | {'kB':>4} |\n|---|---|---|---|")
        for name, row in pages.items():
            first = f"{statistics.median(row['first']):.0f} (to {max(row['first']):.0f})"
            size = f"{row['kb']:.0f}{' !' if row['kb'] > TARGET_KB else ''}"
            print(f"{shown(name, row['later'])} {first:20} | {size:>4} |", flush=True)
        print(f"\n| {'first request of a process':36} | {'ms':20} |\n|---|---|")
        figures["processes"] = ask_new_processes(postgres.url(), image, options)
        for name, waited in figures["processes"].items():
            print(shown(name, waited), flush=True)
        figures["load_at_end"] = os.getloadavg()[0]
    print(f"load at the end: {figures['load_at_end']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
