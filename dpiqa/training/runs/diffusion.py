"""The diffusion prior: a U-Net learns to denoise photographs, without labels, before it becomes a teacher's.

Epsilon prediction with squared error (Ho et al., Denoising Diffusion Probabilistic Models, NeurIPS 2020, section 3.4)
on the latents of a frozen VAE and with the noise schedule of Stable Diffusion (Rombach et al., CVPR 2022).
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.conditioning import LearnedPrompts
from dpiqa.models.prompts import prompt_table
from dpiqa.models.teacher import build_unet
from dpiqa.training.config.command import reproducing_command
from dpiqa.training.config.kinds import DenoiserConfig, DiffusionRun
from dpiqa.training.data.features import cached_latents
from dpiqa.training.data.labelled import Labelled, evenly, load_images, load_labelled
from dpiqa.training.loop.task import Validation, shuffled_batches
from dpiqa.training.runs.context import RunContext, file_digests, fit_run, identity_of
from dpiqa.training.runs.publish import origins
from dpiqa.training.weights import save_unet

TIMESTEPS = 1000
NEAR = 100  #: timesteps that count as near the picture: noise of at most a third of the latents' deviation
VALIDATED_AT = (1, 100, 300, 600, 900)  #: timesteps of validation; the first is the one at which a teacher looks
_VALIDATION_BATCH = 32


def train_diffusion(config: DiffusionRun, context: RunContext) -> Path | None:
    """Pre-train a teacher's U-Net (labels unused); returns its file, None in a process that is not the main one."""
    sizes, vae = config.model.architecture, config.model.vae
    size = Preprocessing(width=sizes.input_size, height=sizes.input_size)
    data = load_labelled(load_images(config.data), size, config.data)
    device = "cuda" if context.device != "cpu" and torch.cuda.is_available() else "cpu"
    latents = cached_latents(data.pixels, data.folder, vae, sizes.vae, sizes.shrink, device)
    torch.manual_seed(config.plan.seed)
    task = DiffusionTask(Denoiser(sizes), data, latents, config)
    identity = identity_of(config, data.digest, files=file_digests({"vae": vae}))
    result = fit_run(task, config, identity, context)
    if not result.is_main:
        return None
    command = reproducing_command(config)
    return save_unet(task.network, sizes, vae, config.output.folder, command, origins({"vae": vae}))


def noise_schedule() -> DDPMScheduler:
    """Return the schedule of Stable Diffusion, which the published teacher's U-Net learned."""
    return DDPMScheduler(
        num_train_timesteps=TIMESTEPS, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )


class Denoiser(nn.Module):
    """U-Net and prompts under a teacher's names. It has no adapters: the teacher learns them."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        self.prompts = LearnedPrompts(prompt_table(config.prompts), config.unet.text_width)
        self.unet = build_unet(config.unet, config.vae.latent_channels)

    def forward(self, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Noisy latents (B, C, h, w), timesteps (B,) int64 in 0-999 -> the noise in them (B, C, h, w)."""
        text = self.prompts()[None].expand(len(latents), -1, -1)
        predicted: torch.Tensor = self.unet(latents, timesteps, encoder_hidden_states=text, return_dict=False)[0]
        return predicted


class DiffusionTask:
    """See `dpiqa.training.loop.task.Task`. `latents`: (N, 2, C, h, w), of every picture of `data` and its mirror image.

    Raises `InvalidRequest` if the U-Net's levels cannot halve them.
    """

    def __init__(self, network: Denoiser, data: Labelled, latents: np.ndarray, config: DiffusionRun) -> None:
        self.network, self.data, self.config = network, data, config
        self._latents, self._schedule = latents, noise_schedule()
        cells, coarsest = latents.shape[-1], 2 ** (len(network.config.unet.channels) - 1)
        if cells % coarsest or cells == 0:
            hint = f"choose an input_size that shrink and VAE reduce to a multiple of {coarsest}"
            raise InvalidRequest(f"latents of {cells}x{cells} cells do not fit the levels of the U-Net", hint=hint)

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle the training rows."""
        return shuffled_batches(self.data.train, self.config.plan.batch, rng)

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Squared error of the predicted noise in noisy latents."""
        mirrored = (rng.random(len(rows)) < (0.5 if self.config.plan.mirror else 0)).astype(np.int64)
        timesteps = draw_timesteps(len(rows), self.config.loss.near_share, rng)
        predicted, noise = self._predict_noise(network, self._latents[rows, mirrored], timesteps, rng)
        return {"noise": F.mse_loss(predicted.float(), noise)}

    def validate(self, network: nn.Module) -> Validation:
        """Mean squared error at fixed timesteps with fixed noise, on unmirrored pictures; less is better.

        Predicting no noise scores 1.
        """
        rows = evenly(self.data.val, self.config.data.validation_images)
        errors = {timestep: self._error_at(network, rows, timestep) for timestep in VALIDATED_AT}
        error = float(np.mean(list(errors.values())))
        return Validation(merit=-error, figures={"error": error} | {f"error_{t}": e for t, e in errors.items()})

    def _error_at(self, network: nn.Module, rows: np.ndarray, timestep: int) -> float:
        rng, squares = np.random.default_rng(timestep), 0.0
        for start in range(0, len(rows), _VALIDATION_BATCH):
            block = rows[start : start + _VALIDATION_BATCH]
            timesteps = np.full(len(block), timestep, dtype=np.int64)
            predicted, noise = self._predict_noise(network, self._latents[block, 0], timesteps, rng)
            squares += float(F.mse_loss(predicted, noise)) * len(block)
        return squares / len(rows)

    def _predict_noise(
        self, network: nn.Module, latents: np.ndarray, timesteps: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise that the network predicts, and the noise that was drawn."""
        device = next(self.network.parameters()).device
        clean = torch.from_numpy(latents.astype(np.float32)).to(device)
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)).to(device)
        steps = torch.from_numpy(timesteps).to(device)
        noisy: torch.Tensor = self._schedule.add_noise(clean, noise, steps)
        return network(noisy.contiguous(memory_format=torch.channels_last), steps), noise


def draw_timesteps(count: int, near_share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw timesteps (count,) int64: of all alike, but a share of them among the first `NEAR`.

    Not in the paper: a teacher looks at `dpiqa.models.teacher.TIMESTEP`, which an even draw hits once in a thousand.
    """
    near = rng.random(count) < near_share
    return np.where(near, rng.integers(0, NEAR, count), rng.integers(0, TIMESTEPS, count))
