"""`dpiqa gallery`: the worst or the best images as one HTML file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from dpiqa.addresses import is_s3, parse_s3
from dpiqa.cli.scores.ends import Ends
from dpiqa.cli.scores.model_options import ModelOptions
from dpiqa.cli.scores.rows import address_of, measure_words
from dpiqa.cli.scores.run import Run
from dpiqa.cli.scores.score import ModelsOption, with_store
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import rows_of
from dpiqa.cli.support.progress import counting
from dpiqa.cli.support.targets import parse_targets
from dpiqa.errors import DpiqaError, ImageRejected, InvalidRequest, NotFound
from dpiqa.exit_codes import SignalExitCode
from dpiqa.exports.destinations import write_file
from dpiqa.exports.formats import Format
from dpiqa.exports.gallery import Picture, page
from dpiqa.exports.growing import Row, read_rows
from dpiqa.exports.rows import item_batches, score_batches
from dpiqa.exports.schemas import FAILURES, FILES, OBJECTS, SCORES, Schema
from dpiqa.files import expanded
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.thumbnails import encode_thumbnail, thumbnail_preprocessing
from dpiqa.objects.store import LocalFiles
from dpiqa.objects.stores import open_stores
from dpiqa.pipeline.preparer import PreparedImage, Preparer, Reader
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import ScoreQuery, find_profile
from dpiqa.types import Direction, ImageRef, ScoreOrder

_MAX_FAILURES = 50  #: images without a score that are shown

PlacesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders or s3://bucket/prefix to score now; or one file that `dpiqa score --output` wrote.",
        metavar="[PATH|S3_ADDRESS]...",
        show_default=False,
    ),
]
PrefixOption = Annotated[
    str | None, typer.Option(help="Images below s3://bucket/prefix that workers have scored.", metavar="S3_ADDRESS")
]
WorstOption = Annotated[int | None, typer.Option(min=1, help="Number of the worst images, 200 by default.")]
BestOption = Annotated[int | None, typer.Option(min=1, help="Number of the best images instead.")]
PixelsOption = Annotated[int, typer.Option(min=32, max=2048, help="Width and height that the pictures fit into.")]
HtmlOption = Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.", dir_okay=False)]


_Pictures = Callable[[Sequence[Row]], Iterator[Picture]]


@dataclass(slots=True)
class _Found:
    """The rows of a gallery, with their store."""

    source: str
    n_scored: int | None  #: from how many the rows were taken, where that is known
    rows: Sequence[Row]
    failures: list[Row] = field(default_factory=list)
    store: Reader = field(default_factory=LocalFiles)
    interrupted: bool = False


@command(
    "gallery",
    "dpiqa gallery ~/Pictures --worst 200 --output worst.html",
    "dpiqa gallery scores.csv --best 50 --output best.html",
    "dpiqa gallery --job latest --output worst.html",
    "dpiqa gallery --prefix s3://photos/2024/ --output worst.html",
)
def gallery(  # noqa: PLR0913 - one parameter per option
    places: PlacesArgument = None,
    *,
    output: HtmlOption,
    worst: WorstOption = None,
    best: BestOption = None,
    job: options.JobOption = None,
    prefix: PrefixOption = None,
    model: ModelsOption = None,
    profile: options.ProfileOption = None,
    details: options.DetailsOption = False,
    pixels: PixelsOption = 320,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Write the worst images, with scores, percentiles, bands and reasons, as one HTML file.

    It needs nothing else and no network. The images are scored now, or taken from a file of scores, from a job, or from
    what workers have scored below a prefix. The pictures are small versions, made in decode processes that can be
    killed.
    """
    if worst and best:
        raise InvalidRequest("--worst and --best cannot be combined", hint="write a file for each")
    if sum(map(bool, (places, job, prefix))) != 1:
        raise InvalidRequest("name images, a file of scores, --job or --prefix: one of them", hint="dpiqa gallery PATH")
    if details and (job or prefix or (places and _file_of_scores(places))):
        raise InvalidRequest(
            "--details is for images that are scored now", hint="scores that were stored with details show them"
        )
    if (job or prefix) and model:
        raise InvalidRequest("--model needs images to score", hint="--profile chooses among the scores of workers")
    if not output.parent.is_dir():
        raise InvalidRequest(f"the folder {output.parent} does not exist", hint="create it first")
    settings = context.read_settings(device=device)
    n, is_worst = best or worst or 200, not best
    if places:
        found = _of_images(settings, places, model, profile, n, is_worst=is_worst, details=details)
    else:
        found = _of_ledger(settings, job, prefix, profile, n, is_worst=is_worst)
    if not found.rows and not found.failures:
        raise NotFound(f"no scored image is in {found.source}", hint="`dpiqa jobs` shows what runs")
    _write(settings, found, output, pixels, is_worst=is_worst)
    n_bytes = output.stat().st_size
    if as_json:
        document = {"output": str(output), "images": len(found.rows), "failures": len(found.failures), "bytes": n_bytes}
        console.print_json("gallery@1", document)
    else:
        console.note(f"{len(found.rows)} images in {output}, {n_bytes / 1e6:.1f} MB; open it in a browser")
    if found.interrupted:
        raise typer.Exit(SignalExitCode.INTERRUPTED)


