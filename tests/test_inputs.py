"""How the sets of an audit are brought together: shapes, number types, grids, equal points."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

import genonset
from genonset import inputs
from genonset.errors import DataError
from genonset.inputs import as_loaded, as_sets, centred, equal_points, in_one_precision


def brought(generated, training, held_out=None):
    """The sets as an audit compares them, and what is said of them."""
    loaded = as_loaded(generated, training, held_out)
    sets, shaped = as_sets(loaded)
    read = tuple(note for one in loaded.values() for note in one.notes)
    sets, moved = centred(sets)
    found, rounded = in_one_precision(sets)
    return found, (*read, *shaped, *moved, *rounded)


def refused(words, *given):
    with pytest.raises(DataError) as raised:
        brought(*given)
    assert words in str(raised.value)


def rows_in(some, others):
    """How many rows of one array are in another, by numpy."""
    known = {row.tobytes() for row in np.ascontiguousarray(others)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(some))


# Images of 8 bits --------------------------------------------------------------------------------


def pictures(side=8, channels=1, levels=256, seed=0):
    """Samples with 7 copies of training and 4 of held-out images, 50 + 50 real images, uint8."""
    rng = np.random.default_rng(seed)
    pick = np.linspace(0, 255, levels).round().astype(np.uint8)
    g, t, h = (pick[rng.integers(0, levels, (n, channels, side, side))] for n in (40, 50, 50))
    g[:7], g[7:11], h[:2] = t[:7], h[10:14], t[20:22]
    return g, t, h


def single(x):
    return x.astype(np.float32)


ROUTES = {
    "uint8": lambda x: x,
    "int64": lambda x: x.astype(np.int64),
    "float32 of x": single,
    "x/255 in float64": lambda x: x / 255,
    "x/255 in float32": lambda x: single(x) / np.float32(255),
    "x times 1/255 in float32": lambda x: single(x) * np.float32(1 / 255),
    "x/127.5 - 1 in float64": lambda x: x / 127.5 - 1,
    "x/127.5 - 1 in float32": lambda x: single(x) / np.float32(127.5) - np.float32(1),
    "(x/255 - .5)/.5 in float32": lambda x: (single(x) / np.float32(255) - 0.5) / np.float32(0.5),
    "float16 of x/255": lambda x: (x / 255).astype(np.float16),
    "float16 of x/127.5 - 1": lambda x: (x / 127.5 - 1).astype(np.float16),
    "x/127.5 - 1 in float16": lambda x: x.astype(np.float16) / np.float16(127.5) - np.float16(1),
    "bfloat16 of x/255": lambda x: torch.from_numpy(x / 255).bfloat16(),
    "bfloat16 of x/127.5 - 1, as float32": lambda x: (
        torch.from_numpy(x / 127.5 - 1).bfloat16().float()
    ),
    "x/256": lambda x: x / 256,
    "x/128 - 1": lambda x: single(x) / 128 - 1,
}


def unit(route):
    """The grid that a route leads to."""
    signed = "127.5" in route or "- .5" in route
    return "127.5" if signed else "255" if "255" in route else route


def counts(found):
    return (
        found.copying.identical,
        found.duplicates.overlap,
        any(note.startswith("4 of 40 samples are identical to held-out") for note in found.notes),
    )


@pytest.mark.parametrize("route", ROUTES)
def test_identical_images_are_counted_whatever_the_route(route):
    sets = pictures()
    g, t, h = (x.reshape(len(x), -1) for x in sets)
    assert (rows_in(g, t), rows_in(h, t), rows_in(g, h)) == (7, 2, 4), "numpy, on the bytes"
    found = genonset.audit(*(ROUTES[route](x) for x in sets))
    assert counts(found) == (7, 2, True)
    assert found.inputs["training"].shape == (1, 8, 8)


@pytest.mark.parametrize("scale", ["127.5", "255"])
def test_sets_that_took_different_routes_are_the_same_points(scale):
    """Every pair of routes to one unit, for samples, training and held-out images in turn."""
    sets = pictures(seed=1)
    same = [r for r in ROUTES if unit(r) == scale]
    assert len(same) >= 5
    expected = None
    for one, two in itertools.product(same, same):
        found, _ = brought(ROUTES[one](sets[0]), ROUTES[two](sets[1]), ROUTES[one](sets[2]))
        points = torch.cat([x.double() for x in found.values()])
        expected = points if expected is None else expected
        assert torch.equal(points, expected), (one, two)


@pytest.mark.parametrize("options", [{"features": "normalized"}, {"robust": True}])
def test_identical_does_not_depend_on_the_features(options):
    """A brighter or a mirrored copy is at distance 0, or nearly so, and is not identical."""
    g, t, h = pictures(seed=2)
    t[12] = t[12].clip(0, 254)
    g[11], g[12], h[30] = t[11, :, :, ::-1], t[12] + 1, t[13] // 2 + 100
    found = genonset.audit(*(single(x) for x in (g, t, h)), **options)
    if "features" in options:
        assert found.evidence.to_training[12] == 0
    assert counts(found) == (7, 2, True)


def test_folders_and_arrays_hold_the_same_images(tmp_path):
    """PNG files beside float32 and float64 arrays, in each role; few levels are enough."""
    image = pytest.importorskip("PIL.Image")
    for levels in (256, 4):
        sets = pictures(levels=levels, seed=levels)
        paths = {}
        for name, x in zip(("g", "t", "h"), sets, strict=True):
            folder = tmp_path / f"{name}{levels}"
            folder.mkdir()
            for k, one in enumerate(x):
                image.fromarray(one[0]).save(folder / f"{k:02}.png")
            for dtype in (np.float32, np.float64):
                file = tmp_path / f"{name}{levels}{np.dtype(dtype)}.npy"
                np.save(file, x.astype(dtype) / dtype(127.5) - dtype(1))
                paths[name, dtype] = file
            paths[name, "png"] = folder
        kinds = ("png", np.float32, np.float64)
        for k, own in itertools.product(range(3), kinds):
            mixed = [paths[name, own if i == k else "png"] for i, name in enumerate("gth")]
            assert counts(genonset.audit_files(*mixed)) == (7, 2, True), (levels, k, own)


def test_samples_between_the_levels_are_rounded_as_saving_them_does():
    """A network's output, unrounded: identical where the bytes are; beyond the ends too."""
    rng = np.random.default_rng(3)
    g, t, h = pictures(seed=3)
    noise = rng.uniform(-0.9, 0.9, g.shape)
    samples = single((g + noise) / 127.5 - 1)
    bytes_ = ((samples.astype(np.float64) + 1) * 127.5).round()
    right = rows_in(bytes_.reshape(40, -1), t.reshape(50, -1).astype(np.float64))
    assert right == 0, "noise of .9 levels moves every image"
    found = genonset.audit(samples, *(single(x / 127.5 - 1) for x in (t, h)))
    assert found.copying.identical == 0
    samples = single((g + noise / 2) / 127.5 - 1)
    found = genonset.audit(samples, *(single(x / 127.5 - 1) for x in (t, h)))
    assert counts(found) == (7, 2, True)
    assert any("generated was rounded to the 256 levels k/127.5 - 1" in n for n in found.notes)
    sets, _ = brought(single(g / 127.5 - 1) * 1.5, *(single(x / 127.5 - 1) for x in (t, h)))
    places = (sets["generated"].double().numpy() + 1) * 127.5
    assert np.abs(places - places.round()).max() < 1e-4
    assert places.min() < 0
    assert places.max() > 256


