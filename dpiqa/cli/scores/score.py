"""`dpiqa score`: images scored in this process, and a summary: the worst, the best, the spread, what was not scored."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.scores.choosing import Choice
from dpiqa.cli.scores.destination import Destination
from dpiqa.cli.scores.model_options import ModelOptions
from dpiqa.cli.scores.rows import schema_of
from dpiqa.cli.scores.run import Run
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import Output
from dpiqa.cli.support.targets import Filters, Targets, list_is_s3, parse_targets
from dpiqa.errors import InvalidRequest
from dpiqa.exit_codes import ExitCode, SignalExitCode
from dpiqa.pipeline.scorers import for_short_run
from dpiqa.process_tuning import share_one_arena
from dpiqa.settings import Settings
from dpiqa.types import Direction, Precision

TargetsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders, or s3://bucket/prefix. In folders what is not an image is passed over, by its bytes; "
        "under a prefix, by its name.",
        metavar="[PATH|S3_ADDRESS]...",
        show_default=False,
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        autocompletion=options.complete_model,
        help="Model by name (`dpiqa models list`). May be repeated: each image is read once and scored by each.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Score only the first N images.")]
RequirementsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--requirement",
        "-r",
        help="Score by this requirement: NAME (its newest version) or NAME@VERSION. May be repeated.",
        autocompletion=options.complete_requirement,
    ),
]
PrecisionOption = Annotated[
    Precision | None, typer.Option("--precision", help="Arithmetic of --model; its card's by default.")
]
ChannelsLastOption = Annotated[
    bool | None,
    typer.Option("--channels-last/--no-channels-last", help="Memory format of --model; its card's by default."),
]
PairsOption = Annotated[
    Path | None,
    typer.Option(
        help="Score by the image-score pairs of this CSV (path,score), by a PromptIQA --model, without a database.",
        metavar="FILE",
    ),
]
DirectionOption = Annotated[
    Direction, typer.Option("--direction", help="Which end of the scores of --pairs is better.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Accept --pairs that contradict each other.")]
WorstOption = Annotated[
    str | None, typer.Option(help="Only the worst share of these images, e.g. 5%.", metavar="SHARE")
]
BestOption = Annotated[str | None, typer.Option(help="Only the best share of these images, e.g. 5%.", metavar="SHARE")]
BelowOption = Annotated[
    float | None,
    typer.Option(
        "--below-percentile",
        min=0,
        max=100,
        help="Only images below this percentile of the reference population: 5 is as bad as its worst 5%.",
    ),
]
AboveOption = Annotated[
    float | None,
    typer.Option("--above-percentile", min=0, max=100, help="Only images above this percentile of that population."),
]
ListOption = Annotated[
    str | None,
    typer.Option(
        "--list",
        "-l",
        help="Score what a file names, or - for standard input: a path or s3://bucket/key on each line, or ended by "
        "NUL (`find -print0`).",
        metavar="FILE|-",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Of folders and prefixes, only images that match this glob: of the name, or with / of the path in the "
        "folder or the whole key. May be repeated.",
        metavar="GLOB",
    ),
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(help="No images that match this glob. May be repeated.", metavar="GLOB")
]
RecursiveOption = Annotated[bool, typer.Option("--recursive/--no-recursive", help="Also folders in folders.")]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the file of --output, if there is one: what it has is not scored again unless its bytes have "
        "changed, by size and time or by ETag. Needs a file of this machine, not s3:// or -.",
    ),
]
RetryOption = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Score again what the file of --output says was not scored; with --resume also what is new.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the file of --output.")]


@command(
    "score",
    "dpiqa score ~/Pictures",
    "dpiqa score photo.jpg --model bundled-student --json",
    "dpiqa score ~/Pictures --output scores.csv --resume",
    "dpiqa score ~/Pictures --output scores.csv --retry-failed",
    "dpiqa score ~/Pictures --worst 5% --details --output worst.csv",
    "dpiqa score ~/Pictures --below-percentile 5 --exclude '*/rejected/*'",
    "dpiqa score --list files.txt --output scores.parquet",
    "dpiqa score ~/Pictures --model bundled-student --model dpiqa-student-koniq --output scores.csv",
    "dpiqa score ~/Pictures --requirement portraits",
    "dpiqa score ~/Pictures --pairs pairs.csv --model promptiqa",
    "dpiqa score s3://photos/2024/ --profile default --output scores.csv",
)
def score(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    targets: TargetsArgument = None,
    *,
    model: ModelsOption = None,
    requirement: RequirementsOption = None,
    pairs: PairsOption = None,
    direction: DirectionOption = Direction.HIGHER,
    force: ForceOption = False,
    precision: PrecisionOption = None,
    channels_last: ChannelsLastOption = None,
    profile: options.ProfilesOption = None,
    worst: WorstOption = None,
    best: BestOption = None,
    below_percentile: BelowOption = None,
    above_percentile: AboveOption = None,
    details: options.DetailsOption = False,
    limit: LimitOption = None,
    list_file: ListOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    recursive: RecursiveOption = True,
    device: options.DeviceOption = None,
    backend: options.BackendOption = None,
    as_json: options.JsonOption = False,
    output: options.OutputOption = None,
    format: options.FormatOption = None,  # noqa: A002 - its name
    resume: ResumeOption = False,
    retry_failed: RetryOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Score images in this process: no queue, no database. For a folder or a quick look.

    With a profile (the default), its student scores every image and its teacher the borderline ones; with --model or
    --requirement (which is read from the database), that one scores all. Several models, requirements or profiles have
    a column each; those that share a preprocessing share the decoded image. Exits with status 1 when an image was
    not scored.

    Rows are written to --output as they come: after Ctrl-C, or if the process is killed, the same command with --resume
    goes on. A Parquet file, and a file of chosen images, is made at the end, of a file beside it. What is
    written to S3 or to stdout cannot be gone on with.

    Percentiles and bands compare with the reference population of the model's card (`dpiqa models show`). Images
    without a score are shown in any case.
    """
    model_options = ModelOptions(
        models=model or (),
        requirements=requirement or (),
        profiles=profile or (),
        pairs=pairs,
        direction=direction,
        force=force,
        precision=precision,
        channels_last=channels_last,
    )
    model_options.check()
    if bool(targets) == (list_file is not None):
        raise InvalidRequest("name images, or a list of them by --list", hint="dpiqa score ~/Pictures")
    destination = Destination(
        Output.parse(as_json=as_json, output=output, format=format),
        Choice.parse(worst, best, below_percentile, above_percentile),
        resume=resume,
        retry_failed=retry_failed,
        overwrite=overwrite,
    )
    destination.check()
    started = time.monotonic()
    settings = for_short_run(context.read_settings(device=device, backend=backend))
    share_one_arena()
    scored_by, scorers = model_options.chosen(settings)
    destination.choice.check(settings, scored_by)
    filters = Filters(include or (), exclude or (), recursive=recursive)
    run = Run(
        settings,
        with_store(settings, parse_targets(targets or [], list_file=list_file, filters=filters)),
        scored_by,
        scorers,
        limit=limit,
        details=details,
        retry_failed=retry_failed,
        only_failed=retry_failed and not resume,
    )
    _write(run, destination)
    _note(run, time.monotonic() - started)
    if run.interrupted:
        _say_how_to_go_on(ctx, destination)
        raise typer.Exit(SignalExitCode.INTERRUPTED)
    if run.tally.n_complete < run.tally.n or run.n_known_failed:
        raise typer.Exit(ExitCode.INCOMPLETE)


