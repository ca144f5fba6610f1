import json
from functools import partial
from math import prod

import pytest
import torch
import vectors
from hypothesis import given
from hypothesis import strategies as st
from networks import lively

from deblur_cli.nets import accelerate, create
from deblur_cli.nets.blocks import Average
from deblur_cli.nets.motion import (
    deformable_reference,
    deformable_rows,
    from_double_angle,
    plan_sampling,
    tap_positions,
    to_double_angle,
    trajectory,
)

VECTORS = {
    "nafnet_width32": ("nafnet", {}),
    "nafnet_tlc_width16": ("nafnet", {"width": 16, "encoder": (1, 1, 1, 2), "pooling": 96}),
    "m2aenet_width32": ("m2aenet", {}),
    "m2aenet_width16": ("m2aenet", {"width": 16, "encoder": (1, 1, 1, 4)}),
}


@pytest.mark.parametrize(
    "form", [lambda plain: plain, partial(accelerate, exact=True)], ids=["plain", "fast"]
)
@pytest.mark.parametrize("name", VECTORS)
@torch.no_grad()
def test_agrees_with_independent_implementations(name, form):
    vector = vectors.load(name)
    architecture, sizes = VECTORS[name]
    network = vectors.rebuild_weights(create(architecture, **sizes), vector)
    network = form(network)
    result = network(vectors.rebuild_input(vector), epsilon=float(vector.get("epsilon", 0.5)))
    assert vectors.relative_error(result.image, vector["output"]) < 1e-5
    if architecture == "m2aenet":
        assert torch.equal(result.mask, torch.from_numpy(vector["mask"]))
        for part in ("probability", "start", "end"):
            assert vectors.relative_error(getattr(result, part), vector[part]) < 1e-5


@pytest.mark.parametrize("architecture", ["m2aenet", "nafnet"])
def test_parameters_have_the_published_names_and_shapes(architecture):
    path = vectors.FOLDER / f"{architecture}_width32.keys.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        state = create(architecture, width=32).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == expected
    if architecture == "m2aenet":
        assert sum(prod(shape) for shape in expected.values()) == 17_437_865


@pytest.mark.parametrize(
    ("architecture", "sizes", "message"),
    [
        ("resnet", {}, "resnet"),
        ("nafnet", {"stem": 3}, "stem is 3"),
        ("m2aenet", {"mask": False, "mask_conv3": True}, "need a mask"),
        ("m2aenet", {"mask": False, "mask_conv4": True}, "need a mask"),
    ],
)
def test_what_is_no_network_is_refused(architecture, sizes, message):
    with pytest.raises(ValueError, match=message):
        create(architecture, width=4, **sizes)


@torch.no_grad()
def test_epsilon_chooses_the_mask():
    network, image = lively(), torch.rand(1, 3, 64, 48)
    result = network(image, epsilon=0.5)
    assert torch.equal(result.mask, (result.probability > 0.5).float())
    assert 0 < result.mask.mean() < 1
    assert not network(image, epsilon=1.0).mask.any()


