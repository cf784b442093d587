"""The teacher: its network before and after training, and the run, in which the VAE's encoder stays unchanged.

Which parts learn from the labels is the mode's decision (DP-IQA, Table XIII); low-rank changes exist only while
training.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.scoring_network import shrunk
from dpiqa.models.stage_student import StageStudent
from dpiqa.models.teacher import StageTeacher, Teacher, TeacherConfig, build_teacher
from dpiqa.models.vae import encode
from dpiqa.training.config.kinds import TeacherMode, TeacherModelConfig, TeacherRun
from dpiqa.training.data.batches import NetworkInput
from dpiqa.training.data.frozen import CachedTeacherParts, FrozenParts, cached_teacher_parts
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.data.teacher_outputs import TeacherOutputs
from dpiqa.training.runs.context import RunContext
from dpiqa.training.runs.initial_weights import fill_from_diffusion, start_card, start_network
from dpiqa.training.runs.regressor import begin_regressor, fold, normalise
from dpiqa.training.runs.scorer import Partner, ScorerRecipe, ScorerTask, train_scorer
from dpiqa.training.runs.stage_student import set_unit
from dpiqa.training.weights import fill, fill_unet, fill_vae, vae_scaling
from dpiqa.types import ModelKind

#: The U-Net's attention projections: where low-rank changes are usually made in Stable Diffusion.
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def train_teacher(config: TeacherRun, context: RunContext) -> ModelCard | None:
    """Train a teacher in its mode and publish it with its card; None in a process that is not the main one."""
    model = config.model

    def build(start: Teacher | None, data: Labelled) -> Teacher:
        teacher = new_teacher(model, context.models_dir) if start is None else start
        prepare_teacher(teacher, model, data.centre)
        return teacher

    def finish(teacher: Teacher) -> list[nn.Linear]:
        finish_teacher(teacher, model)
        return teacher.last_layers if isinstance(teacher, StageTeacher) else [teacher.QFD.fc3]

    def task(teacher: Teacher, data: Labelled, guide: TeacherOutputs | None) -> TeacherTask:
        scores = guide.scores if guide else None
        if isinstance(teacher, StageTeacher):
            return StageTeacherTask(teacher, data, config, scores)
        return TeacherTask(teacher, data, config, scores)

    recipe = ScorerRecipe(
        kind=ModelKind.TEACHER,
        sizes=TeacherConfig,
        partner=Partner(role="guide", kind=ModelKind.STUDENT, choice=config.guide),
        files={"vae": model.vae, "unet": model.unet, "embeddings": model.embeddings},
        models={"trunk_from": ModelKind.STUDENT, "head_from": ModelKind.STUDENT},
        build=build,
        task=task,
        finish=finish,
    )
    return train_scorer(config, context, recipe)


class TeacherTask(ScorerTask[Teacher]):
    """See `ScorerTask`. `guide`: another scorer's score of every row, NaN for rows that it did not score."""

    def __init__(
        self,
        network: Teacher,
        data: Labelled,
        config: TeacherRun,
        guide: np.ndarray | None = None,
        frozen: FrozenParts | None = None,
    ) -> None:
        sizes = network.config
        coarsest = sizes.shrink * sizes.vae.reduction * 2 ** (len(sizes.unet.channels) - 1)  # pixels per cell
        super().__init__(network, data, config, sizes.qfd, align=coarsest, frozen=frozen)
        if guide is not None:
            self._targets = guided(data, guide, config.loss.guide_share)

    def forward(self, network: nn.Module, crops: NetworkInput) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorerTask`. The frozen VAE encodes the crops first."""
        config = self.network.config
        with torch.no_grad():
            images = shrunk(crops.images, config.shrink)
            latents = encode(self.network.vae, images, self.noise(images, images.shape[-1] // config.vae.reduction))
        scores, quality_map = network(crops.images, latents, **crops.keywords)
        return scores, quality_map

    def noise(self, like: torch.Tensor, side: int) -> torch.Tensor | None:
        """Draw noise for latents of `side` cells, again for every crop, if the network draws any."""
        if not self.network.draws_noise:
            return None
        return torch.randn(len(like), self.network.config.vae.latent_channels, side, side, device=like.device)


class StageTeacherTask(TeacherTask):
    """See `TeacherTask`. All that does not learn is computed once for every picture, which is seen as a whole."""

    def __init__(
        self, network: StageTeacher, data: Labelled, config: TeacherRun, guide: np.ndarray | None = None
    ) -> None:
        if config.plan.crop is not None:
            hint = "leave out plan.crop"
            raise InvalidRequest("a teacher that looks through a student sees whole pictures", hint=hint)
        set_unit(network.student, data.spread, network.further_layers)
        if network.student.reads_statistics and data.statistics is None:
            data = data.with_statistics()

        def frozen(pixels: np.ndarray, statistics: np.ndarray | None, folder: Path) -> CachedTeacherParts:
            return cached_teacher_parts(network, pixels, statistics, folder, config.plan.precision)

        data = replace(data, frozen=frozen(data.pixels, data.statistics, data.folder))
        super().__init__(network, data, config, guide, frozen)

    def forward(self, network: nn.Module, crops: NetworkInput) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorerTask`."""
        assert crops.frozen is not None  # noqa: S101 - `data.frozen` and `frozen` compute it for all pictures
        posterior = crops.frozen.posterior
        noise = self.noise(posterior, posterior.shape[-1])
        scores, quality_map = network(crops.images, noise=noise, **crops.keywords)
        return scores, quality_map


def guided(data: Labelled, scores: np.ndarray, share: float) -> np.ndarray:
    """Mix the labels of the training rows with a guide's scores, calibrated to them on those rows."""
    guide_scores = scores[data.train].astype(np.float64)
    slope, offset = np.polyfit(guide_scores, data.labels[data.train], 1)
    targets = data.labels.copy()
    targets[data.train] = (1 - share) * targets[data.train] + share * (slope * guide_scores + offset)
    return targets


