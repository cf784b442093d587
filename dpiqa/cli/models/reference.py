"""`dpiqa models reference`: the population that a model's scores are compared with."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.models.card_view import band_ranges
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.options import Split
from dpiqa.cli.support.scoring import load_scorer, score_function
from dpiqa.cli.support.targets import local_files
from dpiqa.datasets import load_dataset
from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.reference import FEW, make_reference, with_reference
from dpiqa.files import expanded
from dpiqa.models.cards import find_card
from dpiqa.models.folder import require_card, update_card

DataOption = Annotated[
    Path, typer.Option("--data", help="A folder of photographs; with --dataset, that set's folder or the CSV.")
]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Data set by name (docs/datasets.md), or csv.")]
SplitOption = Annotated[Split | None, typer.Option(help="Images of the data set that count; val by default.")]
PopulationOption = Annotated[
    str | None, typer.Option(help="Description of the images, for people; by default made of the other options.")
]
CardFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--card",
        help="Folder of the card that is changed; DPIQA_MODELS_DIR by default.",
        metavar="FOLDER",
        file_okay=False,
    ),
]

#: Parameters that do not belong to the command that a card repeats.
_NOT_REPEATED = frozenset({"card", "device", "as_json"})


@command(
    "reference",
    "dpiqa models reference my-student --dataset csv --data labels.csv --split val",
    'dpiqa models reference my-student --data ~/Pictures --population "our photographs of 2024"',
    "dpiqa models reference promptiqa --requirement portraits --data ~/Portraits",
)
def reference(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    name: options.ModelArgument,
    *,
    dataset: DatasetOption = None,
    data: DataOption,
    split: SplitOption = None,
    requirement: options.RequirementOption = None,
    population: PopulationOption = None,
    card: CardFolderOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Score a population of images, and keep in the model's card how their scores are distributed.

    Percentiles, bands (bad, poor, fair, good, excellent) and `dpiqa score --worst 5%` compare with it. The images are
    scored as in production; labels are not used, and an image that cannot be scored does not count. A reference holds
    for these weights, whatever the arithmetic; another one replaces it. A worker with the new card records it in the
    database when it scores.
    """
    if split and not dataset:
        raise InvalidRequest("--split belongs to a data set", hint="name it with --dataset, or leave --split out")
    settings = context.read_settings(device=device)
    find_card(name, settings.models_dir)
    folder = expanded(card or settings.models_dir)
    require_card(name, folder)
    images = _images(data, dataset, split or Split.VAL)
    scorer = load_scorer(settings, name, requirement)
    result = make_reference(
        scorer.card,
        score_function(settings, scorer)(images).scores,
        population=population or _population(data, dataset, split or Split.VAL),
        command=options.command_line(ctx, without=_NOT_REPEATED),
    )
    update_card(name, folder, lambda current: with_reference(current, result), sha256=scorer.card.sha256)
    if result.n < FEW:
        console.warn(f"{result.n} images are few for a reference: a percentile stands for less than one of them")
    if result.n < len(images):
        console.warn(f"{len(images) - result.n} images were not scored and do not count")
    bands = band_ranges(result)
    if as_json:
        console.print_json("reference@1", {"model": name, **result.model_dump(mode="json"), "bands": bands})
    else:
        console.fields([("model", name), ("population", f"{result.population}, {result.n} images"), *bands.items()])


def _images(data: Path, dataset: str | None, split: Split) -> Sequence[LabelledImage]:
    """Return the images of the population. Raises `InvalidRequest`, `NotFound` for what does not exist."""
    if dataset is None:
        return [LabelledImage(path=path, mos=math.nan, split="") for path in local_files(str(data))]
    labelled = load_dataset(dataset, data)
    images = labelled.images if split is Split.ALL else labelled.of(split.value)
    if not images:
        raise InvalidRequest(f"{dataset} at {data} has no images of split {split}", hint="choose another --split")
    return images


def _population(data: Path, dataset: str | None, split: Split) -> str:
    """Describe the population by the options."""
    name = expanded(data).resolve().name
    if dataset is None:
        return f"photographs in {name}"
    side = "all images" if split is Split.ALL else split.value
    return f"{name if dataset.startswith('csv') else dataset}, {side}"
