"""Pictures on disk as frames: PNG, JPEG, WebP and what else Pillow reads, from anywhere, so bounded."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.screen.frames import Frame

MOST_BYTES = 64 * 1024 * 1024
MOST_PIXELS = 40_000_000
"""A 6K display has 20 million."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def load_picture(path: Path) -> Frame:
    """One picture as a frame: turned upright as its EXIF data says, transparent parts on white, the first of several.

    Raises:
        UsageError: It cannot be read, is no picture of a known kind, or is too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    expected = f"a picture ({', '.join(FORMATS)}) in {path}"
    try:
        if not path.is_file():
            raise UsageError(expected, seen="a folder or something else" if path.exists() else "no such file")
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(expected, seen=f"{path.stat().st_size} bytes", hint=f"at most {MOST_BYTES} bytes are read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is below Pillow's
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise UsageError(
                        expected, seen=f"{width}×{height} pixels", hint=f"at most {MOST_PIXELS} pixels are read"
                    )
                image.seek(0)
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):  # 16 bits of grey, or more: Pillow would clip, not scale
                    grey = np.clip(np.asarray(upright, np.int64) >> 8, 0, 255).astype(np.uint8)
                    upright = Image.fromarray(grey)
                if upright.has_transparency_data:
                    flat = Image.new("RGBA", upright.size, (255, 255, 255, 255))
                    flat.alpha_composite(upright.convert("RGBA"))
                    upright = flat
                pixels = np.array(upright.convert("RGB"))
    except UsageError:
        raise
    except UnidentifiedImageError as error:
        raise UsageError(expected, seen="no picture of a known kind") from error
    except MemoryError as error:
        raise UsageError(expected, seen="too large for this computer's memory") from error
    except (OSError, ValueError, SyntaxError, EOFError, ArithmeticError, KeyError, IndexError, TypeError) as error:
        # What Pillow's decoders raise on broken files.
        raise UsageError(expected, seen=f"{type(error).__name__}: {str(error)[:200]}") from error
    except Image.DecompressionBombError as error:
        raise UsageError(expected, seen=str(error)[:200]) from error
    pixels.setflags(write=False)
    return Frame(pixels, 0, 0.0)
