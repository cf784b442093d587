import pytest
import torch

from dpiqa.models.adapter import TrunkConfig, build_adapter

CHANNELS = (8, 8, 16, 16)
TRUNK = TrunkConfig(backbone="test_efficientnet", backbone_args={"channel_multiplier": 0.5})


@pytest.fixture
def images():
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("trunk", [None, TRUNK])
def test_either_adapter_offers_what_the_down_blocks_take(trunk, images):
    maps = build_adapter(trunk, CHANNELS, 8)(images)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 16, 16), (8, 8, 8), (16, 4, 4), (16, 2, 2)]


def test_the_trunk_is_not_trained_and_keeps_its_statistics(images):
    adapter = build_adapter(TRUNK, CHANNELS, 8).train()
    before = {name: value.clone() for name, value in adapter.trunk.state_dict().items()}
    sum(m.sum() for m in adapter(images)).backward()
    assert all(parameter.grad is None for parameter in adapter.trunk.parameters())
    assert all(layer.weight.grad is not None for layer in adapter.project)
    for name, value in adapter.trunk.state_dict().items():
        torch.testing.assert_close(value, before[name])
