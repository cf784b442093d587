"""`dpiqa models reference`: what a model's scores are compared with."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.cli.evaluate.evaluate import Split
from dpiqa.cli.evaluate.request import scoring
from dpiqa.cli.support import console, context, options, scorers, targets
from dpiqa.cli.support.groups import command
from dpiqa.errors import InvalidRequest
from dpiqa.types import Band

if TYPE_CHECKING:
    from dpiqa.datasets.spec import LabelledImage
    from dpiqa.models.base import Scorer
    from dpiqa.percentiles import Reference
    from dpiqa.settings import Settings

Data = Annotated[
    Path, typer.Option("--data", help="A folder of photographs; with --dataset, that set's folder or the CSV.")
]
Dataset = Annotated[str | None, typer.Option("--dataset", help="Data set by name (docs/datasets.md), or csv.")]
SplitOption = Annotated[Split | None, typer.Option(help="Images of the data set that count; val by default.")]
Population = Annotated[
    str | None, typer.Option(help="Which images these are, in words for people; made of the other options by default.")
]
Card = Annotated[
    Path | None,
    typer.Option(
        "--card",
        help="Folder of the card that is changed; DPIQA_MODELS_DIR by default.",
        metavar="FOLDER",
        file_okay=False,
    ),
]


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(
        group,
        "reference",
        "dpiqa models reference my-student --dataset csv --data labels.csv --split val",
        'dpiqa models reference my-student --data ~/Pictures --population "our photographs of 2024"',
        "dpiqa models reference promptiqa --requirement portraits --data ~/Portraits",
    )(reference)


def reference(  # noqa: PLR0913 - one parameter per option
    name: scorers.ModelName,
    *,
    data: Data,
    dataset: Dataset = None,
    split: SplitOption = None,
    population: Population = None,
    requirement: scorers.Requirement = None,
    card: Card = None,
    device: scorers.Device = None,
    as_json: options.Json = False,
) -> None:
    """Score a population of images, and keep in the model's card how their scores are spread.

    Percentiles, bands (bad, poor, fair, good, excellent) and `dpiqa score --worst 5%` compare with it. The images are
    scored as in production; labels are not used, and an image that cannot be scored does not count. A reference counts
    for these weights, whatever the arithmetic; another one takes its place. The ledger learns of it when a worker with
    the new card scores.
    """
    from dpiqa.models.cards import find_card
    from dpiqa.models.folder import require_card, update_card

    if split and not dataset:
        raise InvalidRequest("--split belongs to a data set", hint="name it with --dataset, or leave --split out")
    settings = context.settings(device=device)
    find_card(name, settings.models_dir)
    place = (card or settings.models_dir).expanduser()
    require_card(name, place)
    with scorers.needing_extras():
        from dpiqa.evaluation.reference import FEW, with_reference

        images = _images(data, dataset, split or Split.VAL)
        scorer = scorers.load(settings, name, requirement)
        words = population or _population(data, dataset, split or Split.VAL)
        made = _measure(settings, scorer, images, words, _command(name, data, dataset, split, requirement, population))
    update_card(name, place, lambda found: with_reference(found, made), sha256=scorer.card.sha256)
    if made.n < FEW:
        console.warn(f"{made.n} images are few for a reference: a percentile stands for less than one of them")
    if made.n < len(images):
        console.warn(f"{len(images) - made.n} images were not scored and do not count")
    if as_json:
        console.print_json({"model": name, **made.model_dump(mode="json"), "bands": bands(made)})
    else:
        console.fields([("model", name), ("population", f"{made.population}, {made.n} images"), *bands(made).items()])


def bands(made: "Reference") -> dict[str, str]:
    """Say in words which scores each band covers, the worst first."""
    ranges = {band: made.range_of(band, made.scorer_id) for band in Band}
    return {band.value: _range_in_words(one.low, one.high) for band, one in ranges.items()}


def _range_in_words(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low:.4f} to {high:.4f}"
    return f"below {high:.4f}" if high is not None else f"above {low:.4f}"


def in_words(made: "Reference") -> str:
    """Say what scores are compared with, and which band begins where."""
    covered = "; ".join(f"{word} {scores}" for word, scores in bands(made).items())
    return f"{made.population}, {made.n} images, by {made.scorer_id}: {covered}"


def _images(data: Path, dataset: str | None, split: Split) -> "Sequence[LabelledImage]":
    """Return the images of the population. Raises `InvalidRequest`, `NotFound` for what is not there."""
    from dpiqa.datasets import load_dataset
    from dpiqa.datasets.spec import LabelledImage

    if dataset is None:
        refs = targets.local_refs(targets.find_places([str(data)]))
        return [LabelledImage(path=Path(ref.key), mos=math.nan, split="") for ref in refs]
    found = load_dataset(dataset, data)
    chosen = found.images if split is Split.ALL else found.of(split.value)
    if not chosen:
        raise InvalidRequest(f"{dataset} at {data} has no images of split {split}", hint="choose another --split")
    return chosen


def _population(data: Path, dataset: str | None, split: Split) -> str:
    name = data.expanduser().resolve().name
    if dataset is None:
        return f"photographs in {name}"
    side = "all images" if split is Split.ALL else split.value
    return f"{name if dataset.startswith('csv') else dataset}, {side}"


def _measure(
    settings: "Settings", scorer: "Scorer", images: "Sequence[LabelledImage]", population: str, made_by: str
) -> "Reference":
    from dpiqa.evaluation.reference import make_reference

    scores = scoring(settings, scorer)(images).scores
    return make_reference(scorer.card, scores, population=population, command=made_by)


def _command(
    name: str, data: Path, dataset: str | None, split: Split | None, requirement: str | None, population: str | None
) -> str:
    """Return the command that makes it again, as it may be shown to others."""
    from dpiqa.provenance import shareable_path

    words = ["dpiqa", "models", "reference", name]
    words += ["--dataset", dataset] if dataset else []
    words += ["--data", shareable_path(str(data))]
    words += ["--split", split.value] if split else []
    words += ["--requirement", requirement] if requirement else []
    words += ["--population", population] if population else []
    return shlex.join(words)
