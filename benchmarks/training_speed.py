"""Training speed at the bundled sizes: updates and images a second, on random pictures.

python benchmarks/training_speed.py --threads 2 --updates 20
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import describe

from dpiqa.datasets.spec import LabelledImage
from dpiqa.models.teacher import build_teacher
from dpiqa.process_tuning import keep_buffers, share_one_arena
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import DiffusionRun, StudentRun, TeacherRun, VaeRun
from dpiqa.training.config.run import RunConfig
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.loop.fit import fit
from dpiqa.training.loop.log import SilentObserver
from dpiqa.training.loop.task import Task
from dpiqa.training.runs.diffusion import Denoiser, DiffusionTask
from dpiqa.training.runs.student import StudentTask, new_student
from dpiqa.training.runs.teacher import TeacherTask, prepare_teacher
from dpiqa.training.runs.vae import Autoencoder, VaeTask

SIDE, PICTURES = 512, 64
WARM_UP = 3  #: updates that do not count


class Clock(SilentObserver):
    """Notes when each update is done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def stepped(self, *, step: int, loss: float) -> None:  # noqa: ARG002 - as `Observer` has it
        """Note the time."""
        self.times.append(time.perf_counter())


def random_data(folder: Path) -> Labelled:
    rng = np.random.default_rng(0)
    rows = np.arange(PICTURES)
    return Labelled(
        pixels=rng.integers(0, 256, (PICTURES, SIDE, SIDE, 3), dtype=np.uint8),
        labels=rng.random(PICTURES),
        train=rows,
        val=rows[:2],
        sha256=("",) * PICTURES,
        images=tuple(LabelledImage(path=Path(), mos=0.5, split="train") for _ in rows),
        folder=folder,
    )


def random_latents(config: DiffusionRun) -> np.ndarray:
    """Return latents as they lie in the cache, so that only the U-Net's work is measured."""
    sizes = config.model.architecture
    side = SIDE // sizes.shrink // sizes.vae.reduction
    shape = (PICTURES, 2, sizes.vae.latent_channels, side, side)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float16)


def task_of(kind: str, overrides: list[str], folder: Path) -> tuple[Task, RunConfig]:
    """Return the bundled preset's task; a teacher's frozen parts stay random, which costs the same."""
    data = random_data(folder)
    if kind == "vae":
        vae = resolve(VaeRun, preset="bundled-vae", overrides=overrides)
        return VaeTask(Autoencoder(vae.model.architecture), data, vae), vae
    if kind == "diffusion":
        diffusion = resolve(DiffusionRun, preset="bundled-diffusion", overrides=overrides)
        denoiser = Denoiser(diffusion.model.architecture)
        return DiffusionTask(denoiser, data, random_latents(diffusion), diffusion), diffusion
    if kind == "student":
        student = resolve(StudentRun, preset="bundled-tiny", overrides=overrides)
        assert student.model.architecture is not None  # the preset's
        return StudentTask(new_student(student.model.architecture, student.model.begin, 0.5), data, student), student
    teacher = resolve(TeacherRun, preset="bundled-teacher", overrides=overrides)
    assert teacher.model.architecture is not None  # the preset's
    network = build_teacher(teacher.model.architecture)
    prepare_teacher(network, teacher.model, 0.5)
    return TeacherTask(network, data, teacher), teacher


def measure(kind: str, updates: int, overrides: list[str]) -> dict[str, object]:
    kinds: dict[str, type[RunConfig]] = {
        "vae": VaeRun,
        "diffusion": DiffusionRun,
        "student": StudentRun,
        "teacher": TeacherRun,
    }
    preset = "bundled-tiny" if kind == "student" else f"bundled-{kind}"
    probe = resolve(kinds[kind], preset=preset, overrides=overrides).plan
    epochs = -(-(updates + WARM_UP) // (PICTURES // (probe.batch * probe.accumulation)))
    never = [f"plan.epochs={epochs}", "plan.validate_every_steps=100000"]
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        task, config = task_of(kind, [*overrides, *never, f"data.cache={out}"], Path(out))
        cadence = config.output.model_copy(update={"checkpoint_every_steps": 100000})
        fit(task, config.plan, Path(out), cadence=cadence, observer=clock)
    seconds = np.diff(clock.times)[WARM_UP - 1 : WARM_UP - 1 + updates].tolist()
    middle = statistics.median(seconds)
    images = config.plan.batch * config.plan.accumulation
    return {
        "kind": kind,
        "batch": images,
        "crop": config.plan.crop,
        "precision": config.plan.precision.value,
        "updates_per_s": round(1 / middle, 3),
        "images_per_s": round(images / middle, 1),
        "s_per_update_range": [round(min(seconds), 3), round(max(seconds), 3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["vae", "diffusion", "student", "teacher"])
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch decides)")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", help="settings, e.g. plan.precision=float32")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    share_one_arena()  # this and the next as `dpiqa train` does
    keep_buffers()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [measure(kind, options.updates, options.overrides) for kind in options.kinds]
    report = {"machine": describe(), "threads": options.threads, "updates": options.updates, "rows": rows}
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        return
    print(report["machine"], f"threads={options.threads} updates={options.updates}")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
