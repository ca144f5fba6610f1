"""Restorers that follow what a detector found, and those behind a stem."""

from dataclasses import replace

import pytest
import torch
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import lively, lively_lmd_vit

from deblur_cli import weights
from deblur_cli.errors import WeightsError
from deblur_cli.nets import Detection, accelerate, create, place
from deblur_cli.weights import files

HALF = {"encoder": (1, 1, 2), "decoder": (1, 1, 1), "stem": 2, "guided": True}
STAGES = {1: (1, 1, 1, 2), 2: (1, 1, 2), 4: (1, 2)}


def guided(architecture="m2aenet", **options):
    return lively(architecture, **(HALF | options))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def findings(image, seed=0, multiple=8, reach=0.7):
    """What a detector that pads to some multiple might find: nothing in places, its own padding included."""
    batch, _, height, width = image.shape
    shape = (batch, -(-height // multiple) * multiple // 8, -(-width // multiple) * multiple // 8)
    generator = seeded(seed)
    probability = torch.rand(shape, generator=generator)[:, None]
    start, end = (reach * torch.randn(batch, 2, *shape[1:], generator=generator) for _ in range(2))
    return Detection(image, (height, width), probability, start, end)


@settings(max_examples=6)
@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    architecture=st.sampled_from(["m2aenet", "nafnet"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@torch.no_grad()
def test_an_untrained_guided_network_returns_its_input(height, width, architecture, dtype):
    network = place(accelerate(create(architecture, width=4, **HALF)), "cpu", dtype)
    image = torch.rand(2, 3, height, width, generator=seeded(height))
    result = network.restore(network.follow(image, findings(image, multiple=32)))
    assert torch.equal(result.image, image)


@torch.no_grad()
def test_a_guided_network_heeds_all_that_was_found_but_its_direction_in_time():
    network, image = guided(), torch.rand(1, 3, 64, 80, generator=seeded(1))
    found = findings(image)
    followed = network.follow(image, found)
    usual = network.restore(followed).image
    for name, changed in (("probability", 1 - found.probability), ("start", found.start / 2)):
        told = replace(found, **{name: changed})
        assert vectors.relative_error(network.restore(network.follow(image, told)).image, usual) > 1e-3
    backwards = replace(found, start=found.end, end=found.start)
    again = network.restore(network.follow(image, backwards)).image
    assert vectors.relative_error(again, usual) < 1e-5
    undone = torch.rand(image.shape, generator=seeded(2))
    assert vectors.relative_error(
        network.restore(network.follow(image, found, undone=undone)).image, usual
    ) > (1e-3)


@torch.no_grad()
def test_a_guided_network_finds_nothing_itself():
    network, image = guided(), torch.rand(1, 3, 32, 32)
    assert network.guided
    assert not network.detects
    assert not network.traces
    for action in (network, network.detect):
        with pytest.raises(RuntimeError, match="follows a detector"):
            action(image)
    followed = network.follow(image, Detection(image, (32, 32)))
    assert followed.probability.all()
    assert not followed.start.any()


@pytest.mark.parametrize("network", [lively(), lively(motion=False), lively("nafnet"), lively_lmd_vit()])
@torch.no_grad()
def test_networks_of_their_own_mind_take_what_another_found_in_the_place_of_it(network):
    image = torch.rand(1, 3, 72, 56, generator=seeded(3))  # padded differently by each of them
    found = findings(image)
    own, followed = network.detect(image), network.follow(image, found)
    assert torch.equal(followed.features, own.features)
    theirs = vars(found).copy()
    if own.start is not None:  # blur has no direction in time; each network keeps to its own
        moved = (own.end - own.start)[..., :9, :7] * (found.end - found.start)
        against = moved.sum(1, keepdim=True) < 0
        assert against.any() and not against.all()
        theirs["start"] = torch.where(against, found.end, found.start)
        theirs["end"] = torch.where(against, found.start, found.end)
    for name in ("probability", "start", "end"):
        mine, result = (getattr(which, name) for which in (own, followed))
        assert (mine is None) == (result is None)
        if mine is not None:
            assert result.shape == mine.shape
            assert torch.equal(result[..., :9, :7], theirs[name])
            assert not result[..., 9:, :].any()
            assert not result[..., 7:].any()
    assert network.restore(followed, 0.5).image.shape == image.shape
    if followed.probability is not None:
        mask = network.restore(followed, 0.5).mask
        assert torch.equal(mask, (followed.probability > 0.5).float())


def test_training_reaches_every_parameter_within_masks_of_drawn_thresholds():
    network, image = guided().train(), torch.rand(6, 3, 48, 48)
    found = findings(image)
    found.probability[:] = torch.linspace(0, 1, 36).view(6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = network.restore(network.follow(image, found))
    result.image.float().square().mean().backward()
    blind = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert blind == []
    shares = result.mask.mean((1, 2, 3))
    assert len(shares.unique()) > 3
    for mask, share in zip(result.mask, shares, strict=True):  # those of the highest probability
        assert torch.equal(mask.flatten(), (torch.arange(36) >= 36 * (1 - share) - 0.5).float())


def test_motion_learns_through_the_blocks_in_half_precision():
    network, image = lively().train(), torch.rand(1, 3, 48, 48)
    with torch.autocast("cpu", torch.bfloat16):
        result = network.restore(network.detect(image))
    result.image.float().square().mean().backward()
    assert network.motion_analyzer.weight.grad.any()


@pytest.mark.parametrize("stem", [1, 2, 4])
def test_mask_and_motion_are_at_an_eighth_or_there_is_no_such_network(stem):
    counts = [counts for counts in STAGES.values() if counts != STAGES[stem]]
    for encoder in counts:
        sizes = {"width": 4, "encoder": encoder, "decoder": (1,) * len(encoder), "stem": stem}
        for options in (
            {},
            {"mask": False},
            {"motion": False},
            {"mask": False, "motion": False, "guided": True},
        ):
            with pytest.raises(ValueError, match="1/8"):
                create("m2aenet", **sizes, **options)
        create("nafnet", **sizes)
    with pytest.raises(ValueError, match="stem is 3"):
        create("nafnet", width=4, stem=3)


def test_stem_and_guidance_travel_with_the_weights_and_leave_those_of_others_as_they_were(tmp_path):
    assert not {"stem", "guided"} & (
        lively().config_as_stored().keys() | lively("nafnet").config_as_stored().keys()
    )
    network = guided(motion=False)
    files.save(tmp_path / "half.safetensors", network, {}, half=False)
    loaded = weights.load(str(tmp_path / "half.safetensors"))
    assert loaded.network.config == network.config
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        results = [each.restore(each.follow(image, findings(image))) for each in (network, loaded.network)]
    assert torch.equal(results[0].image, results[1].image)
    with pytest.raises(WeightsError, match="as published"):
        weights.adapt(weights.LoadedWeights("x", "nafnet", "", guided("nafnet")), "m2aenet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem": 3}, "stem is 3"),
        ({"stem": 2.0}, "not all whole numbers"),
        ({"stem": True}, "not all whole numbers"),
        ({"stem": -2}, "not all above zero"),
        ({"guided": 1}, "true or false"),
        ({"stem": 4}, "1/8"),
    ],
)
def test_a_stem_that_is_none_is_refused(tmp_path, change, message):
    network = guided()
    config = network.config_as_stored()
    network.config_as_stored = lambda: config | change
    files.save(tmp_path / "odd.safetensors", network, {})
    with pytest.raises(WeightsError, match=message):
        weights.load(str(tmp_path / "odd.safetensors"))
