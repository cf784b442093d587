"""The bottleneck of a run: which step bounds its speed, and what to change next. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dpiqa.pipeline.stage_times import Step
from dpiqa.settings import Settings

BUSY = 0.85  #: share of its places in use from which a step bounds the run
FEW_BATCHES = 10  #: with fewer, the start and the end of a run weigh as much as the rest


class Bottleneck(StrEnum):
    """The step, or the resource of many steps, that bounds the speed of a run."""

    LIST = "list"
    FETCH = "fetch"
    DECODE = "decode"
    MODEL = "model"
    RECORD = "record"
    PROCESSOR = "processor"  #: no core is idle, by this run or by other programs
    NOTHING = "nothing"  #: the run was too short to tell, or waits for something else


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """One step of a run."""

    step: Step
    images: int
    ms: float  #: mean milliseconds that the step took for an image; waiting for a decode process counts
    cpu_ms: float  #: processor milliseconds per image
    busy: float  #: share of the time in which its places (threads, processes, the device) were in use, 0-1
    images_per_second: float | None  #: what the step could do if it never waited for another; None: too quick to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Use that a run made of what there is, 0-1."""

    cpu_busy: float  #: of the cores, by this run
    machine_busy: float  #: of the cores, by all programs
    device_busy: float  #: of the time
    batch_fill: float | None  #: of the batches' places; None without a batch


def judge(
    steps: Sequence[StepFigures],
    shares: Shares,
    settings: Settings,
    *,
    cores: int,
    batch: int,
    n_batches: int,
    simulated_rate: float | None,
) -> tuple[Bottleneck, str, str]:
    """Return what bounds a run, why in a sentence, and what to change next."""
    busy = {figures.step: figures.busy for figures in steps}
    if n_batches < FEW_BATCHES:
        return (
            Bottleneck.NOTHING,
            f"The run was too short to tell: {n_batches} batches, of which the first and the last are not like others.",
            f"Take at least {FEW_BATCHES * batch} images: more of them, or a smaller DPIQA_BATCH_SIZE.",
        )
    if shares.device_busy >= BUSY:
        why = f"The model bounds the speed: the device is busy {shares.device_busy:.0%} of the time."
        if simulated_rate is not None:
            hint = f"The rest keeps up with {simulated_rate:g} images/s: try a higher --simulate-device."
        elif shares.batch_fill is not None and shares.batch_fill < 0.5:
            hint = f"Its batches are {shares.batch_fill:.0%} full: a smaller DPIQA_BATCH_SIZE wastes less."
        else:
            hint = (
                "Take a faster device or less precision (DPIQA_DEVICE, --precision), or run another worker elsewhere."
            )
        return Bottleneck.MODEL, why, hint
    if shares.cpu_busy >= BUSY:
        beside = max(
            (f for f in steps if f.step is not Step.MODEL), key=lambda figures: figures.cpu_ms * figures.images
        )
        why = (
            f"The processor bounds the speed: {cores} cores are busy {shares.cpu_busy:.0%} of the time, the device"
            f" {shares.device_busy:.0%}."
            f" Beside the model, {beside.step} needs the most: {beside.cpu_ms:.1f} CPU-ms an image."
        )
        return Bottleneck.PROCESSOR, why, "Run another worker on another machine, or give this one more cores."
    if shares.machine_busy >= BUSY:
        return (
            Bottleneck.PROCESSOR,
            f"Other programs bound the speed: {cores} cores are busy {shares.machine_busy:.0%} of the time.",
            "Measure again when the machine does nothing else.",
        )
    return _judge_waits(busy, settings, cores, shares.device_busy)


def _judge_waits(
    busy: Mapping[Step, float], settings: Settings, cores: int, device_busy: float
) -> tuple[Bottleneck, str, str]:
    """Return as `judge` where neither the device nor the processor is busy: the first step without a free place."""
    decoders = min(cores, 2 * settings.decode_processes)
    rules = (
        (
            Bottleneck.FETCH,
            busy.get(Step.FETCH, 0.0),
            f"reading objects: all {settings.fetch_threads} fetch threads are in use",
            f"Set DPIQA_FETCH_THREADS={2 * settings.fetch_threads}.",
        ),
        (
            Bottleneck.DECODE,
            busy.get(Step.DECODE, 0.0),
            f"decoding: all {settings.decode_processes} decode processes are in use",
            f"Set DPIQA_DECODE_PROCESSES={decoders}."
            if decoders > settings.decode_processes
            else "Run another worker on another machine: there is a decode process for each core.",
        ),
        (
            Bottleneck.RECORD,
            max(busy.get(Step.RECORD, 0.0), busy.get(Step.CLAIM, 0.0)),
            "the ledger: its transactions take all the time of the chunks in work",
            f"Set DPIQA_CHUNK_ITEMS={2 * settings.chunk_items}, or bring Postgres nearer.",
        ),
        (
            Bottleneck.LIST,
            busy.get(Step.LIST, 0.0),
            "listing: the names of the objects come too slowly",
            "Submit a manifest or an inventory in place of the prefix.",
        ),
    )
    for bottleneck, share, what, hint in rules:
        if share >= BUSY:
            return bottleneck, f"The device waits for {what} ({share:.0%}); it is busy {device_busy:.0%}.", hint
    _, share, what, hint = max(rules, key=lambda rule: rule[1])
    return (
        Bottleneck.NOTHING,
        f"No step is busy all the time: the device {device_busy:.0%}, and next {what.partition(':')[0]} {share:.0%}.",
        f"Take more images, so that start and end weigh less. If it stays so: {hint[:1].lower() + hint[1:]}",
    )
