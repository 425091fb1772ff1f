"""Image folders: what is read, converted, left out with a word, and refused.

Files are written byte by byte, or by Pillow from known levels; the right numbers are the levels
themselves, on [-1, 1].
"""

import csv
import io
import json
import os
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from genonset import datasets
from genonset.arrays import Loaded
from genonset.cli import app
from genonset.datasets import images
from genonset.errors import ConfigError, DataError, printable
from genonset.images import IMAGE_ENDINGS, read_images, read_named_images, require_one_size
from genonset.report import write_flagged, write_report
from genonset.verdict import audit_files
from refusals import refusal


def save(folder: Path, name: str, pixels, mode: str | None = None) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(folder / name)


def grey(seed: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width))


def colours(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(4, 6, 3))


def png(width, height, depth, kind, data, *before) -> bytes:
    """A PNG file: colour type `kind`, rows without filter, chunks (name, content) before them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def packed(levels: np.ndarray, depth: int) -> bytes:
    """Rows of samples as PNG packs them, each after the byte that says: no filter."""
    samples = levels.reshape(len(levels), -1)
    if depth == 16:
        rows = samples.astype(">u2").view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(len(levels), -1), axis=1)
    return np.pad(rows, ((0, 0), (1, 0))).tobytes()


def tiff(levels: np.ndarray, photometric: int, *, sample_format=1, extra=None, orientation=1):
    """A TIFF file of one strip; the type of `levels` is that of the samples."""
    height, width, channels = levels.shape
    data = levels.tobytes()
    bits = 8 * levels.dtype.itemsize
    tags = [(256, [width]), (257, [height]), (258, [bits] * channels), (259, [1]),
            (262, [photometric]), (273, [0]), (274, [orientation]), (277, [channels]),
            (278, [height]), (279, [len(data)]), (339, [sample_format] * channels)]  # fmt: skip
    tags = sorted([*tags, (338, extra)] if extra else tags)
    far, start = b"", 8 + 2 + 12 * len(tags) + 4
    sizes = sum(2 * len(values) for _, values in tags if len(values) > 2)
    entries = b""
    for tag, values in tags:
        values = [start + sizes] if tag == 273 else values
        content = struct.pack(f"<{len(values)}H", *values)
        if len(content) > 4:
            place, far = struct.pack("<I", start + len(far)), far + content
        else:
            place = content.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, 3, len(values)) + place
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + far + data


def said_of(folder: Path, word: str, **options) -> list[str]:
    return [note for note in read_named_images(folder, **options).notes if word in note]


def test_grey_images_by_relative_path(tmp_path):
    names = ["a/10.png", "a/2.bmp", "b.PNG", "c/d/e.png"]
    for seed, name in enumerate(names):
        save(tmp_path, name, grey(seed))
    save(tmp_path, ".hidden/x.png", grey(0, 9, 9))
    (tmp_path / "._b.png").write_bytes(b"not an image")
    (tmp_path / "notes.txt").write_text("not an image")
    found = read_images(tmp_path)
    assert found.shape == (4, 1, 4, 6)
    np.testing.assert_allclose(found[:, 0], np.stack([grey(i) for i in range(4)]) / 127.5 - 1)
    assert images(tmp_path).name == tmp_path.name


def test_colour_images_are_channels_first(tmp_path):
    for seed in range(3):
        save(tmp_path, f"{seed}.png", colours(seed))
    found = read_images(str(tmp_path))
    expected = np.stack([colours(i) for i in range(3)]) / 127.5 - 1
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_near_what_was_saved(tmp_path, ending):
    ramp = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (16, 1))
    for seed, pixels in enumerate((ramp, 255 - ramp)):
        Image.fromarray(pixels).save(tmp_path / f"{seed}{ending}", quality=95)
    found = read_images(tmp_path, colour=False)[:, 0]
    np.testing.assert_allclose(found[0], ramp / 127.5 - 1, atol=0.06)
    np.testing.assert_allclose(found[1], 1 - ramp / 127.5, atol=0.06)


def test_black_and_white_bitmaps_are_grey(tmp_path):
    save(tmp_path, "a.png", [[0, 255], [255, 0]], "1")
    save(tmp_path, "b.png", [[255, 255], [255, 0]])
    assert read_images(tmp_path)[0, 0].tolist() == [[-1.0, 1.0], [1.0, -1.0]]


@pytest.mark.parametrize("mode", ["L", "LA", "CMYK"])
def test_other_modes_are_converted_only_when_asked(tmp_path, mode):
    ending = "tif" if mode == "CMYK" else "png"
    save(tmp_path, "0.png", colours(0))
    save(tmp_path, f"1.{ending}", colours(1), mode)
    said = refusal(tmp_path, read_images, tmp_path)
    assert f"1 of {mode[:1] if mode == 'LA' else mode} 6 x 4" in said
    assert "1 of RGB 6 x 4" in said
    assert "--colour, or colour=True, makes every image RGB, --grey, or colour=False" in said
    assert "in fact" not in said
    assert "resize" not in said
    assert "Levels" not in said
    assert read_images(tmp_path, colour=True).shape == (2, 3, 4, 6)
    assert read_images(tmp_path, colour=False).shape == (2, 1, 4, 6)
    np.testing.assert_allclose(
        read_images(tmp_path, colour=True)[0].permute(1, 2, 0), colours(0) / 127.5 - 1
    )


def levels_of(points: torch.Tensor) -> np.ndarray:
    """Levels 0..255, which the numbers must be."""
    levels = (points.numpy() + 1) * 127.5
    np.testing.assert_allclose(levels, levels.round(), atol=1e-9)
    return levels.round().astype(int)


def test_grey_is_the_weighted_mean_and_of_equal_channels_the_level_itself(tmp_path):
    save(tmp_path, "0.png", colours(0))
    save(tmp_path, "1.png", np.repeat(grey(1)[..., None], 3, 2))
    found = levels_of(read_images(tmp_path, colour=False))[:, 0]
    assert np.abs(found[0] - colours(0) @ [0.299, 0.587, 0.114]).max() <= 0.51
    np.testing.assert_array_equal(found[1], grey(1))


def test_grey_images_saved_as_colour_are_recognized(tmp_path):
    save(tmp_path, "0.png", grey(0))
    save(tmp_path, "1.png", np.repeat(grey(1)[..., None], 3, 2))
    assert "--grey, or colour=False, grey, which loses nothing" in refusal(
        tmp_path, read_images, tmp_path
    )


def test_inks_become_colours(tmp_path):
    inks = np.random.default_rng(0).integers(0, 256, (4, 6, 4)).astype(np.uint8)
    for name in ("0.tif", "1.tif"):
        (tmp_path / name).write_bytes(tiff(inks, 5))
    found = levels_of(read_images(tmp_path, colour=True))[0].transpose(1, 2, 0)
    expected = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert np.abs(found - expected).max() <= 1


# Levels


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_levels_of_every_depth_fill_the_range(tmp_path, depth):
    most = 2**depth - 1
    levels = np.random.default_rng(depth).integers(0, most + 1, (2, 5, 16))
    for i in range(2):
        data = packed(levels[i], depth)
        (tmp_path / f"{i}.png").write_bytes(png(16, 5, depth, 0, data))
    np.testing.assert_array_equal(levels_of(read_images(tmp_path))[:, 0], levels * 255 // most)


@pytest.mark.parametrize(("kind", "mode"), [(0, "I;16"), (2, "RGB"), (4, "RGBA"), (6, "RGBA")])
@pytest.mark.parametrize("colour", [None, True, False])
def test_sixteen_bit_png_is_never_converted(tmp_path, kind, mode, colour):
    """Pillow opens all but grey as 8 bits, with and without opacity."""
    rng, channels = np.random.default_rng(0), {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    for i in range(2):
        data = packed(rng.integers(0, 65536, (4, 6, channels)), 16)
        (tmp_path / f"{i}.png").write_bytes(png(6, 4, 16, kind, data))
    said = refusal(tmp_path, read_images, tmp_path, colour=colour, resize=4)
    assert re.search(rf"2 of 16-bit (?:{mode}|LA) 6 x 4", said)
    assert "only 8-bit grey and RGB images are read" in said
    assert "--colour" not in said, "it would not help"


@pytest.mark.parametrize(
    ("dtype", "channels", "options", "words"),
    [
        ("<u2", 1, {"photometric": 1}, "16-bit I;16"),
        ("<u2", 3, {"photometric": 2}, "16-bit RGB"),
        ("<f4", 1, {"photometric": 1, "sample_format": 3}, "32-bit F"),
        ("<i2", 1, {"photometric": 1, "sample_format": 2}, "16-bit I"),
        ("i1", 1, {"photometric": 1, "sample_format": 2}, "signed L"),
        ("u1", 5, {"photometric": 2, "extra": [2, 0]}, "5-channel RGBA"),
        ("u1", 4, {"photometric": 2, "extra": [0]}, "4-channel RGB"),
    ],
)
def test_tiff_that_is_more_than_levels_is_refused(tmp_path, dtype, channels, options, words):
    for i in range(2):
        levels = np.random.default_rng(i).integers(0, 100, (4, 6, channels)).astype(dtype)
        (tmp_path / f"{i}.tif").write_bytes(tiff(levels, **options))
    for colour in (None, True):
        said = refusal(tmp_path, read_images, tmp_path, colour=colour)
        assert f"2 of {words} 6 x 4" in said
        assert "only 8-bit grey and RGB images are read" in said


@pytest.mark.parametrize(
    ("channels", "photometric", "shown"),
    [(1, 1, lambda x: x), (1, 0, lambda x: 255 - x), (3, 2, lambda x: x)],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_tiff_is_read_as_a_viewer_shows_it(tmp_path, channels, photometric, shown, orientation):
    """White may be level 0, and the camera may have been held upright."""
    levels = [
        np.random.default_rng(i).integers(0, 256, (4, 6, channels)).astype(np.uint8)
        for i in range(2)
    ]
    for i in range(2):
        whole = tiff(levels[i], photometric, orientation=orientation)
        (tmp_path / f"{i}.{('tif', 'TIFF')[i]}").write_bytes(whole)
    expected = shown(np.stack(levels).astype(int))
    if orientation == 6:
        expected = np.rot90(expected, -1, (1, 2))
    np.testing.assert_array_equal(levels_of(read_images(tmp_path)), expected.transpose(0, 3, 1, 2))


# Transparency


def transparent_files(kind: str) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Two PNG files, their levels (n, h, w, c) and the opacity 0..255 of every pixel."""
    rng = np.random.default_rng(7)
    if kind.startswith("grey key"):
        depth = int(kind.split()[-1])
        levels = rng.integers(0, 2**depth, (2, 5, 16))
        key = int(levels[0, 0, 0])
        files = [
            png(16, 5, depth, 0, packed(x, depth), (b"tRNS", struct.pack(">H", key)))
            for x in levels
        ]
        return files, (levels * 255 // (2**depth - 1))[..., None], 255 * (levels != key)
    if kind == "colour key":
        levels = rng.integers(0, 3, (2, 5, 16, 3)) * 100
        key = levels[0, 0, 0]
        files = [
            png(16, 5, 8, 2, packed(x, 8), (b"tRNS", struct.pack(">3H", *key))) for x in levels
        ]
        return files, levels, 255 * (levels != key).any(-1)
    if kind == "palette":
        palette, opacity = rng.integers(0, 256, (16, 3)), rng.integers(0, 256, 16)
        places = rng.integers(0, 16, (2, 5, 16))
        chunks = [
            (b"PLTE", palette.astype(np.uint8).tobytes()),
            (b"tRNS", opacity.astype(np.uint8).tobytes()),
        ]
        files = [png(16, 5, 4, 3, packed(x, 4), *chunks) for x in places]
        return files, palette[places], opacity[places]
    channels = {"grey with opacity": 2, "colour with opacity": 4}[kind]
    whole = rng.integers(0, 256, (2, 5, 16, channels))
    files = [png(16, 5, 8, {2: 4, 4: 6}[channels], packed(x, 8)) for x in whole]
    return files, whole[..., :-1], whole[..., -1]


@pytest.mark.parametrize(
    "kind",
    ["grey key 1", "grey key 2", "grey key 4", "grey key 8", "colour key", "palette",
     "grey with opacity", "colour with opacity"],
)  # fmt: skip
def test_transparent_images_are_refused_or_put_on_white(tmp_path, kind):
    """Equation (2) in floating point; what lies under full transparency is not looked at."""
    files, levels, opacity = transparent_files(kind)
    for i, content in enumerate(files):
        (tmp_path / f"{i}.png").write_bytes(content)
    said = refusal(tmp_path, read_images, tmp_path)
    assert re.search(r"2 of transparent \w+ 16 x 5", said)
    assert "Transparency: --colour, or colour=True, puts images on white ground" in said
    a = opacity[..., None] / 255
    expected = np.rint(a * levels + (1 - a) * 255)
    if levels.shape[-1] == 3:
        found = levels_of(read_images(tmp_path, colour=True))
        np.testing.assert_array_equal(found, expected.transpose(0, 3, 1, 2))
        assert read_images(tmp_path, colour=False).shape == (2, 1, 5, 16)
    else:
        found = levels_of(read_images(tmp_path, colour=False))
        np.testing.assert_array_equal(found, expected.transpose(0, 3, 1, 2))
        assert read_images(tmp_path, colour=True).shape == (2, 3, 5, 16)
    assert said_of(tmp_path, "white", colour=True) == [
        "2 images with transparent parts were put on white ground."
    ]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_opacity_that_is_full_and_palettes_take_no_option(tmp_path, mode):
    """Nothing is lost: the levels are those of the colours. A palette is colour, even of greys."""
    palette = np.repeat(np.arange(0, 256, 17)[:, None], 3, 1)
    for i in range(2):
        save(tmp_path, f"{i}.png", grey(i) if mode == "LA" else colours(i))
        if mode == "P":
            chunk = (b"PLTE", palette.astype(np.uint8).tobytes())
            data = packed(grey(i) % 16, 4)
            (tmp_path / f"{i}.png").write_bytes(png(6, 4, 4, 3, data, chunk))
        else:
            Image.open(tmp_path / f"{i}.png").convert(mode).save(tmp_path / f"{i}.png")
    found = levels_of(read_images(tmp_path)).transpose(0, 2, 3, 1)
    right = {
        "RGBA": lambda i: colours(i),
        "LA": lambda i: grey(i)[..., None],
        "P": lambda i: palette[grey(i) % 16],
    }[mode]
    np.testing.assert_array_equal(found, np.stack([right(i) for i in range(2)]))
    assert not read_named_images(tmp_path).notes


# What is left out


@pytest.mark.parametrize("ending", ["png", "gif", "webp", "tif"])
def test_later_frames_are_left_out_and_counted(tmp_path, ending):
    """Twelve frames in three files beside a still image: the first of each is read."""
    for i in range(3):
        frames = [
            Image.fromarray(np.full((4, 6), 255 - 40 * k - i, dtype=np.uint8)) for k in range(4)
        ]
        how: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
        frames[0].save(tmp_path / f"{i}.{ending}", save_all=True, append_images=frames[1:], **how)
    save(tmp_path, f"still.{ending}", grey(0))
    found = levels_of(read_images(tmp_path, colour=False))
    assert found[:3].reshape(3, -1).tolist() == [[255 - i] * 24 for i in range(3)]
    assert said_of(tmp_path, "frames", colour=False) == [
        "3 images hold several frames or pages: the first of each was read, 9 later ones were "
        "left out."
    ]


def test_pictures_behind_that_of_a_camera_are_counted(tmp_path):
    """A jpg file may hold a second picture, of depth say; a wrong ending is no matter."""
    for i in range(2):
        first, second = Image.new("L", (8, 8), 100 + i), Image.new("L", (8, 8), 20)
        name = tmp_path / f"{i}.{('jpg', 'png')[i]}"
        first.save(name, "MPO", save_all=True, append_images=[second])
    levels = levels_of(read_images(tmp_path, colour=False))
    assert levels.reshape(2, -1).tolist() == [[100] * 64, [101] * 64]
    assert "2 images hold several frames or pages" in said_of(tmp_path, "frames", colour=False)[0]


def test_everything_that_is_not_read_is_counted(tmp_path):
    save(tmp_path, "a.png", grey(0))
    save(tmp_path, "b/c.PNG", grey(1))
    assert not read_named_images(tmp_path).notes
    for name in ("1.heic", "2.HEIC", "b/3.heic", "b/x.npy", "README", "Thumbs.db", "4.\x1b[2J"):
        (tmp_path / name).write_bytes(b"x")
    for name in (".DS_Store", "._a.png", ".b.jpg", ".ipynb_checkpoints/a.png", "b/.cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read_named_images(tmp_path)
    assert found.names == ("a.png", "b/c.PNG")
    others, hidden = found.notes
    assert others.startswith("files that are not read were left out: 3 .heic, 1 ")
    counts = others[others.index(": ") + 2 : others.index(" (")].split(", ")
    assert sorted(counts) == ["1 .\\x1b[2j", "1 .db", "1 .npy", "1 no ending", "3 .heic"]
    assert all(ending in others for ending in IMAGE_ENDINGS)
    assert hidden == (
        "hidden, and left out: 2 folders (.cache, .ipynb_checkpoints) and 1 .jpg files."
    )
    assert images(tmp_path).notes[:2] == tuple(f"{tmp_path.name}: {n}" for n in found.notes)


def test_several_kinds_of_files_are_counted(tmp_path):
    for i in range(5):
        save(tmp_path, f"{i}.{'png' if i < 3 else 'tif'}", grey(i))
    assert said_of(tmp_path, "tif") == [
        "images of several kinds were read as one set: 3 .png, 2 .tif."
    ]
    np.testing.assert_array_equal(
        levels_of(read_images(tmp_path))[:, 0], np.stack([grey(i) for i in range(5)])
    )


# Sizes


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys's kernel with a = -1/2."""
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    return np.where(x < 1, inner, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def antialiased(length: int, side: int) -> np.ndarray:
    """Weights of old pixels in new ones, (side, length), the kernel as wide as a new one."""
    wide = max(1.0, length / side)
    centres = (np.arange(side) + 0.5) * length / side
    weights = cubic((np.arange(length) + 0.5 - centres[:, None]) / wide)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("height", "width", "left", "top"), [
    (16, 16, 0, 0), (16, 23, 3, 0), (20, 12, 0, 4), (5, 5, 0, 0),
])  # fmt: skip
def test_resized_images_are_antialiased_central_squares(tmp_path, height, width, left, top):
    rng, square = np.random.default_rng(0), min(height, width)
    levels = rng.integers(0, 256, (2, height, width, 3))
    for i in range(2):
        save(tmp_path, f"{i}.png", levels[i])
    found = levels_of(read_images(tmp_path, resize=8))
    w = antialiased(square, 8)
    part = levels[:, top : top + square, left : left + square].transpose(0, 3, 1, 2)
    rows = (part @ w.T).clip(0, 255).round()
    assert np.abs(found - (w @ rows).clip(0, 255)).max() <= 1.01


def test_resizing_is_counted_and_leaves_the_right_size_alone(tmp_path):
    save(tmp_path, "as it is.png", grey(0, 8, 8))
    save(tmp_path, "cut.png", grey(1, 8, 12))
    save(tmp_path, "large.png", grey(2, 16, 16))
    save(tmp_path, "small.png", grey(3, 4, 4))
    found = read_named_images(tmp_path, resize=8)
    np.testing.assert_array_equal(levels_of(found.points)[0, 0], grey(0, 8, 8))
    np.testing.assert_array_equal(levels_of(found.points)[1, 0], grey(1, 8, 12)[:, 2:10])
    assert found.notes == (
        "3 images were resized to 8 x 8 pixels (1 cut to their central square first, 1 enlarged).",
    )
    assert images(tmp_path, resize=8).notes == (f"{tmp_path.name}: {found.notes[0]}",)


@pytest.mark.parametrize("side", [0, -3, 4097])
def test_a_side_that_makes_no_sense_is_refused(tmp_path, side):
    save(tmp_path, "a.png", grey(0))
    with pytest.raises(ConfigError, match=f"1 to 4096, got {side}"):
        read_images(tmp_path, resize=side)


def test_sets_of_different_sizes_are_compared_at_one(tmp_path):
    """Copies at half the size: refused with the remedy, and named when it is followed."""
    rng = np.random.default_rng(3)
    sets = {"t": rng.integers(0, 256, (40, 16, 16)), "h": rng.integers(0, 256, (40, 16, 20))}
    w = antialiased(16, 8)
    sets["g"] = np.concatenate([w @ sets["t"][:20] @ w.T, rng.integers(60, 200, (20, 8, 8))])
    for name, levels in sets.items():
        for i, x in enumerate(levels):
            save(tmp_path / name, f"{i:02}.png", x.clip(0, 255).round())
    paths = [tmp_path / name for name in "gth"]
    with pytest.raises(
        DataError, match="generated 8 x 8, training 16 x 16, held_out 20 x 16"
    ) as e:
        audit_files(*paths)
    assert "held_out 20 x 16. --resize 8, or resize=8" in str(e.value)
    found = audit_files(*paths, resize=8)
    assert found.verdict == "copying"
    assert {(f.index, f.nearest) for f in found.copying.flagged} >= {(i, i) for i in range(20)}
    assert "training: 40 images were resized to 8 x 8 pixels." in found.notes
    assert any(n.startswith("held-out: 40 images") and "40 cut" in n for n in found.notes)
    assert not any(n.startswith("generated") and "resized" in n for n in found.notes)
    options = ["--training", str(paths[1]), "--held-out", str(paths[2]), "--resize", "8"]
    told = CliRunner().invoke(
        app, ["audit", str(paths[0]), *options, "--out", str(tmp_path / "o")]
    )
    assert told.stdout.startswith(found.sentence)
    np.save(tmp_path / "g.npy", sets["g"] / 127.5 - 1)
    with pytest.raises(DataError, match="arrays stay as they are"):
        audit_files(tmp_path / "g.npy", *paths[1:])
    with pytest.raises(ConfigError, match="--resize, is for folders"):
        audit_files(tmp_path / "g.npy", tmp_path / "g.npy", resize=8)


def test_arrays_with_channels_last_are_not_taken_for_images_three_pixels_wide():
    folder = Loaded(kind="images", points=torch.zeros(2, 3, 8, 8))
    for shape in ((8, 8, 3), (3, 8, 8), (192,)):
        array = Loaded(kind="array", points=torch.zeros(2, *shape))
        require_one_size({"generated": array, "training": folder})
    array = Loaded(kind="array", points=torch.zeros(2, 3, 9, 8))
    with pytest.raises(DataError, match="generated 8 x 9, training 8 x 8"):
        require_one_size({"generated": array, "training": folder})


# Files


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_as_a_viewer_shows_them(tmp_path, orientation):
    """A camera stores how it was held; the pixels of equal pictures are then equal."""
    shown = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: shown.T[::-1],
        7: shown.T[::-1, ::-1],
        8: shown.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(np.ascontiguousarray(shown)).save(tmp_path / "b.png")
    a, b = read_images(tmp_path)
    assert torch.equal(a, b)


def test_mixed_sizes_are_listed(tmp_path):
    for i in range(5):
        save(tmp_path, f"{i}.png", grey(i))
    save(tmp_path, "odd.png", grey(9, 8, 8))
    said = refusal(tmp_path, images, tmp_path)
    assert "5 of L 6 x 4" in said
    assert "1 of L 8 x 8" in said
    assert "--resize 4, or resize=4, brings every image to 4 x 4 pixels" in said
    assert "--colour" not in said
    assert images(tmp_path, resize=4).points.shape == (6, 1, 4, 4)


def test_a_folder_of_all_different_sizes_fits_the_screen(tmp_path):
    for i in range(40):
        save(tmp_path, f"{i}.png", grey(i, 4, 6 + i))
    assert "and 28 more" in refusal(tmp_path, images, tmp_path)


def test_corrupt_images_are_all_named(tmp_path):
    for i in range(3):
        save(tmp_path, f"{i}.png", grey(i, 40, 40))
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.bmp").write_text("no image")
    (tmp_path / "vector.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    said = refusal(tmp_path, images, tmp_path)
    assert "4 of 7 images cannot be read" in said
    for name in ("'cut.png'", "'empty.jpg'", "'text.bmp'", "'vector.png'"):
        assert name in said
    assert "'1.png'" not in said
    assert "Remove or repair them" in said


def test_many_corrupt_images_fit_the_screen(tmp_path):
    for i in range(60):
        (tmp_path / f"{i:02}.png").write_bytes(b"no")
    said = refusal(tmp_path, images, tmp_path)
    assert "60 of 60 images cannot be read" in said
    assert "and 48 more" in said


@pytest.mark.parametrize("side", [4097, 10_000, 100_000])
def test_decompression_bombs_are_refused_before_they_are_opened(tmp_path, side):
    """Above our limit, above Pillow's warning, above Pillow's limit."""
    save(tmp_path, "a.png", grey(0))
    (tmp_path / "bomb.png").write_bytes(png(side, side, 8, 0, bytes(100)))
    said = refusal(tmp_path, images, tmp_path)
    assert "1 of 2 images cannot be read" in said
    assert re.search(r"'bomb.png': .*(pixels|decompression bomb)", said)


def test_symbolic_links(tmp_path):
    folder = tmp_path / "set"
    save(folder, "a.png", grey(0))
    save(tmp_path, "elsewhere/b.png", grey(1))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(read_images(folder)) == 2
    for name, target, said in [
        ("loop", folder, "back to a folder that contains it"),
        ("deep/loop", folder, "back to a folder that contains it"),
        ("self.png", folder / "self.png", "leads nowhere or to itself"),
        ("gone", tmp_path / "absent", "leads nowhere or to itself"),
    ]:
        link = folder / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        before = len(list(folder.iterdir()))
        with pytest.raises(DataError, match=said) as refused:
            read_images(folder)
        assert repr(str(link)) in str(refused.value)
        assert len(list(folder.iterdir())) == before
        link.unlink()


def test_folders_without_images(tmp_path):
    assert "does not exist" in refusal(tmp_path, images, tmp_path / "absent")
    said = refusal(tmp_path, images, tmp_path)
    assert "holds no image; files ending in .png, .apng, .jpg" in said
    assert "Other files found: none" in said
    for name in ("a.heic", "b.heic", "c.txt"):
        (tmp_path / name).write_text("x")
    assert "2 .heic, 1 .txt" in refusal(tmp_path, images, tmp_path)
    assert "is not a folder" in refusal(tmp_path, images, tmp_path / "a.heic")


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>.png", "a\x1b[2Jb.png", "a\nb.png"])
def test_names_are_quoted_as_they_are(tmp_path, name):
    """Markup is left for the report to escape; control characters cannot reach the terminal."""
    (tmp_path / name).write_bytes(b"no image")
    said = refusal(tmp_path, images, tmp_path)
    assert repr(name) in said
    assert len(said.splitlines()) == 3


STRANGE = {
    b"\xff.png": r"\xff.png",
    b"line\nbreak.png": r"line\nbreak.png",
    "\u202egnp.exe.png".encode(): r"\u202egnp.exe.png",
    b"\x1b[2J.png": r"\x1b[2J.png",
    b"\\xff.png": r"\\xff.png",
    "été 図.png".encode(): "été 図.png",
}


@pytest.mark.parametrize(("name", "shown"), STRANGE.items())
def test_names_have_one_printable_form(name, shown):
    assert printable(os.fsdecode(name)) == shown
    assert shown.encode().decode().isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_an_audit_of_strange_names_is_written_and_printed(tmp_path):
    """Page, table, JSON and terminal, in a folder whose own name is not UTF-8."""
    rng = np.random.default_rng(0)
    home = tmp_path / os.fsdecode(b"caf\xe9")
    levels = {name: rng.integers(0, 256, (30, 6, 6)) for name in ("t", "h", "g")}
    levels["g"][: len(STRANGE)] = levels["t"][: len(STRANGE)]
    for name, some in levels.items():
        files = [os.fsdecode(strange) for strange in STRANGE]
        files += [f"{i:02}.png" for i in range(len(files), 30)]
        for i, file in enumerate(files):
            buffer = io.BytesIO()
            Image.fromarray(some[i].astype(np.uint8)).save(buffer, "PNG")
            (home / name).mkdir(parents=True, exist_ok=True)
            (home / name / file).write_bytes(buffer.getvalue())
    (home / "g" / os.fsdecode(b"x.\xfe")).write_bytes(b"x")
    (home / "g" / os.fsdecode(b"broken\xfe.png")).write_bytes(b"x")
    verdict = audit_files(home / "g", home / "t", home / "h", skip_unreadable=True)
    assert verdict.verdict == "copying"
    with write_flagged(verdict, tmp_path / "f.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["sample"] for row in rows} == set(STRANGE.values())
    assert all(row["sample"] == row["training"] for row in rows)
    page = write_report(verdict, tmp_path / "page.html").read_text("utf-8")
    assert r"line\nbreak.png" in page
    assert "\u202e" not in page
    assert r"caf\xe9/t" in page.replace("<wbr/>", "")
    assert any(r"1 .\xfe" in note for note in verdict.notes)
    arguments = ["audit", str(home / "g"), "--training", str(home / "t"), "--skip-unreadable"]
    arguments += ["--held-out", str(home / "h"), "--out", str(home / "out")]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "identical to training points" in told.stdout_bytes.decode("utf-8")
    answer = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    whole = json.loads(answer.stdout_bytes.decode("utf-8"))
    assert {one["sample"] for one in whole["copying"]["flagged"]} == set(STRANGE.values())
    assert Path(whole["report"]).exists()


def test_equal_images_are_refused_or_counted(tmp_path):
    for i in range(3):
        save(tmp_path, f"{i}.png", grey(0))
    assert "all 3 points are equal" in refusal(tmp_path, images, tmp_path)
    save(tmp_path, "other.png", grey(1))
    assert images(tmp_path).n_duplicates == 2
    assert len(images(tmp_path, deduplicate=True).points) == 2


def test_images_keep_their_names_and_skip_only_on_request(tmp_path):
    for name, level in (("b.png", 10), ("a.png", 20)):
        Image.new("L", (4, 4), level).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="--skip-unreadable"):
        datasets.read(tmp_path)
    found = datasets.read(tmp_path, skip_unreadable=True)
    assert found.names == ("a.png", "b.png")
    assert found.points[:, 0, 0, 0].tolist() == pytest.approx([20 / 127.5 - 1, 10 / 127.5 - 1])
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith("'c.png'")
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="1 of 1 images cannot be read"):
        datasets.read(tmp_path, skip_unreadable=True)