def test_sets_that_are_no_images_of_8_bits_are_not_put_on_a_grid():
    """Digits have 17 levels of their own, a tenth of a level is no rounding, an age no pixel."""
    digits = genonset.datasets.digits()
    real = digits.restore(digits.points[:100]).numpy()
    noisy = real + np.random.default_rng(0).normal(size=real.shape) / 1000
    found, notes = brought(noisy, real[:50], real[50:])
    assert np.abs(found["generated"].double().numpy() - noisy).max() < 1e-7
    assert not any("levels" in note for note in notes)
    g, t, h = (x / 127.5 - 1 for x in pictures())
    t[3, 0, 2, 2] += 0.1 / 127.5
    found, notes = brought(g + 1e-5, t, h)
    assert not any("levels" in note for note in notes)
    rng = np.random.default_rng(1)
    ages = [rng.integers(0, 256, (50, 3)).astype(float) for _ in range(2)]
    found, notes = brought(ages[0] + 0.25, *ages)
    assert torch.equal(found["generated"], torch.from_numpy(ages[0] + 0.25))
    narrow = [0.4 + 0.1 * x for x in (g, t, h)]
    assert brought(*narrow)[1] == ()
    dark = [(100 * x).round() + 100 for x in (t, h)]
    found, _ = brought(dark[0] + 0.25, *dark)
    assert equal_points(found).identical == 0, "whole numbers that are nowhere near 255"
    binary = [(x > -1).astype(float) for x in (t, h)]
    assert binary[0].reshape(50, -1).all(1).any()
    found, notes = brought(np.full_like(t, 0.9999), *binary)
    assert equal_points(found).identical == 0, "two values are no evidence of a grid"


