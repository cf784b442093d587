"""`dpiqa datasets`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli.support import console, options
from dpiqa.cli.support.groups import command, new_group
from dpiqa.exit_codes import ExitCode

if TYPE_CHECKING:
    from dpiqa.datasets.spec import DatasetSpec

Name = Annotated[
    str, typer.Argument(help="Data set, as `dpiqa datasets list` names it; csv:WORST..BEST for a CSV on another scale.")
]
_BAR = 40  #: characters of the histogram's longest bar


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = new_group("datasets", "Data sets: which can be read, in which layout.", ["dpiqa datasets list"])
    command(group, "list", "dpiqa datasets list")(list_all)
    command(group, "show", "dpiqa datasets show koniq10k", "dpiqa datasets show csv --json")(show)
    command(
        group,
        "check",
        "dpiqa datasets check kadid10k --data /data/kadid10k",
        "dpiqa datasets check csv:1..5 --data labels.csv --json",
    )(check)
    app.add_typer(group)


def list_all(as_json: options.Json = False) -> None:
    """List the data sets there are readers for."""
    from dpiqa.datasets import DATASETS

    if as_json:
        console.print_json([_document(spec) for spec in DATASETS.values()])
        return
    rows = [(one.name, one.title, one.size or None, one.label, one.scale, one.split) for one in DATASETS.values()]
    console.table(("data set", "title", "images", "label", "worst to best", "split"), rows)


def show(name: Name, as_json: options.Json = False) -> None:
    """Show a data set: the layout expected, its labels and splits, its terms, what to cite."""
    from dpiqa.datasets import find_dataset

    document = _document(find_dataset(name))
    if as_json:
        console.print_json(document)
        return
    lines = {key: "; ".join(value) if isinstance(value, tuple) else value for key, value in document.items()}
    console.fields((key.replace("_", " "), value) for key, value in lines.items() if value not in (None, "", ()))


def check(
    name: Name,
    data: Annotated[Path, typer.Option(help="Folder the data set was unpacked to; for csv, the file.", exists=True)],
    split: Annotated[
        str, typer.Option(help="`published`, `random`, or a folder of split files (one of LIQE's ten).")
    ] = "published",
    seed: Annotated[int, typer.Option(help="Seed of a random split.", min=0)] = 0,
    as_json: options.Json = False,
) -> None:
    """Read a data set's labels and say what is there: images by split, labels by tenths of MOS, missing files.

    Ends with 1 if listed images are missing.
    """
    from dpiqa.datasets import load_dataset
    from dpiqa.datasets.load import summary

    found = summary(load_dataset(name, data, split=split, split_seed=seed))
    if as_json:
        console.print_json(found)
    else:
        _show(found)
    if found["missing"]:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _document(spec: "DatasetSpec") -> dict[str, Any]:
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


def _show(found: dict[str, Any]) -> None:
    published = f" of {found['published']} published" if found["published"] else ""
    mos = found["mos"]
    console.fields(
        [
            ("labels", found["labels"]),
            ("images", f"{found['images']}{published}"),
            ("missing", ", ".join([str(found["missing"]), *found["missing_first"]])),
            ("split", found["split"]),
            ("groups", f"{found['groups']}, {found['groups_on_two_sides']} of them on two sides"),
            ("MOS", f"{mos['lowest']:.4f} to {mos['highest']:.4f}, mean {mos['mean']:.4f}"),
        ]
    )
    rows = [("all", *_counts(found["splits"])), *((name, *_counts(one)) for name, one in found["subsets"].items())]
    console.table(("subset", "train", "val", "test"), rows)
    most = max(found["histogram"])
    bars = [
        (f"{place / 10:.1f}", count, "#" * round(_BAR * count / most)) for place, count in enumerate(found["histogram"])
    ]
    console.table(("MOS from", "images", ""), bars)


def _counts(splits: dict[str, int]) -> tuple[int, int, int]:
    return splits.get("train", 0), splits.get("val", 0), splits.get("test", 0)
