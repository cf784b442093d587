"""The ledger's cost per image: adding listed images, claiming and recording them, on an embedded Postgres.

python benchmarks/ledger.py --repeats 7 --json figures.json

Processor time of this process and of its Postgres backend, and wall-clock time, in ms per item: pages of 1,000 for
adding, chunks of 256 for claiming and recording, each in a transaction of its own. One more round before warms up.
With `--details`, each image is recorded with its measures, and the size of their table is stated.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from machine import describe
from sqlalchemy import Connection, Engine, text

# --- adapter: everything that the measured version of dpiqa decides; another version needs another one ---
from dpiqa.doorbell import Queue
from dpiqa.imaging.measured import Measures
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.local.postgres import Postgres
from dpiqa.models.base import ModelCard
from dpiqa.profiles import Profile
from dpiqa.routing import decide
from dpiqa.storage import schema
from dpiqa.storage.claims import claim
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.items import Claim, Scored
from dpiqa.storage.jobs import Job, create_job
from dpiqa.storage.measures import request_details
from dpiqa.storage.results import record
from dpiqa.types import ImageRef, JobKind, ModelKind, Stage


def record_scores(c: Connection, profile: Profile, card: ModelCard, claims: Sequence[Claim]) -> int:
    """Record a score for each claim."""
    outcomes = [Scored(held, 0.5, held.ref.etag, measures=MEASURES if held.wants_measures else None) for held in claims]
    return record(c, Stage.STUDENT, profile, card, outcomes, decide=decide).n_recorded


# --- end of the adapter ---

PAGE, CHUNK = 1000, 256
PROFILE = Profile(name="benchmark", version=1, student="student")
CARD = ModelCard(
    name="student",
    kind=ModelKind.PIXELS,
    sha256="a" * 64,
    preprocessing=Preprocessing(width=8, height=8),
    licence="none",
    notes="x" * 19_000,  # as long as the card of the bundled student
)
MEASURES = Measures(
    width=4000,
    height=3000,
    sharpness=0.7312,
    contrast=0.5412,
    clipped_dark=0.0123,
    clipped_bright=0.0107,
    noise=2.2511,
    blockiness=0.0113,
    colour_cast=0.0333,
)
#: Durability costs time that is not ours, and vacuuming would come in between.
SERVER = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}


@contextmanager
def database() -> Iterator[tuple[Postgres, Engine]]:
    """Give an empty ledger: its server, and an engine."""
    with tempfile.TemporaryDirectory(prefix="dpiqa-benchmark-") as folder:
        Path(folder).chmod(0o711)  # as root, Postgres runs as `nobody`
        server = Postgres(Path(folder) / "postgres", Path(folder) / "postgres.log", options=SERVER)
        server.start()
        try:
            schema.upgrade(server.url())
            engine = make_engine(server.url(), pool_size=1)
            yield server, engine
            engine.dispose()
        finally:
            server.stop()


class Stopwatch:
    """Times steps of one phase, in seconds: this process, its backend, the wall."""

    def __init__(self, engine: Engine) -> None:
        with transaction(engine) as c:
            self.backend = psutil.Process(c.execute(text("SELECT pg_backend_pid()")).scalar_one())

    def time(self, steps: Sequence[Callable[[], object]]) -> dict[str, float]:
        """Run the steps."""
        before = self._now()
        for step in steps:
            step()
        return {name: end - start for (name, start), end in zip(before.items(), self._now().values(), strict=True)}

    def _now(self) -> dict[str, float]:
        backend = self.backend.cpu_times()
        return {
            "cpu": time.process_time(),
            "backend_cpu": backend.user + backend.system,
            "wall": time.perf_counter(),
        }


def refs(start: int, count: int) -> list[ImageRef]:
    """Make objects as a listing names them."""
    written = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        ImageRef(bucket="photos", key=f"2026/{n:09}.jpg", etag=f"{n:032x}", size=1_000_000, last_modified=written)
        for n in range(start, start + count)
    ]


def measure(
    engine: Engine, stopwatch: Stopwatch, turn: int, items: int, *, details: bool
) -> dict[str, dict[str, float]]:
    """Add, claim and record the images of one job; return ms per item, by phase and clock."""
    ids: list[int] = []
    claims: list[Claim] = []
    scorers = {PROFILE.id: CARD.scorer_id}

    def add(job: Job, page: list[ImageRef]) -> None:
        with transaction(engine) as c:
            ids.extend(add_images(c, job, page))

    def take(chunk: list[int]) -> None:
        with transaction(engine) as c:
            leased = claim(c, chunk, stage=Stage.STUDENT, owner="w", lease_seconds=600, scorer_ids=scorers)
            claims.extend(leased)

    def write(chunk: list[Claim]) -> None:
        with transaction(engine) as c:
            record_scores(c, PROFILE, CARD, chunk)

    with transaction(engine) as c:
        job = create_job(c, kind=JobKind.PREFIX, bucket="photos", prefix="", profile=PROFILE, queue=Queue.BULK)
        if details:
            request_details(c, job.id)
    pages = [refs(turn * items + start, PAGE) for start in range(0, items, PAGE)]
    phases = {"ingest": stopwatch.time([partial(add, job, page) for page in pages])}
    with transaction(engine) as c:
        c.execute(text("ANALYZE"))  # as autovacuum does within a minute; until then a claim costs Postgres 0.19 ms
    phases["claim"] = stopwatch.time([partial(take, ids[i : i + CHUNK]) for i in range(0, len(ids), CHUNK)])
    phases["record"] = stopwatch.time([partial(write, claims[i : i + CHUNK]) for i in range(0, len(claims), CHUNK)])
    if not len(ids) == len(claims) == items:
        raise SystemExit(f"{items} images made {len(ids)} items and {len(claims)} claims")
    return {
        phase: {clock: 1000 * seconds / items for clock, seconds in clocks.items()} for phase, clocks in phases.items()
    }


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return median, lowest and highest of the rounds, by phase and clock."""
    return {
        phase: {
            clock: {
                "median": statistics.median(values := [turn[phase][clock] for turn in rounds]),
                "min": min(values),
                "max": max(values),
            }
            for clock in clocks
        }
        for phase, clocks in rounds[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=4000, help="images per round, a multiple of 1,000")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, at least 5 for a figure that is stated")
    parser.add_argument("--details", action="store_true", help="record measures of the pictures, too")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.items < PAGE or options.items % PAGE:
        parser.error("--items must be a multiple of 1,000")
    with database() as (_, engine):
        stopwatch = Stopwatch(engine)
        measure(engine, stopwatch, 0, options.items, details=options.details)
        with transaction(engine) as c:
            c.execute(text("ANALYZE"))  # autovacuum is off, and plans must not depend on when it would have come
        rounds = [
            measure(engine, stopwatch, turn, options.items, details=options.details)
            for turn in range(1, options.repeats + 1)
        ]
        with transaction(engine) as c:
            table_bytes = c.execute(text("SELECT pg_total_relation_size('measures')")).scalar_one()
    figures: dict[str, Any] = {
        "machine": describe(),
        "items": options.items,
        "repeats": options.repeats,
        "milliseconds_per_item": summary(rounds),
        "rounds": rounds,
        "bytes_of_measures": table_bytes / (options.items * (options.repeats + 1)) if options.details else None,
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    print(figures["machine"])
    print(f"ms per item, median (range) of {options.repeats} rounds of {options.items} items")
    print(f"{'':8}" + "".join(f"{clock:>28}" for clock in ("cpu", "backend_cpu", "wall")))
    for phase, clocks in figures["milliseconds_per_item"].items():
        cells = (f"{c['median']:.4f} ({c['min']:.4f} to {c['max']:.4f})" for c in clocks.values())
        print(f"{phase:8}" + "".join(f"{cell:>28}" for cell in cells))
    if options.details:
        print(f"{figures['bytes_of_measures']:.0f} bytes of measures per image, with their index")


if __name__ == "__main__":
    main()
