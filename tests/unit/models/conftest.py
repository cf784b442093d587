import pytest
import torch
from support import tiny_networks


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests run beside each other; threads that wait for each other make tiny networks slower."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_student():
    return tiny_networks.tiny_student()


@pytest.fixture
def tiny_teacher():
    return tiny_networks.tiny_teacher()


@pytest.fixture
def models_dir(tmp_path):
    """A user's models folder with a small student and a small teacher."""
    return tiny_networks.write_tiny_models(tmp_path / "models")
