"""Whatever is wrong with a file, the message names the file and the tensor, and nothing is left behind."""

import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from support.published import STUDENT, student_state_dict, teacher_state_dict

from dpiqa.errors import CheckpointError, ConfigurationError, InvalidRequest
from dpiqa.models.cards import find_card, verify
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.types import ModelKind

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def student():
    return student_state_dict()


@pytest.fixture
def models_dir(tmp_path):
    """A models folder that must be as empty after a refused import as before."""
    folder = tmp_path / "models"
    yield folder
    assert [path.name for path in folder.glob("*")] in ([], [".lock"])


def importing(file, models_dir, kind=ModelKind.STUDENT, **options):
    sizes = {"architecture": STUDENT.model_dump(mode="json")} if kind is ModelKind.STUDENT else {}
    return import_checkpoint(file, kind=kind, name="refused", models_dir=models_dir, licence="x", **sizes | options)


def refusal(file, models_dir, **options):
    with pytest.raises(CheckpointError) as raised:
        importing(file, models_dir, **options)
    assert raised.value.hint
    assert str(file) in raised.value.message
    return raised.value.message


def without(name):
    return lambda tensors: tensors.pop(name)


FEATURE = "base_model.features.3.0.block.1.0.weight"
CHANGES = {
    "missing": (without("fc2.bias"), "tensor fc2.bias is missing"),
    "missing in the backbone": (without(FEATURE), f"tensor {FEATURE} is missing"),
    "unexpected": (lambda tensors: tensors.update(extra=torch.zeros(1)), "tensor extra is unexpected"),
    "another shape": (
        lambda tensors: tensors.update({"fc3.weight": torch.zeros(1, 7)}),
        "tensor fc3.weight has shape (1, 7), expected (1, 8)",
    ),
    "another shape in the backbone": (
        lambda tensors: tensors.update({FEATURE: torch.zeros(3)}),
        f"tensor {FEATURE} has shape (3,), expected",
    ),
    "another kind of numbers": (
        lambda tensors: tensors.update({"fc1.bias": torch.zeros(8, dtype=torch.int8)}),
        "tensor fc1.bias holds torch.int8, expected torch.float32",
    ),
    "not a number": (
        lambda tensors: tensors.update({"fc1.bias": torch.full_like(tensors["fc1.bias"], torch.nan)}),
        "tensor fc1.bias holds values that are not finite numbers",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_wrong_tensor_is_named_as_the_file_names_it(tmp_path, models_dir, student, what):
    change, complaint = CHANGES[what]
    changed = dict(student)
    change(changed)
    save_file(changed, tmp_path / "changed")
    assert complaint in refusal(tmp_path / "changed", models_dir)


def test_the_number_of_differences_is_told(tmp_path, models_dir, student):
    save_file({name: t for name, t in student.items() if not name.startswith("fc")}, tmp_path / "cut")
    assert "tensor fc1.weight is missing (and 5 more)" in refusal(tmp_path / "cut", models_dir)


def test_another_kind_is_recognised(tmp_path, models_dir, student):
    torch.save(student, tmp_path / "student.pth")
    message = refusal(tmp_path / "student.pth", models_dir, kind=ModelKind.PROMPTIQA)
    assert "holds a student, not a promptiqa" in message
    torch.save(teacher_state_dict(), tmp_path / "teacher.pth")
    assert "holds a teacher, not a student" in refusal(tmp_path / "teacher.pth", models_dir)


def test_a_backbone_whose_published_names_are_unknown_is_an_error(tmp_path, models_dir, student):
    save_file(student, tmp_path / "student")
    sizes = STUDENT.model_dump(mode="json") | {"backbone": "test_efficientnet"}
    assert "test_efficientnet" in refusal(tmp_path / "student", models_dir, architecture=sizes)


def test_a_safetensors_file_that_is_cut_off_names_the_tensor(tmp_path, models_dir, student):
    save_file(student, tmp_path / "student")
    whole = (tmp_path / "student").read_bytes()
    (tmp_path / "student").write_bytes(whole[: len(whole) // 2])
    assert "it is cut off within tensor base_model.features." in refusal(tmp_path / "student", models_dir)
    (tmp_path / "student").write_bytes(whole[:100])
    assert "it is cut off within its header" in refusal(tmp_path / "student", models_dir)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.1, 0.6, 0.999])
def test_a_pickle_that_is_cut_off_says_so(tmp_path, models_dir, student, zipped, part):
    torch.save(student, tmp_path / "student", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "student").read_bytes()
    (tmp_path / "student").write_bytes(whole[: int(len(whole) * part)])
    assert "is damaged or cut off" in refusal(tmp_path / "student", models_dir)


def test_a_changed_byte_in_a_zipped_pickle_names_the_tensor(tmp_path, models_dir, student):
    torch.save(student, tmp_path / "student")
    index = list(student).index(FEATURE)
    with zipfile.ZipFile(tmp_path / "student") as archive:
        record = next(info for info in archive.infolist() if info.filename.endswith(f"/data/{index}"))
        start = archive.open(record)._orig_compress_start  # where the tensor's bytes begin
    flip(tmp_path / "student", start + 9)
    assert f"tensor {FEATURE} is not what its checksum says" in refusal(tmp_path / "student", models_dir)


def flip(file, index):
    content = bytearray(file.read_bytes())
    content[index] ^= 0xFF
    file.write_bytes(content)


def test_a_zipped_pickle_without_checksums_is_taken(tmp_path, student):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(student, tmp_path / "student")
    finally:
        torch.serialization.set_crc32_options(True)
    importing(tmp_path / "student", tmp_path / "models")
    verify(find_card("refused", tmp_path / "models"), tmp_path / "models")


class Evil:
    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return open, (self.witness, "w")


@pytest.mark.parametrize("write", ["zipped", "legacy", "bare"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, models_dir, student, write):
    file, witness = tmp_path / "evil.pth", tmp_path / "it-ran"
    content = student | {"fc3.bias": Evil(witness)}
    if write == "bare":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=write == "zipped")
    message = refusal(file, models_dir)
    named = "operand 149" if write == "bare" else "io.open"  # a plain pickle names it in a way torch does not read
    assert message.endswith(f"was refused: the pickle contains more than tensors and numbers: {named}")
    assert not witness.exists()
    if write == "bare":  # the test would not notice a harmless pickle
        pickle.loads(file.read_bytes())["fc3.bias"].close()
        assert witness.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>Quota exceeded</html>", "web page"),
        (b'{"name": "card"}', "JSON document"),
        (b"", "not a safetensors file"),
        (b"hello", "not a safetensors file"),
    ],
)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, models_dir, content, complaint):
    (tmp_path / "file").write_bytes(content)
    assert complaint in refusal(tmp_path / "file", models_dir)