def test_dim_images_lie_on_the_grid_as_well():
    g, t, h = (x // 3 + 40 for x in pictures())
    found, _ = brought(*(x / 127.5 - 1 for x in (g, t)), ROUTES["x/127.5 - 1 in float32"](h))
    assert equal_points(found).overlap == rows_in(h.reshape(50, -1), t.reshape(50, -1)) == 2


def test_samples_that_are_nearly_black_become_black():
    """As saving them does; smaller numbers than a type holds are another matter."""
    g, t, h = (x / 255 for x in pictures())
    found, _ = brought(np.full_like(g, 1e-5), t, h)
    assert not found["generated"].any()


def test_tables_of_fractions_need_many_levels():
    rng = np.random.default_rng(2)
    fifths, pixels = ([rng.integers(0, n, (50, 8)) / (n - 1) for _ in range(3)] for n in (6, 256))
    for real, rounds in ((fifths, False), (pixels, True)):
        found, _ = brought(real[0] + 1e-4, *real[1:])
        moved = np.abs(found["generated"].double().numpy() - real[0]).max()
        assert (moved < 1e-6) == rounds


# Number types ------------------------------------------------------------------------------------

TYPES = {
    "float64": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float32 as float64": lambda x: x.astype(np.float32).astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "float16 as float64": lambda x: x.astype(np.float16).astype(np.float64),
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "bfloat16 as float32": lambda x: torch.from_numpy(x).bfloat16().float(),
}


def tenths(seed=0, dim=2):
    """Decimals of one place from -9.9 to 9.9, and 5 copies; as whole numbers of tenths."""
    rng = np.random.default_rng(seed)
    g, t, h = (rng.integers(-99, 100, (n, dim)) for n in (30, 40, 40))
    g[:5] = t[:5]
    return g, t, h


@pytest.mark.parametrize("types", list(itertools.product(TYPES, repeat=3)))
def test_one_decimal_is_one_point_in_every_mixture_of_types(types):
    whole = tenths()
    found, _ = brought(*(TYPES[t](x / 10) for t, x in zip(types, whole, strict=True)))
    same = equal_points(found)
    g, t, h = whole
    assert same.identical == rows_in(g, t) >= 5
    assert same.held_out_copies == rows_in(g, h)
    assert same.overlap == rows_in(h, t)
    values = torch.cat([x.double().flatten() for x in found.values()])
    assert len(values.unique()) == len(np.unique(np.concatenate(whole)))


def test_what_is_rounded_is_said_and_described_as_it_came():
    g, t, h = (x / 10 for x in tenths())
    found = genonset.audit(g, t.astype(np.float32), h)
    note = (
        "generated and held-out were rounded through float32, which holds all values of training."
    )
    assert note in found.notes
    alone = genonset.audit(g, t, h)
    assert not any("rounded" in n for n in alone.notes)
    for name in ("generated", "held_out"):
        assert found.inputs[name] == alone.inputs[name], "the hash and the ends before rounding"
    assert found.inputs["training"].dtype == "float32"


def test_equal_types_are_left_where_they_are():
    for to in TYPES.values():
        given = [to(x / 10) for x in tenths()]
        sets, _ = as_sets(as_loaded(*given))
        found, notes = in_one_precision(sets)
        assert notes == ()
        assert all(found[name] is x for name, x in sets.items())


def test_a_lattice_is_of_no_16_bit_type():
    """Quarters are scaled whole numbers: samples beside them keep their bits, in float32."""
    rng = np.random.default_rng(4)
    t, h = (rng.integers(-40, 41, (60, 3)) / 4 for _ in range(2))
    g = np.concatenate([t[:9] + 1e-5, rng.normal(size=(20, 3))])
    found, _ = brought(g, t, h)
    assert equal_points(found).identical == 0
    assert np.abs(found["generated"].double().numpy() - g).max() < 1e-6
    assert equal_points(brought(g, t.astype(np.float16), h)[0]).identical == 9, "given as float16"


def test_the_sum_of_bits_is_the_chance_that_a_lattice_survives():
    """(4) against counting: multiples of 1/64 below 8 that float with 8 bits holds."""
    x = np.arange(1, 512) / 64
    x = x[x != x.round()]
    held = torch.from_numpy(x).bfloat16().double().numpy() == x
    above = x >= 4  # 9 bits of which 8 are held: each second number survives
    assert held[~above].all()
    assert abs(held[above].mean() - 1 / 2) < 0.02
    points = torch.from_numpy(x[held])[:, None]
    assert inputs._evidence(points, 8) == held[above].sum()
    assert inputs._evidence(torch.from_numpy(x[~above])[:, None], 8) == 0


def test_one_binade_of_float16_is_seen_beside_the_other_set():
    """In [1, 2) float16 is a lattice; that held-out points are not on it is no chance: (5)."""
    rng = np.random.default_rng(5)
    g, t, h = (1 + rng.random(9))[rng.integers(0, 9, (3, 30, 2))]
    t = t.astype(np.float16).astype(np.float64)
    for one, other in ((t, h), (h, t)):
        found, _ = brought(g, one, other)
        values = torch.cat([x.double().flatten() for x in found.values()])
        assert len(values.unique()) == 9
    few = np.full((30, 2), 1.5)
    few[:5] = 1.1
    found, _ = brought(g, np.full((30, 2), 1.25), few)
    assert found["held_out"].double().numpy() == pytest.approx(few, abs=1e-7), "5 of 30: chance"


def test_whole_numbers_are_of_any_type():
    rng = np.random.default_rng(6)
    whole = [rng.integers(0, 50, (30, 4)).astype(np.float64) for _ in range(2)]
    g = rng.normal(size=(30, 4)) * 10 + 25
    found, notes = brought(g, *whole)
    assert notes == ()
    assert torch.equal(found["generated"], torch.from_numpy(g))
    large = np.array([[2.0**24 + 1], [3.0]])
    found, _ = brought(large, large, large.astype(np.float32))
    assert found["training"].tolist() == [[2.0**24], [3.0]], "float32 cannot tell them apart"


def test_values_beyond_the_range_are_refused():
    rng = np.random.default_rng(7)
    g, t, h = rng.normal(size=(3, 30, 4))
    half = g.astype(np.float16)
    refused("training holds 1e+05, beyond the range", half, np.append(t, [[1e5] * 4], 0), h)
    refused(
        "through float16, which holds all values of generated",
        half,
        np.append(t, [[1e5] * 4], 0),
        h,
    )
    refused("120 of 120 values of held-out that are not 0 become 0", half, t, 1e-12 * h)
    one = h.copy()
    one[0, 0] = 1e-12  # as float16 would have stored it
    assert brought(half, t, one)[0]["held_out"][0, 0] == 0


def test_decimals_that_one_real_set_alone_was_written_with():
    """Two decimals beside more: rounded alike, and so that equal decimals are equal numbers."""
    rng = np.random.default_rng(15)
    g, t, h = rng.normal(size=(3, 40, 2))
    for to in (np.float64, np.float32):
        found, notes = brought(g, t.round(2).astype(to), h)
        types = (
            "through float32, which holds all values of training and " if to == np.float32 else ""
        )
        assert notes == (f"generated and held-out were rounded {types}to 2 decimals, as training "
                         "is written.",)  # fmt: skip
        assert np.array_equal(found["held_out"].numpy(), h.round(2).astype(to))
        assert np.array_equal(found["training"].numpy(), t.round(2).astype(to))
    found, notes = brought(g, t.round(7), h)
    assert notes == ()
    found, notes = brought(g.round(1), t, h)
    assert notes == (), "the samples' decimals say nothing of the labels"
    some = h.round(2)
    some[:6] = h[:6]
    assert brought(g, t.round(2), some)[1] == (), "6 of 80 points fall into one half often"
    some[:12] = h[:12]
    assert len(brought(g, t.round(2), some)[1]) == 1
    [note] = brought(9 * g, (9 * t).round(), 9 * h)[1]
    assert note.startswith("training holds whole numbers alone")


def innocent_p_values(types, n_audits, seed):
    """Copying and train bias of samples that know of no label, on decimals in mixed types."""
    found = []
    for r in range(n_audits):
        rng = np.random.default_rng([seed, r])
        step = 100 if "2 decimals" in types else 10
        g, t, h = (rng.integers(-step, step, (n, 2)) / step for n in (200, 50, 50))
        sets = (WRITTEN[one](x) for one, x in zip(types, (g, t, h), strict=True))
        one = genonset.audit(*sets, n_permutations=500, seed=r)
        found.append((one.copying.p_value, one.train_bias.p_value))
    return np.array(found).T


WRITTEN = TYPES | {"1 decimal": lambda x: x.round(1), "2 decimals": lambda x: x.round(2)}
MIXED = [
    ("float32", "float32", "float64"),
    ("float32 as float64", "float32 as float64", "float64"),
    ("float16", "float16", "float32"),
    ("bfloat16 as float32", "bfloat16 as float32", "float32"),
    ("1 decimal", "1 decimal", "2 decimals"),
]


@pytest.mark.parametrize("types", MIXED)
def test_the_type_does_not_give_the_label_away(types):
    """Innocent audits; without the rounding the number types make some cases of copying."""
    assert (innocent_p_values(types, 6, 8)[0] > 0.001).all()


@pytest.mark.slow
@pytest.mark.parametrize("types", MIXED)
def test_p_values_of_mixed_types_hold_their_level(types):
    n = 1000
    for name, p in zip(("copying", "train bias"), innocent_p_values(types, n, 9), strict=True):
        for level in (0.05, 0.2, 0.5):
            rejected = int((p <= level).sum())
            print(types, name, level, rejected)
            assert stats.binom.sf(rejected - 1, n, level) > 5e-4, "too many false alarms"


# Whole numbers -----------------------------------------------------------------------------------


def times(dtype=np.int64, start=1_700_000_000_000_000_000):
    """Nanoseconds in one column, a small number in the other; 6 copies and 9 near ones."""
    rng = np.random.default_rng(10)
    columns = (rng.integers(0, 10**8, 120), rng.integers(-5 if dtype == np.int64 else 0, 50, 120))
    x = np.stack([np.uint64(start) + columns[0].astype(np.uint64), columns[1].view(np.uint64)], 1)
    x = x.view(np.int64).astype(dtype) if dtype == np.int64 else x.astype(dtype)
    g, t, h = x[:40], x[40:80], x[80:]
    g[:6], g[6:15] = t[:6], t[6:15] + np.array([[5, 0]], dtype)
    return g, t, h


@pytest.mark.parametrize(
    ("dtype", "start"), [(np.int64, 1_700_000_000_000_000_000), (np.uint64, 2**64 - 2 * 10**8)]
)
def test_whole_numbers_beyond_float64_keep_their_last_digit(dtype, start):
    given = times(dtype, start)
    found = genonset.audit(*given)
    assert found.copying.identical == rows_in(given[0], given[1]) == 6
    ends = found.inputs["training"].low, found.inputs["training"].high
    assert ends == (int(given[1].min()), int(given[1].max())), "as they came, to the digit"
    sets, notes = brought(*given)
    for name, x in zip(("generated", "training", "held_out"), given, strict=True):
        exact = np.array([[int(a) for a in row] for row in x], dtype=object)
        least = min(int(y[:, 0].min()) for y in given)
        exact[:, 0] -= least
        assert (sets[name].numpy().astype(object) == exact).all(), "the small column stays"
    assert "in 1 of 2 coordinates" in notes[0]


def test_whole_numbers_too_far_apart_are_refused():
    t = np.array([[0], [2**54]])
    refused(f"Coordinate 0 holds whole numbers from 0 to {2**54}", t, t)
    close = np.array([[-(2**53)], [0]])
    assert brought(close, close)[0]["training"].tolist() == close.tolist()


def test_rare_whole_types_are_read():
    for dtype in (np.uint64, np.uint32, np.uint16, np.int8, np.bool_):
        x = np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype)
        assert brought(x, x)[0]["training"].tolist() == [[0, 1], [1, 1], [1, 0]]


