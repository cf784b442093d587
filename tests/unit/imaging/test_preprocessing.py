import numpy as np
import pytest
from PIL import Image
from support.images import encoded, photograph

from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.preprocessing import Preprocessing, ResizeFilter, filled, prepare, resize_cubic

FILL = Preprocessing(width=64, height=64, enlarge_to=32)
CUBIC = Preprocessing(width=224, height=224, filter=ResizeFilter.CUBIC_OPENCV)


def test_the_filter_is_part_of_the_version():
    assert CUBIC.version == "squash-cubic-opencv-224x224-v2"
    assert Preprocessing(width=224, height=224).version == "squash-bilinear-224x224-v2"
    assert FILL.version == "fill32-bilinear-64x64-v2"
    hamming = FILL.model_copy(update={"filter": ResizeFilter.HAMMING})
    assert hamming.version == "fill32-hamming-64x64-v2"


def cubic_line(line, size):
    """Keys' cubic convolution with a = -0.75 of one line, four neighbours whatever the scale, the edge repeated."""
    positions = (np.arange(size) + 0.5) * len(line) / size - 0.5
    first = np.floor(positions).astype(int)
    t = positions - first
    a = -0.75

    def near(d):
        return (a + 2) * d**3 - (a + 3) * d**2 + 1

    def far(d):
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a

    weights = [far(t + 1), near(t), near(1 - t), far(2 - t)]
    return sum(w * line[np.clip(first + k - 1, 0, len(line) - 1)] for k, w in enumerate(weights))


@pytest.mark.parametrize("size", [(640, 300), (100, 90)])
def test_cubic_is_opencvs_convolution_without_antialiasing(size):
    picture = photograph(*size)
    across = np.apply_along_axis(cubic_line, 1, np.asarray(picture, dtype=float), 224)
    expected = np.clip(np.apply_along_axis(cubic_line, 0, across, 224), 0, 255)
    result = prepare(picture, CUBIC)
    assert result.shape == (224, 224, 3)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 1.001  # builds with and without Intel's library round differently


def test_a_file_of_the_right_size_comes_through_unchanged():
    picture = photograph(224, 224)
    result = decode_and_prepare(encoded(picture, "PNG"), CUBIC, Limits())
    np.testing.assert_array_equal(result, np.asarray(picture))


def test_grey_pictures_become_three_channels():
    assert prepare(Image.new("RGB", (30, 20), (9, 9, 9)), CUBIC).tolist() == np.full((224, 224, 3), 9).tolist()


@pytest.mark.parametrize("preprocessing", [CUBIC, FILL])
def test_decode_processes_resize_as_this_one_does(preprocessing):
    data = encoded(photograph(640, 30), "PNG")
    with DecodePool(1, Limits()) as pool:
        result = pool.submit(data, preprocessing).result()
    np.testing.assert_array_equal(result, decode_and_prepare(data, preprocessing, Limits()))


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((40, 64), (40, 64)),  # between the two: as it is
        ((200, 50), (64, 50)),  # each side by itself
        ((10, 500), (32, 64)),  # short sides are enlarged, not to the whole
        ((20, 16), (32, 32)),
        ((65, 64), (64, 64)),
    ],
)
def test_short_sides_are_enlarged_up_to_a_bound_and_mirror_images_fill_the_rest(picture, size):
    image = photograph(*picture)
    assert FILL.picture_size(*picture) == size
    result = prepare(image, FILL)
    assert result.shape == (64, 64, 3)
    assert result.flags["C_CONTIGUOUS"]
    left, top = (64 - size[0]) // 2, (64 - size[1]) // 2
    middle = result[top : top + size[1], left : left + size[0]]
    shown = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(middle, np.asarray(shown))
    mirrored = np.tile(np.concatenate([middle, middle[::-1]]), (3, 1, 1))  # rows repeat with twice the height
    first = -top % (2 * size[1])
    np.testing.assert_array_equal(result[:, left : left + size[0]], mirrored[first : first + 64])


def test_hammings_filter_is_pillows():
    picture = photograph(200, 150)
    result = prepare(picture, Preprocessing(width=64, height=64, filter=ResizeFilter.HAMMING))
    np.testing.assert_array_equal(result, np.asarray(picture.resize((64, 64), Image.Resampling.HAMMING)))
    assert (result != prepare(picture, Preprocessing(width=64, height=64))).any()


def test_opencvs_filter_fills_too():
    picture = photograph(100, 300)
    result = prepare(picture, CUBIC.model_copy(update={"enlarge_to": 1}))
    np.testing.assert_array_equal(result[:, 62:162], resize_cubic(np.asarray(picture), 100, 224))


def test_a_picture_of_one_pixel_fills_all():
    assert (filled(np.full((1, 1, 3), 9, np.uint8), 5, 4) == np.full((4, 5, 3), 9)).all()


def test_large_pictures_are_the_same_with_and_without_a_bound():
    image = photograph(640, 300)
    squashed = prepare(image, Preprocessing(width=64, height=64))
    np.testing.assert_array_equal(prepare(image, FILL), squashed)


def test_a_bound_above_the_input_stretches_all_pictures_to_it():
    image = photograph(30, 50)
    squashed = prepare(image, Preprocessing(width=64, height=64))
    np.testing.assert_array_equal(prepare(image, Preprocessing(width=64, height=64, enlarge_to=256)), squashed)
