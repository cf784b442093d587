"""The teacher: the VAE's encoder stays unchanged, the parts that the mode names learn from the labels."""

import numpy as np
import torch
from torch import nn

from dpiqa.models.base import ModelCard
from dpiqa.models.scoring_network import shrunk
from dpiqa.models.teacher import Teacher, TeacherConfig
from dpiqa.models.vae import encode
from dpiqa.training.config.kinds import TeacherRun
from dpiqa.training.data.batches import NetworkInput
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.runs.context import RunContext
from dpiqa.training.runs.scorer import Partner, ScorerRecipe, ScorerTask, train_scorer
from dpiqa.training.runs.teacher_network import finish_teacher, new_teacher, prepare_teacher
from dpiqa.types import ModelKind


def train_teacher(config: TeacherRun, context: RunContext) -> ModelCard | None:
    """Train a teacher in its mode and publish it with its card; None in a process that is not the main one."""
    model = config.model

    def build(start: Teacher | None, data: Labelled) -> Teacher:
        teacher = new_teacher(model, context.models_dir) if start is None else start
        prepare_teacher(teacher, model, data.centre)
        return teacher

    def finish(teacher: Teacher) -> nn.Linear:
        finish_teacher(teacher, model)
        return teacher.QFD.fc3

    recipe = ScorerRecipe(
        kind=ModelKind.TEACHER,
        sizes=TeacherConfig,
        partner=Partner(role="guide", kind=ModelKind.STUDENT, choice=config.guide),
        files=("vae", "unet", "embeddings"),
        models={"trunk_from": ModelKind.STUDENT, "head_from": ModelKind.STUDENT},
        build=build,
        task=lambda network, data, guide: TeacherTask(network, data, config, guide.scores if guide else None),
        finish=finish,
    )
    return train_scorer(config, context, recipe)


class TeacherTask(ScorerTask[Teacher]):
    """See `ScorerTask`. `guide`: another scorer's score of every row, NaN for rows that it did not score."""

    def __init__(self, network: Teacher, data: Labelled, config: TeacherRun, guide: np.ndarray | None = None) -> None:
        sizes = network.config
        coarsest = sizes.shrink * sizes.vae.reduction * 2 ** (len(sizes.unet.channels) - 1)  # pixels per cell
        super().__init__(network, data, config, sizes.qfd, align=coarsest)
        if guide is not None:
            self._targets = guided(data, guide, config.loss.guide_share)

    def forward(self, network: nn.Module, crops: NetworkInput) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorerTask`. The frozen VAE encodes the crops first."""
        config = self.network.config
        with torch.no_grad():
            images = shrunk(crops.images, config.shrink)
            noise = None
            if self.network.draws_noise:  # drawn again for every crop
                side = images.shape[-1] // config.vae.reduction
                noise = torch.randn(len(images), config.vae.latent_channels, side, side, device=images.device)
            latents = encode(self.network.vae, images, noise)
        scores, quality_map = network(crops.images, latents, **crops.keywords)
        return scores, quality_map


def guided(data: Labelled, scores: np.ndarray, share: float) -> np.ndarray:
    """Mix the labels of the training rows with a guide's scores, calibrated to them on those rows."""
    guide_scores = scores[data.train].astype(np.float64)
    slope, offset = np.polyfit(guide_scores, data.labels[data.train], 1)
    targets = data.labels.copy()
    targets[data.train] = (1 - share) * targets[data.train] + share * (slope * guide_scores + offset)
    return targets
