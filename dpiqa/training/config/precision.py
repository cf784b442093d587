"""Arithmetic of forward passes: the formats, the fastest on this machine, and autocast to one.

bfloat16 is fast only where the hardware computes it; elsewhere it is emulated and slower than float32.
"""

from enum import StrEnum
from typing import Any

import torch


class Arithmetic(StrEnum):
    """Number format of forward passes; weights and their updates stay in float32."""

    AUTO = "auto"  #: bfloat16 where the hardware has it, else float32; decided when the configuration is read
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  #: autocast
    FLOAT16 = "float16"  #: autocast with loss scaling, for GPUs without bfloat16


_DTYPES = {Arithmetic.BFLOAT16: torch.bfloat16, Arithmetic.FLOAT16: torch.float16}


def autocast(device: torch.device, precision: Arithmetic) -> torch.autocast:
    """Return the context in which forward passes compute in `precision`; for float32 it changes nothing."""
    dtype = _DTYPES.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def fastest_precision() -> Arithmetic:
    """Return what `precision = "auto"` means on this machine: bfloat16 on a GPU or CPU that has it, else float32.

    On a CPU with AVX2 alone a bfloat16 update takes about eight times as long as one in float32.
    """
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = cpu_capabilities()
        native = any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return Arithmetic.BFLOAT16 if native else Arithmetic.FLOAT32


def cpu_capabilities() -> dict[str, Any]:
    """Return the CPU's features by name, as torch reports them; older versions of torch report AVX-512 alone."""
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
