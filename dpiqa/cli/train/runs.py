"""The kinds of training runs: settings and function of each, loaded when one is asked for, and its `--help`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpiqa.training.config.run import RunConfig
    from dpiqa.training.runs.context import RunContext

#: The settings' class, and the function that trains by them.
Run = tuple["type[RunConfig]", Callable[[Any, "RunContext"], Any]]
Loader = Callable[[], Run]  #: loads torch


def vae() -> Run:
    """Train the autoencoder whose latents the teacher reads. The labels' scores are not used."""
    from dpiqa.training.config.kinds import VaeRun
    from dpiqa.training.runs.vae import train_vae

    return VaeRun, train_vae


def diffusion() -> Run:
    """Pre-train a teacher's U-Net by denoising the autoencoder's latents. The labels' scores are not used.

    model.vae names the autoencoder's file; a teacher begins with the result by model.unet.
    """
    from dpiqa.training.config.kinds import DiffusionRun
    from dpiqa.training.runs.diffusion import train_diffusion

    return DiffusionRun, train_diffusion


def teacher() -> Run:
    """Train or fine-tune a teacher: the diffusion prior with its quality feature decoder.

    model.mode says what of it learns: qfd, adapters+qfd, lora+qfd, adapters+lora+qfd or full.
    """
    from dpiqa.training.config.kinds import TeacherRun
    from dpiqa.training.runs.teacher import train_teacher

    return TeacherRun, train_teacher


def student() -> Run:
    """Train or fine-tune a student, from labels alone or from a teacher's answers too (distillation)."""
    from dpiqa.training.config.kinds import StudentRun
    from dpiqa.training.runs.student import train_student

    return StudentRun, train_student


def promptiqa() -> Run:
    """Train or fine-tune a PromptIQA model, which scores by a requirement's image-score pairs.

    Give several data sets: each batch is of one of them, and its other images are each image's prompt.
    """
    from dpiqa.training.config.kinds import PromptIQARun
    from dpiqa.training.runs.promptiqa import train_promptiqa

    return PromptIQARun, train_promptiqa


#: By the name of the command: how to load it, and the examples of its `--help`.
LOADERS: "dict[str, tuple[Loader, *tuple[str, ...]]]" = {
    "vae": (vae, "dpiqa train vae --preset bundled-vae --dataset csv --data labels.csv"),
    "diffusion": (diffusion, "dpiqa train diffusion --preset bundled-diffusion --dataset csv --data labels.csv"),
    "teacher": (
        teacher,
        "dpiqa train teacher --preset bundled-teacher --dataset csv --data labels.csv --out runs/teacher --name mine",
        "dpiqa train teacher --preset paper-koniq-teacher --print-config",
    ),
    "student": (
        student,
        "dpiqa train student --preset bundled-student-distilled --dataset csv --data labels.csv --set teacher=mine",
        "dpiqa train student --config run.toml --set plan.epochs=3 --set plan.rate=1e-4",
    ),
    "promptiqa": (
        promptiqa,
        "dpiqa train promptiqa --preset finetune-promptiqa --set model.start=promptiqa --dataset csv --data labels.csv",
        "dpiqa train promptiqa --preset paper-promptiqa --print-config",
    ),
}
NAMELESS = frozenset({"vae", "diffusion"})  #: their result is a file for other runs
