"""`dpiqa train ...`: the one front of `dpiqa.training`."""

from collections.abc import Callable
from typing import Any

import typer

from dpiqa.cli.support import options
from dpiqa.cli.support.groups import command, new_group
from dpiqa.cli.train import options as train_options
from dpiqa.cli.train.runs import LOADERS, NAMELESS, Loader

_PANEL = "Making models"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = new_group(
        "train",
        "Train models on labelled photographs: the autoencoder, a U-Net on its latents, the teacher, then the"
        " student; or PromptIQA."
        " Or fine-tune one. Settings come from a preset, a TOML file and --set, later ones winning."
        " A killed run goes on where it was.",
        ["dpiqa train student --preset finetune-student --dataset csv --data labels.csv --out runs/mine --name mine"],
    )
    for name, (load, *examples) in LOADERS.items():
        front = _of_file if name in NAMELESS else _of_model
        command(group, name, *examples)(front(load))
    app.add_typer(group, rich_help_panel=_PANEL)


def _of_model(load: Loader) -> Callable[..., None]:
    """Return the front of a run that makes a model, which has a name. Its help is the loader's docstring."""

    def train(  # noqa: PLR0913 - one parameter per option
        *,
        config: train_options.Config = None,
        preset: train_options.Preset = None,
        changes: train_options.Set = None,
        dataset: train_options.Dataset = None,
        data: train_options.Data = None,
        out: train_options.Out = None,
        name: train_options.Name = None,
        print_config: train_options.PrintConfig = False,
        as_json: options.Json = False,
    ) -> None:
        chosen = train_options.overrides(changes, dataset, data, out, name)
        given = {"preset": preset, "file": config, "overrides": chosen}
        train_options.run(load, given, print_config=print_config, as_json=as_json)

    return _described(train, load)


def _of_file(load: Loader) -> Callable[..., None]:
    """Return the front of a run whose result is a file for other runs, without a name among the models."""

    def train(
        *,
        config: train_options.Config = None,
        preset: train_options.Preset = None,
        changes: train_options.Set = None,
        dataset: train_options.Dataset = None,
        data: train_options.Data = None,
        out: train_options.Out = None,
        print_config: train_options.PrintConfig = False,
        as_json: options.Json = False,
    ) -> None:
        chosen = train_options.overrides(changes, dataset, data, out)
        given = {"preset": preset, "file": config, "overrides": chosen}
        train_options.run(load, given, print_config=print_config, as_json=as_json)

    return _described(train, load)


def _described(front: Callable[..., None], load: Callable[..., Any]) -> Callable[..., None]:
    front.__doc__ = load.__doc__
    return front
