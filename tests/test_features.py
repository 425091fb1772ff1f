"""Features: each map against its definition, and what is refused."""

import numpy as np
import pytest
import torch
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
    with pytest.raises(ConfigError, match="K can be 1 to 6"):
        represent(sets, "pca:7")


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
