"""The data sets there are readers for, by name."""

import re
from dataclasses import replace

from dpiqa.datasets import generated, photographs, synthetic
from dpiqa.datasets.csvfile import CSV
from dpiqa.datasets.reading import DatasetSpec
from dpiqa.errors import InvalidRequest, NotFound

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        photographs.KONIQ10K,
        photographs.CLIVE,
        photographs.FLIVE,
        photographs.SPAQ,
        photographs.BIQ2021,
        photographs.BID,
        synthetic.KADID10K,
        synthetic.TID2013,
        synthetic.LIVE,
        synthetic.CSIQ,
        generated.AGIQA3K,
        generated.AIGCIQA2023,
        photographs.GFIQA20K,
        photographs.UWIQA,
        CSV,
    )
}
_NUMBER = r"-?\d+(?:\.\d+)?"


def find_dataset(name: str) -> DatasetSpec:
    """Return the data set called `name`; `csv:WORST..BEST` is a CSV with labels on that scale.

    Raises `NotFound` for other names, `InvalidRequest` for a scale of no extent.
    """
    scale = re.fullmatch(rf"csv:({_NUMBER})\.\.({_NUMBER})", name)
    if scale is None:
        if name not in DATASETS:
            raise NotFound(f"no data set {name!r}", hint=f"one of {', '.join(DATASETS)}; csv:WORST..BEST")
        return DATASETS[name]
    worst, best = float(scale[1]), float(scale[2])
    if worst == best:
        raise InvalidRequest(f"{name}: worst and best are the same", hint="csv:1..5, for instance")
    return replace(CSV, worst=worst, best=best)
