"""How layers move: the trajectory's definition, warping, and what the open shutter adds up."""

import cmath
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.train.trajectory import STEP, Motion, expose, hand_shake, pixel_grid, random_motion, shutter

pixels = st.floats(-12, 12, width=32)
CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def motion_of(start=(0.0, 0.0), end=(0.0, 0.0), center=(16.0, 16.0), turn=0.0, growth=0.0):
    return Motion(*(torch.tensor([value]) for value in (start, end, center, turn, growth)))


def evenly(instants, count=1):
    return torch.full((count, instants), 1 / instants)


@settings(max_examples=10)
@given(start=st.tuples(pixels, pixels), end=st.tuples(pixels, pixels))
def test_the_center_goes_through_start_mid_exposure_and_end_along_a_parabola(start, end):
    motion = motion_of(start, end)
    assert torch.allclose(motion.shift(-1), torch.tensor([start]), atol=1e-5)
    assert torch.allclose(motion.shift(0), torch.zeros(1, 2))
    assert torch.allclose(motion.shift(1), torch.tensor([end]), atol=1e-5)
    places = torch.cat([motion.shift(time / 4) for time in range(-4, 5)])
    bends = places.diff(dim=0).diff(dim=0)
    assert torch.allclose(bends, bends[:1].expand_as(bends), atol=1e-5)  # evenly accelerated


@settings(max_examples=10)
@given(
    start=st.tuples(pixels, pixels),
    end=st.tuples(pixels, pixels),
    turn=st.floats(-0.5, 0.5, width=32),
    growth=st.floats(-0.25, 0.25, width=32),
    time=st.sampled_from([-1.0, -0.3, 0.0, 0.7, 1.0]),
    place=st.tuples(st.integers(0, 23), st.integers(0, 31)),
)
def test_displacements_turn_and_grow_around_the_center_and_shift_with_it(
    start, end, turn, growth, time, place
):
    motion = motion_of(start, end, (10.0, 20.0), turn, growth)
    found = motion.displacement(24, 32, time)
    assert found.shape == (1, 2, 24, 32)
    # y as the real and x as the imaginary part: turning and growing is one multiplication
    offset = complex(*place) - complex(10, 20)
    moved = offset * cmath.exp(complex(growth, turn) * time) - offset + complex(*motion.shift(time)[0])
    down, right = found[0, :, place[0], place[1]].tolist()
    assert (down, right) == pytest.approx((moved.real, moved.imag), abs=1e-4)


@pytest.mark.parametrize("time", [-1.0, 0.4, 1.0])
def test_displacements_say_where_warping_brings_each_pixel(time):
    motion = motion_of((-3.0, 2.0), (4.0, -1.0), (20.0, 28.0), turn=0.2, growth=0.1)
    y, x = pixel_grid(48, 48, CPU)
    layer = torch.stack([torch.sin(y / 6), torch.cos(x / 7)]).unsqueeze(0)
    moved = motion.warp(layer, time)
    place = pixel_grid(48, 48, CPU) + motion.displacement(48, 48, time)
    grid = (2 * place.flip(1).permute(0, 2, 3, 1) + 1) / 48 - 1  # (y, x) in pixels -> (x, y) in -1..1
    back = F.grid_sample(moved, grid, align_corners=False)
    assert (back - layer)[..., 14:-14, 14:-14].abs().max() < 0.02
    assert (moved - layer)[..., 14:-14, 14:-14].abs().max() > 0.1  # it did move


@settings(max_examples=8)
@given(down=st.integers(-4, 4), right=st.integers(-4, 4), seed=st.integers(0, 99))
def test_an_exposure_is_the_mean_of_shifted_copies(down, right, seed):
    # twice the way in whole steps: the instants fall on whole pixels, which plain rolling reaches too
    layer = torch.zeros(1, 4, 32, 32)
    layer[..., 10:22, 10:22] = torch.rand(1, 4, 12, 12, generator=seeded(seed))
    motion = motion_of((-2.0 * down, -2.0 * right), (2.0 * down, 2.0 * right))
    copies = [layer.roll((step * down, step * right), (2, 3)) for step in range(-2, 3)]
    assert torch.allclose(expose(layer, motion, evenly(5)), torch.stack(copies).mean(0), atol=1e-4)
    weights = torch.tensor([[0.5, 0.0, 0.25, 0.0, 0.25]])  # a shutter that closes twice
    gathered = 0.5 * copies[0] + 0.25 * copies[2] + 0.25 * copies[4]
    assert torch.allclose(expose(layer, motion, weights), gathered, atol=1e-4)


