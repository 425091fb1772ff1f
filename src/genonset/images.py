"""Images in folders, as numbers.

What is read has 256 levels. With level l of 0..255 in a channel, and opacity a of 0..255 where a
pixel is transparent, the number that stands for it is

    (1)  x = l / 127.5 - 1
    (2)  l = round((a l' + (255 - a) 255) / 255),    l' the level in the file

(2) being the picture on white ground, as documents and browsers show it. What lies under full
transparency has no part in it. Grey is the weighted mean of red, green and blue that JPEG takes,

    (3)  l = round(0.299 r + 0.587 g + 0.114 b)

and of equal channels the same level. Resized images are cut to their central square first, the
larger part on the right or below by one pixel where the border is odd, and brought to N x N by
antialiased bicubic interpolation, rounded to whole levels. None of these looks at another image.

Colour profiles and gamma values are not applied: numbers are compared as they were stored.
"""

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genonset.arrays import Loaded
from genonset.errors import ConfigError, DataError, brief, listed, printable, quote

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IMAGE_ENDINGS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff",
)  # fmt: skip
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_CONVERTIBLE = ("L", "RGB", "CMYK", "YCbCr")
_LARGEST_SIDE = 4096
_PNG_BITS = 24  # place of the bits of a level, in the header that every PNG file begins with
_UNSIGNED = {1, 4}  # sample formats of TIFF: whole numbers, or not said


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """What one file holds.

    Attributes:
        kind: mode and size, for the refusal.
        fault: why its pixels are not taken, "mode", "transparency" or "levels"; empty where they
            are.
        pixels: shape (channels, height, width), 8 bits, where they are taken.
        later: frames or pages behind the first.
        changes: what was done to it, of "white", "resized", "enlarged", "cropped".
    """

    kind: str
    fault: str = ""
    pixels: np.ndarray | None = None
    later: int = 0
    changes: frozenset[str] = frozenset()


def read_images(
    folder: str | Path, *, colour: bool | None = None, resize: int | None = None
) -> Tensor:
    """The images of a folder as `read_named_images` reads them: points alone."""
    return read_named_images(folder, colour=colour, resize=resize).points


def read_named_images(
    folder: str | Path,
    *,
    colour: bool | None = None,
    resize: int | None = None,
    skip_unreadable: bool = False,
) -> Loaded:
    """The images of a folder and its folders, by relative path.

    Grey levels become numbers by (1). Of animations and files of several pages the first is read.
    Files with other endings, and those whose name or folder begins with a dot, are left out. All
    of this is counted in `notes`.

    Args:
        folder: looked through to any depth; links to folders are followed.
        colour: None takes grey and RGB images as they are, those in palettes as RGB, and drops an
            opacity that is full everywhere; True makes all RGB, False all grey, (3), and puts
            what is transparent on white ground, (2).
        resize: bring every image to this many pixels a side.
        skip_unreadable: leave out images that cannot be read, and list them in `skipped`.

    Returns:
        Points of shape (n, channels, height, width), float64, and their relative paths with
        escapes for what cannot be printed.

    Raises:
        DataError: if there is no image, one cannot be read or has more than 4096 x 4096 pixels,
            sizes or modes differ, images are deeper than 8 bits or, unless `colour` is given,
            transparent, or a link leads back to a folder that contains it.
        ConfigError: unless 1 <= resize <= 4096.
    """
    if resize is not None and not 1 <= resize <= _LARGEST_SIDE:
        raise ConfigError(
            f"resize is a number of pixels a side, 1 to {_LARGEST_SIDE}, got {resize}."
        )
    folder = Path(folder)
    files, left_out = _image_files(folder)
    found: dict[Path, _Decoded] = {}
    unreadable = []
    for file in files:
        try:
            found[file] = _decode(file, colour, resize)
        except Exception as error:  # decoders of damaged files raise exceptions of any type
            unreadable.append(f"  {quote(file.relative_to(folder))}: {brief(error)}")
    if unreadable and not (skip_unreadable and found):
        raise DataError(
            f"{quote(folder)}: {len(unreadable)} of {len(files)} images cannot be read:\n"
            f"{listed(unreadable)}\n"
            "Remove or repair them: leaving images out silently would change the data set. An "
            "audit leaves them out when told to, with --skip-unreadable."
        )
    decoded = list(found.values())
    pixels = [one.pixels for one in decoded if one.pixels is not None]
    if len(pixels) < len(decoded) or len({x.shape for x in pixels}) > 1:
        raise DataError(_refusal(folder, decoded))
    return Loaded(
        kind="images",
        points=signed(np.stack(pixels)),
        names=tuple(printable(file.relative_to(folder).as_posix()) for file in found),
        skipped=tuple(line.strip() for line in unreadable),
        notes=(*left_out, *_notes(found, resize)),
    )


