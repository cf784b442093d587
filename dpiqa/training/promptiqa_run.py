"""`dpiqa train promptiqa` as a function of its configuration; see `dpiqa.training.commands`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dpiqa.evaluation.measurement import evaluate
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.promptiqa.config import SCORE_SCALE, PromptIQAConfig
from dpiqa.models.promptiqa.network import PromptIQA
from dpiqa.models.promptiqa.scorer import PromptIQAModel, load_promptiqa
from dpiqa.requirement import PreparedRequirement
from dpiqa.training.commands import Surroundings, digests, fit_run, identity_of, load_images, target_of
from dpiqa.training.config import DataConfig
from dpiqa.training.ending import STAGED_NAME, TRAINING, described, history
from dpiqa.training.export import export_model, publish, write_card
from dpiqa.training.labelled import Labelled, load_labelled
from dpiqa.training.promptiqa import Mixture, PromptIQATask, spread_rows
from dpiqa.training.promptiqa_config import PromptIQARun
from dpiqa.training.reproduce import origins
from dpiqa.training.starts import fill, read_tensors, start_card, start_network
from dpiqa.types import Direction, ModelKind


def train_promptiqa(config: PromptIQARun, here: Surroundings) -> ModelCard | None:
    """Train or fine-tune a PromptIQA model and publish it with its card; None in a process that is not the main one."""
    start = config.model.start and start_card(config.model.start, ModelKind.PROMPTIQA, here.models_dir)
    sizes = PromptIQAConfig.model_validate(start.architecture) if start else config.model.architecture
    assert sizes is not None  # noqa: S101 - the config's own check
    data = _load(config.data, start.preprocessing if start else sizes.preprocessing)
    torch.manual_seed(config.plan.seed)
    network = start_network(start, here.models_dir) if start else _new(sizes, config)
    task = PromptIQATask(network, data, config)
    identity = identity_of(
        config, data.digest, start=start and start.sha256, files=digests(config.model, "vit_weights")
    )
    outcome = fit_run(task, config, identity, here)
    if not outcome.main:
        return None
    card = _stage(task.network.promptiqa, sizes, data, config)
    made_from = origins({"start": start or None, "vit_weights": config.model.vit_weights})
    figures = _measure(card, data, config) | {TRAINING: history(config, outcome, identity, made_from, card)}
    card = card.model_copy(update={"figures": figures})
    staged = config.output.folder / STAGED_NAME
    write_card(card, staged)
    publish(card, staged, target_of(config, here))
    return card


def _load(config: DataConfig, preprocessing: Preprocessing) -> Mixture:
    """Load every set by itself: a batch must not mix what different people said. Raises what `load_labelled` does."""
    load_images(config)  # complains about an empty or unreadable list before anything is decoded
    return Mixture(
        [
            load_labelled(load_images(config.model_copy(update={"sets": (one,)})), preprocessing, config)
            for one in config.sets
        ]
    )


def _new(sizes: PromptIQAConfig, config: PromptIQARun) -> PromptIQA:
    network = PromptIQA(sizes)
    if config.model.vit_weights is not None:
        found = read_tensors(config.model.vit_weights)
        unused = ("norm.", "head.", "fc_norm.")  # the published model ends before them
        fill(network.vit, {n: t for n, t in found.items() if not n.startswith(unused)}, config.model.vit_weights)
    return network


def _stage(network: PromptIQA, sizes: PromptIQAConfig, data: Mixture, config: PromptIQARun) -> ModelCard:
    output = config.output
    return export_model(
        network,
        sizes,
        output.name,
        output.folder / STAGED_NAME,
        half=output.half,
        score_scale=SCORE_SCALE,
        licence=output.licence,
        paper=output.paper,
        trained_on=output.trained_on or described(sum(len(one.train) for one in data.sets), config),
        notes=output.notes,
    )


def _measure(card: ModelCard, data: Mixture, config: PromptIQARun) -> dict[str, Any]:
    """Measure the written model through the production scorer, set by set, each by pairs of its training images."""
    weights = config.output.folder / STAGED_NAME / str(card.weights)
    model = load_promptiqa(card, weights, device="auto", threads=None)
    return {
        f"{named.name} {config.data.select_on}": _figures(model, one, config)
        for one, named in zip(data.sets, config.data.sets, strict=True)
    }


def _figures(model: PromptIQAModel, data: Labelled, config: PromptIQARun) -> Mapping[str, Any]:
    pairs = spread_rows(data, config.validation_pairs)
    scorer = _by_pairs(model, data, pairs)
    measured = evaluate(scorer, data.chosen(), draws=config.output.bootstrap_draws).as_dict()
    return measured | {
        "prompt": f"{len(pairs)} training images, evenly spread over their labels",
        "chosen_on": "these images: the best checkpoint was kept by them, which flatters the figures",
    }


def _by_pairs(model: PromptIQAModel, data: Labelled, pairs: np.ndarray) -> Scorer:
    return model.scorer(
        PreparedRequirement(
            name="training-images",
            version=1,
            base_scorer_id=model.card.scorer_id,
            features=model.features(np.stack([data.pixels[row] for row in pairs]), data.labels[pairs]),
            direction=Direction.HIGHER,
        )
    )
