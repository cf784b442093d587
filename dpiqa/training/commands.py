"""The kinds of runs as plain functions of their configuration. A front end adds options and colours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dpiqa.datasets.load import PUBLISHED, RANDOM, load_dataset
from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.files import replace_text
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.models.choice import ModelChoice
from dpiqa.models.student import StudentConfig
from dpiqa.models.teacher import TeacherConfig
from dpiqa.training.answers import Answers, collect_answers
from dpiqa.training.config import DataConfig, DataSet, Part, RunConfig, StudentRun, TeacherRun, VaeRun
from dpiqa.training.configfile import as_toml
from dpiqa.training.ending import end_run, run_id
from dpiqa.training.export import require_free_name
from dpiqa.training.heads import calibrate_on
from dpiqa.training.labelled import Labelled, load_labelled
from dpiqa.training.loop import Outcome, fit
from dpiqa.training.records import Watch
from dpiqa.training.reproduce import origins, reproducing_command
from dpiqa.training.starts import fill_backbone, start_card, start_network, torch_scorer
from dpiqa.training.student import StudentTask, new_student
from dpiqa.training.task import Task
from dpiqa.training.teacher import TeacherTask, finish_teacher, new_teacher, prepare_teacher
from dpiqa.training.vae import Rebuilder, VaeTask, save_vae
from dpiqa.types import ModelKind

CONFIG_NAME = "config.toml"  #: the settings a run was begun with, all of them


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a run finds here and does not depend on."""

    models_dir: Path  #: folder with the models it may name, and where its own goes unless its output says otherwise
    device: str = "auto"  #: a GPU if there is one; `cpu`
    watch: Watch | None = None


def train_vae(config: VaeRun, here: Surroundings) -> Path | None:
    """Train the autoencoder (labels unused); returns its file, None in a process that is not the main one."""
    data = _load(config.data, config.input_size)
    torch.manual_seed(config.plan.seed)
    task = VaeTask(Rebuilder(config.model.architecture), data, config)
    outcome = fit_run(task, config, identity_of(config, data.digest), here)
    if not outcome.main:
        return None
    return save_vae(task, config.output.folder, reproducing_command(config))


def train_student(config: StudentRun, here: Surroundings) -> ModelCard | None:
    """Train a student and publish it with its card; None in a process that is not the main one."""
    start = config.model.start and start_card(config.model.start, ModelKind.STUDENT, here.models_dir)
    sizes = StudentConfig.model_validate(start.architecture) if start else config.model.architecture
    assert sizes is not None  # noqa: S101 - the config's own check
    data = _load(config.data, sizes.input_size)
    answers = _answers(config.teacher, ModelKind.TEACHER, data, config.data, here) if config.teacher else None
    torch.manual_seed(config.plan.seed)
    network = start_network(start, here.models_dir) if start else new_student(sizes, config.model.begin, data.centre)
    if config.model.backbone_weights is not None:
        fill_backbone(network, config.model.backbone_weights)
    task = StudentTask(network, data, config, answers.found if answers else None)
    files = digests(config.model, "backbone_weights")
    identity = identity_of(
        config, data.digest, start=start and start.sha256, teacher=answers and answers.card.scorer_id, files=files
    )
    outcome = fit_run(task, config, identity, here)
    if not outcome.main:
        return None
    calibrate_on(config.model, network, network.fc3, task.data, config.plan.precision)
    asked = answers.card if answers else None
    made_from = origins({"start": start or None, "teacher": asked, "backbone_weights": config.model.backbone_weights})
    return end_run(network, sizes, data, config, outcome, identity, made_from, target_of(config, here))


