"""Checkpoints as they are found in the wild: PyTorch files, state dicts under other keys, other prefixes.

A pickle is read by torch's reader for tensors alone (`weights_only`), which runs nothing that it holds.
"""

import json
import logging
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deblur_cli.errors import WeightsError
from deblur_cli.nets import LMD_VIT, M2AENet, Network
from deblur_cli.nets.fast import skip_identity_blocks
from deblur_cli.weights import files

logger = logging.getLogger(__name__)

PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".tar")
CONTAINERS = ("params_ema", "params", "state_dict", "model")  # averaged weights first
PREFIXES = re.compile(r"(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile
DEEPEST = 4  # containers within containers
POOLING = 384  # 1.5 times the patches of 256 that both papers train on; checkpoints do not tell theirs
SURE = 20.0  # logit at which float32 calls a pixel blurred with a confidence of exactly one


def is_pickle(path: Path) -> bool:
    """Whether a file is to be read as a PyTorch checkpoint: by its first bytes, or else by its name."""
    head = files.beginning(path)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return False
    return head.startswith((b"PK", b"\x80")) or path.suffix.lower() in PICKLES


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors of a PyTorch checkpoint, and the key that they were found under ("" for none).

    Raises WeightsError for files that hold anything else, without running what is in them.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file:  # of a path torch would judge by its name
            warnings.simplefilter("ignore")  # torch warns of old storage formats, which read well
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            pickled = file.read(1) in (b"P", b"\x80")  # a ZIP or a pickle, with what torch does not allow
        if pickled:
            raise WeightsError(
                f"{path} is refused: it holds more than tensors and might run code when read; "
                "ask for a .safetensors file"
            ) from error
        raise WeightsError(f"{path} is not a PyTorch checkpoint or is damaged: {files.cure(path)}") from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not a PyTorch checkpoint or is damaged: {files.cure(path)}") from error
    return unwrap(content, path)


def unwrap(content: object, path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict inside of what a file holds, and the key that it stood under."""
    found = ""
    while isinstance(content, Mapping):
        key = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        content, found = content[key], f"{found}.{key}" if found else key
        if found.count(".") > DEEPEST:  # or without end: a pickle can hold itself
            raise WeightsError(f"{path} holds no tensors: give a checkpoint of a network")
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no tensors: give a checkpoint of a network")
    state: dict[str, torch.Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path} holds {name!r}, which is not a tensor: give a file of weights only")
        state[bare(name)] = value
    return state, found


def bare(name: str) -> str:
    """A parameter's name without what wrappers put in front of it."""
    return name[match.end() :] if (match := PREFIXES.match(name)) else name


def is_known_layout(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the names are those of a network that is known."""
    names = {bare(name) for name in state}
    return "intro.weight" in names or is_lmd_vit(names)


def is_lmd_vit(names: set[str]) -> bool:
    """Whether parameter names are those of LMD-ViT's published checkpoint."""
    return "input_proj.proj.0.weight" in names and any(".score_predictor." in name for name in names)


def metadata_of(
    state: Mapping[str, torch.Tensor], path: Path, origin: str, known: Mapping[str, Any]
) -> dict[str, str]:
    """Architecture and configuration, told by names and shapes, and where the tensors come from.

    `known` holds arguments of `create` that take precedence. Raises WeightsError for another network.
    """
    source = f"{path.name}, tensors under {origin!r}" if origin else path.name
    if is_lmd_vit(set(state)):
        config = lmd_vit_config(state, path) | dict(known)
        return {"architecture": LMD_VIT, "config": json.dumps(config), "converted_from": source}
    intro = state.get("intro.weight")
    if intro is None or intro.dim() != 4:
        some = ", ".join(sorted(state)[:3])
        raise WeightsError(f"{path} holds neither NAFNet, M²AENet nor LMD-ViT: its tensors are {some} ...")
    aware = any(name.startswith(("mask_predictor.", "motion_analyzer.")) for name in state)
    encoder = counts(state, "encoders")
    config = {
        "width": intro.shape[0],
        "encoder": encoder,
        "middle": next(iter(counts(state, "middle_blks", nested=False)), 0),
        "decoder": counts(state, "decoders", stages=len(encoder)),
        "pooling": POOLING,
    } | dict(known)
    if "pooling" not in known:
        logger.info("%s does not say its training patch: attention averages over %d px", path, POOLING)
    return {
        "architecture": "m2aenet" if aware else "nafnet",
        "config": json.dumps(config),
        "converted_from": source,
    }


def lmd_vit_config(state: Mapping[str, torch.Tensor], path: Path) -> dict[str, Any]:
    """Arguments of `create_lmd_vit`, told by names and shapes."""
    halvings = len({name.split(".")[0] for name in state if name.startswith("encoderlayer_")})
    sides = [[f"{side}layer_{number}" for number in range(halvings)] for side in ("encoder", "decoder")]
    names = [*sides[0], "conv", *sides[1]]
    tables, depths = [], []
    for layer in names:
        name = f"{layer}.blocks.0.attn.relative_position_bias_table"  # offsets x heads
        if name not in state:
            raise WeightsError(f"{path} does not fit the network: {name} is missing")
        if state[name].dim() != 2:
            raise WeightsError(f"{path} does not fit the network: {name} is {list(state[name].shape)}")
        tables.append(state[name])
        depths.append(counts(state, rf"{layer}\.blocks", nested=False)[0])
    return {
        "embed": state["input_proj.proj.0.weight"].shape[0],
        "depths": depths,
        "heads": [table.shape[1] for table in tables],
        "window": (math.isqrt(tables[0].shape[0]) + 1) // 2,  # a row for each of (2 window - 1)^2 offsets
    }


def counts(
    state: Mapping[str, torch.Tensor], group: str, *, nested: bool = True, stages: int = 0
) -> list[int]:
    """How many blocks each stage of a group holds, of a group without stages as one number.

    stages: the least number of stages, since one without blocks leaves no trace
    """
    pattern = re.compile(rf"{group}\.(\d{{1,3}})\.(\d{{1,3}})\." if nested else rf"{group}()\.(\d{{1,3}})\.")
    found: dict[int, int] = dict.fromkeys(range(stages), 0)
    for name in state:
        if match := pattern.match(name):
            stage = int(match[1] or 0)
            found[stage] = max(found.get(stage, 0), int(match[2]) + 1)
    return [found.get(stage, 0) for stage in range(max(found, default=-1) + 1)]


def as_m2aenet(nafnet: Network) -> M2AENet:
    """The M²AENet that computes the same as a NAFNet: mask all ones, motion zero, identity kernels.

    What its mask predictor would learn from is initialized from a fixed seed, so that files repeat.
    """
    if nafnet.architecture != "nafnet":
        raise WeightsError(f"only NAFNet can become M²AENet, and these weights are {nafnet.architecture}")
    config = nafnet.config
    if config.guided or config.stem > 1:
        raise WeightsError("only NAFNet as published can become M²AENet, not one with a stem or guided")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = M2AENet(replace(config, mask=True, motion=True))
    network.load_state_dict(nafnet.state_dict(), strict=False)  # what is missing has just been made
    with torch.no_grad():
        state = network.state_dict()  # shares its memory with the network
        for name in ("mask_predictor.out_conv.4.weight", "motion_analyzer.weight", "motion_analyzer.bias"):
            state[name].zero_()
        state["mask_predictor.out_conv.4.bias"].copy_(torch.tensor([SURE, -SURE]))  # blurred, sharp
    skip_identity_blocks(network)
    return network.eval()
