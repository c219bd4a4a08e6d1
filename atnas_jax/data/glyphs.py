"""The embedded data sets `glyphs` and `glyphs-color`: warped letters and symbols of the fonts inside matplotlib.

A class is a code point of the committed `glyph_table.json` (made by `tools/make_glyph_table.py`), a group is a script,
and the split holds out whole groups. An image is a random face of the class under a random smooth warp, fitted into 22
of 28 (or 25 of 32) pixels, ink high. These images are no published benchmark: do not compare with numbers of papers.
"""

import hashlib
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
from PIL import __version__ as pillow_version

from atnas_jax.data.cache import cache_folder, in_place_of
from atnas_jax.data.glyph_masks import SIDE, font_paths, load_fonts, render
from atnas_jax.data.glyph_warp import colour, warp
from atnas_jax.data.images import LabelledImages

TABLE = Path(__file__).with_name("glyph_table.json")
DIFFICULTY = 1.0
_CHUNK = 2048  # images warped at once, which bounds memory


def read_glyphs(
    in_colour: bool = False,
    cache_dir: str | None = None,
    difficulty: float = DIFFICULTY,
    per_class: int = 20,
    seed: int = 0,
    **unknown: float,
) -> LabelledImages:
    """Return the glyph images, from the cache or newly made; the same arguments give the same images.

    Args:
        in_colour: uint8 [n,32,32,3] with random colours rather than uint8 [n,28,28,1].
        cache_dir: `$ATNAS_CACHE` or `~/.cache/atnas_jax` when None; one that cannot be written costs a warning.
        difficulty: strength of the warp, 0 (upright faces) to 2; at 1, pixel nearest mean gets .55 of 5-way 1-shot.
        per_class: images a class, 2 to 1000.
        seed: which images.

    Raises:
        ValueError: an option out of range or unknown, or matplotlib is absent.
    """
    if unknown:
        raise ValueError(f"glyphs has no option {', '.join(unknown)}: type difficulty, per_class or seed")
    if (
        not 0 <= difficulty <= 2
        or per_class != int(per_class)
        or not 2 <= per_class <= 1000
        or seed != int(seed)
        or seed < 0
    ):
        raise ValueError(
            f"glyphs difficulty={difficulty} per_class={per_class} seed={seed}: "
            "difficulty is 0..2, per_class is a whole number 2..1000, seed is a whole number from 0"
        )
    table = json.loads(TABLE.read_text(encoding="ascii"))
    images = _cached(table, in_colour, cache_dir, float(difficulty), int(per_class), int(seed))
    codes, groups, _ = zip(*table["classes"])
    names = tuple(f"U+{code:04X} {unicodedata.name(chr(code), 'unnamed').lower()}" for code in codes)
    labels = np.repeat(np.arange(len(codes), dtype=np.int32), int(per_class))
    group_names, group_splits = zip(*table["groups"])
    splits = {"": tuple(group_splits[g] for g in groups)}
    return LabelledImages(images, labels, names, tuple(group_names[g] for g in groups), splits)


def make_images(table: dict, in_colour: bool, difficulty: float, per_class: int, seed: int) -> np.ndarray:
    """Draw and warp every image of `table`: uint8 [c*per_class,H,W,C], class by class."""
    masks, first, count = _all_masks(table["classes"])
    side = 32 if in_colour else 28
    classes = len(table["classes"])
    rng = np.random.Generator(np.random.Philox(seed))
    face = (rng.random((classes, per_class)) * count[:, None]).astype(np.int64) + first[:, None]
    face = face.reshape(-1)
    chunks = []
    for start in range(0, len(face), _CHUNK):
        ink = warp(rng, masks, face[start : start + _CHUNK], difficulty, side)
        chunks.append(colour(rng, ink) if in_colour else np.round(ink * 255).astype(np.uint8)[..., None])
    return np.concatenate(chunks)


def _all_masks(classes: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the masks uint8 [m,SIDE,SIDE] of all faces of all classes, and each class's first and count."""
    fonts = load_fonts()
    masks, first, count = [], [], []
    for code, _, faces in classes:
        drawn = [render(font, code) for f, font in enumerate(fonts) if faces >> f & 1]
        drawn = [mask for mask in drawn if mask is not None]
        if not drawn:
            raise ValueError(f"the fonts inside matplotlib draw no U+{code:04X}: type pip install --upgrade matplotlib")
        first.append(len(masks))
        count.append(len(drawn))
        masks += drawn
    return np.stack(masks).reshape(-1, SIDE, SIDE), np.array(first), np.array(count)


def _cached(table: dict, in_colour: bool, cache_dir: str | None, *recipe: float) -> np.ndarray:
    """Return `make_images` through a file in the cache; the file is complete or absent, whatever is interrupted."""
    digest = hashlib.sha256(repr((table, in_colour, recipe, np.__version__, pillow_version)).encode())
    code = (Path(__file__).with_name(f"{name}.py") for name in ("glyphs", "glyph_masks", "glyph_warp"))
    for path in (*font_paths(), *code):  # other fonts or other code: another file, never a stale one
        digest.update(path.read_bytes())
    folder = cache_folder(cache_dir)
    path = folder / f"glyphs{'-color' if in_colour else ''}-{digest.hexdigest()[:16]}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["images"]
    except Exception:  # absent, or damaged in one of the many ways that numpy and zipfile report: make it anew
        images = make_images(table, in_colour, *recipe)
    try:
        with in_place_of(path) as unfinished:
            np.savez_compressed(unfinished, images=images)
    except OSError as error:
        print(f"warning: cannot cache glyphs in {folder} ({error.strerror}): set ATNAS_CACHE", file=sys.stderr)
    return images