def with_store(settings: Settings, targets: Targets) -> Targets:
    """Return the targets with the store that holds them, if they are objects. Raises as `list_is_s3`."""
    in_s3 = bool(targets.addresses) if targets.list_file is None else list_is_s3(targets.list_file)
    if not in_s3:
        return targets
    from dpiqa.objects.s3 import S3Store  # noqa: PLC0415 - it takes .1 s, which files do not need

    return replace(targets, store=S3Store.from_settings(settings))


def _write(run: Run, destination: Destination) -> None:
    """Score, and write the rows. Raises as `Destination.write`."""
    schema = schema_of(run.scored_by, in_s3=run.targets.store is not None, details=run.details)
    with destination.opened(schema) as file:
        run.known = file if destination.goes_on else None
        run.check_known()
        destination.write(run, schema, file)


def _note(run: Run, seconds: float) -> None:
    """Print on stderr what was scored and what was passed over."""
    run.tally.note(seconds, run.n_known)
    if run.n_known_failed:
        console.note(f"{run.n_known_failed:,} of the known ones have no score: --retry-failed tries them again")
    if words := run.passed_over.words():
        console.note(f"passed over: {words}")


def _say_how_to_go_on(ctx: typer.Context, destination: Destination) -> None:
    """Print on stderr the command that goes on after Ctrl-C."""
    if destination.file is None:
        console.note("stopped by Ctrl-C; with --output FILE and --resume a run can be gone on with")
        return
    words = options.command_line(ctx, without=frozenset({"overwrite", "resume"}))
    where = "kept for that" if destination.spool else f"in {destination.file}"
    console.note(f"stopped by Ctrl-C; what was scored is {where}. Go on with: {words} --resume")
