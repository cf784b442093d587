"""Options and steps that the subcommands of `dpiqa evaluate` share: data sets, scoring, cards, exit status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from dpiqa.cli.support import console
from dpiqa.cli.support.options import Split, command_line
from dpiqa.cli.support.scoring import score_function
from dpiqa.datasets import load_dataset
from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.measurement import images_of_split
from dpiqa.evaluation.scored_images import ScoredImages
from dpiqa.exit_codes import ExitCode
from dpiqa.models.base import ModelCard
from dpiqa.models.choice import ModelChoice
from dpiqa.models.folder import add_sections, check_card
from dpiqa.pipeline.scorers import load_for_settings
from dpiqa.provenance import stamp
from dpiqa.settings import Settings

CalledOption = Annotated[
    str | None,
    typer.Option(help="Name of the data in report and card, e.g. biq2021 where --dataset is csv.", metavar="NAME"),
]
SplitOption = Annotated[Split | None, typer.Option(help="Images that count; test by default.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the bootstrap, of random splits and of arrival order.")]
ReportFolderOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for the report, its data and plots.", file_okay=False)
]
CardFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--card", help="Write the figures into the models' cards in this folder.", metavar="FOLDER", file_okay=False
    ),
]

#: Parameters that say where results go: they do not belong to the command that a card repeats.
_DESTINATIONS = frozenset({"output", "card", "as_json"})


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set on the command line."""

    name: str  #: of the reader: `koniq10k`, `csv`
    path: Path
    called: str  #: in reports and cards

    def images(self, split: str, seed: int) -> Sequence[LabelledImage]:
        """Return the images that count. Raises what the readers do, and for a split without images."""
        return images_of_split(load_dataset(self.name, self.path, split_seed=seed).images, split, self.name)


def parse_datasets(names: Sequence[str] | None, paths: Sequence[Path] | None, called: str | None) -> list[DataSet]:
    """Pair --dataset with --data. Raises `InvalidRequest` unless there are as many of one as of the other."""
    names, paths = names or [], paths or []
    if not names or len(names) != len(paths):
        raise InvalidRequest(
            f"{len(names)} --dataset and {len(paths)} --data were given", hint="give one --data for each --dataset"
        )
    if called and len(names) > 1:
        raise InvalidRequest("--called is for one data set", hint="give one --dataset")
    return [DataSet(name, path, called or name) for name, path in zip(names, paths, strict=True)]


def parse_dataset(names: Sequence[str] | None, paths: Sequence[Path] | None, called: str | None) -> DataSet:
    """Pair one --dataset with one --data. Raises `InvalidRequest`, also for several."""
    datasets = parse_datasets(names, paths, called)
    if len(datasets) > 1:
        raise InvalidRequest("several models are compared on one data set", hint="give one --dataset")
    return datasets[0]


def score_with_each(
    settings: Settings, choices: Mapping[str, ModelChoice], images: Sequence[LabelledImage]
) -> dict[str, ScoredImages]:
    """Score the images with one model after the other; only one is in memory at a time."""
    return {
        name: score_function(settings, load_for_settings(choice, settings))(images) for name, choice in choices.items()
    }


@dataclass(frozen=True, slots=True)
class CardWriter:
    """The models' cards in the folder of --card; without one nothing is written."""

    folder: Path | None
    command: str  #: that a card repeats

    @classmethod
    def from_options(cls, context: typer.Context, folder: Path | None) -> "CardWriter":
        """Return the writer of the running command."""
        return cls(folder, command_line(context, without=_DESTINATIONS))

    def check(self, *cards: ModelCard) -> None:
        """Raise before anything is measured if the figures could not be written (`dpiqa.models.folder`)."""
        if self.folder:
            for card in cards:
                check_card(card, self.folder)

    def write(
        self, cards: Sequence[ModelCard], sections: Mapping[str, Mapping[str, Any]], *, measured: Sequence[ModelCard]
    ) -> None:
        """Merge the sections, stamped, into the `cards`. `measured`: the models whose figures they are."""
        if not self.folder:
            return
        origin = stamp(self.command, {card.name: card.sha256 for card in measured})
        stamped = {name: origin | dict(section) for name, section in sections.items()}
        for card in cards:
            add_sections(card, self.folder, stamped)
            console.note(f"written into the card of {card.name} in {self.folder}: {'; '.join(sections)}")


def note_report(folder: Path, files: Sequence[Path], main: str) -> None:
    """Print on stderr where the report is."""
    console.note(f"{len(files)} files in {folder}, {main} among them")


def exit_for(failures: int) -> None:
    """Raise `typer.Exit` with code 1 if images were not scored."""
    if failures:
        console.warn(f"{failures} images were not scored")
        raise typer.Exit(ExitCode.INCOMPLETE)
