"""The teacher: the VAE's encoder stays as it is, what the mode says of the rest learns from the labels."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.models.quality_decoder import QualityFeatureDecoder
from dpiqa.models.regressor import Pooling
from dpiqa.models.shrink import shrunk
from dpiqa.models.statistics import CELL
from dpiqa.models.teacher import Teacher, TeacherConfig
from dpiqa.models.vae import Posterior, encode
from dpiqa.training.config import Begin, TeacherModel, TeacherRun, Unit
from dpiqa.training.heads import begin_as_pooling, begin_at, fold, normalise
from dpiqa.training.labelled import Labelled, validate
from dpiqa.training.modes import apply_mode, merge_lora
from dpiqa.training.norms import LastBatch
from dpiqa.training.shown import Shown, View
from dpiqa.training.spoiled import order_term
from dpiqa.training.starts import fill, fill_from_diffusion, fill_vae, start_card, start_network, vae_scaling
from dpiqa.training.student import check_batch, check_crop, score_terms
from dpiqa.training.task import Validation, shuffled_batches
from dpiqa.training.unet_file import fill_unet
from dpiqa.types import ModelKind


class TeacherTask:
    """See `dpiqa.training.task.Task`. `guide`: another scorer's score of every row, NaN where it was not asked."""

    def __init__(self, network: Teacher, data: Labelled, config: TeacherRun, guide: np.ndarray | None = None) -> None:
        sizes = network.config
        if sizes.qfd.statistics_channels and data.statistics is None:
            data = data.with_statistics()
        self.network, self.data, self.config = network, data, config
        coarsest = sizes.shrink * sizes.vae.reduction * 2 ** (len(sizes.unet.channels) - 1)  # pixels per cell
        align = math.lcm(coarsest, CELL if sizes.qfd.statistics_channels else 1)
        check_crop(config.plan.crop or data.extent, data.extent, align)
        check_batch(config.plan.batch, sizes.qfd.pooling)
        self._last = LastBatch(network)
        self._shown = Shown(data, config.plan, config.loss.spoiled, config.data.cache, align=align)
        self._unit = data.spread if config.loss.unit is Unit.DEVIATION else 1.0
        self._targets = data.labels if guide is None else guided(data, guide, config.loss.guide_share)

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle the training rows."""
        return shuffled_batches(self.data.train, self.config.plan.batch, rng)

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Error and order of the targets; pictures that are also shown spoiled must score below themselves."""
        shown = self._shown.batch(rows, rng, next(self.network.parameters()).device)
        with self._last.watched():
            scores = self._scores(network, shown.own)
        terms = score_terms(scores, self._targets[rows] / self._unit, self.config.loss)
        if shown.spoiled is not None and shown.ordered is not None:
            with self._last.scoring():
                ordered = self._scores(network, shown.ordered)
            terms["spoiled"] = order_term(ordered, shown.spoiled, self.config.loss.spoiled)
        return terms

    def _scores(self, network: nn.Module, view: View) -> torch.Tensor:
        """-> (B,) in the loss's unit."""
        with torch.no_grad():
            seen = shrunk(view.images, self.network.config.shrink)
            latents = encode(self.network.vae, seen, self._noise(seen))
        scores: torch.Tensor = network(view.images, latents, statistics=view.statistics)[0]
        return scores.float() / self._unit

    def _noise(self, images: torch.Tensor) -> torch.Tensor | None:
        """Draw anew for every crop, where the teacher samples the posterior."""
        config = self.network.config
        if config.posterior is Posterior.MEAN:
            return None
        side = images.shape[-1] // config.vae.reduction
        return torch.randn(len(images), config.vae.latent_channels, side, side, device=images.device)

    def validate(self, network: nn.Module) -> Validation:
        """Measure whole pictures of the validation rows."""
        return validate(network, self.data, self.config.plan.precision, self.config.data.validation_images)


def guided(data: Labelled, scores: np.ndarray, share: float) -> np.ndarray:
    """Mix the labels of the training rows with a guide's scores, calibrated to them on those rows."""
    known = scores[data.train].astype(np.float64)
    slope, offset = np.polyfit(known, data.labels[data.train], 1)
    targets = data.labels.copy()
    targets[data.train] = (1 - share) * targets[data.train] + share * (slope * known + offset)
    return targets


