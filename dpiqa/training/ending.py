"""The end of a run: weights into the file that production loads, measured there, with a card that says all."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpiqa.evaluation.measurement import evaluate
from dpiqa.evaluation.reference import make_reference, with_reference
from dpiqa.models.base import ModelCard
from dpiqa.models.loading import load_scorer
from dpiqa.models.student import StudentConfig
from dpiqa.models.teacher import TeacherConfig
from dpiqa.provenance import COMMAND, MACHINE, VERSION, WEIGHTS, shareable, stamp
from dpiqa.training.config import RunConfig
from dpiqa.training.export import export_model, publish, write_card
from dpiqa.training.labelled import Labelled
from dpiqa.training.loop import Outcome
from dpiqa.training.reproduce import reproducing_command

STAGED_NAME = "model"  #: folder of the run in which the model is made
TRAINING = "training"  #: section of a card's figures


def end_run(
    network: nn.Module,
    sizes: StudentConfig | TeacherConfig,
    data: Labelled,
    config: RunConfig,
    outcome: Outcome,
    identity: Mapping[str, Any],
    made_from: Mapping[str, Any],
    models_dir: Path,
) -> ModelCard:
    """Write the model, measure it through the production scorer on the images it was chosen on, and publish it.

    `made_from`: other models and files that its weights came from, see `dpiqa.training.reproduce.origins`.
    """
    output = config.output
    staged = output.folder / STAGED_NAME
    card = export_model(
        network,
        sizes,
        output.name,
        staged,
        half=output.half,
        licence=output.licence,
        paper=output.paper,
        trained_on=output.trained_on or described(len(data.train), config),
        notes=output.notes,
    )
    scorer = load_scorer(card.name, models_dir=staged, device="cpu" if not torch.cuda.is_available() else "auto")
    found = evaluate(scorer, data.chosen(), draws=output.bootstrap_draws)
    chosen = {"chosen_on": "these images: the best checkpoint was kept by them, which flatters the figures"}
    made = history(config, outcome, identity, made_from, card)
    measured = found.as_dict() | chosen | {name: made[name] for name in (COMMAND, MACHINE, VERSION, WEIGHTS)}
    section = f"{names_of(config)} {config.data.select_on}"
    card = card.model_copy(update={"figures": {section: measured, TRAINING: made}})
    card = with_reference(card, make_reference(card, found.scores, population=section, command=made[COMMAND]))
    write_card(card, staged)
    publish(card, staged, models_dir)
    return card


def run_id(config: RunConfig, identity: Mapping[str, Any]) -> str:
    """Return the digest of all that a run's weights depend on."""
    document = {"plan": config.plan.model_dump(mode="json"), "half": config.output.half, **identity}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def history(
    config: RunConfig,
    outcome: Outcome,
    identity: Mapping[str, Any],
    made_from: Mapping[str, Any],
    made: ModelCard,
) -> dict[str, Any]:
    """Return what the card of `made` says about how its weights came about, with the command that makes them again."""
    return stamp(reproducing_command(config), {made.name: made.sha256}) | {
        "torch": str(torch.__version__),
        "run": run_id(config, identity),
        "made_from": dict(made_from),
        "identity": shareable(dict(identity)),
        "plan": config.plan.model_dump(mode="json"),
        "sets": [one.model_dump(mode="json", exclude={"path"}) for one in config.data.sets],
        "updates": outcome.steps,
        "best_update": outcome.best_step,
        "minutes": round(outcome.seconds / 60, 1),
    }


def described(images: int, config: RunConfig) -> str:
    """Say what a model learned from, where nobody has said it better."""
    return f"{names_of(config)}: {images} images; their terms are not stated"


def names_of(config: RunConfig) -> str:
    """Return the names of the data sets."""
    return ", ".join(one.name for one in config.data.sets)
