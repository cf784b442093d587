import torch

from dpiqa.models.torch_scorer import limit_memory


def test_a_process_takes_its_share_of_a_gpu_and_a_cpu_has_none(monkeypatch):
    limits = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: limits.update({str(device): share})
    )
    limit_memory("cuda:1", 0.2)
    limit_memory("cpu", 0.5)
    assert limits == {"cuda:1": 0.2}