def prepare_teacher(teacher: Teacher, model: TeacherModel, centre: float) -> None:
    """Bring a teacher into the shape in which the mode trains it. `centre`: mean of the labels."""
    fresh = model.start is None
    if fresh and model.head_from is None:
        _begin(teacher.QFD, model.begin, centre)
    if model.normalise_decoder:
        normalise(teacher.QFD)
    apply_mode(teacher, model.mode, lora_rank=model.lora_rank, fresh=fresh)


def _begin(decoder: QualityFeatureDecoder, begin: Begin, centre: float) -> None:
    if decoder.config.pooling is Pooling.MOMENTS:
        begin_at(decoder.fc3, centre)
    elif begin is Begin.POOLING:
        begin_as_pooling(decoder.fc1, decoder.fc3, decoder.config.map_size**2, centre)


def finish_teacher(teacher: Teacher, model: TeacherModel) -> None:
    """Undo what `prepare_teacher` added: the published architecture, the same scores."""
    merge_lora(teacher)
    if model.normalise_decoder:
        fold(teacher.QFD)


def new_teacher(model: TeacherModel, models_dir: Path | None) -> Teacher:
    """Build a teacher from its architecture and the parts that the model names. Raises errors naming what lacks."""
    config = model.architecture
    assert config is not None  # noqa: S101 - the config's own check: `start` or `architecture`
    if model.vae is not None and model.diffusion is not None:
        raise InvalidRequest("model.vae and model.diffusion both bring a VAE", hint="give one of them")
    if model.unet is not None and model.diffusion is not None:
        raise InvalidRequest("model.unet and model.diffusion both bring a U-Net", hint="give one of them")
    if model.vae is not None:
        config = with_scaling(config, vae_scaling(model.vae))
    teacher = Teacher(config)
    if model.vae is not None:
        fill_vae(teacher.vae, model.vae)
    if model.diffusion is not None:
        _fill_from_diffusion(teacher, model.diffusion)
    if model.unet is not None:
        fill_unet(teacher, model.unet, model.vae)
    _fill_prompts(teacher, config, model.embeddings)
    if config.trunk is not None and model.trunk_from is None:
        raise InvalidRequest("the image adapter stands on a trunk without weights", hint="set model.trunk_from")
    if model.trunk_from is not None:
        _fill_trunk(teacher, model.trunk_from, models_dir)
    if model.head_from is not None:
        _fill_head(teacher, model.head_from, models_dir)
    return teacher


def with_scaling(config: TeacherConfig, factor: float) -> TeacherConfig:
    """Return the configuration with another scaling factor of the latents."""
    return config.model_copy(update={"vae": config.vae.model_copy(update={"scaling_factor": factor})})


def _fill_from_diffusion(teacher: Teacher, source: str) -> None:
    factor = fill_from_diffusion(teacher.unet, teacher.vae, source)
    if abs(factor - teacher.config.vae.scaling_factor) > 1e-6:
        raise ConfigurationError(
            f"{source} scales latents by {factor}, the architecture by {teacher.config.vae.scaling_factor}",
            hint=f"set model.architecture.vae.scaling_factor = {factor}",
        )


def _fill_prompts(teacher: Teacher, config: TeacherConfig, embeddings: Path | None) -> None:
    if config.prompts is None and embeddings is None:
        hint = (
            "set model.embeddings to what `dpiqa models embed-text` wrote, or model.architecture.prompts to learn them"
        )
        raise InvalidRequest("a teacher with given prompts needs their embeddings", hint=hint)
    if embeddings is not None:
        from dpiqa.models.text.embeddings import read_embeddings  # noqa: PLC0415

        fill(teacher.prompts, {"embeddings": read_embeddings(embeddings).values}, embeddings)


def _fill_head(teacher: Teacher, name: str, models_dir: Path | None) -> None:
    """Let the decoder begin with what a student knows of scene statistics. Their maps must have the same channels."""
    student = start_network(start_card(name, ModelKind.STUDENT, models_dir), models_dir)
    parts = ("statistics.", "reader.", "fc1.", "fc2.", "fc3.")

    def head(network: nn.Module) -> dict[str, torch.Tensor]:
        return {key: value for key, value in network.state_dict().items() if key.startswith(parts)}

    fill(teacher.QFD, teacher.QFD.state_dict() | head(student), name)


def _fill_trunk(teacher: Teacher, name: str, models_dir: Path | None) -> None:
    if teacher.config.trunk is None:
        raise InvalidRequest("model.trunk_from without a trunk", hint="add model.architecture.trunk, or drop it")
    student = start_network(start_card(name, ModelKind.STUDENT, models_dir), models_dir)
    fill(teacher.img_adapter.get_submodule("trunk"), student.base_model.state_dict(), name)
