"""Depthwise convolutions with a backward pass of their own."""

import copy

import pytest
import timm
import torch

from dpiqa.training.depthwise import FastDepthwise, with_fast_depthwise


@pytest.fixture(
    params=["tf_mobilenetv3_small_minimal_100", "mobilenetv3_small_050"]
)  # TensorFlow's padding, and torch's
def networks(request):
    torch.manual_seed(0)
    network = timm.create_model(request.param).eval()
    fast = copy.deepcopy(network)
    with_fast_depthwise(fast)
    return network, fast


@pytest.mark.parametrize("side", [64, 52])  # 52: halves to 13, which strides divide unevenly
def test_outputs_and_gradients_are_those_of_torch(networks, side):
    network, fast = networks
    assert sum(isinstance(module, FastDepthwise) for module in fast.modules()) == 11
    assert list(fast.state_dict()) == list(network.state_dict())
    images = torch.randn(2, 3, side, side)
    gradients = []
    for candidate in networks:
        inputs = images.clone().requires_grad_()
        features = candidate.forward_features(inputs)
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        learned = {name: p.grad for name, p in candidate.named_parameters() if p.grad is not None}
        gradients.append(learned | {"features": features.detach(), "inputs": inputs.grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_under_autocast_kernels_stay_in_float32_and_learn(networks):
    _, fast = networks
    images = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        features = fast.forward_features(images)
    assert features.dtype is torch.bfloat16
    features.float().sum().backward()
    kernels = [module.weight for module in fast.modules() if isinstance(module, FastDepthwise)]
    assert all(kernel.grad.dtype is torch.float32 and kernel.grad.abs().sum() > 0 for kernel in kernels)