def motion_case(seed, reach):
    """Features, displacements at the start and end, kernel and bias, and a gradient from above."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 6, 9, 7), (2, 2, 9, 7), (2, 2, 9, 7), (6, 1, 3, 3), (6,), (2, 6, 9, 7)]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    tensors[1:3] = [displacement * reach for displacement in tensors[1:3]]
    return [tensor.requires_grad_() for tensor in tensors[:5]], tensors[5]


def deform(x, start, end, weight, bias):
    """The fast deformable convolution on B C H W."""
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    rows = deformable_rows(rows, plan_sampling(start, end), weight, bias)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("reach", [0.0, 1.5, 30.0], ids=["still", "near", "leaving the image"])
def test_fast_deformable_convolution_and_its_gradients_equal_the_reference(reach):
    inputs, upstream = motion_case(0, reach)
    x, start, end, weight, bias = inputs
    reference = deformable_reference(x, tap_positions(start, end), weight, bias)
    fast = deform(*inputs)
    torch.testing.assert_close(fast, reference, rtol=1e-5, atol=1e-5)
    expected = torch.autograd.grad(reference, inputs, upstream)
    # at whole-pixel positions bilinear sampling has a kink, where either side's slope is right
    compared = slice(0, None) if reach else slice(3, None)
    for found, wanted in zip(
        torch.autograd.grad(fast, inputs, upstream)[compared], expected[compared], strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_deformable_convolution_in_bfloat16_and_its_gradients_are_those_of_float32_but_for_rounding():
    (x, start, end, weight, bias), upstream = motion_case(0, 1.5)
    x, upstream = x.detach().bfloat16().requires_grad_(), upstream.bfloat16()
    inputs, exact = [x, start, end, weight, bias], x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        fast = deform(*inputs)
    assert fast.dtype == torch.bfloat16
    reference = deformable_reference(exact, tap_positions(start, end), weight, bias)
    found = torch.autograd.grad(fast, inputs, upstream)
    wanted = torch.autograd.grad(reference, [exact, *inputs[1:]], upstream.float())
    # values are rounded by 2^-9 at most: kernel, weights of a lookup, its result, and the sum over the taps
    for rough, accurate in ((fast, reference), (found[0], wanted[0]), (found[3], wanted[3])):
        assert vectors.relative_error(rough.detach().float(), accurate.detach()) < 4 * 2**-9
    # displacements and bias gain sums of values that were not rounded on the way
    for place in (1, 2, 4):
        assert vectors.relative_error(found[place], wanted[place]) < 1e-5


def test_still_pixels_make_it_an_ordinary_convolution():
    (x, start, end, weight, bias), _ = motion_case(1, 0.0)
    ordinary = torch.nn.functional.conv2d(x, weight, bias, padding=1, groups=6)
    torch.testing.assert_close(deformable_reference(x, tap_positions(start, end), weight, bias), ordinary)


def test_trajectory_runs_from_start_through_the_pixel_to_end():
    start, end = torch.randn(2, 5, 5), torch.randn(2, 5, 5)
    path = trajectory(start, end, 9)
    torch.testing.assert_close(path[0], start)
    torch.testing.assert_close(path[8], end)
    assert torch.equal(path[4], torch.zeros_like(start))
    # Eq. 4 by hand at u = 1/2: (s + e)/2 / 4 + (e - s)/2 / 2
    torch.testing.assert_close(path[6], (start + end) / 8 + (end - start) / 4)


displacement = st.floats(-40, 40, width=32)


@given(st.lists(st.tuples(displacement, displacement, displacement, displacement), min_size=1, max_size=8))
def test_the_double_angle_keeps_a_motion_up_to_its_direction_in_time(motions):
    start, end = torch.tensor(motions).t().reshape(1, 4, 1, -1).split(2, 1)
    field = to_double_angle(start, end)
    assert torch.equal(to_double_angle(end, start), field)
    first, last = from_double_angle(field)
    assert (last - first)[:, 1].min() >= 0
    torch.testing.assert_close(first + last, start + end, rtol=1e-5, atol=1e-5)
    forwards = (first - start).norm(dim=1) + (last - end).norm(dim=1)
    backwards = (first - end).norm(dim=1) + (last - start).norm(dim=1)
    assert torch.minimum(forwards, backwards).max() < 1e-3


def test_the_double_angle_of_a_vertical_motion_is_one_whichever_way_it_leans():
    leaning = torch.tensor([[4.0, 0.01], [4.0, -0.01]]).t().view(1, 2, 1, 2)  # (dy, dx) of two pixels
    start, end = from_double_angle(to_double_angle(-leaning, leaning))
    assert (end[..., 0] - end[..., 1]).norm() > 7  # decoded first, they would cancel each other
    between = to_double_angle(-leaning, leaning).mean(-1, keepdim=True)
    start, end = from_double_angle(between)
    assert (end - start).norm().item() == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-3])
def test_the_double_angle_has_finite_gradients_where_nothing_moves(size):
    start = (torch.tensor([0.0, 0.0, 1.0]) * size).expand(1, 2, 1, 3).clone().requires_grad_()
    end = (torch.tensor([0.0, 1.0, 0.0]) * size).expand(1, 2, 1, 3).clone().requires_grad_()
    field = to_double_angle(start, end)
    back = from_double_angle(field)
    for gradient in torch.autograd.grad(field.sum() + back[0].sum() + 2 * back[1].sum(), (start, end)):
        assert gradient.isfinite().all()
        assert gradient.any()  # the mean at least


def plain_local_mean(x, window):
    """Mean over the whole window nearest to each pixel, the slow way."""
    height, width = x.shape[-2:]
    rows, columns = min(window, height), min(window, width)
    result = torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            top = min(max(i - (rows - 1) // 2, 0), height - rows)
            left = min(max(j - (columns - 1) // 2, 0), width - columns)
            result[..., i, j] = x[..., top : top + rows, left : left + columns].mean((-2, -1))
    return result


@given(height=st.integers(1, 14), width=st.integers(1, 14), window=st.integers(1, 16))
def test_local_average_is_the_mean_of_the_nearest_whole_window(height, width, window):
    x = torch.randn(1, 2, height, width)
    found = Average(window)(x).expand_as(x)
    torch.testing.assert_close(found, plain_local_mean(x, window), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_training_samples_masks_and_reaches_every_parameter(half):
    network = lively().train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        result = network(torch.rand(1, 3, 48, 48))
    result.image.float().square().mean().backward()
    blind = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert blind == []
