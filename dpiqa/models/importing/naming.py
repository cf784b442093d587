"""Translation of published tensor names into ours. Pure, except that it builds networks on the meta device.

The names were read off the published state dicts. Where a network of ours stands on a library that names its layers
otherwise, the names are translated one by one, never by their order: safetensors files do not keep the order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import nn

from dpiqa.errors import CheckpointError
from dpiqa.types import ModelKind

#: Start of the names of a part that only this kind has.
MARKS = {ModelKind.STUDENT: "conv_transpose.", ModelKind.TEACHER: "QFD.", ModelKind.PROMPTIQA: "MALs."}
#: Published tensors that no score uses.
_UNUSED = {ModelKind.TEACHER: ("vae.decoder.", "vae.post_quant_conv.", "QFD.bnc1.", "QFD.classifier_dist.")}
#: Tensors of ours that no score uses: zeros where a file lacks them.
_SPARE = {ModelKind.TEACHER: ("unet.conv_norm_out.", "unet.conv_out.")}
_COUNTER = "num_batches_tracked"  #: of BatchNorm, for training only; older versions of torch do not write it
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"^(vae\..*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))$")
_FEATURES = "base_model.features."


@dataclass(frozen=True, slots=True)
class RenamedWeights:
    """A state dict in our names."""

    tensors: dict[str, torch.Tensor]
    called: dict[str, str] = field(default_factory=dict)  #: our name -> the file's, where they differ
    unused: tuple[str, ...] = ()  #: published names that were left out
    spare: tuple[str, ...] = ()  #: our names that were filled with zeros


def rename(published: Mapping[str, torch.Tensor], kind: ModelKind, network: nn.Module) -> RenamedWeights:
    """Rename a published state dict of a `kind` for `network`, which may stand on the meta device.

    The strict load checks later whether names and shapes fit. Raises `CheckpointError` if the file is of another
    kind, or of a backbone whose published names are not known.
    """
    _check_kind(published, kind)
    expected = network.state_dict()
    unused = tuple(name for name in published if name.startswith(_UNUSED.get(kind, ())) and name not in expected)
    kept = {name: tensor for name, tensor in published.items() if name not in set(unused)}
    called = _published_names(kept, network) if kind is ModelKind.STUDENT else {}
    ours = {theirs: our for our, theirs in called.items()}
    tensors = {ours.get(name, _new_attention(name)): tensor for name, tensor in kept.items()}
    missing = (name for name in expected if name not in tensors)
    spare = tuple(name for name in missing if name.endswith(_COUNTER) or name.startswith(_SPARE.get(kind, ())))
    tensors |= {name: torch.zeros(expected[name].shape, dtype=expected[name].dtype) for name in spare}
    return RenamedWeights(_squeezed(tensors, expected), called, unused, spare)


def _check_kind(published: Mapping[str, torch.Tensor], kind: ModelKind) -> None:
    kinds = [other for other, mark in MARKS.items() if any(name.startswith(mark) for name in published)]
    if kind in kinds or not kinds:
        return
    mark = next(name for name in published if name.startswith(MARKS[kinds[0]]))
    raise CheckpointError(
        f"the file holds a {kinds[0]}, not a {kind}: it has a tensor {mark}", hint=f"import it with --kind {kinds[0]}"
    )


def _published_names(published: Mapping[str, torch.Tensor], student: nn.Module) -> dict[str, str]:
    """Return our name -> torchvision's, for a student whose backbone has torchvision's names; {} where it has ours.

    torchvision's and timm's EfficientNets of one name hold the same tensors in the same order.
    """
    if not any(name.startswith(_FEATURES) for name in published):
        return {}
    name = str(getattr(student.config, "backbone", ""))
    theirs = _torchvision_names(name)
    if not theirs:
        raise CheckpointError(
            f"the tensors of the backbone are named as torchvision's, which has no {name}",
            hint="choose an architecture whose backbone is efficientnet_b0 to efficientnet_b7",
        )
    ours = [f"base_model.{name}" for name in student.get_submodule("base_model").state_dict()]
    return dict(zip(ours, theirs, strict=True))


@cache
def _torchvision_names(backbone: str) -> tuple[str, ...]:
    """Return names of a backbone's tensors in published files; () where torchvision has no such EfficientNet."""
    from torchvision.models import get_model, list_models  # noqa: PLC0415 - a second, for published students only

    if not backbone.startswith("efficientnet_b") or backbone not in list_models():
        return ()
    with torch.device("meta"):
        names = get_model(backbone, weights=None).state_dict()
    return tuple(f"base_model.{name}" for name in names if name.startswith("features."))


def _new_attention(name: str) -> str:
    """Translate `…attentions.0.query.weight`, as diffusers named the VAE's attention until 0.17 -> `…to_q.weight`."""
    old = _OLD_NAME.match(name)
    return f"{old[1]}{_OLD_ATTENTION[old[2]]}{old[3]}" if old else name


def _squeezed(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Flatten the VAE's attention, which was once made of 1x1 convolutions: (C, C, 1, 1) -> (C, C)."""
    return {
        name: tensor[:, :, 0, 0]
        if ".attentions." in name and name in expected and tensor.shape == (*expected[name].shape, 1, 1)
        else tensor
        for name, tensor in tensors.items()
    }
