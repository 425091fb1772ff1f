"""The least distance over views, against Pillow's resizing and NumPy's slices, view by view."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import genonset
from genonset import seeds
from genonset.errors import DataError
from genonset.features import coordinates
from genonset.views import Views, windows


def gaussian(*shape):
    return torch.randn(shape, generator=seeds.generator(3, *shape), dtype=torch.float64)


def rows(images):
    return images.flatten(1)


def plain(shape):
    return Views(shape=shape, onto=rows)


def said(views, samples, points):
    return [change.sentence for change in views.changes(rows(samples), rows(points))]


def enlarged(image, window):
    top, left, height, width = window
    part = image[top : top + height, left : left + width].astype(np.float32)
    size = image.shape[::-1]
    return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR)).ravel()


def least_distances(queries, points):
    """Every flip and pair of windows, one image at a time."""
    found = np.full((len(queries), len(points)), np.inf)
    for mine, other in windows(*queries.shape[1:]):
        seen = np.stack([enlarged(p, other) for p in points])
        for flipped in (queries, queries[:, :, ::-1], queries[:, ::-1], queries[:, ::-1, ::-1]):
            own = np.stack([enlarged(q, mine) for q in flipped])
            gaps = np.linalg.norm(own[:, None] - seen[None], axis=2)
            found = np.minimum(found, gaps)
    return found


@pytest.mark.parametrize(("height", "width"), [(5, 9), (8, 8)])
def test_neighbours_are_those_of_the_least_distance_over_all_views(height, width):
    queries, points = gaussian(7, height, width), gaussian(9, height, width)
    expected = least_distances(queries.numpy(), points.numpy())
    distances, indices = plain((height, width)).nearest(rows(queries), rows(points), 3)
    assert indices.numpy().tolist() == expected.argsort(1)[:, :3].tolist()
    assert distances.numpy() == pytest.approx(np.sort(expected, 1)[:, :3], rel=1e-5)


def least_with_contrast(queries, points, onto):
    """Every view but those in which a window is flat and its image is not, one pair at a time."""
    found = np.full((len(queries), len(points)), np.inf)

    def parts(images, window):
        top, left, height, width = window
        inside = images[:, top : top + height, left : left + width]
        bare = (np.ptp(inside, (1, 2)) == 0) & (np.ptp(images, (1, 2)) > 0)
        drawn = np.stack([enlarged(x, window).reshape(x.shape) for x in images])
        return onto(torch.from_numpy(drawn).double()).numpy(), bare

    for mine, other in windows(*queries.shape[1:]):
        seen, void = parts(points, other)
        for flipped in (queries, queries[:, :, ::-1], queries[:, ::-1], queries[:, ::-1, ::-1]):
            own, nothing = parts(flipped, mine)
            gaps = np.linalg.norm(own[:, None] - seen[None], axis=2)
            gaps[nothing] = np.inf
            gaps[:, void] = np.inf
            found = np.minimum(found, gaps)
    return found


def pages(n, side=12, seed=0):
    """White pages with a stroke near the border: many of their parts are white."""
    rng = np.random.default_rng(seed)
    found = np.ones((n, side, side))
    for page in found:
        row, column = rng.integers(0, side - 2), rng.choice([0, 1, side - 2])
        page[row : row + 2, column : column + 2] = rng.uniform(-1, 0.5, size=(2, 2))
    return found


@pytest.mark.parametrize("features", ["pixels", "normalized", "lowpass"])
def test_a_part_without_contrast_matches_nothing(features):
    """Black, grey and white samples against white pages, and pages against pages."""
    points = np.concatenate([pages(14), np.full((2, 12, 12), [[[0.2]], [[1.0]]])])
    queries = np.concatenate([pages(5, seed=1), points[:3, :, ::-1], points[14:], -points[15:]])
    pool = torch.from_numpy(points)
    onto = rows if features == "pixels" else coordinates([pool], features)
    views = Views(shape=(12, 12), onto=onto)
    expected = least_with_contrast(queries, points, onto)
    distances, indices = views.nearest(rows(torch.from_numpy(queries.copy())), rows(pool), 4)
    # Pillow's pixels are of single precision
    assert distances.numpy() == pytest.approx(np.sort(expected, 1)[:, :4], rel=1e-5, abs=3e-6)
    assert indices[5:10, 0].tolist() == [0, 1, 2, 14, 15]
    assert (distances[5:10, 0] == 0).all()
    if features != "pixels":
        grey = (0.2 + 1) / ((points.max() - points.min()) / 2)
        assert distances[10, 0] == pytest.approx(grey), "black, against grey"
        assert (distances[8:, 2] > 2).all(), "two flat pages, then what is not flat"
        assert (distances[:8, 3] < 2).all()


def test_most_of_the_points_may_match_nothing_in_a_view():
    """Fewer points than neighbours asked for are left of the crops; the whole images are there."""
    points = torch.ones(3, 8, 8, dtype=torch.float64)
    points[:, 0, 0] = torch.tensor([0.0, 0.5, 0.7]).double()
    distances, indices = plain((8, 8)).nearest(rows(points[:1]), rows(points), 3)
    assert indices.tolist() == [[0, 1, 2]]
    assert distances[0].numpy() == pytest.approx([0, 0.5, 0.7])


def test_black_samples_are_no_copies_of_white_pages_with_a_mark():
    """After the gain 0 they are, of every crop that leaves the mark out."""
    training, held_out, fresh = (pages(60, seed=k) for k in (2, 3, 4))
    marks = training[:6].copy()
    training[30:] = np.random.default_rng(5).uniform(-1, 1, size=(30, 12, 12))
    generated = np.concatenate([-np.ones((20, 12, 12)), fresh, marks])
    generated[:20] += np.linspace(0, 0.2, 20)[:, None, None]  # twenty blacks
    found = genonset.audit(generated, training, held_out, robust=True)
    assert (found.evidence.to_training[:20] > 2).all()
    assert (found.evidence.to_held_out[:20] > 2).all()
    assert found.evidence.to_training[-6:].tolist() == [0] * 6
    assert not {f.index for f in found.copying.flagged} & set(range(20))


@pytest.mark.parametrize("shape", [(3, 6, 9), (8, 8)])
def test_coarse_coordinates_of_windows_are_those_of_the_enlarged_images(shape):
    images = gaussian(4, *shape)
    onto = coordinates([images], "lowpass")
    views = Views(shape=shape, onto=onto)
    drawn = Views(shape=shape, onto=lambda x: onto(x))  # takes the images themselves
    one, two = (v.nearest(rows(images), rows(images.flip(0)), 3) for v in (views, drawn))
    assert torch.equal(one[1], two[1])
    torch.testing.assert_close(one[0], two[0], rtol=1e-9, atol=1e-7)
    assert said(views, images, images.flip(-1)) == ["flipped left-right"] * 4


def test_ties_go_by_rank_and_points_without_rank_are_left_out():
    points = gaussian(6, 4, 4)
    points[3] = points[1].flip(-1)
    rank = torch.tensor([4, 3, -1, 0, 2, 1])
    distances, indices = plain((4, 4)).nearest(rows(points), rows(points), 2, rank=rank)
    assert indices[1].tolist() == [3, 1], "a flipped image is as near as the image itself"
    assert distances[1].tolist() == [0, 0]
    assert 2 not in indices
    assert (distances[[0, 1, 3, 4, 5], 0] == 0).all()


@pytest.mark.parametrize(
    ("side", "n_shifts", "n_crops"), [(8, 9, 13), (16, 9, 54), (32, 25, 68), (64, 25, 68)]
)
def test_windows_lie_in_the_frame_and_are_as_many_as_the_page_says(side, n_shifts, n_crops):
    pairs = windows(side, side)
    assert len(set(pairs)) == len(pairs) == n_shifts + n_crops
    for top, left, height, width in (window for pair in pairs for window in pair):
        assert min(top, left) >= 0
        assert max(top + height, left + width) <= side
    one_pixel = (1, 1, side - 2, side - 2)
    assert side == 64 or one_pixel in [other for _, other in pairs]


CHANGES = {
    "as it is": lambda x: x,
    "flipped left-right": lambda x: x.flip(-1),
    "turned by 180 degrees": lambda x: x.flip(-1, -2),
    "shifted 1 right": lambda x: x.roll(1, -1),
    "shifted 1 up and 1 left, flipped upside down": lambda x: x.roll((-1, -1), (-2, -1)).flip(-2),
    "flipped left-right, gain 0.80, offset 0.1": lambda x: 0.8 * x.flip(-1) + 0.1,
}


@pytest.mark.parametrize("words", CHANGES)
def test_what_was_done_is_said(words):
    points = gaussian(4, 1, 8, 8)
    views = Views(shape=(1, 8, 8), onto=coordinates([points], "normalized"))
    samples = CHANGES[words](points)
    assert said(views, samples, points) == [words] * 4


def test_a_crop_is_said():
    points = gaussian(1, 3, 16, 16)
    part = points[..., 1:15, 1:15]
    sample = torch.nn.functional.interpolate(part, (16, 16), mode="bilinear")
    (found,) = plain((3, 16, 16)).changes(rows(sample), rows(points))
    assert found.sentence == "cropped to 14 x 14 pixels from row 1, column 1"
    assert (found.crop, found.shift, found.flip, found.remaining) == (
        (1, 1, 14, 14),
        (0, 0),
        "",
        0,
    )


def tinted(x):
    gain = torch.tensor([1.1, 0.9, 0.7])[:, None, None]
    return x * gain + torch.tensor([0.0, 0.2, 0.4])[:, None, None]


def covered(x):
    x = x.clone()
    x[..., 2:6, 9:14] = 3.0
    return x


COLOUR = {
    "gains by channel 1.10, 0.90, 0.70, offsets 0, 0.2, 0.4": tinted,
    "flipped left-right, altered in one place, 8% of the image": lambda x: covered(x).flip(-1),
    "made grey": lambda x: torch.einsum("c,nchw->nhw", x.new_tensor([0.299, 0.587, 0.114]), x)[
        :, None
    ].expand_as(x),
    "gain 0.50, offset -0.2": lambda x: 0.5 * x - 0.2,
    "shifted 1 down, differing by 10% of the contrast": lambda x: (
        x.roll(1, -2) + 0.1 * gaussian(1, *x.shape)[0]
    ),
}


@pytest.mark.parametrize("words", COLOUR)
def test_what_was_done_to_a_colour_image_is_said(words):
    points = gaussian(3, 3, 16, 16)
    views = Views(shape=(3, 16, 16), onto=coordinates([points], "normalized"))
    found = said(views, COLOUR[words](points), points)
    assert set(found) <= {words, words.replace("10%", "9%")}


@pytest.mark.parametrize("colour", [True, False])
def test_only_what_had_colour_is_made_grey(colour):
    """Of an image whose three channels are equal, a darker copy is darker and nothing more."""
    training, held_out, generated = (
        gaussian(n, 1, 16, 16) + (0.1 * gaussian(n, 3, 16, 16) if colour else torch.zeros(3, 1, 1))
        for n in (30, 31, 40)
    )
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]
    generated[:10] = 0.5 * (weights * training[:10]).sum(1, keepdim=True)
    found = genonset.audit(generated, training, held_out, robust=True)
    changes = {f.index: f.change for f in found.copying.flagged}
    assert set(range(10)) <= set(changes)
    for index in range(10):
        assert ("made grey" in changes[index]) == colour
        assert "gain 0.50" in changes[index]


def test_a_constant_image_has_no_gain():
    flat = torch.ones(1, 1, 4, 4)
    views = Views(shape=(1, 4, 4), onto=coordinates([flat], "lowpass"))
    assert said(views, 2 * flat, flat) == ["as it is"]


def test_what_was_done_is_told_part_by_part():
    points = gaussian(3, 3, 16, 16)
    gain, offset = points.new_tensor([1.1, 0.9, 0.7]), points.new_tensor([0.0, 0.2, 0.4])
    samples = gain[:, None, None] * points.roll((-1, 1), (-2, -1)) + offset[:, None, None]
    samples = samples.flip(-2) + 0.05 * gaussian(1, 3, 3, 16, 16)[0]
    views = Views(shape=(3, 16, 16), onto=coordinates([points], "normalized"))
    for sample, change in zip(samples, views.changes(rows(samples), rows(points)), strict=True):
        assert (change.flip, change.shift, change.crop) == ("flipped upside down", (-1, 1), None)
        assert change.gains == pytest.approx(gain.tolist(), abs=0.03)
        assert change.offsets == pytest.approx(offset.tolist(), abs=0.03)
        assert change.remaining == pytest.approx(0.05 / float(sample.std()), rel=0.25)
        assert not change.mixture
        assert (change.place, change.partner) == (None, None)


@pytest.mark.parametrize("unit", [1.0, 1e-12, 1e9])
def test_the_view_that_is_told_does_not_depend_on_the_unit(unit):
    points = unit * gaussian(4, 1, 8, 8)
    assert said(plain((1, 8, 8)), points.roll(1, -1), points) == ["shifted 1 right"] * 4


@pytest.fixture(scope="module")
def digits():
    """Eighty digits of 8 x 8 pixels, and the views that see them as a robust audit does."""
    images = torch.from_numpy(load_digits().images[:80, None] / 8 - 1)
    return images, Views(shape=(1, 8, 8), onto=coordinates([images], "lowpass"))


@pytest.mark.parametrize("weight", [0.4, 0.5, 0.6])
def test_both_images_of_a_mixture_and_their_shares_are_told(digits, weight):
    """Each digit with the one 40 rows on, where the two are nearest as they stand."""
    images, views = digits
    blends = weight * images[:40] + (1 - weight) * images[40:]
    found = views.changes(rows(blends), rows(images[:40]), rows(images))
    straight = [k for k, c in enumerate(found) if not (c.crop or c.flip or any(c.shift))]
    assert len(straight) >= 15
    for k in straight:
        assert found[k].sentence == (
            f"possibly a mixture with another image, {weight:.2f} of this one and "
            f"{1 - weight:.2f} of training row {40 + k}"
        )
        assert found[k].partner == 40 + k
        assert found[k].gains == pytest.approx([weight])
        assert found[k].share == pytest.approx(1 - weight)


def test_mixtures_with_images_that_are_not_known_are_told_by_what_is_left(digits):
    images, views = digits
    found = views.changes(rows((images[:40] + images[40:]) / 2), rows(images[:40]))
    mixed = [change for change in found if change.mixture]
    assert len(mixed) >= 25
    for change in mixed:
        assert change.sentence.count("possibly a mixture with another image, gain 0.") == 1
        assert "offset" not in change.sentence
        assert change.remaining > 0.25


NO_MIXTURES = {
    "less contrast": lambda x: 0.5 * x + 0.1,
    "less contrast, 8 bits": lambda x: ((0.5 * x + 0.1) * 127.5).round() / 127.5,
    "less contrast, noise": lambda x: 0.5 * x + 0.1 * gaussian(*x.shape),
    "blurred": lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "developed again": lambda x: (1 + x).square() / 2 - 1,
}


@pytest.mark.parametrize("kind", NO_MIXTURES)
def test_changed_copies_are_no_mixtures(digits, kind):
    images, views = digits
    samples = NO_MIXTURES[kind](images[:40])
    found = views.changes(rows(samples), rows(images[:40]), rows(images))
    assert sum(change.mixture for change in found) <= 1


def test_the_words_know_no_view_without_contrast_and_no_unit():
    """A shift that leaves white of both is nearer than the flip that was made."""
    point = torch.ones(1, 1, 12, 12, dtype=torch.float64)
    point[0, 0, 0, 3:5] = torch.tensor([-1.0, 0.3]).double()
    for unit in (1.0, 2.0**-40):
        for features in ("normalized", "lowpass", None):
            onto = rows if features is None else coordinates([unit * point], features)
            views = Views(shape=(1, 12, 12), onto=onto)
            samples = rows(unit * point.flip(-1))
            (change,) = views.changes(samples, rows(unit * point))
            assert change.sentence == "flipped left-right"
        dull = rows(unit * (0.6 * point.flip(-1) + 0.25))
        views = Views(shape=(1, 12, 12), onto=coordinates([unit * point], "lowpass"))
        (change,) = views.changes(dull, rows(unit * point))
        assert change.sentence == f"flipped left-right, gain 0.60, offset {unit * 0.25:.2g}"


def test_a_constant_sample_does_not_differ_by_its_rounding():
    """Its mean is rounded, and no contrast to compare with."""
    flat = torch.full((1, 1, 6, 6), 14.62, dtype=torch.float64)
    (change,) = plain((1, 6, 6)).changes(rows(flat), rows(2 * flat))
    assert "differing" not in change.sentence


def test_exchanging_the_labels_exchanges_what_is_found():
    """No label enters a view, the scale or the bound of the gap ratio."""
    training, held_out, generated = gaussian(40, 8, 8), gaussian(41, 8, 8), gaussian(70, 8, 8)
    generated[:20] = 0.7 * training[:20].flip(-1)
    generated[20:25] = held_out[20:25].roll(1, -2)
    one = genonset.audit(generated, training, held_out, robust=True)
    two = genonset.audit(generated, held_out, training, robust=True)
    assert one.settings["near_duplicate_scale"] == two.settings["near_duplicate_scale"] > 0
    assert one.settings["intrinsic_dimension"] == two.settings["intrinsic_dimension"]
    assert (one.copying.near_training, one.copying.near_held_out) == (20, 5)
    assert (two.copying.near_training, two.copying.near_held_out) == (5, 20)
    assert one.train_bias.share == pytest.approx(1 - two.train_bias.share)
    assert one.copying.identical == 0, "a changed copy is not identical"


@pytest.mark.parametrize("shape", [(6,), (5, 8, 8), (1, 1, 8)])
def test_points_that_are_no_images_are_refused(shape):
    with pytest.raises(DataError, match="takes images"):
        plain(shape).nearest(torch.zeros(2, 6), torch.zeros(2, 6), 1)
