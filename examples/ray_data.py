"""Scores of images with Ray Data: `python examples/ray_data.py FOLDER`.

Needs `pip install 'dpiqa[models]' 'ray[data]'`. Each actor loads the model once, and keeps it from batch to batch.
"""

import sys
from pathlib import Path

import ray

import dpiqa


def main(folder: str, model: str = "bundled-student") -> None:
    """Print the score and the path of each file of a folder, worst first; those without a score, last."""
    paths = [str(path) for path in sorted(Path(folder).iterdir()) if path.is_file()]
    scored = ray.data.from_items([{"path": path} for path in paths]).map_batches(
        dpiqa.ImageScorer,
        fn_constructor_kwargs={"model": model, "decode_processes": 2},
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=1),  # each actor has the model in memory; with a GPU also num_gpus=1
    )
    for row in sorted(scored.take_all(), key=lambda row: (row["score"] != row["score"], row["score"])):
        print(f"{row['score']:.3f}  {row['path']}  {row['reason']}".rstrip())


if __name__ == "__main__":
    main(*sys.argv[1:])
