"""Distortions of photographs, each at five strengths, deterministic by seed. numpy and Pillow only.

For demos, evaluation, tests of models and training with a known order: within one kind, a higher strength is further
from the original. Blurs and cells scale with the picture, so that a strength means about the same on a thumbnail and on
12 megapixels. There is one for each of the 25 kinds of KADID-10k (Lin et al., QoMEX 2019) and for every synthetic one
that DP-IQA's prompts name, where the name has a definition; `docs/evaluation.md` has the table.
"""

import numpy as np
from PIL import Image

from dpiqa.imaging.distortions import blur, coding, damage, noise, tones
from dpiqa.imaging.distortions.pixels import Distortion

__all__ = ["KINDS", "STRENGTHS", "Distortion", "distort"]

STRENGTHS = range(1, 6)

#: Every distortion by name.
KINDS: dict[str, Distortion] = {
    **blur.KINDS,
    **noise.KINDS,
    **coding.KINDS,
    **tones.KINDS,
    **damage.KINDS,
}


def distort(image: Image.Image, kind: str, strength: int, seed: int = 0) -> Image.Image:
    """Return a distorted RGB copy of `image`. `kind`: one of `KINDS`; `strength`: 1 (slight) to 5 (severe).

    The same arguments give the same pixels. Raises `ValueError` for an unknown kind or strength.
    """
    if kind not in KINDS:
        raise ValueError(f"no distortion is called {kind!r}; known: {', '.join(KINDS)}")
    if strength not in STRENGTHS:
        raise ValueError(f"strength is 1 to 5, got {strength}")
    return KINDS[kind](image.convert("RGB"), strength - 1, np.random.default_rng(seed))
