"""Reference vectors: outputs of independent implementations, and the recipe of their weights."""

from math import prod
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "vectors"


def load(name):
    """Vector file as a dict of arrays."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        return dict(stored)


def rebuild_weights(network, vector):
    """Fill the network with the seeded weights of a vector."""
    rng = np.random.default_rng(int(vector["seed_weights"]))
    state = network.state_dict()
    for name in sorted(key for key, value in state.items() if value.is_floating_point()):
        shape = tuple(state[name].shape)
        noise = rng.standard_normal(shape)
        if name.endswith((".beta", ".gamma")):
            value = 0.3 * noise
        elif name.endswith(".bias"):
            value = 0.1 * noise
        elif len(shape) == 1:
            value = 1 + 0.1 * noise
        else:
            value = noise / np.sqrt(prod(shape[1:]))
        value *= vector.get("gain_" + name.replace(".", "_"), 1)
        value = vector.get("override:" + name, value)
        state[name] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    network.load_state_dict(state)
    return network.eval()


def rebuild_input(vector):
    """Seeded input picture of a vector, 1 3 H W in 0-1."""
    shape = (1, 3, int(vector["height"]), int(vector["width"]))
    rng = np.random.default_rng(int(vector["seed_input"]))
    return torch.from_numpy(rng.random(shape, dtype=np.float32))


def relative_error(result, expected):
    """Norm of the difference over the norm of the expected tensor."""
    expected = torch.as_tensor(expected)
    return float((result - expected).norm() / expected.norm())
