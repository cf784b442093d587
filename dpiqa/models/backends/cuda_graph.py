"""Recording of calls as CUDA graphs: the GPU repeats their kernels without waiting for Python between them."""

from collections.abc import Callable, Iterator, Mapping

import torch

_WARM_UPS = 3  #: calls before a recording: libraries choose their kernels and take their memory then


def recorded(
    calls: Mapping[int, Callable[[], torch.Tensor]], device: torch.device
) -> Iterator[tuple[int, Callable[[], torch.Tensor]]]:
    """Record each call and yield its key with a function that repeats it: on the same inputs, in any thread.

    The result is in the same memory each time, and the calls share the memory of what is between: make one after the
    other, and copy a result before the next. To be iterated to the end, in one thread.

    Args:
        calls: by a key. They read and write memory of the device, never wait for it, and do not change.
        device: a GPU.

    Raises:
        RuntimeError: torch cannot record a call.
    """
    with torch.cuda.device(device):
        stream, pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]
        for key, call in calls.items():
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    call()
            torch.cuda.current_stream(device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile: a worker loads a second model while the first one scores.
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                result = call()
            yield key, _repeated(graph, result)


def _repeated(graph: "torch.cuda.CUDAGraph", result: torch.Tensor) -> Callable[[], torch.Tensor]:
    def repeat() -> torch.Tensor:
        graph.replay()
        return result

    return repeat