# Shapes ------------------------------------------------------------------------------------------


def test_channels_in_the_last_place_are_recognized_and_said():
    g, t, h = pictures(side=8, channels=3, seed=12)
    expected = genonset.audit(g, t, h, robust=True)
    last = [np.moveaxis(x, 1, 3) for x in (g, t, h)]
    found = genonset.audit(*last, robust=True)
    note = "generated, training, held-out: the last of (8, 8, 3) was taken as channels."
    assert note in found.notes
    assert found.inputs == expected.inputs
    assert found.copying == expected.copying
    mixed = genonset.audit(g, last[1], h)
    assert mixed.copying == genonset.audit(g, t, h).copying
    assert "training: the last of (8, 8, 3) was taken as channels." in mixed.notes


@pytest.mark.parametrize(
    ("shape", "moved"),
    [
        ((8, 8, 3), (3, 8, 8)), ((8, 9, 1), (1, 8, 9)), ((5, 5, 4), (4, 5, 5)),
        ((3, 8, 3), (3, 8, 3)), ((4, 8, 3), (4, 8, 3)), ((8, 4, 3), (8, 4, 3)),
        ((8, 8, 2), (8, 8, 2)), ((3, 8, 8), (3, 8, 8)), ((8, 8), (8, 8)), ((8, 3), (8, 3)),
    ],
)  # fmt: skip
def test_which_axis_holds_channels(shape, moved):
    x = np.random.default_rng(13).normal(size=(6, *shape))
    found, notes = brought(x, x)
    assert tuple(found["training"].shape[1:]) == moved
    assert bool(notes) == (shape != moved)
    if notes:
        assert np.array_equal(found["training"].numpy(), np.moveaxis(x, 3, 1))


