"""dpiqa beside three other ways to score a bucket: the same objects, decoder settings, weights and CPU, in one run.

    python -m venv .venv-against
    .venv-against/bin/pip install -e '.[demo]' 'ray[data]>=2.40' 'daft>=0.6'      # or: --group against
    .venv-against/bin/python benchmarks/against.py --json figures.json

- `plain`: as in the examples of the field's toolboxes: boto3, Pillow, the model, one image after the other -> Parquet
- `ray`: Ray Data: read_binary_files, map (Pillow), map_batches with the model in an actor, write_parquet
- `daft`: Daft: url.download, image.decode, image.resize, a batched UDF with the model, write_parquet
- `dpiqa`: a worker of Celery with Valkey and Postgres, all started here, the ledger on, and then
  `dpiqa scores --output scores.parquet`

Each runs alone, in processes of its own; the S3 server (`static_s3.py`) is another process, and nobody's. Processor
time is that of all processes that a run starts, Postgres and Valkey included, from first to last. A run of few objects
and one of many tell what an object costs apart from the start. First with a model, then with one that costs nothing,
for more objects. `--long` goes to 100,000 of them and takes an hour; by default it is about four minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import static_s3
from machine import describe, end_on_sigterm
from pyarrow import parquet

SYSTEMS = ("plain", "ray", "daft", "dpiqa")
PACKAGES = {"plain": "boto3", "ray": "ray", "daft": "daft", "dpiqa": "dpiqa"}


@dataclass(frozen=True, slots=True)
class Load:
    """A model, and the objects that it scores."""

    model: str
    side: int  #: pixels of the JPEG files
    sizes: tuple[int, ...]  #: numbers of objects


class ProcessTree:
    """Processor time and memory of a process and of all that it started, those that have ended included."""

    def __init__(self, pid: int) -> None:
        self._known = {pid: psutil.Process(pid)}
        self._seconds: dict[int, float] = {}
        self.peak_rss = 0  #: bytes; pages that processes share count for each

    def look(self) -> None:
        """Add what is there now. What a process does after the last look at it is missed."""
        for process in list(self._known.values()):
            try:
                self._known.update({child.pid: child for child in process.children(recursive=True)})
            except psutil.Error:
                continue
        rss = 0
        for pid, process in self._known.items():
            try:
                times = process.cpu_times()
                rss += process.memory_info().rss
            except psutil.Error:
                continue
            self._seconds[pid] = times.user + times.system
        self.peak_rss = max(self.peak_rss, rss)

    def end(self) -> None:
        """End what is left of it."""
        for process in self._known.values():
            with suppress(psutil.Error):
                process.kill()

    @property
    def seconds(self) -> float:
        """Processor seconds so far."""
        return sum(self._seconds.values())


def run(system: str, load: Load, n: int, url: str, folder: Path, threads: int | None) -> dict[str, Any]:
    """Let one system score `n` objects. Returns its figures and its scores by key."""
    out = folder / f"{system}-{load.model}-{n}-{time.monotonic_ns()}"
    out.mkdir()
    words = [system, load.model, str(n), url, str(out), str(threads or 0)]
    log = (out / "log.txt").open("w")
    began = time.perf_counter()
    argv = [sys.executable, str(Path(__file__).with_name("against_systems.py")), *words]
    process = subprocess.Popen(
        argv,
        stdout=log,
        stderr=log,
        env=os.environ | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_raylet_start_wait_time_s": "180"},
    )
    tree = ProcessTree(process.pid)
    try:
        while process.poll() is None:
            tree.look()
            time.sleep(0.2)
        seconds = time.perf_counter() - began
    finally:
        tree.end()
    if process.returncode:
        sys.exit(f"{system} failed:\n{(out / 'log.txt').read_text()[-4000:]}")
    table = parquet.read_table(out / "scores").to_pydict()
    scores = {key.rpartition("/")[2]: score for key, score in zip(table["key"], table["score"], strict=True)}
    if len(scores) != n or None in scores.values():
        sys.exit(f"{system} scored {len(scores)} of {n} objects: see {out}")
    return {"seconds": seconds, "cpu_seconds": tree.seconds, "peak_rss": tree.peak_rss, "scores": scores}


def measure(load: Load, systems: Sequence[str], folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every system at every size, in turns. Returns a row for each system and size."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    reference: dict[int, Mapping[str, float]] = {}
    with static_s3.running(side=load.side) as url:
        for _ in range(options.repeats):
            for n in load.sizes:
                for system in systems:
                    figures = run(system, load, n, url, folder, options.threads)
                    scores = figures.pop("scores")
                    expected = reference.setdefault(n, scores)
                    row = rows.setdefault((system, n), {"system": system, "model": load.model, "images": n})
                    row["largest_difference"] = max(abs(scores[key] - expected[key]) for key in expected)
                    for name, value in figures.items():
                        row.setdefault(name, []).append(value)
                    print(f"{load.model} {n} {system}: {figures['cpu_seconds']:.1f} CPU-s", file=sys.stderr, flush=True)
    return list(rows.values())


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of Markdown. What an object costs is the difference between a size and the one before."""
    lines = [
        "| model | objects | system | objects/s | CPU-s | CPU-ms an object | beyond that | peak MB | differ by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        n = row["images"]
        smaller = [r for r in rows if (r["system"], r["model"]) == (row["system"], row["model"]) and r["images"] < n]
        cpu, wall = statistics.median(row["cpu_seconds"]), statistics.median(row["seconds"])
        beyond = ""
        if smaller:
            before = smaller[-1]
            beyond = f"{1000 * (cpu - statistics.median(before['cpu_seconds'])) / (n - before['images']):.1f}"
        spread = (
            f" ({min(row['cpu_seconds']):.1f} to {max(row['cpu_seconds']):.1f})" if len(row["cpu_seconds"]) > 1 else ""
        )
        lines.append(
            f"| {row['model']} | {n:,} | {row['system']} | {n / wall:.1f} | {cpu:.1f}{spread} | {1000 * cpu / n:.1f} |"
            f" {beyond} | {max(row['peak_rss']) / 1e6:.0f} | {row['largest_difference']:.4f} |"
        )
    return lines


def main() -> None:
    """Print a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--model", default="bundled-tiny")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 500], help="objects for the model; none: skip it")
    parser.add_argument("--null-sizes", type=int, nargs="*", default=[1000, 3000], help="objects for `brightness`")
    parser.add_argument("--side", type=int, default=768, help="pixels of the JPEG files for the model")
    parser.add_argument("--null-side", type=int, default=256, help="pixels of the JPEG files for `brightness`")
    parser.add_argument("--threads", type=int, help="of the model; by default as many as each system lets torch choose")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--long", action="store_true", help="1,000, 10,000 and 100,000 objects for `brightness`")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    end_on_sigterm()
    null_sizes = (1000, 10_000, 100_000) if options.long else tuple(options.null_sizes)
    loads = [Load(options.model, options.side, tuple(options.sizes)), Load("brightness", options.null_side, null_sizes)]
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="dpiqa-benchmark-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # as root, Postgres runs as `nobody`
        rows = [row for load in loads for row in measure(load, options.systems, Path(folder), options)]
    versions = {system: version(PACKAGES[system]) for system in options.systems}
    if options.json:
        figures = {"machine": machine, "versions": versions, "rows": rows}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(machine, versions, *table(rows), sep="\n")


if __name__ == "__main__":
    main()
