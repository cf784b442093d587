"""Random crops, and maps that are cut alike."""

import numpy as np

from dpiqa.training.data.crops import Crops, random_crops


def test_maps_are_cut_where_their_pixels_are():
    pixels = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64, 1)
    cells = pixels[:, ::16, ::16]  # one value per cell: that of its corner
    crops = Crops(index=np.array([0]), top=np.array([16]), left=np.array([32]), flip=np.array([False]), size=32)
    np.testing.assert_array_equal(crops.cut_maps(cells, 16), crops.cut(pixels)[:, ::16, ::16])
    mirrored = Crops(index=crops.index, top=crops.top, left=crops.left, flip=np.array([True]), size=32)
    np.testing.assert_array_equal(mirrored.cut(pixels), crops.cut(pixels)[:, :, ::-1])


def test_crops_lie_inside_and_on_the_grid():
    crops = random_crops(np.arange(100), 512, 256, 64, np.random.default_rng(0))
    assert set(crops.top) <= {0, 64, 128, 192, 256}
    assert crops.top.max() == 256
    assert 0 < crops.flip.sum() < 100
    whole = random_crops(np.arange(100), 512, 512, 64, np.random.default_rng(0), mirror=False)
    assert not np.stack([whole.top, whole.left, whole.flip]).any()
