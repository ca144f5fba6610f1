"""Restorers that follow a detector, and those behind a stem."""

from dataclasses import replace

import pytest
import torch
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import STAGES, detection_of, lively, lively_lmd_vit, seeded, told

from deblur_cli import weights
from deblur_cli.errors import WeightsError
from deblur_cli.nets import Detection, accelerate, create, place
from deblur_cli.weights import files


def answer(network, image, detection, **told):
    """What a restorer makes of a picture and of what was detected in it."""
    return network.restore(network.follow(image, detection, **told)).image


@settings(max_examples=6)
@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    architecture=st.sampled_from(["m2aenet", "nafnet"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@torch.no_grad()
def test_an_untrained_guided_network_returns_its_input(height, width, architecture, dtype):
    sizes = {"width": 4, "encoder": (1, 1, 2), "decoder": (1, 1, 1), "stem": 2}
    network = place(accelerate(create(architecture, guided=True, **sizes)), "cpu", dtype)
    image = torch.rand(2, 3, height, width, generator=seeded(height))
    assert torch.equal(answer(network, image, detection_of(image, multiple=32)), image)


@torch.no_grad()
def test_a_guided_network_heeds_all_that_was_detected_but_its_direction_in_time():
    network, image = told(), torch.rand(1, 3, 64, 80, generator=seeded(1))
    detected = detection_of(image)
    usual = answer(network, image, detected)
    changes = ({"probability": 1 - detected.probability}, {"start": detected.start / 2})
    others = [answer(network, image, replace(detected, **change)) for change in changes]
    others.append(answer(network, image, detected, undone=torch.rand(image.shape, generator=seeded(2))))
    assert all(vectors.relative_error(other, usual) > 1e-3 for other in others)
    backwards = replace(detected, start=detected.end, end=detected.start)
    assert vectors.relative_error(answer(network, image, backwards), usual) < 1e-5


@torch.no_grad()
def test_a_guided_network_detects_nothing_itself():
    network, image = told(), torch.rand(1, 3, 32, 32)
    for action in (network, network.detect):
        with pytest.raises(RuntimeError, match="follows a detector"):
            action(image)
    followed = network.follow(image, Detection(image, (32, 32)))
    assert followed.probability.all() and not followed.start.any()


@pytest.mark.parametrize("network", [lively(), lively(motion=False), lively("nafnet"), lively_lmd_vit()])
@torch.no_grad()
def test_what_a_detector_detected_replaces_what_a_network_detects_itself(network):
    image = torch.rand(1, 3, 72, 56, generator=seeded(3))  # padded differently by each of them
    found = detection_of(image)
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
            assert not result[..., 9:, :].any() and not result[..., 7:].any()
    restored = network.restore(followed, 0.5)
    assert restored.image.shape == image.shape
    if followed.probability is not None:
        assert torch.equal(restored.mask, (followed.probability > 0.5).float())


def test_training_reaches_every_parameter_within_masks_of_drawn_thresholds():
    network, image = told().train(), torch.rand(6, 3, 48, 48)
    detected = detection_of(image)
    detected.probability[:] = torch.linspace(0, 1, 36).view(6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = network.restore(network.follow(image, detected))
    result.image.float().square().mean().backward()
    blind = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert blind == []
    shares = result.mask.mean((1, 2, 3))
    assert len(shares.unique()) > 3
    for mask, share in zip(result.mask, shares, strict=True):  # those of the highest probability
        assert torch.equal(mask.flatten(), (torch.arange(36) >= 36 * (1 - share) - 0.5).float())


@pytest.mark.parametrize("stem", STAGES)
def test_mask_and_motion_are_at_an_eighth_or_there_is_no_such_network(stem):
    for encoder in STAGES.values():
        if encoder == STAGES[stem]:
            continue
        sizes = {"width": 4, "encoder": encoder, "decoder": (1,) * len(encoder), "stem": stem}
        without = {"mask": False, "motion": False}
        for options in ({}, {"mask": False}, {"motion": False}, without | {"guided": True}):
            with pytest.raises(ValueError, match="1/8"):
                create("m2aenet", **sizes, **options)
        create("nafnet", **sizes)


def test_stem_and_guidance_travel_with_the_weights_and_leave_those_of_others_as_they_were(tmp_path):
    for network in (lively(), lively("nafnet")):
        assert not {"stem", "guided"} & network.config_as_stored().keys()
    network, image = told(motion=False), torch.rand(1, 3, 32, 48)
    files.save(tmp_path / "half.safetensors", network, {}, half=False)
    loaded = weights.load(str(tmp_path / "half.safetensors")).network
    assert loaded.config == network.config
    with torch.no_grad():
        results = [answer(each, image, detection_of(image)) for each in (network, loaded)]
    assert torch.equal(*results)
    with pytest.raises(WeightsError, match="as published"):
        weights.adapt(weights.LoadedWeights("x", "nafnet", "", told(architecture="nafnet")), "m2aenet")
