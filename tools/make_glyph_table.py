"""Make atnas_jax/data/glyph_table.json: which glyphs are classes, in which faces, group and split.

Run by hand when the rules below change: python tools/make_glyph_table.py. A class is a letter, number or symbol that
some faces draw alike, that is neither a speck nor a blob, and that resembles no class before it. Splits hold out whole
groups.
"""

import argparse
import json
import unicodedata
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageFilter

from atnas_jax.data.glyph_masks import FACES, SIDE, font_paths, load_fonts, render

MIN_FACES = 2
LIKENESS = 0.80  # blurred cosine from which two code points are one class
SAME_FACE = 0.40  # blurred cosine below which a face draws another shape than the first
INK_RANGE = (0.04, 0.60)  # share of the mask that is ink
MIN_GROUP = 14
BLOCKS = {  # name of a group -> ranges of code points; scripts with two cases are split by case below
    "Latin": [(0x20, 0x24F), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF)],
    "IPA and Phonetic": [(0x250, 0x2AF), (0x1D00, 0x1DBF)],
    "Modifiers": [(0x2B0, 0x2FF), (0xA700, 0xA71F)],
    "Greek": [(0x370, 0x3E1), (0x3F0, 0x3FF), (0x1F00, 0x1FFF)],
    "Coptic": [(0x3E2, 0x3EF), (0x2C80, 0x2CFF)],
    "Cyrillic": [(0x400, 0x52F), (0xA640, 0xA69F)],
    "Armenian": [(0x530, 0x58F)],
    "Hebrew": [(0x590, 0x5FF)],
    "Arabic": [(0x600, 0x6FF), (0x750, 0x77F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF)],
    "NKo": [(0x7C0, 0x7FF)],
    "Lao": [(0xE80, 0xEFF)],
    "Georgian Asomtavruli": [(0x10A0, 0x10CF)],
    "Georgian Mkhedruli": [(0x10D0, 0x10FF)],
    "Georgian Nuskhuri": [(0x2D00, 0x2D2F)],
    "Canadian Aboriginal": [(0x1400, 0x167F)],
    "Ogham": [(0x1680, 0x169F)],
    "Runic": [(0x16A0, 0x16FF)],
    "Tifinagh": [(0x2D30, 0x2D7F)],
    "Lisu": [(0xA4D0, 0xA4FF)],
    "Letterlike": [(0x2100, 0x214F)],
    "Numbers": [(0x2150, 0x218F), (0x2460, 0x24FF), (0x2776, 0x2793)],
    "Arrows": [(0x2190, 0x21FF)],
    "Supplemental Arrows A": [(0x27F0, 0x27FF)],
    "Supplemental Arrows B": [(0x2900, 0x297F)],
    "Mathematical": [(0x2200, 0x22FF), (0x27C0, 0x27EF), (0x2980, 0x2AFF)],
    "Technical": [(0x2300, 0x23FF)],
    "Box Drawing": [(0x2500, 0x257F)],
    "Block Elements": [(0x2580, 0x259F)],
    "Geometric Shapes": [(0x25A0, 0x25FF)],
    "Miscellaneous Symbols": [(0x2600, 0x26FF)],
    "Dingbats": [(0x2700, 0x2775), (0x2794, 0x27BF)],
    "Braille": [(0x2800, 0x28FF)],
    "Symbols and Arrows": [(0x2B00, 0x2BFF)],
    "Yijing": [(0x4DC0, 0x4DFF)],
}
TWO_CASES = {"Latin", "Greek", "Cyrillic", "Armenian", "Coptic"}
LEFT_OUT = {"Braille", "Yijing"}  # dots and bars in the same places: a warp makes one class of several
VALID = ("Lao", "Arabic", "Geometric Shapes")
TEST = (
    "Georgian",
    "Cyrillic capitals",
    "Armenian capitals",
    "Miscellaneous Symbols",
    "Arrows",
    "Supplemental Arrows B",
)


def group_of(code: int) -> str | None:
    """Return the group of a code point, None if it has none."""
    for name, ranges in BLOCKS.items():
        if any(first <= code <= last for first, last in ranges):
            if name not in TWO_CASES:
                return name
            category = unicodedata.category(chr(code))
            return name + {"Lu": " capitals", "Ll": " small"}.get(category, " others")
    return None


def split_of(group: str) -> str:
    """Return the split of a group: the names above are prefixes of whole words."""
    for split, names in (("meta_valid", VALID), ("meta_test", TEST)):
        if any(group == name or group.startswith(name + " ") for name in names if name != "Arrows") or (
            split == "meta_test" and group == "Arrows"
        ):
            return split
    return "meta_train"


def descriptor(mask: np.ndarray) -> np.ndarray:
    """Return the blurred, unit-length mask on a quarter of the pixels per side."""
    image = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(1)).resize((SIDE // 2, SIDE // 2))
    vector = np.asarray(image, np.float32).ravel()
    return vector / np.linalg.norm(vector)


def usable_faces(code: int, fonts: list, maps: list[dict]) -> tuple[list[int], np.ndarray | None]:
    """Return the faces that draw the code point alike, and the descriptor of the first."""
    faces, first = [], None
    for face, (font, charmap) in enumerate(zip(fonts, maps)):
        mask = render(font, code) if code in charmap else None
        if mask is None or not INK_RANGE[0] <= (mask > 127).mean() <= INK_RANGE[1]:
            continue
        vector = descriptor(mask)
        first = vector if first is None else first
        if vector @ first >= SAME_FACE:
            faces.append(face)
    return faces, first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=Path(__file__).parent.parent / "atnas_jax/data/glyph_table.json", type=Path)
    out = parser.parse_args().out
    fonts, maps = load_fonts(), [TTFont(path).getBestCmap() for path in font_paths()]
    codes = sorted({code for charmap in maps for code in charmap if unicodedata.category(chr(code))[0] in "LNS"})
    kept: list[tuple[int, str, list[int]]] = []
    vectors = np.zeros((0, (SIDE // 2) ** 2), np.float32)
    for code in codes:
        group = group_of(code)
        if group is None or group in LEFT_OUT:
            continue
        faces, vector = usable_faces(code, fonts, maps)
        if len(faces) < MIN_FACES or (len(vectors) and (vectors @ vector).max() >= LIKENESS):
            continue
        kept.append((code, group, faces))
        vectors = np.concatenate([vectors, vector[None]])
    sizes = {group: sum(1 for row in kept if row[1] == group) for _, group, _ in kept}
    groups = sorted(group for group, size in sizes.items() if size >= MIN_GROUP)
    table = {
        "faces": list(FACES),
        "groups": [[group, split_of(group)] for group in groups],
        "classes": [
            [code, groups.index(group), sum(1 << f for f in faces)] for code, group, faces in kept if group in groups
        ],
    }
    out.write_text(json.dumps(table, separators=(",", ":")).replace("],[", "],\n[") + "\n")
    for group, split in table["groups"]:
        print(f"{split:10} {sizes[group]:4} {group}")
    for split in ("meta_train", "meta_valid", "meta_test"):
        print(split, sum(sizes[group] for group, s in table["groups"] if s == split))
    print(f"small groups left out: { {g: n for g, n in sizes.items() if n < MIN_GROUP} }")
    print(f"{len(table['classes'])} classes, {out.stat().st_size} bytes -> {out}")


if __name__ == "__main__":
    main()