def train_teacher(config: TeacherRun, here: Surroundings) -> ModelCard | None:
    """Train a teacher in its mode and publish it with its card; None in a process that is not the main one."""
    model = config.model
    start = model.start and start_card(model.start, ModelKind.TEACHER, here.models_dir)
    sizes = TeacherConfig.model_validate(start.architecture) if start else model.architecture
    assert sizes is not None  # noqa: S101 - the config's own check
    data = _load(config.data, sizes.input_size)
    guide = _answers(config.guide, ModelKind.STUDENT, data, config.data, here) if config.guide else None
    torch.manual_seed(config.plan.seed)
    network = start_network(start, here.models_dir) if start else new_teacher(model, here.models_dir)
    prepare_teacher(network, model, data.centre)
    task = TeacherTask(network, data, config, guide.found.scores if guide else None)
    files = digests(model, "vae", "unet", "embeddings")
    trunk = start_card(model.trunk_from, ModelKind.STUDENT, here.models_dir) if model.trunk_from else None
    head = start_card(model.head_from, ModelKind.STUDENT, here.models_dir) if model.head_from else None
    files |= {"trunk_from": trunk.sha256} if trunk else {}
    files |= {"head_from": head.sha256} if head else {}
    identity = identity_of(
        config, data.digest, start=start and start.sha256, guide=guide and guide.card.scorer_id, files=files
    )
    outcome = fit_run(task, config, identity, here)
    if not outcome.main:
        return None
    finish_teacher(network, model)
    calibrate_on(model, network, network.QFD.fc3, task.data, config.plan.precision)
    made_from = origins(
        {"start": start or None, "guide": guide.card if guide else None, "trunk_from": trunk, "head_from": head}
        | {"vae": model.vae, "unet": model.unet, "embeddings": model.embeddings}
    )
    return end_run(network, network.config, data, config, outcome, identity, made_from, target_of(config, here))


@dataclass(frozen=True, kw_only=True)
class _Answered:
    found: Answers
    card: ModelCard  #: of who answered


def _answers(choice: ModelChoice, kind: ModelKind, data: Labelled, config: DataConfig, here: Surroundings) -> _Answered:
    """Ask another scorer about the training pictures. Raises `InvalidRequest` if it sees them in another size."""
    scorer = torch_scorer(choice, kind, here.models_dir, here.device)
    size = scorer.card.preprocessing
    if (size.height, size.width) != data.pixels.shape[1:3]:
        raise InvalidRequest(
            f"{choice.model} looks at pictures of {size.width}x{size.height} pixels, this model at "
            f"{data.pixels.shape[2]}x{data.pixels.shape[1]}",
            hint="choose the same input_size for both",
        )
    found = collect_answers(scorer, data.pixels, data.sha256, data.train, config.cache)
    return _Answered(found=found, card=scorer.card)


def _load(config: DataConfig, size: int) -> Labelled:
    return load_labelled(load_images(config), Preprocessing(width=size, height=size), config)


def load_images(config: DataConfig) -> list[LabelledImage]:
    """Return the images of all sets. Raises `InvalidRequest` if none is named, and what the readers raise."""
    if not config.sets:
        raise InvalidRequest("no data set is named", hint="give --dataset NAME --data DIR, or data.sets in the file")
    return [image for one in config.sets for image in _read(one, config)]


def _read(one: DataSet, config: DataConfig) -> tuple[LabelledImage, ...]:
    split = one.split if one.split in {PUBLISHED, RANDOM} else Path(one.split)
    share = config.val_share if config.select_on == "val" else 0.0
    return load_dataset(one.name, one.path, split=split, split_seed=one.split_seed, val_share=share).images


def identity_of(config: RunConfig, digest: str, **facts: Any) -> dict[str, Any]:
    """Return all that the weights depend on besides the plan: sizes, losses, and the contents behind the names.

    `digest`: of the labelled data.
    """
    document = config.model_dump(mode="json", exclude={"plan", "output", "data"})
    judged = {"select_on": config.data.select_on, "validation_images": config.data.validation_images}
    return document | {"labels_sha256": digest, "sources": {k: v for k, v in facts.items() if v}} | judged


def fit_run(task: Task, config: RunConfig, identity: dict[str, Any], here: Surroundings) -> Outcome:
    """Run the loop, after what would only be found wrong at its end, with the settings written beside its state."""
    out = config.output.folder
    out.mkdir(parents=True, exist_ok=True)
    if config.makes_model:
        require_free_name(config.output.name, target_of(config, here), run_id(config, identity))
    replace_text(out / CONFIG_NAME, as_toml(config))
    return fit(
        task, config.plan, out, identity=identity, cadence=config.output, watch=here.watch, cpu=here.device == "cpu"
    )


def target_of(config: RunConfig, here: Surroundings) -> Path:
    """Return the folder that the model goes to."""
    return config.output.models or here.models_dir


def digests(model: Part, *names: str) -> dict[str, str]:
    """Return the sha256 of the files that a model names."""
    return {name: sha256_of(file) for name in names if (file := getattr(model, name)) is not None}