def test_each_picture_of_a_batch_moves_on_its_own():
    both = random_motion(torch.tensor([[10.0, 12.0], [20.0, 9.0]]), 32, (4, 16), 1.0, seeded())
    layer, weights = torch.rand(2, 4, 32, 32), shutter(torch.tensor([9, 7]), 1.0, seeded(3))
    exposed, moved = expose(layer, both, weights), both.displacement(32, 32, 1)
    for index in range(2):
        one = slice(index, index + 1)
        alone = both.picked(torch.tensor([index]))
        assert torch.allclose(expose(layer[one], alone, weights[one]), exposed[one], atol=1e-5)
        assert torch.allclose(alone.displacement(32, 32, 1), moved[one], atol=1e-5)


@settings(max_examples=10)
@given(length=st.floats(0.5, 60, width=32))
def test_instants_on_a_straight_way_are_close_and_include_mid_exposure(length):
    motion = motion_of((0.0, -length / 2), (0.0, length / 2))
    (instants,) = motion.instants(32).tolist()
    assert instants % 2 == 1 and instants >= 3
    assert length / (instants - 1) <= STEP + 1e-5


def test_each_of_a_batch_takes_the_instants_it_needs_and_none_where_nothing_moves():
    motion = both(motion_of(), motion_of((0.0, -30.0), (0.0, 30.0)), motion_of((1.0, 0.0), (-1.0, 0.0)))
    assert motion.instants(32).tolist() == [0, 41, 3]


def test_instants_are_close_at_the_corners_of_a_frame_that_turns():
    motion = motion_of(turn=0.5, center=(32.0, 32.0))
    (instants,) = motion.instants(64).tolist()
    steps = [motion.displacement(64, 64, 2 * index / (instants - 1) - 1) for index in range(instants)]
    assert torch.stack(steps).diff(dim=0).norm(dim=2).max() < 1.1 * STEP


def test_what_is_at_rest_is_exposed_as_it_is_beside_what_moves():
    layer = torch.rand(3, 4, 32, 32, generator=seeded())
    motion = both(motion_of(), motion_of((0.0, -6.0), (0.0, 6.0)), motion_of())
    exposed = expose(layer, motion, shutter(motion.instants(32), 0.0, seeded()))
    assert torch.equal(exposed[0], layer[0]) and torch.equal(exposed[2], layer[2])
    alone = expose(layer[1:2], motion_of((0.0, -6.0), (0.0, 6.0)), evenly(9))
    assert torch.allclose(exposed[1:2], alone, atol=1e-6)


def both(*motions):
    """Motions of one each as a batch."""
    parts = zip(
        *((m.start, m.end, m.center, m.turn, m.growth, m.wobble.expand(1, 2)) for m in motions), strict=True
    )
    return Motion(*(torch.cat(part) for part in parts))


@settings(max_examples=10)
@given(seed=st.integers(0, 999), time=st.sampled_from([-1.0, 0.0, 1.0]))
def test_motion_over_a_frame_goes_where_the_frame_has_carried_it(seed, time):
    frame = hand_shake(3, 48, (2, 40), seeded(seed))
    own = random_motion(torch.full((3, 2), 20.0), 48, (2, 20), 1.0, seeded(seed + 1))
    together = own.over(frame)
    carried, alone = frame.at(own.center.unsqueeze(2), time), own.at(own.center.unsqueeze(2), time)
    assert torch.allclose(together.at(own.center.unsqueeze(2), time), carried + alone, atol=1e-4)
    resting = own.scaled(torch.zeros(3)).over(frame)  # it is part of the frame
    assert torch.allclose(resting.displacement(48, 48, time), frame.displacement(48, 48, time), atol=1e-3)


def test_a_wobbling_path_leaves_the_parabola_by_as_much_as_it_says_and_meets_it_at_three_times():
    plain = motion_of((-3.0, 2.0), (4.0, -1.0))
    wobbling = replace(plain, wobble=torch.tensor([[1.5, -2.0]]))
    for time in (-1, 0, 1):
        assert torch.allclose(wobbling.shift(time), plain.shift(time), atol=1e-6)
    off = torch.cat([wobbling.shift(time / 50) - plain.shift(time / 50) for time in range(-50, 51)])
    assert off.norm(dim=1).max().item() == pytest.approx(2.5, rel=0.01)


def shaken(count=600, size=64, lengths=(3.0, 24.0)):
    return hand_shake(count, size, lengths, seeded())