SPARSE = {"fc1.weight": torch.zeros(2, 2).to_sparse()}
META = {"fc1.weight": torch.zeros(2, 2, device="meta")}


@pytest.mark.parametrize("content", [{"fc1.weight": "text"}, {"epoch": 3}, {}, [1, 2], torch.zeros(3), SPARSE, META])
def test_a_pickle_without_a_state_dict_says_what_it_holds(tmp_path, models_dir, content):
    torch.save(content, tmp_path / "file")
    message = refusal(tmp_path / "file", models_dir)
    assert "state dict" in message or "not a tensor" in message


def test_a_missing_file_and_wrong_sizes_are_told(tmp_path, models_dir, student):
    assert "there is no file" in refusal(tmp_path / "nowhere.pth", models_dir)
    save_file(student, tmp_path / "student")
    with pytest.raises(InvalidRequest, match="map_size"):
        importing(tmp_path / "student", models_dir, architecture={"map_size": "big"})


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path, student):
    save_file(student, tmp_path / "student")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        importing(tmp_path / "student", tmp_path / "student" / "models")


def test_what_a_killed_import_left_is_cleared_by_the_next(tmp_path, student):
    left = tmp_path / "models" / ".unfinished-xyz"
    left.mkdir(parents=True)
    (left / "half.safetensors").write_bytes(b"half")
    save_file(student, tmp_path / "student")
    importing(tmp_path / "student", tmp_path / "models")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        ".lock",
        "refused.json",
        "refused.safetensors",
    ]


def test_tampering_afterwards_is_found_and_the_tensor_named(tmp_path, student):
    save_file(student, tmp_path / "student")
    card = importing(tmp_path / "student", tmp_path / "models")
    weights = tmp_path / "models" / card.weights
    flip(weights, weights.stat().st_size - 1)
    with pytest.raises(CheckpointError, match=r"tensor \S+ was changed; expected sha256"):
        verify(card, tmp_path / "models")
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="it is cut off within tensor"):
        verify(card, tmp_path / "models")
