"""The spec: every refusal names the place, the value and what is accepted."""

import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genonset import spec
from genonset.errors import ConfigError, DataError
from genonset.spec import Cell, Sweep, catalogue, reproduction, shipped

PLAIN = """
name = "small"
seed = 3
replicates = 2
n = [4, 8]
criteria = ["kernel_l2", "label_test"]
[source]
kind = "gaussian"
dim = 3
[model]
kind = "linear_one_step"
[model.noise]
kind = "ornstein_uhlenbeck"
"""


def refusal(tmp_path, text):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Sweep.from_toml(path)
    message = str(caught.value)
    assert len(message.splitlines()) < 25
    return message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dim = 3", "dimension = 3", ["dimension", "unknown option", "Allowed", "covariance"]),
        ("dim = 3", "dim = 'three'", ["dim", "integer", "'three'"]),
        ("dim = 3", "", ["dim", "required"]),
        ("dim = 3", "dim = 3\nstd = 1\nvariance = 2", ["give one of", "std", "variance"]),
        ("dim = 3", "dim = 3\nspectrum = [1.0]", ["1 numbers", "dim is 3"]),
        ("dim = 3", "dim = 3\nstd = -1", ["std", "greater than 0", "-1"]),
        ("dim = 3", "dim = 3\nmean = nan", ["mean", "nan"]),
        ('kind = "gaussian"', 'kind = "gauss"', ["gauss", "'gaussian_mixture'", "'digits'"]),
        ('kind = "linear_one_step"', 'kind = "linear"', ["linear", "'linear_one_step'"]),
        ("n = [4, 8]", "n = [8, 4]", ["increase"]),
        ("n = [4, 8]", "n = 64", ["n", "a list", "[8, 16, 32]", "64"]),
        ("n = [4, 8]", "n = [4, 8]\nreplicates_at = { 16 = 3 }", ["replicates_at", "[16]"]),
        ("n = [4, 8]", "n = [1, 8]", ["n.0", "2", "1"]),
        ("n = [4, 8]", "n = []", ["n", "at least one"]),
        ("replicates = 2", "replicates = 0", ["replicates", "0"]),
        ("seed = 3", "sead = 3", ["sead", "unknown option", "seed", "replicates"]),
        ('"label_test"', '"lable_test"', ["lable_test", "label_test", "overlap"]),
        (
            '"ornstein_uhlenbeck"',
            '"ornstein_uhlenbeck"\nhorizn = 1',
            ["horizn", "did you mean horizon"],
        ),
        ("seed = 3", 'seed = 3\naxes = { "model.noise.horizn" = [1] }', ["horizn", "horizon"]),
        ("seed = 3", 'seed = 3\nheadline = "mmd"', ["mmd", "not among"]),
        ("seed = 3", 'seed = 3\nbandwidth = "wide"', ["bandwidth", "paper", "wide"]),
        ("seed = 3", "seed = ", ["not valid TOML", "line 3"]),
    ],
)
def test_refusals_say_where_what_and_what_else(tmp_path, old, new, said):
    assert old in PLAIN
    message = refusal(tmp_path, PLAIN.replace(old, new))
    for word in said:
        assert word in message, message


def test_all_errors_come_at_once(tmp_path):
    message = refusal(tmp_path, PLAIN.replace("dim = 3", "dim = 0").replace("seed = 3", "sed = 3"))
    assert "dim" in message
    assert "sed" in message


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read"):
        Sweep.from_toml(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"not a text file.*\[source\]"):
        Sweep.from_toml(tmp_path / "binary.toml")


def test_closed_form_criteria_need_gaussian_laws(tmp_path):
    text = (
        PLAIN.replace('"label_test"', '"kl_to_source"')
        .replace("dim = 3", "")
        .replace('"gaussian"', '"digits"')
    )
    assert "bures_wasserstein" in refusal(tmp_path, text)


def plain(tmp_path, text=PLAIN):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return Sweep.from_toml(path)


def test_written_spec_reads_back_equal(tmp_path):
    text = PLAIN.replace("seed = 3", 'seed = 3\naxes = { "model.noise.horizon" = [1, 2.5] }')
    sweep = plain(tmp_path, text)
    again = tmp_path / "again.toml"
    again.write_text(sweep.to_toml())
    assert Sweep.from_toml(again) == sweep
    assert tomllib.loads(sweep.to_toml())["bandwidth"] == "paper"
    plain_variant = Sweep.from_options(
        sweep.model_dump(mode="json", exclude_none=True)
        | {"variants": {"plain": {}, "other": {"seed": 1}}}
    )
    again.write_text(plain_variant.to_toml())
    assert Sweep.from_toml(again) == plain_variant
    for name in ("digits", "linear-d16", "linear-d100"):
        again.write_text(shipped(name).to_toml())
        assert Sweep.from_toml(again) == shipped(name)


