"""PromptIQA: a batch is images of one data set, and every image's prompt is the rest of its batch.

Labels are scaled and reversed batch by batch, so that only the prompt says what a score means (the paper's random
scaling and random flipping).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.measurement import evaluate
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.models.folder import publish, write_card
from dpiqa.models.promptiqa.config import SCORE_SCALE, PromptIQAConfig
from dpiqa.models.promptiqa.network import PromptIQA
from dpiqa.models.promptiqa.scorer import load_promptiqa, to_network_range
from dpiqa.requirement import PreparedRequirement
from dpiqa.training.config.kinds import PromptIQARun, PromptLoss
from dpiqa.training.config.precision import Arithmetic, autocast
from dpiqa.training.config.run import DataConfig
from dpiqa.training.data.crops import as_images, random_crops
from dpiqa.training.data.labelled import Labelled, evenly, load_images, load_labelled
from dpiqa.training.loop.task import Validation, shuffled_batches
from dpiqa.training.runs.context import RunContext, file_digests, fit_run, identity_of
from dpiqa.training.runs.initial_weights import start_card, start_network
from dpiqa.training.runs.publish import CHOSEN_ON, STAGED_NAME, TRAINING, history, origins, stage_model
from dpiqa.training.runs.validation import agreement
from dpiqa.training.weights import fill, read_tensors
from dpiqa.types import Direction, ModelKind

_SCORED_AT_ONCE = 16


def train_promptiqa(config: PromptIQARun, context: RunContext) -> ModelCard | None:
    """Train or fine-tune a PromptIQA model and publish it with its card; None in a process that is not the main one."""
    start = config.model.start and start_card(config.model.start, ModelKind.PROMPTIQA, context.models_dir)
    sizes = PromptIQAConfig.model_validate(start.architecture) if start else config.model.architecture
    assert sizes is not None  # noqa: S101 - the config's own check
    data = load_mixture(config.data, start.preprocessing if start else sizes.preprocessing)
    torch.manual_seed(config.plan.seed)
    network = start_network(start, context.models_dir) if start else _new_network(sizes, config)
    task = PromptIQATask(network, data, config)
    digests = file_digests({"vit_weights": config.model.vit_weights})
    identity = identity_of(config, data.digest, start=start and start.sha256, files=digests)
    result = fit_run(task, config, identity, context)
    if not result.is_main:
        return None
    images = sum(len(labelled.train) for labelled in data.sets)
    card = stage_model(task.network.promptiqa, sizes, config, images=images, score_scale=SCORE_SCALE)
    made_from = origins({"start": start or None, "vit_weights": config.model.vit_weights})
    figures = _measure(card, data, config) | {TRAINING: history(config, result, identity, made_from, card)}
    card = card.model_copy(update={"figures": figures})
    staged = config.output.folder / STAGED_NAME
    write_card(card, staged)
    publish(card, staged, context.target(config))
    return card


def _new_network(sizes: PromptIQAConfig, config: PromptIQARun) -> PromptIQA:
    network = PromptIQA(sizes)
    if config.model.vit_weights is not None:
        unused = ("norm.", "head.", "fc_norm.")  # the published model ends before them
        tensors = read_tensors(config.model.vit_weights)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
        fill(network.vit, tensors, config.model.vit_weights)
    return network


@dataclass(frozen=True)
class Mixture:
    """Data sets whose rows are numbered consecutively, so that one number says set and row."""

    sets: Sequence[Labelled]
    starts: np.ndarray = field(init=False)  #: number of each set's first row

    def __post_init__(self) -> None:
        sizes = [len(labelled.labels) for labelled in self.sets]
        object.__setattr__(self, "starts", np.concatenate([[0], np.cumsum(sizes)[:-1]]))

    @property
    def digest(self) -> str:
        """Digests of all labelled images on their sides, set by set."""
        return ",".join(labelled.digest for labelled in self.sets)

    def train(self) -> list[np.ndarray]:
        """Return the numbers of the training rows of each set."""
        return [start + labelled.train for start, labelled in zip(self.starts, self.sets, strict=True)]

    def locate(self, numbers: np.ndarray) -> tuple[Labelled, np.ndarray]:
        """Return the set of a batch, and the batch's rows in that set."""
        index = int(np.searchsorted(self.starts, numbers[0], side="right")) - 1
        return self.sets[index], numbers - self.starts[index]


def load_mixture(config: DataConfig, preprocessing: Preprocessing) -> Mixture:
    """Load every set by itself: a batch must not mix labels of different people. Raises what `load_labelled` does."""
    load_images(config)  # an empty or unreadable list is an error before anything is decoded
    single_sets = [config.model_copy(update={"sets": (data_set,)}) for data_set in config.sets]
    return Mixture([load_labelled(load_images(single), preprocessing, config) for single in single_sets])


