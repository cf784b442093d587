"""The checks of `dpiqa doctor` on this machine: models, torch and device, disk."""

import shutil
from typing import TYPE_CHECKING

from dpiqa.cli import context
from dpiqa.cli.findings import Finding, fail, ok, warn
from dpiqa.types import ModelKind

if TYPE_CHECKING:
    from dpiqa.settings import Settings

_ENOUGH_BYTES = 2 * 1024**3


def models(settings: "Settings") -> Finding:
    """Whether the profile's models are here, undamaged."""
    from dpiqa.models.cards import list_cards, verify
    from dpiqa.pipeline.scorer_loading import check_profile

    profile = context.profile(settings)
    check_profile(profile, settings)
    cards = list_cards(settings.models_dir)
    for card in cards:
        verify(card, settings.models_dir)
    return ok("models", f"profile {profile.id}; verified: {', '.join(card.name for card in cards)}")


def device(settings: "Settings") -> Finding:
    """Whether torch is here and what it would compute on."""
    try:
        import torch

        from dpiqa.models.torch_scorer import choose_device
    except ImportError as error:
        message = f"{error.name} is not installed: this machine cannot run `dpiqa score` or workers"
        return _without_torch(settings, message)
    chosen = choose_device(settings.device)
    if chosen.type == "cuda":
        return ok("device", f"torch {torch.__version__}, {torch.cuda.get_device_name(chosen)}")
    return ok("device", f"torch {torch.__version__}, CPU, {settings.threads or torch.get_num_threads()} threads")


def _without_torch(settings: "Settings", message: str) -> Finding:
    from dpiqa.models.cards import find_card

    profile = context.profile(settings)
    cards = [find_card(choice.model, settings.models_dir) for choice in profile.choices.values()]
    if all(card.kind is ModelKind.PIXELS for card in cards):
        return ok("device", f"torch is not here; profile {profile.id} does not need it")
    return warn("device", message, "pip install 'dpiqa[models]' where scoring is wanted")


def disk(settings: "Settings") -> Finding:
    """Whether there is room for the embedded stack's data."""
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    message = f"{free / 1024**3:.1f} GiB free at {folder}"
    if free < _ENOUGH_BYTES // 4:
        return fail("disk", message, "free some space, or set DPIQA_HOME to a larger disk")
    return ok("disk", message) if free >= _ENOUGH_BYTES else warn("disk", message, "free some space soon")
