"""`dpiqa explain`: which regions of one image move its score."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from dpiqa.addresses import is_s3, parse_s3
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.scoring import load_scorer
from dpiqa.errors import ImageRejected, InvalidRequest
from dpiqa.evaluation.saliency import saliency
from dpiqa.files import expanded
from dpiqa.imaging.decode import Limits, decode
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.renditions import rendition_of
from dpiqa.models.base import ModelCard
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.scorers import batch_size
from dpiqa.settings import Settings
from dpiqa.text import sanitise
from dpiqa.types import ImageRef

TargetArgument = Annotated[
    str, typer.Argument(help="A file or s3://bucket/key.", metavar="PATH|S3_ADDRESS", show_default=False)
]
ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="Model by name (`dpiqa models list`).", autocompletion=options.complete_model),
]
MapOption = Annotated[Path, typer.Option("--output", "-o", help="PNG to write.", dir_okay=False)]


@command(
    "explain",
    "dpiqa explain photo.jpg --model bundled-student --output map.png",
    "dpiqa explain s3://photos/2024/001.jpg --output map.png --json",
)
def explain(
    target: TargetArgument,
    output: MapOption,
    model: ModelOption = "bundled-student",
    requirement: options.RequirementOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show which regions pull an image's score down (red) and which hold it up (blue).

    Each region is shown to the model alone; its score minus that of the whole image is laid over the image. Works for
    every kind of model. docs/evaluation.md says how far such a map can be trusted.
    """
    from dpiqa.evaluation.plots import saliency_overlay, write_png  # noqa: PLC0415 - matplotlib, an extra

    if output.suffix.lower() != ".png":
        raise InvalidRequest(f"cannot write {output.name}", hint="end its name in .png")
    if not output.parent.is_dir():
        raise InvalidRequest(f"the folder {output.parent} does not exist", hint="create it first")
    settings = context.read_settings(device=device)
    try:
        data = _fetch(settings, target)
        scorer = load_scorer(settings, model, requirement)
        card, image, pixels = _decode(settings, data, scorer.card)
    except ImageRejected as error:
        hint = "name another image; docs/imaging.md lists formats and limits"
        raise ImageRejected(error.reason, f"{target} is not scored: {error.message}", hint=hint) from error
    size = scorer.card.preprocessing.picture_size(*image.size)
    effects = saliency(scorer, pixels, size=size, batch=batch_size(scorer, settings))
    title = f"{sanitise(Path(target).name)}: {scorer.card.name} says {effects.score:.3f}"
    write_png(saliency_overlay(image, effects, title=title), output)
    quadrants = effects.quadrants.round(6).tolist()
    if as_json:
        document = {
            "image": target,
            "model": scorer.card.name,
            "scorer": card.scorer_id,
            "score": effects.score,
            "effect": effects.effect.round(6).tolist(),
            "quadrants": quadrants,
            "output": str(output),
        }
        console.print_json("explanation@1", document)
        return
    names = ("effect of the upper left", "upper right", "lower left", "lower right")
    regions = zip(names, chain.from_iterable(quadrants), strict=True)
    console.fields([("score", effects.score), *regions, ("map", str(output))])


def _fetch(settings: Settings, target: str) -> bytes:
    """Return the image's bytes. Raises `ImageRejected`, `ObjectGone`, `StoreUnavailable`."""
    if is_s3(target):
        address = parse_s3(target)
        ref = ImageRef(bucket=address.bucket, key=address.key, etag="")
        return S3Store.from_settings(settings).get(ref, settings.max_image_bytes).data
    ref = ImageRef(bucket="", key=str(expanded(target)), etag="")
    return LocalFiles().get(ref, settings.max_image_bytes).data


def _decode(settings: Settings, data: bytes, card: ModelCard) -> tuple[ModelCard, Image.Image, np.ndarray]:
    """Return the card for the image's rendition, the upright picture and the model's input.

    The decode pool goes first: an image that hangs or crashes a decoder must not do it here. Raises `ImageRejected`.
    """
    limits = Limits.from_settings(settings)
    card = card.rendered(rendition_of(data, limits))
    with DecodePool(1, limits) as pool:
        pixels = pool.submit(data, card.preprocessing).result()
    return card, decode(data, limits, card.preprocessing), pixels
