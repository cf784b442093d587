"""Synthetic weights and images for checking an implementation against the published models.

No published weight is stored here. Every tensor of a checkpoint is filled from its own state-dict name, so that anyone who
knows the names and shapes (`*.json`, key "keys") can rebuild the same checkpoint, load it as if it were the authors' and compare
the outputs with those that the authors' code gave for it (`*.json`, key "outputs").
"""

import hashlib

import numpy as np
import torch


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 array of `shape`, seeded by `name`."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    count = int(np.prod(shape)) if shape else 1
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.standard_normal(count, dtype=np.float32).reshape(shape)


def state_dict(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """A full state dict for `shapes` (name -> shape)."""
    filled = {}
    for name, shape in shapes.items():
        shape = tuple(shape)
        if name.endswith("num_batches_tracked"):
            filled[name] = torch.zeros(shape, dtype=torch.long)
            continue
        x = noise(name, shape)
        if name.endswith("running_var"):
            x = 1.0 + 0.1 * np.abs(x)
        elif name.endswith("running_mean"):
            x = 0.05 * x
        elif len(shape) <= 1:
            x = 1.0 + 0.05 * x if name.endswith("weight") and len(shape) == 1 else 0.02 * x
        else:
            x = x * np.float32(np.sqrt(1.6 / int(np.prod(shape[1:]))))
        filled[name] = torch.from_numpy(np.asarray(x, dtype=np.float32).reshape(shape))
    return filled


def student_state_dict(shapes, batchnorm_npz) -> dict[str, torch.Tensor]:
    """The student's: `state_dict`, then the BatchNorm statistics stored in `student_batchnorm.npz`."""
    filled = state_dict(shapes)
    for name, value in np.load(batchnorm_npz).items():
        filled[name] = torch.from_numpy(value)
    return filled


def teacher_state_dict(shapes) -> dict[str, torch.Tensor]:
    """The teacher's: `state_dict`, with `gamma` at 0.05."""
    filled = state_dict(shapes)
    filled["gamma"] = torch.full((768,), 0.05)
    return filled


def text_embeddings() -> torch.Tensor:
    """The teacher's conditioning in place of CLIP's: 1485x768 float32."""
    return torch.from_numpy(noise("class_embeddings", (1485, 768)) * np.float32(0.5))


def promptiqa_state_dict(shapes) -> dict[str, torch.Tensor]:
    """PromptIQA's (without the `module.` prefix): `state_dict`, with every name that ends in `gamma` at 0.3."""
    return {k: torch.full_like(v, 0.3) if k.endswith("gamma") else v for k, v in state_dict(shapes).items()}


def image(index: int, height: int, width: int) -> np.ndarray:
    """Test image `index`: uint8 RGB, height x width x 3."""
    rng = np.random.Generator(np.random.PCG64(1000 + index))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(6):
            fx, fy = rng.uniform(0.5, 20, 2)
            phase = rng.uniform(0, 6.28)
            amplitude = rng.uniform(10, 40)
            pixels[..., channel] += amplitude * np.sin(2 * np.pi * (fx * x / width + fy * y / height) + phase)
    pixels += 128 + rng.normal(0, 8, pixels.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def prompt_images() -> list[np.ndarray]:
    """The ten images of the PromptIQA requirement."""
    return [image(200 + i, 200 + 20 * i, 300 + 10 * i) for i in range(10)]
