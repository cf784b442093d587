"""Metadata of a safetensors file, and the faults of one, tensor by tensor."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dpiqa.errors import CheckpointError
from dpiqa.models.checkpoint import load_tensors, write_weights
from dpiqa.models.weights_file import DIGESTS, find_damage, read_header

TENSORS = {
    "a": torch.arange(12.0).reshape(3, 4),
    "half": torch.ones(5, dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "none": torch.zeros(0),
}


@pytest.fixture
def path(tmp_path):
    write_weights(TENSORS, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_what_is_written_is_what_is_read(path):
    loaded = load_tensors(path)
    assert loaded.keys() == TENSORS.keys()
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in TENSORS.items()
    )
    assert find_damage(path) == ""
    assert read_header(path).ranges.keys() == TENSORS.keys()


def test_views_and_shared_memory_are_written_as_what_they_show(tmp_path):
    base = torch.arange(10.0)
    write_weights({"part": base[2:5], "turned": base.view(2, 5).T, "same": base, "again": base}, tmp_path / "w")
    loaded = load_file(tmp_path / "w")
    assert loaded["part"].tolist() == [2, 3, 4]
    assert torch.equal(loaded["turned"], base.view(2, 5).T)
    assert torch.equal(loaded["again"], loaded["same"])


def test_equal_tensors_make_equal_files(path, tmp_path):
    write_weights(dict(reversed(TENSORS.items())), tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == path.read_bytes()


def test_a_file_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_weights(TENSORS, tmp_path / "nowhere" / "w")


def test_every_changed_byte_of_a_tensor_is_laid_to_its_tensor(path):
    whole, header = path.read_bytes(), read_header(path)
    for name, (first, end) in header.ranges.items():
        for position in {first, end - 1} if end > first else ():
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            assert find_damage(path) == f"tensor {name} was changed"


def test_every_cut_is_found(path):
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert find_damage(path).startswith("it is ")


def test_a_tensor_that_was_taken_out_is_named(path, tmp_path):
    metadata = read_header(path).metadata
    save_file({name: tensor for name, tensor in TENSORS.items() if name != "half"}, path, metadata=metadata)
    assert find_damage(path) == "tensor half was removed"


def file_with(header):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


PLACE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ODD = [
    [],
    {"a": 3},
    {"a": {"dtype": "F32"}},
    {"a": PLACE | {"data_offsets": [8, 0]}},
    {"a": PLACE | {"data_offsets": [-8, 0]}},
    {"a": PLACE | {"data_offsets": "x"}},
    {"a": PLACE, "__metadata__": []},
    {"a": PLACE, "__metadata__": {DIGESTS: "[1]"}},
    {"a": PLACE, "__metadata__": {DIGESTS: "{"}},
    {"a": PLACE, "__metadata__": {DIGESTS: 7}},
]


@pytest.mark.parametrize("header", ODD)
def test_a_header_that_makes_no_sense_is_damage(path, header):
    path.write_bytes(file_with(header))
    assert find_damage(path)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_file_is_too_odd_to_be_judged(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "odd.safetensors"
    path.write_bytes(content)
    assert isinstance(find_damage(path), str)
