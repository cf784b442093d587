"""Depthwise convolutions whose backward pass is fast in bfloat16 on a CPU.

With torch's own, an EfficientNet's update takes longer in bfloat16 than in float32: oneDNN has no fast gradient of
strided and of 5 x 5 depthwise kernels in it (on an AMD EPYC with AVX-512: 95 and 123 ms for a layer of 672 channels,
32 x 32 cells and 8 pictures, whose forward pass takes 2.5 ms). The gradient of the input is itself a depthwise
convolution, which is fast, and that of the kernel is as fast as it gets in float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_weight

_Gradients = tuple[torch.Tensor | None, torch.Tensor | None, None, None]


def with_fast_depthwise(network: nn.Module) -> None:
    """Replace the depthwise convolutions of `network` by ones with the same parameters, names and outputs."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and _fits(child):
                setattr(module, name, FastDepthwise(child))


def _fits(convolution: nn.Conv2d) -> bool:
    """Return whether it is depthwise, square and plain: all that EfficientNets have."""
    channels, kernel, stride = convolution.in_channels, convolution.kernel_size, convolution.stride
    plain = convolution.bias is None and convolution.dilation == (1, 1) and kernel[0] % 2 == 1
    return (
        plain
        and 1 < channels == convolution.groups == convolution.out_channels
        and kernel[0] == kernel[1]
        and (stride[0] == stride[1])
    )


class FastDepthwise(nn.Module):
    """A depthwise convolution (B, C, H, W) -> (B, C, H/stride, W/stride), zeros beyond the edges."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.stride = convolution.stride[0]
        padding = convolution.padding
        # timm's convolutions of TensorFlow's networks pad by the size of the picture, mostly below and on the right.
        self.padding = (
            None if type(convolution) is not nn.Conv2d else padding[0] if isinstance(padding, tuple) else None
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """See the class."""
        if torch.is_autocast_enabled(features.device.type):
            features = features.to(torch.get_autocast_dtype(features.device.type))
        before, after = self._padding(features.shape[-1])
        if before != after or self.stride > 1:
            features, before = F.pad(features, (before, after, before, after)), 0
        convolved: torch.Tensor = _Depthwise.apply(features, self.weight.to(features.dtype), self.stride, before)
        return convolved

    def _padding(self, extent: int) -> tuple[int, int]:
        """Return the number of zeros before and after the rows and columns of a map of `extent` cells a side."""
        if self.padding is not None:
            return self.padding, self.padding
        kernel = self.weight.shape[-1]
        total = max((-(-extent // self.stride) - 1) * self.stride + kernel - extent, 0)
        return total // 2, total - total // 2


class _Depthwise(torch.autograd.Function):
    """Features (B, C, H, W), kernels (C, 1, k, k); no padding where the stride is above 1."""

    @staticmethod
    def forward(context: Any, features: torch.Tensor, kernels: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        context.save_for_backward(features, kernels)
        context.stride, context.padding = stride, padding
        return F.conv2d(features, kernels, None, stride, padding, groups=len(kernels))

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> _Gradients:
        features, kernels = context.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_features = of_kernels = None
        if context.needs_input_grad[0]:
            of_features = _of_features(gradient, features, kernels, context.stride, context.padding)
        if context.needs_input_grad[1]:
            of_kernels = _of_kernels(gradient, features, kernels, context.stride, context.padding)
        return of_features, of_kernels, None, None


def _of_features(
    gradient: torch.Tensor, features: torch.Tensor, kernels: torch.Tensor, stride: int, padding: int
) -> torch.Tensor:
    """Return the gradient of the features: the output's, spread over the stride, convolved with the turned kernels."""
    if stride > 1:
        rows, columns = ((side - 1) * stride + 1 for side in gradient.shape[-2:])
        spread = gradient.new_zeros(*gradient.shape[:2], rows, columns)
        spread = spread.contiguous(memory_format=torch.channels_last)
        spread[..., ::stride, ::stride] = gradient
        gradient = spread
    reach = kernels.shape[-1] - 1 - padding
    result = F.conv2d(gradient, kernels.flip(2, 3), None, 1, reach, groups=len(kernels))
    below, right = (whole - part for whole, part in zip(features.shape[-2:], result.shape[-2:], strict=True))
    return F.pad(result, (0, right, 0, below)) if below or right else result  # cells that no stride reaches


def _of_kernels(
    gradient: torch.Tensor, features: torch.Tensor, kernels: torch.Tensor, stride: int, padding: int
) -> torch.Tensor:
    result: torch.Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
        features.float(), kernels.shape, gradient.float(), stride=stride, padding=padding, groups=len(kernels)
    )
    return result.to(kernels.dtype)
