"""A system with pages to look at, for tests in browsers."""

import io

import numpy as np
from PIL import Image

KEY = "bootstrap-key-of-the-browser-tests-0123456789"


def make_site(make_system, s3, models_dir):
    """Give a system with an API that demands a key, workers, 30 pictures of rising brightness and a broken one."""
    models_dir.mkdir()
    system = make_system(api_key=KEY, models_dir=models_dir)
    rng = np.random.default_rng(1)
    for n in range(30):
        pixels = rng.integers(n * 8, n * 8 + 10, (48, 64, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        s3.put(f"{'dark' if n < 15 else 'light'}/{n:02}.png", buffer.getvalue())
    s3.put("dark/broken.jpg", b"\xff\xd8\xff\xe0 not a picture")
    system.worker("student")
    system.worker("teacher")
    _, system.url = system.api()
    system.ready(2)
    return system