def test_what_is_behind_a_mask_and_other_types_are_refused():
    x = np.ones((5, 2))
    masked = np.ma.masked_array(x, mask=np.eye(5, 2, dtype=bool))
    refused("2 of 10 values are masked", masked, x)
    assert brought(np.ma.masked_array(x), x)[1] == ()
    refused("numpy.array(values, dtype=float)", x.astype(object), x)
    refused("numpy.array(values, dtype=float)", x.astype(str), x)
    refused('values.astype("int64")', x.astype("M8[ns]"), x)
    refused("real and imaginary parts", x.astype(complex), x)
    refused("float8_e4m3fn is not accepted", torch.ones(5, 2).to(torch.float8_e4m3fn), x)


@pytest.mark.skipif(np.longdouble(1) + np.finfo(float).eps / 4 == 1, reason="no longer type")
def test_longer_types_become_float64_and_it_is_said():
    x = np.ones((4, 2), np.longdouble)
    x[1:3, 0] += np.finfo(float).eps / 4
    found, notes = brought(x, np.ones((3, 2)))
    assert found["generated"].dtype == torch.float64
    assert notes == ("generated: 2 of 8 values of float128 were rounded to float64.",)


def test_decimals_that_were_float32_before_are_decimals():
    """Two decimals in float32, given as float64, beside a held-out set that was not rounded."""
    rng = np.random.default_rng(0)
    written = [np.round(rng.normal(size=(60, 1)), 2).astype("f4").astype("f8") for _ in range(2)]
    found, notes = brought(*written, rng.normal(size=(60, 1)))
    assert any("2 decimals" in note for note in notes)
    for x in found.values():
        decimals = np.round(x.double().numpy() * 100) / 100
        np.testing.assert_array_equal(decimals.astype("f4"), x.float().numpy())


# Equal points ------------------------------------------------------------------------------------


def test_equal_points_as_numpy_counts_them():
    rng = np.random.default_rng(14)
    g, t, h = (rng.integers(0, 4, (n, 3)) for n in (30, 20, 25))
    sets = {"generated": torch.from_numpy(g) + 0.0, "training": torch.from_numpy(t),
            "held_out": torch.from_numpy(h).float()}  # fmt: skip
    sets["generated"][sets["generated"] == 0] = -0.0
    found = equal_points(sets)
    for mine, others in ((found.in_training, t), (found.in_held_out, h)):
        for row, place in zip(g, mine.tolist(), strict=True):
            where = (others == row).all(1).nonzero()[0]
            assert place == (where[0] if len(where) else -1)
    assert found.identical == rows_in(g, t)
    assert found.held_out_copies == rows_in(g, h)
    assert found.overlap == rows_in(h, t)
    assert found.training == 20 - len(np.unique(t, axis=0))
    assert found.generated == 30 - len(np.unique(g, axis=0))
    alone = equal_points({k: x for k, x in sets.items() if k != "held_out"})
    assert (alone.identical, alone.held_out_copies, alone.overlap) == (found.identical, 0, 0)