def test_cells_unfold_the_grid(tmp_path):
    text = PLAIN.replace("seed = 3", 'seed = 3\naxes = { "model.noise.horizon" = [1, 2] }')
    cells = list(plain(tmp_path, text).cells())
    assert len(cells) == 2 * 2 * 2
    assert len({cell.key for _, cell in cells}) == 8
    for setting, cell in cells:
        assert cell.model.noise.horizon == setting["model.noise.horizon"]
    # the original set depends on seed, replicate and source, not on n or the model
    assert len({cell.common_key for _, cell in cells}) == 2


def test_key_depends_on_every_option_and_nothing_else(tmp_path):
    _, cell = next(plain(tmp_path).cells())
    again = Cell.model_validate(json.loads(cell.model_dump_json()))
    assert again.key == cell.key
    for change in ({"n": 5}, {"replicate": 1}, {"seed": 4}, {"bandwidth": "scott"}):
        assert cell.model_copy(update=change).key != cell.key


def test_axes_may_replace_a_whole_table(tmp_path):
    axes = (
        '[axes]\nmodel = [{ kind = "linear_one_step" }, { kind = "linear_one_step", ridge = 1.0 }]'
    )
    sweep = plain(tmp_path, PLAIN + axes)
    assert [cell.model.ridge for _, cell in sweep.cells()][::2] == [0.0, 1.0] * 2


@pytest.mark.parametrize(
    ("table", "covariance"),
    [
        ("std = 2.0", [4.0, 4, 4]),
        ("variance = 2.0", [2.0, 2, 2]),
        ("spectrum = [3.0, 1.0, 0.0]", [3.0, 1, 0]),
        ('spectrum = { kind = "power_law", exponent = 1.0 }', [18 / 11, 9 / 11, 6 / 11]),
        ('spectrum = { kind = "low_rank", rank = 1, variance = 5.0, floor = 0.5 }', [5, 0.5, 0.5]),
        ("covariance = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]", [1.0, 2, 3]),
    ],
)
def test_gaussian_covariances(tmp_path, table, covariance):
    source = plain(tmp_path, PLAIN.replace("dim = 3", f"dim = 3\n{table}")).source.build()
    torch.testing.assert_close(source.covariance.diagonal(), torch.tensor(covariance).double())


def test_a_folder_of_images_is_resized_and_keeps_its_name_where_it_is_not(tmp_path):
    """Cells of runs from before there was the option keep their keys."""
    for side in (4, 5, 6):
        pixels = np.random.default_rng(side).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{side}.png")
    source = 'kind = "images"\npath = "."\nresize = 4'
    text = PLAIN.replace('kind = "gaussian"\ndim = 3', source)
    resized = plain(tmp_path, text).source
    assert resized.build().shape == (1, 4, 4)
    assert resized.model_dump()["resize"] == 4
    as_it_is = plain(tmp_path, text.replace("resize = 4", "")).source
    assert set(as_it_is.model_dump()) == {"kind", "path", "colour", "deduplicate", "sha256"}
    with pytest.raises(DataError, match="--resize 4, or resize=4"):
        as_it_is.build()


def test_reproductions_use_the_grids_of_the_paper():
    assert reproduction("linear-d16").n == (
        4,
        8,
        12,
        14,
        16,
        18,
        20,
        24,
        28,
        32,
        40,
        48,
        64,
        80,
        160,
    )
    d100 = reproduction("linear-d100", variant="corrected", n=(25, 50), replicates=7, seed=5)
    assert (d100.n, d100.replicates, d100.seed) == ((25, 50), 7, 5)
    assert list(d100.variants) == ["corrected"]
    assert d100.model.noise.noise_scale == pytest.approx(math.exp(-4), rel=1e-15)
    published = dict(reproduction("linear-d100").cells().__next__()[0])
    assert published == {"variant": "published"}
    for wrong in (
        {"name": "linear-d17"},
        {"name": "linear-d16", "variant": "correct"},
        {"name": "digits", "variant": "published"},
        {"name": "linear-d16", "n": (1,)},
    ):
        with pytest.raises(ConfigError):
            reproduction(**wrong)


def test_every_shipped_experiment_runs_by_its_name():
    names = catalogue()["experiments"]
    assert {"digits", "linear-d100-quirks", "mixture-training-time"} <= set(names)
    for name, line in names.items():
        whole = reproduction(name)
        assert whole == shipped(name)
        assert whole.name == name
        assert line == line.strip()
        assert 20 < len(line) <= 100
        some = reproduction(name, n=whole.n[:1], replicates=2)
        assert (some.n, some.replicates, some.replicates_at) == (whole.n[:1], 2, {})