def new_teacher(model: TeacherModelConfig, models_dir: Path | None) -> Teacher:
    """Build a teacher from its architecture and the parts that the model names. Raises errors naming a missing part."""
    config = model.architecture
    assert config is not None  # noqa: S101 - the config's own check: `start` or `architecture`
    if model.vae is not None and model.diffusion is not None:
        raise InvalidRequest("model.vae and model.diffusion both bring a VAE", hint="set only one")
    if model.unet is not None and model.diffusion is not None:
        raise InvalidRequest("model.unet and model.diffusion both bring a U-Net", hint="set only one")
    if model.vae is not None:
        sizes = config.vae.model_copy(update={"scaling_factor": vae_scaling(model.vae)})
        config = config.model_copy(update={"vae": sizes})
    teacher = build_teacher(config)
    if model.vae is not None:
        fill_vae(teacher.vae, model.vae)
    if model.diffusion is not None:
        factor = fill_from_diffusion(teacher.unet, teacher.vae, model.diffusion)
        if abs(factor - config.vae.scaling_factor) > 1e-6:
            raise ConfigurationError(
                f"{model.diffusion} scales latents by {factor}, the architecture by {config.vae.scaling_factor}",
                hint=f"set model.architecture.vae.scaling_factor = {factor}",
            )
    if model.unet is not None:
        fill_unet(teacher, model.unet, model.vae)
    _fill_prompts(teacher, model.embeddings)
    _fill_from_students(teacher, model, models_dir)
    return teacher


def _fill_prompts(teacher: Teacher, embeddings: Path | None) -> None:
    if teacher.config.prompts is None and embeddings is None:
        hint = (
            "set model.embeddings to what `dpiqa models embed-text` wrote, or model.architecture.prompts to learn them"
        )
        raise InvalidRequest("a teacher with given prompts needs their embeddings", hint=hint)
    if embeddings is not None:
        from dpiqa.models.text.embeddings import read_embeddings  # noqa: PLC0415

        fill(teacher.prompts, {"embeddings": read_embeddings(embeddings).values}, embeddings)


def _fill_from_students(teacher: Teacher, model: TeacherModelConfig, models_dir: Path | None) -> None:
    """Put a student's backbone under the image adapter, and a student's head behind the decoder."""

    def student(name: str) -> Any:
        return start_network(start_card(name, ModelKind.STUDENT, models_dir), models_dir)

    if isinstance(teacher, StageTeacher):
        if model.trunk_from is None or model.trunk_from != model.head_from:
            hint = "set model.trunk_from and model.head_from to the name of that student"
            raise InvalidRequest("a teacher that looks through a student begins as this student", hint=hint)
        _fill_student(teacher, student(model.trunk_from), model.trunk_from)
        return
    if teacher.config.trunk is not None and model.trunk_from is None:
        raise InvalidRequest("the trunk of the image adapter has no weights", hint="set model.trunk_from")
    if model.trunk_from is not None:
        if teacher.config.trunk is None:
            hint = "add model.architecture.trunk, or leave out model.trunk_from"
            raise InvalidRequest("model.trunk_from without a trunk", hint=hint)
        backbone = student(model.trunk_from).get_submodule("base_model")
        fill(teacher.img_adapter.get_submodule("trunk"), backbone.state_dict(), model.trunk_from)
    if model.head_from is not None:
        # What the student knows of scene statistics; the two maps must have the same channels.
        parts = ("statistics.", "reader.", "fc1.", "fc2.", "fc3.")
        tensors = student(model.head_from).state_dict()
        head = {key: value for key, value in tensors.items() if key.startswith(parts)}
        fill(teacher.QFD, teacher.QFD.state_dict() | head, model.head_from)


