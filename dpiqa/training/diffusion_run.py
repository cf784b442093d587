"""`dpiqa train diffusion` as a function of its configuration; see `dpiqa.training.commands`."""

from pathlib import Path

import torch

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.training.commands import Surroundings, digests, fit_run, identity_of, load_images
from dpiqa.training.diffusion import Denoiser, DiffusionTask
from dpiqa.training.diffusion_config import DiffusionRun
from dpiqa.training.labelled import load_labelled
from dpiqa.training.latents import cached_latents
from dpiqa.training.reproduce import reproducing_command
from dpiqa.training.unet_file import save_unet


def train_diffusion(config: DiffusionRun, here: Surroundings) -> Path | None:
    """Pre-train a teacher's U-Net (labels unused); returns its file, None in a process that is not the main one."""
    sizes, vae = config.model.architecture, config.model.vae
    pictures = Preprocessing(width=sizes.input_size, height=sizes.input_size)
    data = load_labelled(load_images(config.data), pictures, config.data)
    device = "cuda" if here.device != "cpu" and torch.cuda.is_available() else "cpu"
    latents = cached_latents(data.pixels, data.folder, vae, sizes.vae, sizes.shrink, device)
    torch.manual_seed(config.plan.seed)
    task = DiffusionTask(Denoiser(sizes), data, latents, config)
    identity = identity_of(config, data.digest, files=digests(config.model, "vae"))
    outcome = fit_run(task, config, identity, here)
    if not outcome.main:
        return None
    return save_unet(task.network, vae, config.output.folder, reproducing_command(config))
