"""Images in folders, as numbers."""

import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genonset.arrays import Loaded
from genonset.errors import DataError, brief, listed, quote

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_MAX_PIXELS = 4096 * 4096


def read_images(folder: str | Path, *, colour: bool | None = None) -> Tensor:
    """The images of a folder as `read_named_images` reads them, without their names."""
    return read_named_images(folder, colour=colour).points


def read_named_images(
    folder: str | Path, *, colour: bool | None = None, skip_unreadable: bool = False
) -> Loaded:
    """The png, jpg, webp and bmp images of a folder and its folders, by relative path.

    Grey levels 0..255 become -1..1. Hidden files (`.name`) and files with other endings are not
    images. Transparency is dropped when `colour` is given and refused otherwise.

    Args:
        folder: looked through to any depth; links to folders are followed.
        colour: None takes grey or RGB images as they are; True makes all RGB, False all grey.
        skip_unreadable: leave out images that cannot be read, and list them in `skipped`.

    Returns:
        Points of shape (n, channels, height, width), float64, and their relative paths.

    Raises:
        DataError: if there is no image, one cannot be read or has more than 4096 x 4096 pixels,
            sizes or modes differ, or a link leads back to a folder that contains it.
    """
    folder = Path(folder)
    files = _image_files(folder)
    decoded, names, unreadable = [], [], []
    kinds: Counter[str] = Counter()
    for file in files:
        try:
            kind, pixels = _decode(file, colour)
        except Exception as error:  # decoders of damaged files raise exceptions of any type
            unreadable.append(f"  {quote(file.relative_to(folder))}: {brief(error)}")
        else:
            kinds[kind] += 1
            decoded.append(pixels)
            names.append(file.relative_to(folder).as_posix())
    if unreadable and not (skip_unreadable and decoded):
        raise DataError(
            f"{quote(folder)}: {len(unreadable)} of {len(files)} images cannot be read:\n"
            f"{listed(unreadable)}\n"
            "Remove or repair them: leaving images out silently would change the data set. An "
            "audit leaves them out when told to, with --skip-unreadable."
        )
    if len(kinds) > 1 or any(pixels is None for pixels in decoded):
        seen = [f"  {count} of {kind}" for kind, count in kinds.most_common()]
        raise DataError(
            f"{quote(folder)}: all images must have one size, and one mode, grey (L) or RGB. "
            f"Found:\n{listed(seen)}\n"
            "Modes: --colour, or colour=True, makes every image RGB, --grey, or colour=False, "
            "grey (transparency is dropped; 16-bit and floating-point images are not converted).\n"
            "Sizes: resize copies first, e.g. PIL.Image.open(file).resize((32, 32)).save(copy)."
        )
    points = signed(np.stack([pixels for pixels in decoded if pixels is not None]))
    skipped = tuple(line.strip() for line in unreadable)
    return Loaded(kind="images", points=points, names=tuple(names), skipped=skipped)


def _image_files(folder: Path) -> list[Path]:
    """Image files below a folder, sorted by relative path."""
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{quote(folder)} {found}; a folder of images is needed.")
    try:
        files = list(_walk(folder, (folder.resolve(),)))
    except OSError as error:
        raise DataError(f"{quote(folder)} cannot be listed: {brief(error)}") from error
    chosen = [file for file in files if file.suffix.lower() in IMAGE_ENDINGS]
    if not chosen:
        endings = Counter(file.suffix.lower() or "(no ending)" for file in files)
        others = listed([f"{count} {ending!r}" for ending, count in endings.items()], ", ")
        raise DataError(
            f"{quote(folder)} holds no image; files ending in {', '.join(IMAGE_ENDINGS)} are "
            f"read. Other files found: {others or 'none'}. Check the path, or convert the files."
        )
    return sorted(chosen, key=lambda file: file.relative_to(folder).as_posix())


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterable[Path]:
    """Visible files below a folder; `above` are the real paths of the folders that contain it."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not entry.exists():
            raise DataError(
                f"{quote(entry)} is a symbolic link that leads nowhere or to itself. Remove it, "
                "or restore what it points to."
            )
        if not entry.is_dir():
            yield entry
        elif (real := entry.resolve()) in above:
            raise DataError(
                f"{quote(entry)} is a symbolic link back to a folder that contains it, so the "
                "folder has no end. Remove the link."
            )
        else:
            yield from _walk(entry, (*above, real))


def _decode(file: Path, colour: bool | None) -> tuple[str, np.ndarray | None]:
    """Mode and size of an image, and its pixels (channels, height, width) if they are accepted."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
        opened = Image.open(file, formats=_IMAGE_FORMATS)
    with opened as image:
        size = f"{image.width} x {image.height}"
        if image.width * image.height > _MAX_PIXELS:
            raise DataError(f"{size} pixels are more than this program opens ({_MAX_PIXELS:,})")
        ImageOps.exif_transpose(image, in_place=True)  # as a viewer shows it
        size = f"{image.width} x {image.height}"
        mode = "L" if image.mode == "1" else image.mode
        if colour is not None and image.mode in _CONVERTIBLE:
            mode = "RGB" if colour else "L"
        if mode not in ("L", "RGB"):
            image.load()
            return f"{mode} {size}", None
        plain = image.convert("RGBA") if image.mode in ("P", "PA") else image
        pixels = np.asarray(plain.convert(mode))
        return f"{mode} {size}", pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def signed(pixels: np.ndarray) -> Tensor:
    """Grey levels 0..255 as float64 in [-1, 1]."""
    return torch.from_numpy(pixels / 127.5 - 1)