def _fill_student(teacher: StageTeacher, student: Any, name: str) -> None:
    """Put the whole of a student into a teacher that looks through it."""
    if not isinstance(student, StageStudent):
        raise InvalidRequest(
            f'{name} has pooling = "{student.config.pooling}"; a teacher looks only through a student with "stages"',
            hint="name a student like bundled-student, or leave out model.architecture.student",
        )
    free = {"dropout"}  # it changes no score
    expected, actual = (network.config.model_dump(exclude=free) for network in (teacher.student, student))
    for size, value in actual.items():
        if value != expected[size]:
            raise InvalidRequest(
                f"{name} has {size} = {json.dumps(value)}, the teacher's student {json.dumps(expected[size])}",
                hint=f"give model.architecture.student the sizes of {name}: `dpiqa models show {name}`",
            )
    fill(teacher.student, student.state_dict(), name)


def prepare_teacher(teacher: Teacher, model: TeacherModelConfig, centre: float) -> None:
    """Bring a teacher into the form in which its mode trains it. `centre`: mean of the labels."""
    new = model.start is None
    if new and model.head_from is None:
        begin_regressor(teacher.QFD, teacher.config.qfd, model.begin, centre)
    if model.normalise_decoder:
        normalise(teacher.QFD)
    apply_mode(teacher, model.mode, lora_rank=model.lora_rank, new=new)


def finish_teacher(teacher: Teacher, model: TeacherModelConfig) -> None:
    """Undo what `prepare_teacher` added: the published architecture, the same scores."""
    merge_lora(teacher)
    if model.normalise_decoder:
        fold(teacher.QFD)
    if isinstance(teacher, StageTeacher):
        set_unit(teacher.student, 1.0, teacher.further_layers)


def apply_mode(teacher: Teacher, mode: TeacherMode, *, lora_rank: int, new: bool) -> None:
    """Let the parts learn that the mode names, and no others.

    Adapters of a `new` teacher that do not learn are zeroed: random ones would only disturb the U-Net.
    """
    teacher.requires_grad_(requires_grad=False)
    teacher.QFD.requires_grad_(requires_grad=True)
    if isinstance(teacher, StageTeacher):
        for layer in teacher.student.regressor:
            layer.requires_grad_(requires_grad=True)
    if mode.adapters:
        teacher.gamma.requires_grad = True
        parts: tuple[nn.Module, ...] = (teacher.prompts, teacher.text_adapter, teacher.img_adapter)
        for part in parts:
            part.requires_grad_(requires_grad=True)
        trunk = getattr(teacher.img_adapter, "trunk", None)
        if trunk is not None:
            trunk.requires_grad_(requires_grad=False)
    elif new:
        silence_adapters(teacher)
    if mode is TeacherMode.FULL:
        teacher.unet.requires_grad_(requires_grad=True)
        for unused in (teacher.unet.conv_norm_out, teacher.unet.conv_out):  # no score passes through them
            unused.requires_grad_(requires_grad=False)
    if mode.lora:
        from peft import LoraConfig  # noqa: PLC0415 - of the extra `train`

        unet: Any = teacher.unet
        unet.add_adapter(LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=list(LORA_TARGETS)))


def silence_adapters(teacher: Teacher) -> None:
    """Set the adapters to add nothing: the U-Net sees its latents and the prompts alone."""
    adapter = getattr(teacher.img_adapter, "project", teacher.img_adapter)
    with torch.no_grad():
        teacher.gamma.zero_()
        for parameter in adapter.parameters():
            parameter.zero_()


def merge_lora(teacher: Teacher) -> None:
    """Add the learned low-rank changes to the U-Net's weights, and restore its published names."""
    if getattr(teacher.unet, "peft_config", None):
        teacher.unet.fuse_lora()
        teacher.unet.unload_lora()