def test_more_replicates_at_some_sizes_are_cut_with_them(monkeypatch):
    text = PLAIN.replace("seed = 3", "replicates_at = { 4 = 9, 8 = 5 }")
    monkeypatch.setattr(spec, "_experiments", lambda: {"mine": f"# Of mine. More.\n{text}"})
    assert reproduction("mine", n=(8,)).replicates_at == {8: 5}
    assert reproduction("mine", replicates=3).replicates_at == {}
    assert catalogue()["experiments"] == {"mine": "Of mine"}


NETWORK = PLAIN.replace('"linear_one_step"', '"mlp"\nsteps = 5')


@pytest.mark.parametrize(
    ("nested", "dotted"),
    [
        ("[variants.x.model]\nsteps = 3", '[variants.x]\n"model.steps" = 3'),
        (
            '[variants.x.model]\nsteps = 3\nkind = "unet"\n[variants.x.model.sampler]\neta = 0.5',
            '[variants.x]\n"model.kind" = "unet"\n"model.steps" = 3\n"model.sampler.eta" = 0.5',
        ),
        (
            "[variants.x.source]\nspectrum = { kind = 'power_law', exponent = 1.0 }",
            "[variants.x]\n'source.spectrum' = { kind = 'power_law', exponent = 1.0 }",
        ),
        ("[variants.x]\nseed = 4\n[variants.x.model.noise]\nhorizon = 3.0",
         '[variants.x]\nseed = 4\n"model.noise.horizon" = 3.0'),
        ('[variants.x.model]\nkind = "kernel"', '[variants.x]\n"model.kind" = "kernel"'),
    ],
)  # fmt: skip
def test_nested_tables_of_a_variant_are_its_dotted_paths(tmp_path, nested, dotted):
    one, other = (plain(tmp_path, f"{NETWORK}\n{form}") for form in (nested, dotted))
    assert [c for _, c in one.cells()] == [c for _, c in other.cells()]
    assert next(one.cells())[1].key != next(plain(tmp_path, NETWORK).cells())[1].key
    again = tmp_path / "again.toml"
    again.write_text(one.to_toml())
    assert Sweep.from_toml(again) == one


def test_a_variant_keeps_the_noise_where_its_kind_has_one(tmp_path):
    text = NETWORK.replace('"ornstein_uhlenbeck"', '"ornstein_uhlenbeck"\nhorizon = 3.0')
    text += '[variants.own.model]\nkind = "python"\ntarget = "mine:fit"\n'
    text += '[variants.exact.model]\nkind = "exact"\n'
    own, exact = (plain(tmp_path, text).measurement({"variant": v}) for v in ("own", "exact"))
    assert own.model.kind == "python"
    assert exact.model.noise.horizon == 3.0


def test_refusals_name_the_path_in_the_file(tmp_path):
    message = refusal(tmp_path, NETWORK.replace("steps = 5", "steps = 0"))
    assert "  model.steps: Input should be greater than or equal to 1, got 0" in message
    nested = f"{NETWORK}\n[variants.x.model]\nstepz = 3"
    assert "  model.stepz: unknown option, did you mean steps?" in refusal(tmp_path, nested)


def test_catalogue_describes_every_name():
    for names in catalogue().values():
        assert names
        assert all(names.values())


def test_data_are_looked_for_beside_the_spec_wherever_it_names_them(tmp_path, monkeypatch):
    """In [source], in a variant and along an axis, whatever the current folder is."""
    (tmp_path / "specs").mkdir()
    for k, name in enumerate("abc"):
        np.save(tmp_path / "specs" / f"{name}.npy", np.random.default_rng(k).normal(size=(60, 3)))
    model = PLAIN[PLAIN.index("[model]") :]
    head = PLAIN[: PLAIN.index("[source]")]
    rest = f'[source]\nkind = "array"\npath = "a.npy"\n{model}'
    changes = {
        "variants": '[variants.other]\n"source.path" = "b.npy"\n',
        "axes": '[axes]\n"source.path" = ["b.npy", "c.npy"]\n',
    }
    monkeypatch.chdir(tmp_path)
    for kind, change in changes.items():
        path = tmp_path / "specs" / f"{kind}.toml"
        path.write_text(head + change + rest)
        sweep = Sweep.from_toml(path)
        named = [sweep.measurement(labels).source.path for labels in sweep.settings()]
        assert named
        assert all(Path(p).is_file() for p in named)
