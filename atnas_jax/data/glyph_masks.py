"""Glyphs of the fonts inside matplotlib as grey masks, fitted into a square."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

FACES = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "STIXGeneral",
    "STIXGeneralItalic",
)  # no bold faces: warped, their strokes run together into blots
SIDE = 56  # pixels of a mask, twice the side of a grey glyph image
INK = 44  # pixels of a mask that the longer side of the ink fills: 22 of 28
_RENDER = 96  # font size, in pixels, before the ink is fitted


def font_paths() -> list[Path]:
    """Return the font files of `FACES`, or raise a one-line error if matplotlib is absent."""
    spec = importlib.util.find_spec("matplotlib")  # found, not imported: only its data files are read
    if spec is None or spec.origin is None:
        raise ValueError(
            "source glyphs reads the fonts inside matplotlib, which is absent: type pip install matplotlib"
        )
    paths = [Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{face}.ttf" for face in FACES]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"matplotlib lacks the font file {missing[0]}: type pip install --force-reinstall matplotlib")
    return paths


def load_fonts() -> list[ImageFont.FreeTypeFont]:
    """Open the fonts of `FACES`; the basic layout needs no optional library, so it draws alike everywhere."""
    return [ImageFont.truetype(str(p), _RENDER, layout_engine=ImageFont.Layout.BASIC) for p in font_paths()]


def render(font: ImageFont.FreeTypeFont, code: int) -> np.ndarray | None:
    """Draw a code point: uint8 [SIDE,SIDE], ink 255, its longer side `INK` pixels, centred; None if there is no ink."""
    mask = font.getmask(chr(code), mode="L")
    box = mask.getbbox()
    if box is None:
        return None
    ink = Image.frombytes("L", mask.size, bytes(mask)).crop(box)
    scale = INK / max(ink.size)
    width, height = (max(2, round(side * scale)) for side in ink.size)
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(ink.resize((width, height), Image.Resampling.BOX), ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(canvas)
