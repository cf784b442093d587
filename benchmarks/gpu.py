"""Speed of the published networks on a GPU, as one table: images/s, share of what the hardware allows, costly kernels.

The weights are random, which changes no time. Each row is one way to run a network at a fixed batch: plain, and
compiled with CUDA graphs. The floors are arithmetic: operations of one picture over the peak of the GPU, and for the
student, which is bound by memory, bytes over its bandwidth. The profile names the kernels that take the most time.

    python benchmarks/gpu.py                     # in 10 minutes: rows that do not fit are left out and named
    python benchmarks/gpu.py --device cpu --tiny --compiled no   # tiny networks, to try the script
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from machine import describe
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dpiqa.models.scoring_network import ScoringNetwork
from dpiqa.models.student import build_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import Teacher, TeacherConfig, UnetConfig, build_teacher
from dpiqa.models.vae import VaeConfig
from dpiqa.text import first_line

GOALS = {"student": 1000.0, "teacher": 120.0}  #: images/s on an H200
#: Dense bfloat16 operations/s and bytes/s, measured on an H200; other GPUs: --peak and --bandwidth.
PEAK, BANDWIDTH = 788e12, 4.3e12
STUDENT_BYTES = 1.05e9  #: moved for one picture if everything that can be fused is (bfloat16, published sizes)
TINY_STUDENT = StudentConfig(backbone="test_efficientnet", input_size=64, map_channels=4, map_size=4, hidden=8)
TINY_TEACHER = TeacherConfig(
    input_size=64,
    vae=VaeConfig(channels=(8, 8, 8, 8), layers_per_block=1, norm_groups=4, middle_attention=False),
    unet=UnetConfig(channels=(8, 8, 16, 16), layers_per_block=1, heads=2, text_width=8, norm_groups=4),
    prompt_count=7,
)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a network."""

    dtype: torch.dtype
    channels_last: bool
    compiled: bool

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return f"{str(self.dtype).removeprefix('torch.')}, {layout}, {'compiled' if self.compiled else 'eager'}"


def build(kind: str, device: torch.device, *, tiny: bool) -> ScoringNetwork:
    """Build a network with random weights, ready to score."""
    torch.manual_seed(0)
    with device:
        if kind == "student":
            network: ScoringNetwork = build_student(TINY_STUDENT if tiny else StudentConfig())
        else:
            network = build_teacher(TINY_TEACHER if tiny else TeacherConfig())
    network.eval().requires_grad_(requires_grad=False)
    network.prepare()
    return network


def side(network: nn.Module) -> int:
    return int(network.config.input_size)  # type: ignore[union-attr, arg-type]


def operations(network: ScoringNetwork, device: torch.device) -> int:
    """Return the operations of one picture: two for each multiplication with an addition."""
    images = torch.rand(1, 3, side(network), side(network), device=device)
    with FlopCounterMode(display=False) as counter:
        network(images)
    return int(counter.get_total_flops())


def prepared(network: ScoringNetwork, way: Way, batch: int, device: torch.device) -> Callable[[], object]:
    """Return the forward pass of one batch that stays on the device."""
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    network.to(way.dtype).to(memory_format=layout)
    images = torch.rand(batch, 3, side(network), side(network), device=device, dtype=way.dtype)
    images = images.contiguous(memory_format=layout)
    for part in parts(network) if way.compiled else ():
        part.forward = torch.compile(part.forward, mode="reduce-overhead", dynamic=False)
    return lambda: network(images)


def parts(network: ScoringNetwork) -> list[nn.Module]:
    """Return what is compiled: a student as a whole; a teacher by blocks, as hooks read its U-Net between them."""
    if not isinstance(network, Teacher):
        return [network]
    unet = network.unet
    return [network.vae.encoder, network.img_adapter, network.QFD, *unet.down_blocks, unet.mid_block, *unet.up_blocks]


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Time `repeats` calls after three to warm up, each until the device is done."""
    times = []
    for repetition in range(repeats + 3):
        wait_for(device)
        started = time.perf_counter()
        run()
        wait_for(device)
        if repetition >= 3:
            times.append(time.perf_counter() - started)
    return times


def kernels(run: Callable[[], object], device: torch.device, count: int = 8) -> list[dict[str, object]]:
    """Return the kernels (on a CPU: operations) that take the most time of one call, with their share of it."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as profiler:
        run()
        wait_for(device)
    column = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, column))
    total = sum(getattr(event, column) for event in events) or 1
    return [
        {"kernel": event.key[:70], "calls": event.count, "percent": round(100 * getattr(event, column) / total, 1)}
        for event in events[:count]
    ]