def require_one_size(loaded: Mapping[str, Loaded]) -> None:
    """Refuse sets of images of which some were read from folders, if their sizes differ.

    Raises:
        DataError: with the sizes and the remedy.
    """
    sizes = {n: size for n, one in loaded.items() if (size := _size(one)) is not None}
    if all(one.kind != "images" for one in loaded.values()) or len(set(sizes.values())) < 2:
        return
    least = min(min(size) for size in sizes.values())
    seen = ", ".join(f"{name} {width} x {height}" for name, (height, width) in sizes.items())
    raise DataError(
        f"All sets must hold images of one size, got {seen}. --resize {least}, or "
        f"resize={least}, brings folders of images to {least} x {least} pixels, cut to their "
        "central square; arrays stay as they are."
    )


def _size(loaded: Loaded) -> tuple[int, ...] | None:
    """Height and width of images; None of arrays that may be something else, or channels last."""
    shape = tuple(loaded.points.shape[1:])
    channels_first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] > 4
    pictures = loaded.kind == "images" or len(shape) == 2 or channels_first
    return shape[-2:] if pictures else None


# Files -------------------------------------------------------------------------------------------


def _image_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Image files below a folder, sorted by relative path, and what is said of all others."""
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{quote(folder)} {found}; a folder of images is needed.")
    try:
        files = list(_walk(folder, (folder.resolve(),)))
    except OSError as error:
        raise DataError(f"{quote(folder)} cannot be listed: {brief(error)}") from error
    hidden = [file for file in files if file.name.startswith(".")]
    shown = [file for file in files if not file.name.startswith(".")]
    chosen = [file for file in shown if file.suffix.lower() in IMAGE_ENDINGS]
    others = _by_ending(file for file in shown if file.suffix.lower() not in IMAGE_ENDINGS)
    if not chosen:
        raise DataError(
            f"{quote(folder)} holds no image; files ending in {', '.join(IMAGE_ENDINGS)} are "
            f"read. Other files found: {others or 'none'}. Check the path, or convert the files."
        )
    left_out = []
    if others:
        left_out.append(
            f"files that are not read were left out: {others} (images are read from "
            f"{', '.join(IMAGE_ENDINGS)} files)."
        )
    if said := _hidden(hidden):
        left_out.append(f"hidden, and left out: {said}.")
    return sorted(chosen, key=lambda file: file.relative_to(folder).as_posix()), left_out


def _by_ending(files: Iterable[Path]) -> str:
    """How many files have each ending, the most frequent first."""
    endings = Counter(printable(file.suffix.lower()) or "no ending" for file in files)
    return listed([f"{count} {ending}" for ending, count in endings.most_common()], ", ")


def _hidden(entries: Sequence[Path]) -> str:
    """Hidden folders, and hidden files that look like images; `._name` is what macOS adds."""
    folders = [entry for entry in entries if entry.is_dir()]
    files = [
        entry
        for entry in entries
        if entry not in folders
        and entry.suffix.lower() in IMAGE_ENDINGS
        and not entry.name.startswith("._")
    ]
    names = sorted({printable(entry.name) for entry in folders})
    parts = [f"{len(folders)} folders ({listed(names, ', ')})"] if folders else []
    return " and ".join([*parts, *([f"{_by_ending(files)} files"] if files else [])])


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterable[Path]:
    """Files below a folder, and what is hidden there, into which it does not look.

    `above` are the real paths of the folders that contain it.
    """
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            yield entry
        elif entry.is_symlink() and not entry.exists():
            raise DataError(
                f"{quote(entry)} is a symbolic link that leads nowhere or to itself. Remove it, "
                "or restore what it points to."
            )
        elif not entry.is_dir():
            yield entry
        elif (real := entry.resolve()) in above:
            raise DataError(
                f"{quote(entry)} is a symbolic link back to a folder that contains it, so the "
                "folder has no end. Remove the link."
            )
        else:
            yield from _walk(entry, (*above, real))


# Pixels ------------------------------------------------------------------------------------------


def _decode(file: Path, colour: bool | None, resize: int | None) -> _Decoded:
    """What a file holds, and its pixels if they are accepted."""
    from PIL import Image, ImageOps

    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(file.open("rb"))  # of a path Pillow maps, and turns wrongly
        header = stream.read(_PNG_BITS + 1)
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            image = stack.enter_context(Image.open(stream, formats=_IMAGE_FORMATS))
        if image.width * image.height > _LARGEST_SIDE**2:
            raise DataError(
                f"{image.width} x {image.height} pixels are more than this program opens "
                f"({_LARGEST_SIDE**2:,})"
            )
        beyond, later = _beyond(header, image), getattr(image, "n_frames", 1) - 1
        ImageOps.exif_transpose(image, in_place=True)  # as a viewer shows it
        kind = f"{image.mode} {image.width} x {image.height}"
        if beyond:
            return _Decoded(kind=f"{beyond} {kind}", fault="levels")
        plain, transparent = _on_white(header, image)
        if transparent and colour is None:
            return _Decoded(kind=f"transparent {kind}", fault="transparency")
        if plain.mode in _CONVERTIBLE and colour is not None:
            plain = plain.convert("RGB" if colour else "L")
        if plain.mode not in ("L", "RGB"):
            return _Decoded(kind=kind, fault="mode" if plain.mode in _CONVERTIBLE else "levels")
        changes = {"white"} if transparent else set()
        if resize is not None and plain.size != (resize, resize):
            plain, how = _resized(plain, resize)
            changes |= how
        pixels = np.asarray(plain)
        return _Decoded(
            kind=f"{plain.mode} {plain.width} x {plain.height}",
            pixels=pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1),
            later=later,
            changes=frozenset(changes),
        )


def _beyond(header: bytes, image: "Picture") -> str:
    """What a file holds that 8-bit levels cannot; Pillow narrows such colour without a word."""
    from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLEFORMAT, SAMPLESPERPIXEL, TiffImageFile

    if image.format == "PNG":
        bits = header[_PNG_BITS]
    elif isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(BITSPERSAMPLE, (1,)))
        channels = image.tag_v2.get(SAMPLESPERPIXEL, 1)
        if channels != len(image.getbands()):
            return f"{channels}-channel"
        if bits <= 8 and not _UNSIGNED.issuperset(image.tag_v2.get(SAMPLEFORMAT, (1,))):
            return "signed"
    else:
        return ""
    return f"{bits}-bit" if bits > 8 else ""


def _on_white(header: bytes, image: "Picture") -> tuple["Picture", bool]:
    """The image without opacity and palette, by (2), and whether it was transparent anywhere."""
    from PIL import Image

    key = image.info.get("transparency")
    if key is None and image.mode not in ("P", "PA", "LA", "RGBA"):
        return (image.convert("L") if image.mode == "1" else image), False
    if isinstance(key, int) and image.format == "PNG" and image.mode == "L":
        most = 2 ** header[_PNG_BITS] - 1
        if key <= most < 255:  # Pillow scales levels of 2 and 4 bits, not the transparent one
            image.info["transparency"] = key * 255 // most
    levels = "L" if image.mode in ("1", "L", "LA") else "RGB"
    whole = image.convert("RGBA")
    opacity = whole.getchannel("A")
    ground = Image.new(levels, image.size, "white")
    ground.paste(whole.convert(levels), mask=opacity)
    return ground, opacity.getextrema() != (255, 255)


def _resized(image: "Picture", side: int) -> tuple["Picture", set[str]]:
    """The central square of an image with this many pixels a side, and what was done."""
    from PIL import Image

    square = min(image.size)
    left, top = (image.width - square) // 2, (image.height - square) // 2
    how = {"resized"}
    if image.width != image.height:
        image = image.crop((left, top, left + square, top + square))
        how.add("cropped")
    if square < side:
        how.add("enlarged")
    return image.resize((side, side), Image.Resampling.BICUBIC), how


def signed(pixels: np.ndarray) -> Tensor:
    """Grey levels 0..255 as float64 in [-1, 1], (1)."""
    return torch.from_numpy(pixels / 127.5 - 1)


# Words -------------------------------------------------------------------------------------------


def _notes(found: Mapping[Path, _Decoded], resize: int | None) -> Iterator[str]:
    """What was read and converted, one sentence each."""
    if len({file.suffix.lower() for file in found}) > 1:
        yield f"images of several kinds were read as one set: {_by_ending(found)}."
    several = [one.later for one in found.values() if one.later]
    if several:
        yield (
            f"{len(several)} images hold several frames or pages: the first of each was read, "
            f"{sum(several)} later ones were left out."
        )
    done = Counter(change for one in found.values() for change in one.changes)
    if done["white"]:
        yield f"{done['white']} images with transparent parts were put on white ground."
    if done["resized"]:
        counts = {"cut to their central square first": "cropped", "enlarged": "enlarged"}
        parts = [f"{done[name]} {what}" for what, name in counts.items() if done[name]]
        how = f" ({', '.join(parts)})" if parts else ""
        yield f"{done['resized']} images were resized to {resize} x {resize} pixels{how}."


def _refusal(folder: Path, decoded: Sequence[_Decoded]) -> str:
    """Why the images of a folder are not one set, and what would make them one."""
    kinds = Counter(one.kind for one in decoded).most_common()
    seen = [f"  {count} of {kind}" for kind, count in kinds]
    taken = [one.pixels for one in decoded if one.pixels is not None]
    faults = {one.fault for one in decoded}
    channels, sizes = {len(x) for x in taken}, {x.shape[1:] for x in taken}
    remedies = []
    if len(channels) > 1 or "mode" in faults:
        coloured = [x for x in taken if len(x) == 3]
        alike = bool(coloured) and all((x == x[0]).all() for x in coloured)
        remedies.append(
            "Modes: --colour, or colour=True, makes every image RGB, --grey, or colour=False, "
            "grey" + (", which loses nothing: the RGB images are grey in fact." if alike else ".")
        )
    if "transparency" in faults:
        remedies.append(
            "Transparency: --colour, or colour=True, puts images on white ground and makes every "
            "one RGB; --grey, or colour=False, grey."
        )
    if "levels" in faults:
        remedies.append(
            "Levels: only 8-bit grey and RGB images are read; deeper, signed, floating-point and "
            "other ones are not converted, which would lose what tells them apart. Save copies "
            "of all sets with 8 bits, or their numbers as arrays, numpy.save('set.npy', array)."
        )
    if len(sizes) > 1:
        least = min(min(size) for size in sizes)
        remedies.append(
            f"Sizes: --resize {least}, or resize={least}, brings every image to {least} x {least} "
            "pixels, cut to its central square."
        )
    return (
        f"{quote(folder)}: all images must have one size, and one mode, grey (L) or RGB. "
        f"Found:\n{listed(seen)}\n" + "\n".join(remedies)
    )