def test_shaken_frames_shift_roll_and_zoom():
    motion = shaken()
    turned, grown = motion.turn != 0, motion.growth != 0
    assert 0.4 < turned.float().mean() < 0.6 and 0.2 < grown.float().mean() < 0.3
    assert 0.3 < (~turned & ~grown).float().mean() < 0.45
    for sign in (motion.turn, motion.growth):
        assert (sign > 0).any() and (sign < 0).any()
    inside = ((motion.center > 0) & (motion.center < 64)).all(1)
    assert 0.1 < inside.float().mean() < 0.3


def test_no_corner_of_a_shaken_frame_goes_farther_than_the_longest():
    motion = shaken()
    corners = torch.tensor([[0.0, 0.0, 64, 64], [0, 64, 0, 64]]).expand(600, 2, 4)
    way = (motion.at(corners, 1) - motion.at(corners, -1)).norm(dim=1).amax(1)
    assert way.max() < 24 * 1.05 and way.max() > 18
    assert way.median() > 4


def drawn(count=600, size=64, lengths=(3.0, 24.0), spread=1.0):
    return random_motion(torch.full((count, 2), size / 2), size, lengths, spread, seeded())


def test_blur_lengths_stay_within_the_settings_and_fill_them_evenly_in_octaves():
    motion = drawn()
    length = (motion.end - motion.start).norm(dim=1)
    assert 3 - 1e-4 < length.min() < 3.5 and 20 < length.max() < 24 + 1e-4
    octaves = [((length > low) & (length <= 2 * low)).float().mean() for low in (3, 6, 12)]
    assert all(0.26 < share < 0.41 for share in octaves)


def test_motion_goes_into_all_directions_and_bends_slightly():
    motion = drawn()
    way = motion.end - motion.start
    quarters = [((way[:, 0] > 0) == down) & ((way[:, 1] > 0) == right) for down in (0, 1) for right in (0, 1)]
    assert all(0.18 < quarter.float().mean() < 0.32 for quarter in quarters)
    bend = (motion.start + motion.end) / 2
    assert (bend.norm(dim=1) <= 0.2 * way.norm(dim=1) + 1e-4).all()
    assert bend.norm(dim=1).max() > 1
    assert (bend * way).sum(1).abs().max() < 1e-2  # to the side of the way


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_turning_and_growing_move_no_edge_farther_than_the_object_moves(spread):
    size = 64
    motion = drawn(size=size, spread=spread)
    radius = size * spread / 2
    length = (motion.end - motion.start).norm(dim=1)
    reach = radius * (motion.linear(1) - motion.linear(-1))[:, :, 0].norm(dim=1)
    assert (reach <= length * 1.05).all()
    assert 0.35 < (motion.turn != 0).float().mean() < 0.65
    assert reach.max() > 1


@settings(max_examples=10)
@given(instants=st.integers(1, 20), share=st.floats(0, 1, width=32), seed=st.integers(0, 99))
def test_the_shutter_gathers_the_whole_light_and_is_open_at_first_and_last(instants, share, seed):
    number = 2 * instants + 1
    weights = shutter(torch.tensor([number] * 5 + [3, 0]), share, seeded(seed))
    assert weights.shape == (7, number)
    assert (weights[6] == 0).all() and (weights[5, 3:] == 0).all()
    assert weights[5].sum().item() == pytest.approx(1, abs=1e-5) and weights[5, 2] > 0
    weights = weights[:5]
    assert torch.allclose(weights.sum(1), torch.ones(5), atol=1e-5)
    assert (weights >= 0).all() and (weights[:, 0] > 0).all() and (weights[:, -1] > 0).all()
    for row in weights:
        opened = row[row > 0]
        assert torch.allclose(opened, opened[:1].expand_as(opened))


def test_gaps_come_in_the_share_asked_for_and_last_a_tenth_to_a_third():
    closed = (shutter(torch.full((600,), 121), 0.3, seeded()) == 0).float()
    gapped = closed.any(1)
    assert 0.24 < gapped.float().mean() < 0.36
    lasting = closed.mean(1)[gapped]
    assert lasting.min() > 0.09 and lasting.max() < 0.34
    assert lasting.min() < 0.13 and lasting.max() > 0.3
    edges = closed.diff(dim=1).abs().sum(1)[gapped]
    assert (edges == 2).all()  # closed once, at a stretch
    assert not (shutter(torch.full((50,), 121), 0.0, seeded()) == 0).any()
    assert (shutter(torch.full((50,), 121), 1.0, seeded()) == 0).any(1).all()
