"""Scene statistics against their definition, and what the networks make of them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from dpiqa.models.regressor import MapPooling, MomentReader
from dpiqa.models.scene_statistics import CELL, CHANNELS, StatisticsBranch, _all_octaves, scene_statistics
from dpiqa.models.scoring_network import shrunk
from dpiqa.models.student import build_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import build_teacher


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def normalised(values):
    """BRISQUE, equations 1 to 3, by scipy."""
    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def blurred(array):
        return correlate1d(correlate1d(array, window, 0, mode="mirror"), window, 1, mode="mirror")

    mean = blurred(values)
    deviation = np.sqrt(np.maximum(blurred(values**2) - mean**2, 0))
    return (values - mean) / (deviation + 1), deviation


def octave(values, cell):
    """All that is said of one colour at one octave: (23, cells, cells), from the definitions, in float64."""
    own, deviation = normalised(values)
    around = np.pad(own, 1, mode="edge")
    height, width = own.shape
    shifts = [(0, 1), (1, 0), (1, 1), (1, -1)]
    neighbours = [around[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in shifts]

    def cells(array):
        return array.reshape(height // cell, cell, width // cell, cell).mean(axis=(1, 3))

    statistics = []
    for product in (own, *(own * other for other in neighbours)):
        sides = np.maximum(product, 0), np.maximum(-product, 0)
        statistics += [np.log(cells(side**power) + 0.01) for power in (1, 2) for side in sides]
    statistics += [np.log(cells(deviation**power) + 0.1) for power in (1, 2)]
    return np.array([*statistics, cells(values) / 255])


OPPONENTS = np.array([[0.299, 0.587, 0.114], [0.3, 0.04, -0.35], [0.34, -0.6, 0.17]])


def test_every_value_is_what_the_definition_says(images):
    colours = np.tensordot(OPPONENTS, images[0].double().numpy() * 255, axes=1)
    statistics = scene_statistics(images)[0].numpy().reshape(3, 23, 3, 2, 2)
    for number in range(3):
        expected = np.stack([octave(colour, CELL >> number) for colour in colours], axis=1)
        np.testing.assert_allclose(statistics[number], expected, atol=2e-4)
        colours = np.stack([colour.reshape(32 >> number, 2, 32 >> number, 2).mean(axis=(1, 3)) for colour in colours])


def test_there_is_a_value_for_every_cell_whatever_comes_in(images):
    for pictures in (images, images.half(), torch.zeros_like(images), torch.ones_like(images)):
        statistics = scene_statistics(pictures)
        assert statistics.shape == (2, CHANNELS, 2, 2)
        assert statistics.dtype == torch.float32
        assert torch.isfinite(statistics).all()


def test_the_batch_changes_no_value(images):
    together, alone = scene_statistics(images), scene_statistics(images[1:])
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0)
    at_once = _all_octaves(images)  # as a GPU takes them
    torch.testing.assert_close(at_once, together, atol=1e-4, rtol=0)


def test_noise_and_blur_move_them_apart(images):
    rough, smooth = images[:1], torch.nn.functional.avg_pool2d(images[:1], 5, 1, 2)
    deviation = slice(20 * 3, 21 * 3)
    assert (scene_statistics(smooth)[:, deviation] < scene_statistics(rough)[:, deviation]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_smaller_copy_has_the_mean_of_each_square(images, dtype, memory_format):
    small = shrunk(images.to(dtype, memory_format=memory_format), 4)
    assert (small.shape, small.dtype) == ((2, 3, 16, 16), dtype)
    expected = torch.nn.functional.avg_pool2d(images.to(dtype).float(), 4).to(dtype)
    torch.testing.assert_close(small, expected)
    assert shrunk(images, 1) is images


def test_moments_are_read_from_a_map_of_any_size():
    reader = MomentReader(4, dropout=0.0).eval()
    flat = torch.full((1, 4, 3, 5), 2.0)
    torch.testing.assert_close(reader(flat), torch.tensor([[2.0] * 4 + [0.01] * 4 + [2.0] * 4]), atol=1e-4, rtol=0)
    repeated = torch.rand(1, 4, 2, 2).repeat(1, 1, 4, 4)
    torch.testing.assert_close(reader(repeated), reader(repeated[..., :4, :4]), atol=1e-6, rtol=1e-5)
    assert torch.isfinite(reader(torch.rand(1, 4, 1, 1))).all()


def test_the_middle_of_a_map_counts_apart_from_the_rest():
    reader = MomentReader(1, dropout=0.0).eval()
    framed = torch.zeros(1, 1, 8, 8)
    framed[..., 2:6, 2:6] = 1.0
    torch.testing.assert_close(reader(framed)[0, ::2], torch.tensor([0.25, 1.0]), atol=1e-4, rtol=0)
    corner = framed.roll((-2, -2), dims=(2, 3))  # the same values elsewhere
    torch.testing.assert_close(reader(corner)[0, ::2], torch.tensor([0.25, 0.25]), atol=1e-4, rtol=0)


def test_published_sizes_get_no_tensors_that_published_weights_lack(tiny_student):
    names = {name.split(".")[0] for name in tiny_student.state_dict()}
    assert names == {"base_model", "conv_transpose", "fc1", "fc2", "fc3"}


def test_a_student_reads_statistics_given_or_not_alike(images):
    sizes = StudentConfig(
        backbone="test_efficientnet",
        input_size=64,
        shrink=2,
        map_channels=4,
        statistics_channels=6,
        map_size=2,
        pooling=MapPooling.MOMENTS,
        hidden=8,
    )
    student = build_student(sizes).eval()
    with torch.inference_mode():
        scores, feature_map = student(images)
        from_known, _ = student(images, scene_statistics(images))
    assert feature_map.shape == (2, 10, 2, 2)
    assert torch.equal(scores, from_known)


def test_in_half_precision_statistics_are_still_of_exact_pixels(images):
    sizes = StudentConfig(
        backbone="test_efficientnet", input_size=64, map_channels=4, statistics_channels=6, map_size=2, hidden=8
    )
    student = build_student(sizes).eval().to(torch.bfloat16)
    assert student.input_dtype == torch.float32
    with torch.inference_mode():
        exact, _ = student(images)
        from_known, _ = student(images, scene_statistics(images))
    assert torch.equal(exact, from_known)


def test_a_teachers_statistics_reach_its_score(tiny_teacher, images):
    sizes = tiny_teacher.config
    qfd = sizes.qfd.model_copy(update={"statistics_channels": 6, "pooling": MapPooling.MOMENTS})
    teacher = build_teacher(sizes.model_copy(update={"qfd": qfd})).eval()
    statistics = scene_statistics(images).requires_grad_()
    scores, quality = teacher(images, statistics=statistics)
    scores.sum().backward()
    assert quality.shape[1] == sizes.qfd.map_channels + 6
    assert statistics.grad.abs().sum() > 0
    torch.testing.assert_close(teacher(images)[0], scores)


def test_cells_that_do_not_fill_the_picture_are_refused_by_name():
    with pytest.raises(ValueError, match="multiple of 32, not 500"):
        StudentConfig(input_size=500, statistics_channels=6)
    assert StudentConfig(input_size=500).statistics_channels == 0


def test_a_black_cell_is_no_outlier_to_the_branch():
    branch = StatisticsBranch(4).eval()
    branch.standard.running_mean.fill_(0.0)
    far = branch(torch.full((1, CHANNELS, 1, 1), 1e6))
    assert torch.equal(far, branch(torch.full((1, CHANNELS, 1, 1), 6.1)))
