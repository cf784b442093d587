"""`dpiqa explain`: which regions of one image move its score."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli.support import console, context, options, scorers
from dpiqa.cli.support.groups import command
from dpiqa.errors import InvalidRequest
from dpiqa.text import sanitise
from dpiqa.types import ImageRef

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from dpiqa.evaluation.saliency import Saliency
    from dpiqa.models.base import Scorer
    from dpiqa.settings import Settings

Target = Annotated[
    str, typer.Argument(help="A file or s3://bucket/key.", metavar="PATH|S3_ADDRESS", show_default=False)
]
Model = Annotated[str, typer.Option("--model", "-m", help="Model by name (`dpiqa models list`).")]
Map = Annotated[Path, typer.Option("--output", "-o", help="PNG to write.", dir_okay=False)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "explain",
        "dpiqa explain photo.jpg --model bundled-student --output map.png",
        "dpiqa explain s3://photos/2024/001.jpg --output map.png --json",
    )(explain)


def explain(
    target: Target,
    output: Map,
    model: Model = "bundled-student",
    requirement: scorers.Requirement = None,
    device: scorers.Device = None,
    as_json: options.Json = False,
) -> None:
    """Show which regions pull an image's score down (red) and which hold it up (blue).

    Each region is shown to the model alone; its score minus that of the whole image is laid over the image. Works for
    every kind of model. docs/evaluation.md says how far such a map is to be trusted.
    """
    if output.suffix.lower() != ".png":
        raise InvalidRequest(f"cannot write {output.name}", hint="end its name in .png")
    if not output.parent.is_dir():
        raise InvalidRequest(f"the folder {output.parent} does not exist", hint="create it first")
    settings = context.settings(device=device)
    with scorers.needing_extras():
        from dpiqa.evaluation.plots import saliency_overlay, write_png
        from dpiqa.evaluation.saliency import saliency
        from dpiqa.pipeline.scorers import batch_size

        data = _fetch(settings, target)
        scorer = scorers.load(settings, model, requirement)
        image, pixels = _decoded(settings, data, scorer)
        found = saliency(scorer, pixels, batch=batch_size(scorer.card, settings))
        title = f"{sanitise(Path(target).name)}: {scorer.card.name} says {found.score:.3f}"
        write_png(saliency_overlay(image, found, title=title), output)
    _show({"image": target, **_as_dict(scorer, found), "output": str(output)}, as_json=as_json)


def _fetch(settings: "Settings", target: str) -> bytes:
    """Return the image's bytes. Raises `ImageRejected`, `ObjectGone`, `StoreUnavailable`."""
    from dpiqa.addresses import is_s3, parse_s3
    from dpiqa.objects.files import LocalFiles
    from dpiqa.objects.s3 import S3Store

    if is_s3(target):
        address = parse_s3(target)
        ref = ImageRef(bucket=address.bucket, key=address.key, etag="")
        return S3Store.from_settings(settings).get(ref, settings.max_image_bytes).data
    ref = ImageRef(bucket="", key=str(Path(target).expanduser()), etag="")
    return LocalFiles().get(ref, settings.max_image_bytes).data


def _decoded(settings: "Settings", data: bytes, scorer: "Scorer") -> "tuple[Image.Image, np.ndarray]":
    """Return the upright picture and the model's input.

    The decode pool goes first: what hangs or crashes a decoder must not do it here. Raises `ImageRejected`.
    """
    from dpiqa.imaging.decode import Limits, decode
    from dpiqa.imaging.pool import DecodePool

    limits = Limits.from_settings(settings)
    with DecodePool(1, limits) as pool:
        pixels = pool.submit(data, scorer.card.preprocessing).result()
    return decode(data, limits), pixels


def _as_dict(scorer: "Scorer", found: "Saliency") -> dict[str, Any]:
    return {
        "model": scorer.card.name,
        "scorer": scorer.card.scorer_id,
        "score": found.score,
        "effect": found.effect.round(6).tolist(),
        "quadrants": found.quadrants.round(6).tolist(),
    }


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.print_json(document)
        return
    (upper_left, upper_right), (lower_left, lower_right) = document["quadrants"]
    console.fields(
        [
            ("score", document["score"]),
            ("effect of the upper left", upper_left),
            ("upper right", upper_right),
            ("lower left", lower_left),
            ("lower right", lower_right),
            ("map", document["output"]),
        ]
    )