class BatchAsPrompt(nn.Module):
    """A PromptIQA network in the form in which it is trained."""

    def __init__(self, network: PromptIQA) -> None:
        super().__init__()
        self.promptiqa = network

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, S, S) in [0, 1], labels (B,) of one requirement -> scores (B,), none seeing its own label."""
        vectors = self.promptiqa.image_vectors(to_network_range(images))
        features = self.promptiqa.pair_features(vectors, labels)
        rest = features[others(len(features)).to(features.device)]
        return self.promptiqa.compare(vectors, self.promptiqa.fuse_prompts(rest))


def others(count: int) -> torch.Tensor:
    """Return in row i all numbers below `count` but i: 3 -> [[1, 2], [0, 2], [0, 1]]."""
    numbers = torch.arange(count).expand(count, count)
    return numbers[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)


def as_requirement(labels: np.ndarray, loss: PromptLoss, rng: np.random.Generator) -> np.ndarray:
    """Labels (B,) in [0, 1] as another requirement might give them: the best made 1, reversed, both or neither."""
    if rng.random() < loss.scaling and labels.max() > 0:
        labels = labels / labels.max()
    return 1 - labels if rng.random() < loss.flipping else labels


class PromptIQATask:
    """See `dpiqa.training.loop.task.Task`. `network` comes with its first weights."""

    def __init__(self, network: PromptIQA, data: Mixture, config: PromptIQARun) -> None:
        self.network, self.data, self.config = BatchAsPrompt(network), data, config
        batch = config.plan.batch
        if batch < 3:
            raise InvalidRequest(
                f"a batch of {batch} has no pairs to compare an image with", hint="set plan.batch to at least 3"
            )
        if config.plan.crop is not None:
            raise InvalidRequest("PromptIQA learns from whole pictures", hint="leave plan.crop out")
        for labelled, entry in zip(data.sets, config.data.sets, strict=True):
            if len(labelled.train) < batch:
                raise InvalidRequest(
                    f"{entry.name} has {len(labelled.train)} training images, fewer than a batch of {batch}",
                    hint="lower plan.batch, or leave the set out",
                )

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle every set by itself, then the batches of all sets."""
        size = self.config.plan.batch
        batches = [batch for rows in self.data.train() for batch in shuffled_batches(rows, size, rng)]
        return [batches[index] for index in rng.permutation(len(batches))]

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Error of each image's score against its label on the scale of the requirement that the batch is made to."""
        data, own_rows = self.data.locate(rows)
        whole = random_crops(own_rows, data.extent, data.extent, 1, rng, mirror=self.config.plan.mirror)
        device = next(self.network.parameters()).device
        labels = as_requirement(data.labels[own_rows], self.config.loss, rng)
        scores = network(as_images(whole.cut(data.pixels), device), torch.from_numpy(labels).float().to(device))
        return {"absolute": F.l1_loss(scores.float(), torch.from_numpy(labels).to(scores.device).float())}

    def validate(self, network: nn.Module) -> Validation:
        """Measure every set by a prompt of its own training images; the mean SRCC over the sets decides."""
        core: PromptIQA = network.promptiqa  # type: ignore[assignment]
        by_set: dict[str, Validation] = {}
        for labelled, entry in zip(self.data.sets, self.config.data.sets, strict=True):
            pairs = spread_rows(labelled, self.config.validation_pairs)
            rows = evenly(labelled.val, self.config.data.validation_images)
            scores = score_by_pairs(core, labelled, pairs, rows, self.config.plan.precision)
            by_set[entry.name] = agreement(scores, labelled.labels[rows])
        names = next(iter(by_set.values())).figures
        figures = {name: float(np.mean([entry.figures[name] for entry in by_set.values()])) for name in names}
        single = {f"srcc_{name}": entry.figures["srcc"] for name, entry in by_set.items()} if len(by_set) > 1 else {}
        return Validation(merit=figures["srcc"], figures=figures | single)


def spread_rows(data: Labelled, count: int) -> np.ndarray:
    """Choose training rows for a prompt: evenly spread over the order of their labels."""
    ordered = data.train[np.argsort(data.labels[data.train], kind="stable")]
    return evenly(ordered, count)


def score_by_pairs(
    network: PromptIQA, data: Labelled, pairs: np.ndarray, rows: np.ndarray, precision: Arithmetic
) -> np.ndarray:
    """Score the pictures `rows` by the requirement that the rows `pairs` make -> (len(rows),) float64."""
    device = next(network.parameters()).device

    def vectors(some_rows: np.ndarray) -> list[torch.Tensor]:
        blocks = [some_rows[start : start + _SCORED_AT_ONCE] for start in range(0, len(some_rows), _SCORED_AT_ONCE)]
        return [network.image_vectors(to_network_range(as_images(data.pixels[block], device))) for block in blocks]

    with torch.inference_mode(), autocast(device, precision):
        labels = torch.from_numpy(data.labels[pairs]).float().to(device)
        prompts = network.fuse_prompts(network.pair_features(torch.cat(vectors(pairs)), labels))
        scores = torch.cat([network.compare(block, prompts) for block in vectors(rows)])
    result: np.ndarray = scores.double().cpu().numpy()
    return result


def _measure(card: ModelCard, data: Mixture, config: PromptIQARun) -> dict[str, Any]:
    """Measure the written model through the production scorer, set by set, each by pairs of its training images."""
    weights = config.output.folder / STAGED_NAME / str(card.weights)
    model = load_promptiqa(card, weights, device="auto", threads=None)
    figures: dict[str, Mapping[str, Any]] = {}
    for labelled, entry in zip(data.sets, config.data.sets, strict=True):
        pairs = spread_rows(labelled, config.validation_pairs)
        requirement = PreparedRequirement(
            name="training-images",
            version=1,
            base_scorer_id=model.card.scorer_id,
            features=model.features(np.stack([labelled.pixels[row] for row in pairs]), labelled.labels[pairs]),
            direction=Direction.HIGHER,
        )
        scorer = model.scorer(requirement)
        evaluation = evaluate(scorer, labelled.validation_images(), draws=config.output.bootstrap_draws)
        prompt = f"{len(pairs)} training images, evenly spread over their labels"
        figures[f"{entry.name} {config.data.select_on}"] = evaluation.as_dict() | {"prompt": prompt} | CHOSEN_ON
    return figures
