"""The worst or best share of a reference population, for `dpiqa score --worst 5%`."""

from collections.abc import Iterable, Sequence

from dpiqa.cli.support import console
from dpiqa.errors import InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice, chosen_card
from dpiqa.percentiles import Share
from dpiqa.pipeline.local_run import ScoredObject
from dpiqa.settings import Settings


def images_in(share: Share, images: Sequence[ScoredObject]) -> list[ScoredObject]:
    """Return the images in the share and those without a score; says on stderr which populations were compared."""
    scored = [image for image in images if image.score is not None]
    selected = [
        image
        for image in images
        if image.score is None or (image.reference is not None and image.reference.among(image.score, share))
    ]
    n_selected = sum(image.score is not None for image in selected)
    end = "worst" if share.worst else "best"
    populations = sorted(
        {f"{image.reference.n} images, {image.reference.population}" for image in scored if image.reference}
    )
    console.note(
        f"{n_selected} of {len(scored)} scored images are among the {end} {share.percent:g}% "
        f"of the reference population ({'; '.join(populations) or 'there is none'})"
    )
    if without := sum(image.reference is None for image in scored):
        console.warn(f"{without} images are left out: their scorer has no reference")
    return selected


def require_references(settings: Settings, choices: Iterable[ModelChoice]) -> None:
    """Raise `InvalidRequest` if a model that may score has no reference: before it scores, not after."""
    for choice in choices:
        card = chosen_card(find_card(choice.model, settings.models_dir), choice)
        if not _has_reference(card, choice.requirement):
            raise InvalidRequest(
                f"{choice} has no reference population, so it has no shares",
                hint=f"`dpiqa models reference {choice.model}` makes one; or sort the scores themselves",
            )


def _has_reference(card: ModelCard, requirement: str | None) -> bool:
    """Return whether scores may have a percentile. The newest version of a requirement is not known yet."""
    versions = {
        reference.requirement
        for reference in card.references
        if reference.requirement and reference.requirement.partition("@")[0] == requirement
    }
    return any(
        card.model_copy(update={"requirement": version}).reference is not None for version in versions | {requirement}
    )
