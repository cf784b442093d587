"""PromptIQA: a batch is images of one data set, and every image's prompt is the rest of its batch.

Labels are scaled and turned batch by batch, so that only the prompt says what a score means (the paper's random scaling
and random flipping).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.models.promptiqa.network import PromptIQA
from dpiqa.models.promptiqa.scorer import to_network_range
from dpiqa.training.crops import as_images, random_crops
from dpiqa.training.labelled import Labelled, evenly, judged
from dpiqa.training.plan import Arithmetic
from dpiqa.training.promptiqa_config import PromptIQARun, PromptLoss
from dpiqa.training.task import Validation, shuffled_batches

_DTYPES = {Arithmetic.BFLOAT16: torch.bfloat16, Arithmetic.FLOAT16: torch.float16}
_SCORED_AT_ONCE = 16


class BatchAsPrompt(nn.Module):
    """A PromptIQA network as it is trained."""

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
    everyone = torch.arange(count).expand(count, count)
    return everyone[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)


def as_requirement(labels: np.ndarray, how: PromptLoss, rng: np.random.Generator) -> np.ndarray:
    """Labels (B,) in [0, 1] as another requirement might give them: the best made 1, turned, both or neither."""
    if rng.random() < how.scaling and labels.max() > 0:
        labels = labels / labels.max()
    return 1 - labels if rng.random() < how.flipping else labels


@dataclass(frozen=True)
class Mixture:
    """Data sets whose rows are numbered through, so that one number says set and row."""

    sets: Sequence[Labelled]
    starts: np.ndarray = field(init=False)  #: number of each set's first row

    def __post_init__(self) -> None:
        sizes = [len(one.labels) for one in self.sets]
        object.__setattr__(self, "starts", np.concatenate([[0], np.cumsum(sizes)[:-1]]))

    @property
    def digest(self) -> str:
        """Name all labelled images on their sides, set by set."""
        return ",".join(one.digest for one in self.sets)

    def train(self) -> list[np.ndarray]:
        """Return the numbers of the training rows of each set."""
        return [start + one.train for start, one in zip(self.starts, self.sets, strict=True)]

    def locate(self, numbers: np.ndarray) -> tuple[Labelled, np.ndarray]:
        """Return the set that a batch is of, and its rows there."""
        place = int(np.searchsorted(self.starts, numbers[0], side="right")) - 1
        return self.sets[place], numbers - self.starts[place]


class PromptIQATask:
    """See `dpiqa.training.task.Task`. `network` comes with its first weights."""

    def __init__(self, network: PromptIQA, data: Mixture, config: PromptIQARun) -> None:
        self.network, self.data, self.config = BatchAsPrompt(network), data, config
        batch = config.plan.batch
        if batch < 3:
            raise InvalidRequest(
                f"a batch of {batch} has no pairs to compare an image with", hint="set plan.batch to at least 3"
            )
        if config.plan.crop is not None:
            raise InvalidRequest("PromptIQA learns from whole pictures", hint="leave plan.crop out")
        for one, named in zip(data.sets, config.data.sets, strict=True):
            if len(one.train) < batch:
                raise InvalidRequest(
                    f"{named.name} has {len(one.train)} training images, fewer than a batch of {batch}",
                    hint="lower plan.batch, or leave the set out",
                )

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle every set by itself, then the batches of all sets."""
        found = [batch for rows in self.data.train() for batch in shuffled_batches(rows, self.config.plan.batch, rng)]
        return [found[place] for place in rng.permutation(len(found))]

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Error of each image's score against its label on the scale of the requirement that the batch is made to."""
        data, own = self.data.locate(rows)
        side = data.pixels.shape[1]
        whole = random_crops(own, side, side, 1, rng, mirror=self.config.plan.mirror)
        device = next(self.network.parameters()).device
        labels = as_requirement(data.labels[own], self.config.loss, rng)
        scores = network(as_images(whole.cut(data.pixels), device), torch.from_numpy(labels).float().to(device))
        return {"absolute": F.l1_loss(scores.float(), torch.from_numpy(labels).to(scores.device).float())}

    def validate(self, network: nn.Module) -> Validation:
        """Measure every set by a prompt of its own training images; the mean SRCC over the sets decides."""
        core: PromptIQA = network.promptiqa  # type: ignore[assignment]
        found = {}
        for one, named in zip(self.data.sets, self.config.data.sets, strict=True):
            pairs = spread_rows(one, self.config.validation_pairs)
            rows = evenly(one.val, self.config.data.validation_images)
            scores = score_by_pairs(core, one, pairs, rows, self.config.plan.precision)
            found[named.name] = judged(scores, one.labels[rows])
        return _mean(found)


def spread_rows(data: Labelled, count: int) -> np.ndarray:
    """Choose training rows for a prompt: evenly spread over the order of their labels."""
    ordered = data.train[np.argsort(data.labels[data.train], kind="stable")]
    return evenly(ordered, count)


def score_by_pairs(
    network: PromptIQA, data: Labelled, pairs: np.ndarray, rows: np.ndarray, precision: Arithmetic
) -> np.ndarray:
    """Score the pictures `rows` by the requirement that the rows `pairs` make -> (len(rows),) float64."""
    device, dtype = next(network.parameters()).device, _DTYPES.get(precision)
    with torch.inference_mode(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        features = network.pair_features(
            torch.cat(_vectors(network, data, pairs, device)),
            torch.from_numpy(data.labels[pairs]).float().to(device),
        )
        prompts = network.fuse_prompts(features)
        parts = [network.compare(vectors, prompts) for vectors in _vectors(network, data, rows, device)]
    scores: np.ndarray = torch.cat(parts).double().cpu().numpy()
    return scores


def _vectors(network: PromptIQA, data: Labelled, rows: np.ndarray, device: torch.device) -> list[torch.Tensor]:
    return [
        network.image_vectors(to_network_range(as_images(data.pixels[rows[i : i + _SCORED_AT_ONCE]], device)))
        for i in range(0, len(rows), _SCORED_AT_ONCE)
    ]


def _mean(found: dict[str, Validation]) -> Validation:
    """Return the means over the sets and, where there are several, each set's SRCC."""
    names = next(iter(found.values())).figures
    figures = {name: float(np.mean([one.figures[name] for one in found.values()])) for name in names}
    single = {f"srcc_{name}": one.figures["srcc"] for name, one in found.items()} if len(found) > 1 else {}
    return Validation(merit=figures["srcc"], figures=figures | single)
