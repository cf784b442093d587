"""`dpiqa train diffusion`."""

from dpiqa.cli import options, train_options


def diffusion(
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
    """Pre-train a teacher's U-Net by denoising the autoencoder's latents. The labels' scores are not used.

    model.vae names the autoencoder's file; a teacher begins with the result by model.unet.
    """
    with train_options.needing_torch():
        from dpiqa.training.configfile import resolve
        from dpiqa.training.diffusion_config import DiffusionRun
        from dpiqa.training.diffusion_run import train_diffusion

    chosen = train_options.overrides(changes, dataset, data, out)
    run = resolve(DiffusionRun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_diffusion, print_config=print_config, as_json=as_json)
