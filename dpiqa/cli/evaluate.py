"""`dpiqa evaluate`: a model against people's scores, or against distortions of known strength."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.cli import console, context, options, scorers
from dpiqa.cli.app import command
from dpiqa.cli.exits import ExitCode
from dpiqa.errors import InvalidRequest

if TYPE_CHECKING:
    from dpiqa.evaluation.protocol import Measured, Score
    from dpiqa.models.base import ModelCard, Scorer
    from dpiqa.settings import Settings


class Split(StrEnum):
    """Which images count."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    ALL = "all"


class Protocol(StrEnum):
    """How they are chosen."""

    OFFICIAL = "official"  #: one split: the set's own where it has one, else a seeded one
    FIVE_SPLITS = "five-splits"  #: the median over the test sides of five random 80/20 splits


DatasetNames = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="Data set by name (docs/datasets.md), or csv. May be repeated.", metavar="NAME"),
]
Places = Annotated[
    list[Path] | None,
    typer.Option("--data", help="The data set's folder, or the CSV; one for each --dataset.", metavar="PATH"),
]
SplitOption = Annotated[Split | None, typer.Option(help="Images that count; test by default.")]
ProtocolOption = Annotated[
    Protocol, typer.Option(help="official: one split. five-splits: the median over five random ones, as in the papers.")
]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for the report, its data and plots.", file_okay=False)
]
Distortions = Annotated[
    bool, typer.Option("--distortions", help="Spoil the pictures in --data and plot score against strength.")
]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="With --distortions: only this kind. May be repeated.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="With --distortions: only N pictures.")]
Seed = Annotated[int, typer.Option(help="Of the bootstrap and of random splits.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "evaluate",
        "dpiqa evaluate bundled-student --dataset koniq10k --data ~/data/koniq10k --output report",
        "dpiqa evaluate my-student --dataset csv --data labels.csv --split val --json",
        "dpiqa evaluate my-student --dataset clive --data ~/data/clive --dataset spaq --data ~/data/spaq --split all",
        "dpiqa evaluate my-student --distortions --data ~/Pictures --output report",
        rich_help_panel="Making models",
    )(evaluate)


def evaluate(  # noqa: PLR0913 - one parameter per option
    model: scorers.ModelName,
    *,
    dataset: DatasetNames = None,
    data: Places = None,
    split: SplitOption = None,
    protocol: ProtocolOption = Protocol.OFFICIAL,
    requirement: scorers.Requirement = None,
    distortions: Distortions = False,
    kind: Kinds = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: scorers.Device = None,
    output: Folder = None,
    as_json: options.Json = False,
) -> None:
    """Compare a model's scores with people's: SRCC, PLCC, KRCC and RMSE with 95 % intervals.

    Through the same decoding, preprocessing and scorer as in production. PLCC and RMSE are also given after the usual
    four-parameter logistic mapping. Several data sets make one table. With --distortions no labels are needed: it says
    for which kinds of distortion the score falls with strength. Ends with 1 when an image was not scored: failures are
    counted, never dropped.
    """
    from dpiqa.cli import evaluate_distortions

    _check_usage(dataset or [], data or [], split, protocol, distortions=distortions, only_there=bool(kind or limit))
    settings = context.settings(device=device)
    places = data or []
    with scorers.needing_extras():
        if distortions:
            failed = evaluate_distortions.run(
                settings, model, requirement, places[0], kind or [], limit, output, as_json=as_json
            )
        else:
            scorer = scorers.load(settings, model, requirement)
            sets = list(zip(dataset or [], places, strict=True))
            measured = _measure(settings, scorer, sets, (split or Split.TEST).value, protocol, seed)
            _deliver(scorer.card, measured, output, as_json=as_json)
            failed = sum(len(one.evaluation.failures) for one in measured)
    if failed:
        console.warn(f"{failed} images were not scored")
        raise typer.Exit(ExitCode.INCOMPLETE)


def _check_usage(
    names: Sequence[str],
    places: Sequence[Path],
    split: Split | None,
    protocol: Protocol,
    *,
    distortions: bool,
    only_there: bool,
) -> None:
    """Raise `InvalidRequest` for options that do not go together."""
    if distortions and (names or split or protocol is not Protocol.OFFICIAL or len(places) != 1):
        raise InvalidRequest(
            "--distortions takes one folder of pictures and no data set", cure="give --distortions --data FOLDER"
        )
    if distortions:
        return
    if only_there:
        raise InvalidRequest("--kind and --limit belong to --distortions", cure="leave them out")
    if not names or len(names) != len(places):
        raise InvalidRequest(
            f"{len(names)} --dataset and {len(places)} --data were given", cure="give one --data for each --dataset"
        )
    if split and protocol is Protocol.FIVE_SPLITS:
        raise InvalidRequest("--protocol five-splits makes its own splits", cure="leave --split out")


def _measure(
    settings: "Settings",
    scorer: "Scorer",
    sets: Sequence[tuple[str, Path]],
    split: str,
    protocol: Protocol,
    seed: int,
) -> "list[Measured]":
    """Read all data sets, so that a wrong folder is found at once, then measure on one after the other."""
    from dpiqa.datasets import load_dataset
    from dpiqa.datasets.load import PUBLISHED
    from dpiqa.datasets.splits import five_splits
    from dpiqa.evaluation import protocol as protocols
    from dpiqa.evaluation.contamination import contamination

    read = [(name, load_dataset(name, place, split_seed=seed)) for name, place in sets]
    score = _scoring(settings, scorer)
    measured = []
    for name, found in read:
        if protocol is Protocol.FIVE_SPLITS:
            note = contamination(scorer.card, name, "test", published=False)
            sides = [[found.images[row] for row in one.test] for one in five_splits(found.images, seed=seed)]
            measured.append(protocols.measure_five(sides, score, dataset=name, note=note, seed=seed))
        else:
            note = contamination(scorer.card, name, split, published=found.split == PUBLISHED)
            one = protocols.measure(
                found.images, score, dataset=name, split=split, origin=found.split, note=note, seed=seed
            )
            measured.append(one)
    return measured


def _scoring(settings: "Settings", scorer: "Scorer") -> "Score":
    from dpiqa.cli.progress import counting
    from dpiqa.datasets.labelled import LabelledImage
    from dpiqa.evaluation.scoring import Scored, score_labelled
    from dpiqa.imaging.limits import Limits
    from dpiqa.pipeline.chosen import batch_size

    def score(images: Sequence[LabelledImage]) -> Scored:
        with counting("scoring", len(images)) as advance:
            return score_labelled(
                scorer,
                images,
                batch=batch_size(scorer.card, settings),
                processes=settings.decode_processes,
                limits=Limits.from_settings(settings),
                advance=advance,
            )

    return score


def _deliver(card: "ModelCard", measured: "list[Measured]", output: Path | None, *, as_json: bool) -> None:
    from dpiqa.evaluation import report

    document = report.as_dict(card, measured)
    if output:
        from dpiqa.evaluation.folder import write_evaluation

        written = write_evaluation(output, card, measured, document)
        console.note(f"{len(written)} files in {output}, evaluation.md among them")
    if as_json:
        console.print_json(document)
    elif len(measured) == 1:
        console.fields(zip(report.COLUMNS, report.rows(measured)[0], strict=True))
    else:
        console.table(report.COLUMNS, report.rows(measured))
