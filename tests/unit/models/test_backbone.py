import pytest
import timm
import torch
from torch import nn

from dpiqa.models.backbone import build_backbone
from dpiqa.models.efficientnet import DESIGNS, EfficientNet

NETWORKS = [
    ("test_efficientnet", {}, 96),
    ("test_efficientnet", {"channel_multiplier": 0.5}, 97),
    ("test_efficientnet", {"channel_multiplier": 0.3}, 64),
    ("tf_efficientnet_lite0", {}, 96),
    ("tf_efficientnet_lite0", {}, 101),  # uneven padding on both sides
]


@pytest.mark.parametrize(("name", "arguments", "side"), NETWORKS)
@pytest.mark.parametrize("training", [False, True])
def test_our_own_networks_compute_what_those_of_timm_do(name, arguments, side, training):
    torch.manual_seed(1)
    theirs = timm.create_model(name, num_classes=0, global_pool="", **arguments)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    ours = build_backbone(name, arguments, batchnorm_eps=next(m.eps for m in theirs.modules() if hasattr(m, "eps")))
    assert isinstance(ours, EfficientNet)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.rand(2, 3, side, side)
    assert torch.equal(ours.train(training)(images), theirs.train(training)(images))
    assert ours.num_features == theirs.num_features
    assert torch.equal(ours.bn2.running_var, theirs.bn2.running_var)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_seed_gives_the_random_weights_of_timm(name):
    torch.manual_seed(2)
    theirs = timm.create_model(name, num_classes=0, global_pool="").state_dict()
    next_theirs = torch.rand(1)
    torch.manual_seed(2)
    ours = build_backbone(name, {}, 1e-5).state_dict()
    assert torch.rand(1) == next_theirs
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[tensor_name]) for tensor_name, tensor in ours.items())


def test_further_arguments_are_left_to_timm():
    network = build_backbone("test_efficientnet", {"drop_path_rate": 0.1}, 1e-3)
    assert type(network).__module__.startswith("timm.")
    assert network.bn1.eps == 1e-3