def _of_images(
    settings: Settings,
    places: list[str],
    models: list[str] | None,
    profile: str | None,
    n: int,
    *,
    is_worst: bool,
    details: bool,
) -> _Found:
    """Score images, or read a file of scores. Keeps only the rows that are shown."""
    store: Reader = LocalFiles()
    run: Run | None = None
    if (file := _file_of_scores(places)) is not None:
        rows = read_rows(file, Format.of_name(file.name), _schema_of(file))
    else:
        if models and len(models) > 1:
            raise InvalidRequest("a gallery is of one model", hint="name one --model, or write a file for each")
        named = ModelOptions(models=models or (), profiles=[profile] if profile else ())
        choices, scorers = named.chosen(settings)
        run = Run(settings, with_store(settings, parse_targets(places)), choices, scorers, details=details)
        rows = (row for block in run.rows() for row in block)
    ends, n_scored, failures = Ends(n=n), 0, list[Row]()
    for row in rows:
        if row["score"] is not None:
            n_scored += 1
            ends.add(row)
        elif len(failures) < _MAX_FAILURES:
            failures.append(row)
    shown = ends.worst() if is_worst else ends.best()[::-1]
    if any("bucket" in row for row in [*shown, *failures]):
        store = open_stores(settings)
    stopped = run is not None and run.interrupted
    return _Found(" ".join(places), n_scored, shown, failures, store, stopped)


def _file_of_scores(places: list[str]) -> Path | None:
    """Return the file that `dpiqa score --output` wrote, if it is what was named."""
    if len(places) > 1 or is_s3(places[0]):
        return None
    path = expanded(places[0])
    endings = {f".{member}" for member in Format}
    return path if path.suffix.lower() in endings and path.is_file() else None


def _schema_of(file: Path) -> Schema:
    """Return the schema of a file of scores. Raises `InvalidRequest` for another file."""
    for schema in (FILES, OBJECTS, FILES.with_details(), OBJECTS.with_details()):
        try:
            next(read_rows(file, Format.of_name(file.name), schema), None)
        except InvalidRequest:
            continue
        return schema
    raise InvalidRequest(f"{file} is not a file of scores under one model", hint="`dpiqa score --output` writes one")


def _of_ledger(
    settings: Settings, job: str | None, prefix: str | None, profile: str | None, n: int, *, is_worst: bool
) -> _Found:
    """Read the worst or the best results. Raises as `dpiqa scores`."""
    address = parse_s3(prefix) if prefix else None
    conditions = ScoreFilter(bucket=address.bucket, prefix=address.key or None) if address else ScoreFilter()
    with context.database(settings) as engine:
        with transaction(engine) as connection:
            query = ScoreQuery(conditions=conditions).of_job(connection, job)
            profile_id = find_profile(connection, settings, profile, job=query.conditions.job)
            resolved = query.under(profile_id).resolve(connection)
        if not is_worst:
            best_first = ScoreOrder.HIGHEST_FIRST if resolved.direction is Direction.HIGHER else ScoreOrder.LOWEST_FIRST
            resolved = replace(resolved, order=best_first)
        schema = SCORES.with_details()
        rows = list(rows_of(schema, score_batches(engine, resolved, n, schema=schema), iso=False))
        failures: list[Row] = []
        if query.conditions.job is not None:
            failed = item_batches(engine, query.conditions.job, FAILURES, limit=_MAX_FAILURES)
            failures = list(rows_of(FAILURES, failed, iso=False))
    source = f"job {job}" if job else str(address)
    return _Found(f"{source}, under {profile_id}", None, rows, failures, open_stores(settings))


