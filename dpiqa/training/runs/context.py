"""Steps that all runs share: their surroundings, their identity, and the call of the loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpiqa.files import replace_text
from dpiqa.models.cards import sha256_of
from dpiqa.training.config.file import as_toml
from dpiqa.training.config.run import RunConfig
from dpiqa.training.loop.fit import FitResult, fit
from dpiqa.training.loop.log import Observer
from dpiqa.training.loop.task import Task
from dpiqa.training.runs.publish import require_free_name, run_id

CONFIG_NAME = "config.toml"  #: all settings that a run was begun with


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The surroundings of a run, on which its result does not depend."""

    models_dir: Path  #: folder of the models it may name, and of its own unless `output.models` says otherwise
    device: str = "auto"  #: a GPU if there is one; `cpu`
    observer: Observer | None = None

    def target(self, config: RunConfig) -> Path:
        """Return the folder that the run's model goes to."""
        return config.output.models or self.models_dir


def identity_of(config: RunConfig, digest: str, **sources: Any) -> dict[str, Any]:
    """Return everything the weights depend on besides the plan: sizes, losses, and the contents behind the names.

    `digest`: of the labelled data. `sources`: digests and scorer ids by role; those that are empty are left out.
    """
    document = config.model_dump(mode="json", exclude={"plan", "output", "data"})
    validation = {"select_on": config.data.select_on, "validation_images": config.data.validation_images}
    used = {role: source for role, source in sources.items() if source}
    return document | {"labels_sha256": digest, "sources": used} | validation


def file_digests(files: Mapping[str, Path | None]) -> dict[str, str]:
    """Return the sha256 of those files that are not None, by the setting that names each."""
    return {name: sha256_of(file) for name, file in files.items() if file is not None}


def fit_run(task: Task, config: RunConfig, identity: dict[str, Any], context: RunContext) -> FitResult:
    """Run the loop, with the settings written beside its state.

    The model's name is checked first, not at the end. Raises `InvalidRequest` if it is taken, and whatever `fit`
    raises.
    """
    out = config.output.folder
    out.mkdir(parents=True, exist_ok=True)
    if config.makes_model:
        require_free_name(config.output.name, context.target(config), run_id(config, identity))
    replace_text(out / CONFIG_NAME, as_toml(config))
    cpu = context.device == "cpu"
    return fit(task, config.plan, out, identity=identity, cadence=config.output, observer=context.observer, cpu=cpu)
