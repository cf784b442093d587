import threading

import pytest

from dpiqa.doorbell import load_doorbell
from dpiqa.errors import DpiqaError
from dpiqa.objects import sqs
from dpiqa.objects.sqs import EventsQueue
from dpiqa.pipeline.listener import Listener
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine
from dpiqa.storage.watches import LISTENER


@pytest.fixture
def queue(system, monkeypatch):
    """Give the URL of an SQS queue that no bucket notifies yet; it is that of the settings."""
    system.queue_url = system.sqs.create_queue(QueueName=f"{system.name}-events")["QueueUrl"]
    monkeypatch.setenv("DPIQA_QUEUE_URL", system.queue_url)
    return system.queue_url


@pytest.fixture
def listener(queue, database_url, monkeypatch):
    """A listener on the queue, in a thread."""
    monkeypatch.setattr(sqs, "WAIT_SECONDS", 1)
    settings, engine = load_settings(), make_engine(database_url, application_name=LISTENER)
    runs = Listener(engine, load_doorbell(settings), EventsQueue(settings), settings, load_profile("smoke"))
    with engine.connect():
        pass  # as `run`, which looks at the schema first
    stopping = threading.Event()

    def listen():
        while not stopping.is_set():
            try:
                runs.receive_once()
            except DpiqaError:
                stopping.wait(0.2)

    thread = threading.Thread(target=listen)
    thread.start()
    yield
    stopping.set()
    thread.join()
    engine.dispose()
