import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests run beside each other; threads that wait for each other make tiny networks slower."""
    torch.set_num_threads(1)
