"""Makes prompt features of a list of pairs, and says how far the list is to be trusted."""

from collections.abc import Callable, Sequence

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.requirements.contradictions import contradictions, refuse_copies
from dpiqa.requirements.images import PairImages
from dpiqa.requirements.model import PromptModel
from dpiqa.requirements.pairs import Pair
from dpiqa.requirements.prepared import Preparation
from dpiqa.requirements.stability import leave_one_out


def check(
    pairs: Sequence[Pair],
    images: PairImages,
    model: PromptModel,
    *,
    force: bool,
    step: Callable[[], None] = lambda: None,
) -> Preparation:
    """Compute prompt features and leave-one-out stability; two passes of the model per pair.

    Calls `step` after each pass, which may raise to stop. Raises `InvalidRequest` for an image listed twice with
    one score and, without `force`, for pairs that contradict each other; `CheckpointError` for a broken model.
    """
    refuse_copies(pairs, images.digests)
    scores = np.array([pair.score for pair in pairs])
    parts = []
    for place in range(len(pairs)):  # one at a time: what can score an image can prepare a requirement
        parts.append(model.features(images.pixels[place : place + 1], scores[place : place + 1]))
        step()
    features = np.concatenate(parts).astype(np.float32, copy=False)
    stability = leave_one_out(model, images.pixels, scores, features, step=step)
    found = contradictions(pairs, images.digests, images.pixels, stability)
    if found and not force:
        raise InvalidRequest(
            f"the pairs contradict each other: {'; '.join(found)}",
            cure="look at these pairs again, or give more of them; --force (HTTP: `force`) accepts them as they are",
        )
    return Preparation(scorer_id=model.card.scorer_id, features=features, stability=stability, contradictions=found)
