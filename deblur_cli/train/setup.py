"""What a run begins with: its network, its photos, the pictures it is scored on."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.errors import TrainingError, WeightsError
from deblur_cli.nets import Network
from deblur_cli.nets.blocks import NAFBlock
from deblur_cli.train.datasets import MULTIPLE, check_sizes, find_pairs, whole_pair
from deblur_cli.train.pool import find_photos, load_photos
from deblur_cli.train.sample_files import holds_samples, photos_digest, read_digest, read_samples
from deblur_cli.train.scores import fixed_set, only_motion
from deblur_cli.train.settings import NetworkSettings, TrainSettings, differences
from deblur_cli.train.synthetic import Sample
from deblur_cli.weights.model_card import history_of

LOG = logging.getLogger(__name__)
HELD_OUT = 8  # photos at the end of the folder that are scored on, never trained on
SHARP_SIDE = 512  # pixels at most, of the sharp pictures in the scores
SCORED = (16, 256)  # pictures and their side in the scores logged while training


def check_state(state: dict[str, Any], settings: TrainSettings, folder: Path) -> None:
    """Raise TrainingError for the state of another network; log what else is set differently now."""
    before = state.get("settings", {})
    network = {**asdict(NetworkSettings()), **before.get("network", {})}  # older runs had fewer settings
    if network != asdict(settings.network):
        raise TrainingError(f"{folder} holds a run of another network: choose another folder")
    if changes := differences(before, asdict(settings)):
        LOG.warning("settings differ from the run so far: %s", "; ".join(changes))


def split_photos(settings: TrainSettings, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """The photos to learn from and those held out, on the device; none where the settings name none.

    Raises TrainingError where there are too few, or nothing to learn from or to score on.
    """
    if not settings.photos and not settings.pairs:
        raise TrainingError("nothing to learn from: name a folder with --photos or --pairs")
    if not settings.photos and not settings.validation:
        raise TrainingError("nothing to score on: without photos, name a folder as setting 'validation'")
    if not settings.photos:
        return [], []
    held_out = 0 if settings.validation else HELD_OUT
    count = len(find_photos(Path(settings.photos)))
    if count <= held_out:
        raise TrainingError(
            f"{settings.photos} holds {count} photos; at least {held_out + 1} are needed, as the last "
            f"{held_out} are only scored on"
        )
    photos = load_photos(Path(settings.photos), device)
    return photos[: count - held_out], photos[count - held_out :]


def validation_set(settings: TrainSettings, held_out: list[Tensor], device: str) -> Iterator[Sample]:
    """What the run is scored on, one by one, always the same.

    Raises TrainingError, before the first, where a folder cannot be used.
    """
    if not settings.validation:
        count, size = SCORED
        return fixed_set(held_out, count, size, only_motion(settings.blur), seed=1)
    folder = Path(settings.validation)
    if holds_samples(folder):
        return (sample.to(device) for sample in read_samples(folder))
    return (whole_pair(pair).to(device) for pair in find_pairs(folder))


def sharp_crops(photos: Sequence[Tensor]) -> list[Tensor]:
    """The middles of photos uint8 3 H W as pictures 1 3 h w in 0-1, in which nothing is to be found."""
    crops = []
    for photo in photos:
        height, width = (min(side, SHARP_SIDE) // MULTIPLE * MULTIPLE for side in photo.shape[1:])
        top, left = (photo.shape[1] - height) // 2, (photo.shape[2] - width) // 2
        crops.append(photo[None, :, top : top + height, left : left + width].float() / 255)
    return crops


def check_validation(settings: TrainSettings) -> None:
    """Raise TrainingError where a folder to score on cannot be used, as far as headers tell."""
    folder = Path(settings.validation)
    if settings.validation and holds_samples(folder):
        read_samples(folder)
    elif settings.validation:
        check_sizes(find_pairs(folder), MULTIPLE)


def scored_on(settings: TrainSettings, photos: list[Tensor], held_out: list[Tensor]) -> dict[str, Any]:
    """What the scores are about, for the model card: so many photos held out, or a folder by its name.

    `learned_from` tells that a folder shows what is trained on too, as far as that can be seen; this is
    logged as well.
    """
    if not settings.validation:
        return {"held_out": len(held_out)}
    folder = Path(settings.validation)
    sources = [Path(source).resolve() for source in settings.pairs]
    place = folder.resolve()
    shared = any(place.is_relative_to(source) or source.is_relative_to(place) for source in sources)
    if photos and not shared and holds_samples(folder):
        shared = read_digest(folder) == photos_digest(photos)
    if shared:
        LOG.warning("%s shows what is learned from: its scores will be too good", folder)
    return {"folder": place.name, "learned_from": shared}


def compile_blocks(network: nn.Module) -> None:
    """Let torch.compile fuse each block; blocks of the same shape share their code.

    Shapes are fixed, as they are in every step: torch fails on the strides of blocks of any size.
    """
    blocks = [block for block in network.modules() if isinstance(block, NAFBlock)]
    forms = 2 * len(blocks)  # at most, as each meets a mask with and without gradient
    config = torch._dynamo.config
    config.cache_size_limit = max(config.cache_size_limit, forms)  # beyond, blocks would not be compiled
    for block in blocks:
        cast(nn.Module, block).compile(dynamic=False)


def begin_from(name: str, network: Network) -> list[dict[str, Any]]:
    """Take over trained weights, and return the runs that made them, oldest first.

    Raises TrainingError for weights of another network, WeightsError.
    """
    loaded = weights.load(name)
    trained, wanted = loaded.network.state_dict(), network.state_dict()
    if [(key, value.shape) for key, value in trained.items()] != [(k, v.shape) for k, v in wanted.items()]:
        raise TrainingError(f"{name} holds another network than the settings describe: adapt [network]")
    network.load_state_dict(trained)
    try:
        return history_of(loaded.notes)
    except WeightsError as error:
        LOG.warning("%s: %s; what is trained now tells of this run alone", name, error)
        return []
