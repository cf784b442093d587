"""The verdict of `dpiqa bench`: each bottleneck is named by its figures, with the setting that widens it."""

import pytest

from dpiqa.pipeline.bottleneck import Bottleneck, Shares, StepFigures, judge
from dpiqa.pipeline.stage_times import Step
from dpiqa.settings import Settings

SETTINGS = Settings(fetch_threads=8, decode_processes=2, chunk_items=32)


def judged(busy=None, *, cores=4, n_batches=100, simulated_rate=None, cpu=0.3, machine=0.4, device=0.5, fill=0.9):
    steps = [
        StepFigures(
            step=step, images=1000, ms=1.0, cpu_ms=5.0 if step is Step.DECODE else 1.0, busy=share, images_per_second=1
        )
        for step, share in ({Step.FETCH: 0.1, Step.DECODE: 0.1, Step.MODEL: device} | (busy or {})).items()
    ]
    shares = Shares(cpu_busy=cpu, machine_busy=machine, device_busy=device, batch_fill=fill)
    return judge(steps, shares, SETTINGS, cores=cores, batch=16, n_batches=n_batches, simulated_rate=simulated_rate)


@pytest.mark.parametrize(
    ("figures", "bottleneck", "why", "change"),
    [
        ({"device": 0.97}, Bottleneck.MODEL, "busy 97%", "faster device"),
        ({"device": 0.97, "simulated_rate": 200.0}, Bottleneck.MODEL, "busy 97%", "keeps up with 200 images/s"),
        ({"device": 0.97, "fill": 0.3}, Bottleneck.MODEL, "busy 97%", "30% full"),
        ({"cpu": 0.95, "machine": 0.97}, Bottleneck.PROCESSOR, "decode needs the most: 5.0 CPU-ms", "another machine"),
        ({"machine": 0.99}, Bottleneck.PROCESSOR, "Other programs", "Measure again"),
        ({"busy": {Step.FETCH: 0.98}}, Bottleneck.FETCH, "all 8 fetch threads", "DPIQA_FETCH_THREADS=16"),
        ({"busy": {Step.DECODE: 0.98}}, Bottleneck.DECODE, "all 2 decode processes", "DPIQA_DECODE_PROCESSES=4"),
        ({"busy": {Step.DECODE: 0.98}, "cores": 2}, Bottleneck.DECODE, "all 2 decode processes", "another machine"),
        ({"busy": {Step.CLAIM: 0.9, Step.RECORD: 0.2}}, Bottleneck.RECORD, "ledger", "DPIQA_CHUNK_ITEMS=64"),
        ({"busy": {Step.LIST: 0.9}}, Bottleneck.LIST, "listing", "manifest"),
        ({}, Bottleneck.NOTHING, "the device 50%", "more images"),
        ({"n_batches": 9, "device": 0.99}, Bottleneck.NOTHING, "too short", "at least 160 images"),
    ],
)
def test_each_bottleneck_is_named_with_the_setting_to_change(figures, bottleneck, why, change):
    found, verdict, next_setting = judged(**figures)
    assert found is bottleneck
    assert why in verdict
    assert change in next_setting
