"""Scores as a column of a Daft data frame: `python examples/daft_column.py FOLDER`. Needs `pip install daft`."""

import sys
from pathlib import Path

import daft

import dpiqa


def main(folder: str, model: str = "bundled-student") -> None:
    """Show the path and the score of each file of a folder, worst first."""

    @daft.func.batch(return_dtype=daft.DataType.float64())
    def score(paths: daft.Series) -> daft.Series:
        return daft.Series.from_numpy(SCORERS.setdefault(model, dpiqa.load(model)).scores(paths.to_pylist()))

    paths = [str(path) for path in sorted(Path(folder).iterdir()) if path.is_file()]
    frame = daft.from_pydict({"path": paths})
    frame.with_column("score", score(frame["path"])).sort("score").show(len(paths))


SCORERS: dict[str, dpiqa.ImageScorer] = {}  #: of this process: a model is loaded once

if __name__ == "__main__":
    main(*sys.argv[1:])