def rows(kind: str, options: argparse.Namespace, device: torch.device, deadline: float) -> Iterator[dict[str, object]]:
    """Measure every way at every batch, the most promising first, until `deadline` (of `time.monotonic`)."""
    flops = operations(build(kind, device, tiny=options.tiny), device)
    floor = flops / options.peak
    if kind == "student" and not options.tiny:
        floor = max(floor, STUDENT_BYTES / options.bandwidth)
    batches = options.student_batches if kind == "student" else options.teacher_batches
    ways = [Way(options.dtype, last, compiled) for compiled, last in product(options.compiled, (True, False))]
    for way, batch in product(ways, batches):
        row: dict[str, object] = {"network": kind, "way": str(way), "batch": batch}
        if time.monotonic() > deadline:
            yield row | {"left_out": "no time"}
            continue
        network = build(kind, device, tiny=options.tiny)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            with torch.inference_mode():
                run = prepared(network, way, batch, device)
                times = seconds(run, device, options.repeats)
                costly = kernels(run, device)
        except torch.cuda.OutOfMemoryError:
            yield row | {"left_out": "no memory"}
            continue
        except Exception as error:  # a way that this version of torch cannot compile says nothing about the others
            yield row | {"left_out": first_line(error)}
            continue
        finally:
            if way.compiled:
                torch.compiler.reset()
        rate = batch / statistics.median(times)
        row |= {
            "images_per_s": round(rate, 1),
            "range": [round(batch / spent, 1) for spent in (max(times), min(times))],
            "tflop_per_image": round(flops / 1e12, 4),
            "of_floor_percent": round(100 * rate * floor, 1),
            "kernels": costly,
        }
        if device.type == "cuda":
            row["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        yield row


def show(row: dict[str, object]) -> None:
    figures = f"left out: {row.get('left_out')}"
    if "left_out" not in row:
        rate, share, memory = row["images_per_s"], row["of_floor_percent"], row.get("peak_gib", "-")
        figures = f"{rate} images/s {row['range']}, {share} % of the floor, {memory} GiB"
    print(f"{row['network']!s:8} {row['way']!s:42} batch {row['batch']!s:>4}  {figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--student-batches", nargs="+", type=int, default=[64, 16, 1])
    parser.add_argument("--teacher-batches", nargs="+", type=int, default=[16, 4, 1])
    parser.add_argument("--dtype", type=lambda name: getattr(torch, name), default=torch.bfloat16)
    parser.add_argument("--compiled", nargs="+", type=lambda text: text == "yes", default=[True, False], help="yes, no")
    parser.add_argument("--peak", type=float, default=PEAK, help="operations/s")
    parser.add_argument("--bandwidth", type=float, default=BANDWIDTH, help="bytes/s")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--minutes", type=float, help="no row starts later (default: 9; tiny: 2)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, whose figures mean nothing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    minutes = options.minutes or (2.0 if options.tiny else 9.0)
    device = torch.device(options.device)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    started, table = time.monotonic(), []
    for number, kind in enumerate(options.networks, start=1):
        deadline = started + 60 * minutes * number / len(options.networks)
        for row in rows(kind, options, device, deadline):
            table.append(row)
            if not options.json:
                show(row)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report = {"machine": describe(), "device": name, "torch": torch.__version__, "repeats": options.repeats}
    if options.json:
        json.dump(report | {"rows": table}, sys.stdout, indent=2)
        return
    print(*(f"{key}: {value}" for key, value in report.items()), sep="\n")
    for kind in options.networks:
        measured = [row for row in table if row["network"] == kind and "images_per_s" in row]
        if measured:
            best = max(measured, key=lambda row: float(str(row["images_per_s"])))
            print(f"\n{kind}: {best['images_per_s']} images/s, goal {GOALS[kind]} on an H200; most time in")
            print(*(f"  {entry}" for entry in best["kernels"]), sep="\n")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
