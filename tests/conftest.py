import os
import random

import numpy as np
import pytest
from browsing import CHROMIUM, FLAGS
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch reads it; tests run side by side

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=14)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded():
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
