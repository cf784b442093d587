"""Scoring by image-score pairs of a file, without a database: `dpiqa score --pairs`."""

from pathlib import Path

from dpiqa.cli.support.progress import counting
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.base import Scorer
from dpiqa.models.choice import ModelChoice
from dpiqa.objects.store import LocalFiles
from dpiqa.requirement import PreparedRequirement, RequirementRequest, read_pairs
from dpiqa.requirements.builder import find_prompt_card, load_prompt_model
from dpiqa.requirements.pair_images import PairReader, read_images
from dpiqa.settings import Settings
from dpiqa.types import Direction


def scorer_by_pairs(
    settings: Settings, pairs_file: Path, model: str, direction: Direction, *, force: bool
) -> tuple[ModelChoice, Scorer]:
    """Read and check pairs as `dpiqa requirements create` does; return a scorer by them, and the choice of it.

    Its requirement is named by the images' bytes and the scores, `pairs-3f2a9c01d4e7@1`: the same pairs make the same
    scorer, wherever the file is. Raises `NotFound`, `InvalidRequest`, `CheckpointError`, `ConfigurationError`.
    """
    pairs = read_pairs(pairs_file)
    request = RequirementRequest(name="pairs", pairs=pairs, direction=direction, model=model, force=force)
    request.check()
    card = find_prompt_card(model, settings.models_dir)
    from dpiqa.objects.s3 import S3Store  # noqa: PLC0415 - it takes .1 s, and most commands need no pairs

    reader = PairReader(S3Store.from_settings(settings), LocalFiles())
    with DecodePool(settings.decode_processes, Limits.from_settings(settings)) as decoder:
        images = read_images(pairs, reader, decoder, card.preprocessing, settings)
    prompt_model = load_prompt_model(model, settings)
    from dpiqa.requirements.checks import check  # noqa: PLC0415 - SciPy, which comes with the models' extra

    with counting("checking pairs", len(pairs)) as advance:
        preparation = check(pairs, images, prompt_model, force=force, step=lambda: advance(1))
    requirement = PreparedRequirement(
        name=f"pairs-{request.content_hash(images.digests)[:12]}",
        version=1,
        base_scorer_id=preparation.scorer_id,
        features=preparation.features,
        direction=direction,
    )
    return ModelChoice(model=model, requirement=requirement.id), prompt_model.scorer(requirement)
