"""The full-size PromptIQA against what the authors' own code gave, from synthetic weights with the published names."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpiqa.imaging.preprocessing import prepare
from dpiqa.models.base import ModelCard
from dpiqa.models.promptiqa.config import PromptIQAConfig
from dpiqa.models.promptiqa.network import PromptIQA
from dpiqa.models.promptiqa.scorer import PromptIQACheckpoint
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import Direction, ModelKind

GOLDEN = Path(__file__).parents[3] / "golden"
_spec = importlib.util.spec_from_file_location("synthetic", GOLDEN / "synthetic.py")
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)
CARD = ModelCard(
    name="published",
    kind=ModelKind.PROMPTIQA,
    architecture=PromptIQAConfig().model_dump(mode="json"),
    sha256="0" * 64,
    preprocessing=PromptIQAConfig().preprocessing,
    licence="synthetic",
)


def published_network():
    with torch.device("meta"):
        return PromptIQA(PromptIQAConfig())


def prepared(picture):
    """A test image as production prepares it."""
    return prepare(Image.fromarray(picture), CARD.preprocessing)


def test_the_network_has_the_published_names_and_shapes():
    golden = json.loads((GOLDEN / "promptiqa.json").read_text())
    shapes = {name: list(tensor.shape) for name, tensor in published_network().state_dict().items()}
    assert shapes == golden["keys"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_network_is_the_published_one():
    golden = json.loads((GOLDEN / "promptiqa.json").read_text())
    network = published_network()
    network.load_state_dict(synthetic.promptiqa_state_dict(golden["keys"]), strict=True, assign=True)
    model = PromptIQACheckpoint(CARD, network.eval(), torch.device("cpu"))
    pairs = np.stack([prepared(picture) for picture in synthetic.prompt_images()])
    features = model.features(pairs, np.array(golden["isp_scores"]))
    scorer = model.scorer(
        PreparedRequirement(
            name="up",
            version=1,
            base_scorer_id=CARD.scorer_id,
            features=features,
            direction=Direction.HIGHER,
        )
    )
    for output in golden["outputs"]:
        pixels = prepared(synthetic.image(output["image"], output["h"], output["w"]))
        score = float(scorer.score(pixels[None])[0])
        print(f"picture {output['image']} by 10 pairs: {score:.7f}, published {output['score']:.7f}")  # noqa: T201 - for -rP
        assert score == pytest.approx(output["score"], abs=2e-4)
