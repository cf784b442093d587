"""Scores as a column of a Daft data frame: `python examples/daft_column.py FOLDER`.

Needs `pip install 'dpiqa[models]' daft`. Each process loads the model once, and keeps it from batch to batch.
"""

import sys
from pathlib import Path

import daft

import dpiqa


@daft.cls
class Scorer:
    """A model, as a function of a column."""

    def __init__(self, model: str) -> None:
        self.scorer = dpiqa.load(model)

    @daft.method.batch(return_dtype=daft.DataType.float64())
    def score(self, paths: daft.Series) -> daft.Series:
        """Return the score of each file; NaN where it has none."""
        return daft.Series.from_numpy(self.scorer.scores(paths.to_pylist()))


def main(folder: str, model: str = "bundled-student") -> None:
    """Print the score and the path of each file of a folder, worst first; those without a score, last."""
    paths = [str(path) for path in sorted(Path(folder).iterdir()) if path.is_file()]
    frame = daft.from_pydict({"path": paths})
    for row in frame.with_column("score", Scorer(model).score(frame["path"])).sort("score").iter_rows():
        print(f"{row['score']:.3f}  {row['path']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
