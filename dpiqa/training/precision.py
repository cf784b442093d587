"""Which arithmetic is fast here: bfloat16 only where the hardware computes it, elsewhere it is emulated and slower."""

from typing import Any

import torch

from dpiqa.training.plan import Arithmetic


def fastest_precision() -> Arithmetic:
    """Return what `precision = "auto"` means on this machine: bfloat16 on a GPU or CPU that has it, else float32.

    On a CPU with AVX2 alone a bfloat16 update takes about eight times as long as one in float32.
    """
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = _cpu_has_bfloat16(_capabilities())
    return Arithmetic.BFLOAT16 if native else Arithmetic.FLOAT32


def _cpu_has_bfloat16(capabilities: dict[str, Any]) -> bool:
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _capabilities() -> dict[str, Any]:
    """Ask torch; versions that cannot say everything know of AVX-512 at least."""
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
