"""`dpiqa evaluate`: models against people's scores, against each other, or against distortions of known strength."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.evaluate.request import Protocol, Request
from dpiqa.cli.evaluate.usage import Form, Given, form_of
from dpiqa.cli.support import console, context, options, scorers
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.options import typed
from dpiqa.exit_codes import ExitCode


class Split(StrEnum):
    """Which images count."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    ALL = "all"


ModelNames = Annotated[
    list[str] | None,
    typer.Argument(
        help="Model, as `dpiqa models list` names it; several are compared with the first.",
        metavar="[MODEL]...",
        show_default=False,
    ),
]
DatasetNames = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="Data set by name (docs/datasets.md), or csv. May be repeated.", metavar="NAME"),
]
Places = Annotated[
    list[Path] | None,
    typer.Option("--data", help="The data set's folder, or the CSV; one for each --dataset.", metavar="PATH"),
]
Called = Annotated[
    str | None,
    typer.Option(help="What report and card call the data, e.g. biq2021 where --dataset is csv.", metavar="NAME"),
]
SplitOption = Annotated[Split | None, typer.Option(help="Images that count; test by default.")]
ProtocolOption = Annotated[
    Protocol, typer.Option(help="official: one split. five-splits: the median over five random ones, as in the papers.")
]
Seeds = Annotated[
    bool, typer.Option("--seeds", help="The models are runs with different seeds: give mean, deviation and range.")
]
Routing = Annotated[
    str | None,
    typer.Option(help="Does routing by this profile pay? Against its student alone and escalating at random."),
]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for the report, its data and plots.", file_okay=False)
]
Card = Annotated[
    Path | None,
    typer.Option(help="Write the figures into the models' cards in this folder.", metavar="FOLDER", file_okay=False),
]
Distortions = Annotated[
    bool, typer.Option("--distortions", help="Spoil the pictures in --data and plot score against strength.")
]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="With --distortions: only this kind. May be repeated.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="With --distortions: only N pictures.")]
Seed = Annotated[int, typer.Option(help="Of the bootstrap, of random splits, and of orders of arrival.")]

#: Options that say where results go: no part of the command that a card repeats.
_WHERE = frozenset({"output", "card", "as_json"})


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "evaluate",
        "dpiqa evaluate bundled-student --dataset koniq10k --data ~/data/koniq10k --output report",
        "dpiqa evaluate my-student --dataset csv --data labels.csv --split val --json",
        "dpiqa evaluate my-student --dataset clive --data ~/data/clive --dataset spaq --data ~/data/spaq --split all",
        "dpiqa evaluate my-student my-teacher --dataset csv --data labels.csv --split val",
        "dpiqa evaluate run-0 run-1 run-2 --seeds --dataset csv --data labels.csv --split val --card models",
        "dpiqa evaluate --routing default --dataset csv --data labels.csv --split val --output report",
        "dpiqa evaluate my-student --distortions --data ~/Pictures --output report",
        rich_help_panel="Making models",
    )(evaluate)


def evaluate(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    models: ModelNames = None,
    *,
    dataset: DatasetNames = None,
    data: Places = None,
    called: Called = None,
    split: SplitOption = None,
    protocol: ProtocolOption = Protocol.OFFICIAL,
    requirement: scorers.Requirement = None,
    seeds: Seeds = False,
    routing: Routing = None,
    distortions: Distortions = False,
    kind: Kinds = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: scorers.Device = None,
    output: Folder = None,
    card: Card = None,
    as_json: options.Json = False,
) -> None:
    """Compare a model's scores with people's: SRCC, PLCC, KRCC and RMSE with 95 % intervals.

    Through the same decoding, preprocessing and scorer as in production. PLCC and RMSE are also given after the usual
    four-parameter logistic mapping. Several data sets make one table; several models are compared on one set, with
    intervals of their differences. With --routing: whether a profile's policy improves decisions. With --distortions no
    labels are needed: it says for which kinds of distortion the score falls with strength. Ends with 1 when an image
    was not scored: failures are counted, never dropped.
    """
    given = Given(
        models=models or [],
        names=dataset or [],
        places=data or [],
        split=split is not None,
        five_splits=protocol is Protocol.FIVE_SPLITS,
        requirement=requirement is not None,
        seeds=seeds,
        routing=routing is not None,
        called=called is not None,
        distortions=distortions,
        only_there=bool(kind or limit),
    )
    form = form_of(given)
    request = Request(
        settings=context.settings(device=device),
        command=typed(ctx, without=_WHERE),
        requirement=requirement,
        sets=list(zip(dataset or [], data or [], strict=False)),
        called=called,
        split=(split or Split.TEST).value,
        protocol=protocol,
        seed=seed,
        output=output,
        cards=card,
        as_json=as_json,
    )
    with scorers.needing_extras():
        failed = _run(form, request, models or [], data or [], routing, kind or [], limit, seeds=seeds)
    if failed:
        console.warn(f"{failed} images were not scored")
        raise typer.Exit(ExitCode.INCOMPLETE)


def _run(
    form: Form,
    request: Request,
    models: list[str],
    places: list[Path],
    routing: str | None,
    kinds: list[str],
    limit: int | None,
    *,
    seeds: bool,
) -> int:
    """Do what was asked; returns how many images were not scored."""
    from dpiqa.cli.evaluate import compare, scores
    from dpiqa.cli.evaluate import distortions as distortions_
    from dpiqa.cli.evaluate import routing as routing_

    match form:
        case Form.DISTORTIONS:
            return distortions_.run(request, models[0], places[0], kinds, limit)
        case Form.ROUTING:
            return routing_.run(request, routing or "")
        case Form.COMPARISON:
            return compare.run(request, models, seeds=seeds)
        case Form.ONE_MODEL:
            return scores.run(request, models[0])
