"""Time and size of the pages, on the ledger that `benchmarks/load_results.py` made.

    python benchmarks/pages.py --folder /var/tmp/ledger --repeats 20

Starts the folder's Postgres and one API process, and asks each page `--repeats` times, one at a time, without its
thumbnails. The first request counts apart: nothing of that page was read before. The targets are 300 ms and 300 kB.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from load_results import JOBS, server
from machine import describe
from queries import api

TARGET_MS, TARGET_KB = 300, 300


def addresses(bucket: str, key: str) -> list[str]:
    """Return the pages."""
    large = JOBS["large"]
    return [
        "/",
        "/jobs",
        f"/jobs/{large}",
        f"/jobs/{large}/items?state=rejected",
        "/scores",
        "/scores?bucket=archive",
        "/scores?bucket=archive&prefix=2024/05/",
        "/scores?bucket=archive&worst=5%25",
        f"/scores?job={large}",
        f"/image?{urlencode({'bucket': bucket, 'key': key})}",
        "/requirements",
        "/requirements/new",
    ]


def measure(client: httpx.Client, address: str, repeats: int) -> dict[str, Any]:
    """Ask for one page; return its time to the last byte in ms, and its size."""
    waited, reply = [], None
    for _ in range(repeats + 1):
        asked = time.perf_counter()
        reply = client.get(address)
        waited.append(1000 * (time.perf_counter() - asked))
    assert reply is not None
    later = statistics.quantiles(waited[1:], n=100, method="inclusive")
    size = len(reply.content)
    return {"status": reply.status_code, "first": waited[0], "p50": later[49], "p99": later[98], "kb": size / 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dpiqa-ledger")
    parser.add_argument("--repeats", type=int, default=20, help="requests of each page after the first")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures: dict[str, Any] = {"machine": describe(), "pages": {}}
    with server(options.folder) as postgres, postgres.connect("dpiqa") as connection, api(postgres.url()) as service:
        counted = connection.execute("SELECT count(*) FROM results").fetchone()
        image = connection.execute("SELECT bucket, key FROM images WHERE current ORDER BY id LIMIT 1").fetchone()
        assert counted is not None
        assert image is not None
        figures["results"] = counted[0]
        print(figures["machine"], f"{counted[0]:,} results", flush=True)
        print(f"| {'page':46} | {'first ms':>8} | {'p50 ms':>7} | {'p99 ms':>7} | {'kB':>5} |")
        print("|---|---|---|---|---|")
        with httpx.Client(base_url=service[0], timeout=60, headers={"Accept-Encoding": "identity"}) as client:
            client.get("/login")  # the process has begun to serve pages
            for address in addresses(*image):
                row = figures["pages"][address] = measure(client, address, options.repeats)
                beyond = "" if row["status"] == 200 and row["p50"] <= TARGET_MS and row["kb"] <= TARGET_KB else " !"
                name = address.replace(str(JOBS["large"]), "ID")[:44] + beyond
                figure = f"{row['first']:8.0f} | {row['p50']:7.0f} | {row['p99']:7.0f} | {row['kb']:5.0f}"
                print(f"| {name:46} | {figure} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