def _write(settings: Settings, found: _Found, output: Path, pixels: int, *, is_worst: bool) -> None:
    """Make the small pictures, and write the file once it is complete."""
    end = "worst" if is_worst else "best"
    of = "" if found.n_scored is None else f" of {found.n_scored:,} scored images"
    about = [f"The {end} {len(found.rows):,}{of}, in that order."]
    about += [f"Score: {scale}" for scale in sorted({row["scale"] for row in found.rows if row.get("scale")})]
    with _thumbnails(settings, found.store, pixels) as pictures, counting("pictures", len(found.rows)) as advance:

        def shown(rows: Sequence[Row]) -> Iterator[Picture]:
            for picture in pictures(rows):
                advance(1)
                yield picture

        parts = [(f"The {end} {len(found.rows):,}", shown(found.rows))] if found.rows else []
        if found.failures:
            parts.append((f"Not scored: {len(found.failures):,}", map(_without_picture, found.failures)))
        write_file(page(f"{found.source}: the {end}", about, parts), output)


@contextmanager
def _thumbnails(settings: Settings, store: Reader, pixels: int) -> Iterator[_Pictures]:
    """Yield a function from rows to pictures, in their order; some are decoded ahead."""
    size = thumbnail_preprocessing(pixels)
    ahead = 2 * (settings.fetch_threads + settings.decode_processes)
    with (
        DecodePool(settings.decode_processes, Limits.from_settings(settings)) as decoder,
        closing(Preparer(store, decoder, settings)) as preparer,
    ):

        def pictures(rows: Sequence[Row]) -> Iterator[Picture]:
            waiting = iter(rows)
            begun = [(row, preparer.submit(_ref(row), [size])) for row in islice(waiting, ahead)]
            while begun:
                row, preparing = begun.pop(0)
                for following in islice(waiting, 1):
                    begun.append((following, preparer.submit(_ref(following), [size])))
                try:
                    prepared = preparing.result()
                    jpeg, shape = _jpeg(prepared)
                except DpiqaError as error:
                    why = f"{error.reason}: {error.message}" if isinstance(error, ImageRejected) else error.message
                    yield _picture(row, None, (0, 0), [f"cannot be shown: {why}"])
                else:
                    yield _picture(row, jpeg, shape, [])

        yield pictures


def _jpeg(prepared: PreparedImage) -> tuple[bytes, tuple[int, int]]:
    """Return a small picture, and its width and height. Raises `DpiqaError`."""
    (array,) = [future.result() for future in prepared.pixels.values()]
    return encode_thumbnail(array), (array.shape[1], array.shape[0])


def _ref(row: Row) -> ImageRef:
    """Return the image of a row, with whatever bytes it has now."""
    return ImageRef(bucket=row.get("bucket", ""), key=row["key"] if "bucket" in row else row["path"], etag="")


def _picture(row: Row, jpeg: bytes | None, size: tuple[int, int], why: list[str]) -> Picture:
    route = f"teacher asked: {row['route']}" if row.get("route") == "borderline" else ""
    return Picture(
        address=address_of(row),
        jpeg=jpeg,
        size=size,
        score=row["score"],
        percentile=console.ordinal(row["percentile"]),
        band=row["band"],
        why=[*filter(None, [route, measure_words(row)]), *why],
    )


def _without_picture(row: Row) -> Picture:
    return Picture(address=address_of(row), why=[str(row["reason"]), *filter(None, [row["detail"]])])
