"""`dpiqa train promptiqa`."""

from dpiqa.cli import options, train_options


def promptiqa(  # noqa: PLR0913 - one parameter per option
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
    """Train or fine-tune a PromptIQA model, which scores by a requirement's image-score pairs.

    Give several data sets: each batch is of one of them, and its other images are each image's prompt.
    """
    with train_options.needing_torch():
        from dpiqa.training.configfile import resolve
        from dpiqa.training.promptiqa_config import PromptIQARun
        from dpiqa.training.promptiqa_run import train_promptiqa

    chosen = train_options.overrides(changes, dataset, data, out, name)
    run = resolve(PromptIQARun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_promptiqa, print_config=print_config, as_json=as_json)
