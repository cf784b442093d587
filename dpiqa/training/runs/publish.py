"""The end of a run: weights in the file that production loads, measured there, and a card with their history."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dpiqa.evaluation.measurement import evaluate
from dpiqa.evaluation.reference import make_reference, with_reference
from dpiqa.files import replace_file
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import read_card, sha256_of
from dpiqa.models.folder import check_free, publish, write_card
from dpiqa.models.loading import load_scorer
from dpiqa.models.promptiqa.config import PromptIQAConfig
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import TeacherConfig
from dpiqa.provenance import COMMAND, MACHINE, VERSION, WEIGHTS, shareable, stamp
from dpiqa.training.config.command import reproducing_command
from dpiqa.training.config.run import RunConfig
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.loop.fit import FitResult
from dpiqa.types import ModelKind

STAGED_NAME = "model"  #: folder of the run in which the model is made
TRAINING = "training"  #: section of a card's figures
#: What a card says of the figures on validation images.
CHOSEN_ON = {"chosen_on": "these images: the best checkpoint was kept by them, which flatters the figures"}
Sizes = StudentConfig | TeacherConfig | PromptIQAConfig
_KINDS = {
    StudentConfig: ModelKind.STUDENT,
    TeacherConfig: ModelKind.TEACHER,
    PromptIQAConfig: ModelKind.PROMPTIQA,
}


def finish_scorer_run(
    network: nn.Module,
    sizes: StudentConfig | TeacherConfig,
    data: Labelled,
    config: RunConfig,
    result: FitResult,
    identity: Mapping[str, Any],
    made_from: Mapping[str, Any],
    models_dir: Path,
) -> ModelCard:
    """Write the model, measure it through the production scorer on the validation images, and publish it.

    `made_from`: other models and files that its weights came from, see `origins`.
    """
    card = stage_model(network, sizes, config, images=len(data.train))
    staged = config.output.folder / STAGED_NAME
    scorer = load_scorer(card.name, models_dir=staged, device="cpu" if not torch.cuda.is_available() else "auto")
    evaluation = evaluate(scorer, data.validation_images(), draws=config.output.bootstrap_draws)
    training = history(config, result, identity, made_from, card)
    figures = evaluation.as_dict() | CHOSEN_ON | {name: training[name] for name in (COMMAND, MACHINE, VERSION, WEIGHTS)}
    section = f"{names_of(config)} {config.data.select_on}"
    card = card.model_copy(update={"figures": {section: figures, TRAINING: training}})
    reference = make_reference(card, evaluation.scores, population=section, command=training[COMMAND])
    card = with_reference(card, reference)
    write_card(card, staged)
    publish(card, staged, models_dir)
    return card


def stage_model(network: nn.Module, sizes: Sizes, config: RunConfig, *, images: int, **card_fields: Any) -> ModelCard:
    """Write the model into the run's folder, without figures. `images`: how many it was trained on."""
    output = config.output
    return export_model(
        network,
        sizes,
        output.name,
        output.folder / STAGED_NAME,
        half=output.half,
        licence=output.licence,
        paper=output.paper,
        trained_on=output.trained_on or f"{names_of(config)}: {images} images; their terms are not stated",
        notes=output.notes,
        **card_fields,
    )


def export_model(
    network: nn.Module, config: Sizes, name: str, target: Path, *, half: bool = True, **card_fields: Any
) -> ModelCard:
    """Write `target`/`name`.safetensors and, last, its card `name`.json; returns the card. Both appear whole.

    `half`: in float16, which halves the file and moves a score by less than 0.001; the scorer computes in float32.
    """
    target.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for key, value in network.state_dict().items():
        tensor = value.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float16 if half else torch.float32)
        tensors[key] = tensor.contiguous()
    weights = replace_file(target / f"{name}.safetensors", lambda partial: save_file(tensors, partial))
    card = ModelCard(
        name=name,
        kind=_KINDS[type(config)],
        architecture=config.model_dump(mode="json"),
        weights=weights.name,
        sha256=sha256_of(weights),
        preprocessing=config.preprocessing,
        **card_fields,
    )
    write_card(card, target)
    return card


def require_free_name(name: str, models_dir: Path, run: str) -> None:
    """Raise `InvalidRequest` if another model has the name: checked before a long run, not after it.

    `run`: identity of the run as its card states it; the same run may write its own model again.
    """
    card_file = models_dir / f"{name}.json"
    if not (card_file.is_file() and read_card(card_file).figures.get(TRAINING, {}).get("run") == run):
        check_free(name, models_dir)


def run_id(config: RunConfig, identity: Mapping[str, Any]) -> str:
    """Return the digest of everything that a run's weights depend on."""
    document = {"plan": config.plan.model_dump(mode="json"), "half": config.output.half, **identity}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def history(
    config: RunConfig,
    result: FitResult,
    identity: Mapping[str, Any],
    made_from: Mapping[str, Any],
    model: ModelCard,
) -> dict[str, Any]:
    """Return the history of a model's weights for its card, with the command that makes them again."""
    return stamp(reproducing_command(config), {model.name: model.sha256}) | {
        "torch": str(torch.__version__),
        "run": run_id(config, identity),
        "made_from": dict(made_from),
        "identity": shareable(dict(identity)),
        "plan": config.plan.model_dump(mode="json"),
        "sets": [data_set.model_dump(mode="json", exclude={"path"}) for data_set in config.data.sets],
        "updates": result.steps,
        "best_update": result.best_step,
        "minutes": round(result.seconds / 60, 1),
    }


def origins(sources: Mapping[str, ModelCard | Path | None]) -> dict[str, dict[str, Any]]:
    """Return `origin` by role (`teacher`, `vae`, ...) of those that are not None."""
    return {role: origin(source) for role, source in sources.items() if source is not None}


def origin(source: ModelCard | Path) -> dict[str, Any]:
    """Return name and sha256 of a model or file; where they are known, the command that made it, and its own origins.

    A model's command is in its card; a file's in the record beside it (`vae.json`), which counts only if its sha256 is
    that of the file.
    """
    if isinstance(source, ModelCard):
        return {"model": source.name, "sha256": source.sha256} | _known(source.figures.get(TRAINING))
    facts = {"file": source.name, "sha256": sha256_of(source)}
    try:
        record = json.loads(source.with_suffix(".json").read_text("utf-8"))
        return facts | (_known(record) if record["sha256"] == facts["sha256"] else {})
    except (OSError, ValueError, KeyError, TypeError):
        return facts  # not made by `dpiqa train`, or moved away from its record


def _known(made: Any) -> dict[str, Any]:
    """Return what a card or record says of how something was made; nothing where it was written by hand otherwise."""
    return {key: made[key] for key in ("command", "made_from") if made.get(key)} if isinstance(made, Mapping) else {}


def names_of(config: RunConfig) -> str:
    """Return the names of the data sets."""
    return ", ".join(data_set.name for data_set in config.data.sets)
