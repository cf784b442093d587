"""`dpiqa datasets`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dpiqa.cli.support import console, options
from dpiqa.cli.support.groups import command
from dpiqa.datasets import DATASETS, find_dataset, load_dataset
from dpiqa.datasets.load import summary
from dpiqa.datasets.spec import DatasetSpec
from dpiqa.exit_codes import ExitCode

DatasetArgument = Annotated[
    str, typer.Argument(help="Data set, as `dpiqa datasets list` names it; csv:WORST..BEST for a CSV on another scale.")
]
_BAR_CHARACTERS = 40  #: of the histogram's longest bar


@command("list", "dpiqa datasets list")
def list_datasets(as_json: options.JsonOption = False) -> None:
    """List the data sets that can be read."""
    if as_json:
        console.print_json("dataset@1", [_as_dict(spec) for spec in DATASETS.values()])
        return
    rows = [
        (spec.name, spec.title, spec.size or None, spec.label, spec.scale, spec.split) for spec in DATASETS.values()
    ]
    console.table(("data set", "title", "images", "label", "worst to best", "split"), rows)


@command("show", "dpiqa datasets show koniq10k", "dpiqa datasets show csv --json")
def show(name: DatasetArgument, as_json: options.JsonOption = False) -> None:
    """Show a data set: the layout expected, its labels and splits, its terms, how to cite it."""
    document = _as_dict(find_dataset(name))
    if as_json:
        console.print_json("dataset@1", document)
        return
    lines = {key: "; ".join(value) if isinstance(value, tuple) else value for key, value in document.items()}
    console.fields((key.replace("_", " "), value) for key, value in lines.items() if value not in (None, "", ()))


@command(
    "check",
    "dpiqa datasets check kadid10k --data /data/kadid10k",
    "dpiqa datasets check csv:1..5 --data labels.csv --json",
)
def check(
    name: DatasetArgument,
    data: Annotated[Path, typer.Option(help="Folder the data set was unpacked to; for csv, the file.", exists=True)],
    split: Annotated[
        str, typer.Option(help="`published`, `random`, or a folder of split files (one of LIQE's ten).")
    ] = "published",
    seed: Annotated[int, typer.Option(help="Seed of a random split.", min=0)] = 0,
    as_json: options.JsonOption = False,
) -> None:
    """Read a data set's labels and summarise them: images by split, labels by tenths of MOS, missing files.

    Exits with status 1 if listed images are missing.
    """
    counts = summary(load_dataset(name, data, split=split, split_seed=seed))
    if as_json:
        console.print_json("dataset-summary@1", counts)
    else:
        _print_summary(counts)
    if counts["missing"]:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _as_dict(spec: DatasetSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "title": spec.title,
        "images": spec.size or None,
        "label": spec.label,
        "worst": spec.worst,
        "best": spec.best,
        "split": spec.split,
        "groups": spec.groups,
        "layout": spec.layout,
        "also_read": spec.also_read,
        "note": spec.note,
        "terms": spec.terms,
        "homepage": spec.homepage,
        "citation": spec.citation,
    }


def _print_summary(counts: dict[str, Any]) -> None:
    published = f" of {counts['published']} published" if counts["published"] else ""
    mos = counts["mos"]
    console.fields(
        [
            ("labels", counts["labels"]),
            ("images", f"{counts['images']}{published}"),
            ("missing", ", ".join([str(counts["missing"]), *counts["missing_first"]])),
            ("split", counts["split"]),
            ("groups", f"{counts['groups']}, {counts['groups_on_two_sides']} of them on two sides"),
            ("MOS", f"{mos['lowest']:.4f} to {mos['highest']:.4f}, mean {mos['mean']:.4f}"),
        ]
    )
    sides = {"all": counts["splits"], **counts["subsets"]}
    rows = [(name, *(sizes.get(side, 0) for side in ("train", "val", "test"))) for name, sizes in sides.items()]
    console.table(("subset", "train", "val", "test"), rows)
    largest = max(counts["histogram"])
    bars = [
        (f"{index / 10:.1f}", count, "#" * round(_BAR_CHARACTERS * count / largest))
        for index, count in enumerate(counts["histogram"])
    ]
    console.table(("MOS from", "images", ""), bars)
