"""Sources: npz, folders, tar, protocols; and that bad input is one line."""

import io
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from atnas_jax.data.labelled_folder import read_images, read_support
from atnas_jax.data.protocols import PROTOCOLS
from atnas_jax.data.sources import load

RNG = np.random.default_rng(0)


def write_folder(root, splits=("train", "val", "test"), mode="RGB", size=(12, 10), classes=2, suffix=".png"):
    """Write 3 images for each class of each split; return their pixels by path."""
    pixels = {}
    for s, split in enumerate(splits):
        for k in range(classes):
            folder = root / split / f"class_{s}{k}"
            folder.mkdir(parents=True)
            for i in range(3):
                array = RNG.integers(0, 256, (size[1], size[0], 3) if mode == "RGB" else size[::-1], dtype=np.uint8)
                Image.fromarray(array).save(folder / f"{i}{suffix}")
                pixels[f"class_{s}{k}", i] = array
    return pixels


def fails(kind, says, spec, **options):
    with pytest.raises(kind, match=says) as caught:
        load(str(spec), **options)
    assert "\n" not in str(caught.value)


def test_npz_with_and_without_descriptions(tmp_path):
    images, labels = RNG.integers(0, 256, (8, 5, 5), dtype=np.uint8), np.repeat(np.arange(4), 2)
    path = tmp_path / "data.npz"
    np.savez(path, images=images, labels=labels)
    fails(ValueError, "states no split: type one", path)
    plain = load(f"npz:{path}", split="random:2/1/1@3")
    assert plain.class_names == ("0", "1", "2", "3") and np.array_equal(plain.table.images[..., 0], images)
    first, second = ["meta_train"] * 2 + ["meta_valid", "meta_test"], ["meta_test", "meta_train", "meta_train", ""]
    names, groups = ["a", "b", "c", "d"], ["x", "x", "y", "y"]
    described = {"class_names": names, "class_groups": groups, "class_split": first, "class_split_other": second}
    np.savez(path, images=images, labels=labels, **described)
    given, other = load(str(path)), load(str(path), split="other")
    assert given.class_names == tuple(names) and given.class_groups == tuple(groups)
    assert given.table.meta_train.tolist() == [0, 1] and other.table.meta_train.tolist() == [1, 2]
    assert other.table.meta_valid.shape == (0,) and other.split_name == "other"
    assert load(str(path), image_size=3, channels=3).table.images.shape == (8, 3, 3, 3)
    fails(ValueError, "split 'nope' is unknown .* holds: 'other'", path, split="nope")
    fails(ValueError, "protocol 'nope' is unknown: type one of omniglot", path, protocol="nope")
    fails(ValueError, "protocol omniglot has 1028/172/423 classes .* has 2/1/1", path, protocol="omniglot")
    fails(ValueError, "channels=2", path, channels=2)
    fails(ValueError, "npz takes no option difficulty", path, difficulty=1.0)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"images": np.zeros((2, 3, 3), np.uint8)}, "lacks labels"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.arange(2)}, "images are float64"),
        ({"images": np.zeros((2, 3, 3), np.uint8), "labels": np.arange(2.0)}, "labels are float64"),
        ({"images": np.zeros((2, 3, 3, 4), np.uint8), "labels": np.arange(2)}, "4 channels"),
        ({"images": np.zeros((2, 3, 3), np.uint8), "labels": np.array([{}, {}])}, "cannot be read"),
        (
            {
                "images": np.zeros((2, 3, 3), np.uint8),
                "labels": np.arange(2),
                "class_names": ["a"],
                "class_split": ["meta_train"],
            },
            "labels range over 0..1, need 0..0",
        ),
    ],
)  # fmt: skip
def test_bad_npz_is_one_line(tmp_path, arrays, says):
    np.savez(tmp_path / "bad.npz", **arrays)
    fails(ValueError, says, tmp_path / "bad.npz", split="" if "class_split" in arrays else "random:1/1/0")


def test_absent_and_damaged_files_are_one_line(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "bad.tar").write_bytes(b"nothing")
    fails(ValueError, "bad.npz cannot be read", tmp_path / "bad.npz")
    fails(ValueError, "bad.tar cannot be read", tmp_path / "bad.tar")
    fails(FileNotFoundError, "does not exist", tmp_path / "absent.npz")
    fails(FileNotFoundError, "does not exist", f"folder:{tmp_path / 'absent'}")
    fails(ValueError, "is no folder and no known kind: type glyphs", tmp_path / "absent")
    fails(ValueError, "holds no images", f"folder:{tmp_path}")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_folder_with_splits(tmp_path, mode):
    pixels = write_folder(tmp_path, mode=mode)
    (tmp_path / "train" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "train" / "class_00" / ".DS_Store").write_bytes(b"")
    dataset = load(str(tmp_path))
    assert dataset.class_names == ("class_00", "class_01", "class_10", "class_11", "class_20", "class_21")
    assert [ids.tolist() for ids in dataset.table[2:]] == [[0, 1], [2, 3], [4, 5]]
    assert dataset.table.images.shape == (18, 10, 12, 3 if mode == "RGB" else 1)
    image = np.asarray(dataset.table.images[4])
    assert np.array_equal(image if mode == "RGB" else image[..., 0], pixels["class_01", 1])
    assert load(str(tmp_path), image_size=7, channels=1).table.images.shape == (18, 7, 7, 1)


def test_links_are_followed_and_not_round_in_circles(tmp_path):
    pixels = write_folder(tmp_path / "store", splits=("train",))
    folder = tmp_path / "data"
    (folder / "own").mkdir(parents=True)
    (tmp_path / "store/train/class_00").rename(folder / "first")
    (folder / "linked").symlink_to(tmp_path / "store/train/class_01")
    (folder / "own/0.png").symlink_to(folder / "first/0.png")
    (folder / "own/round").symlink_to(folder)
    (folder / "first/away").symlink_to(tmp_path / "store")
    (tmp_path / "store/back").symlink_to(folder / "first")
    dataset = load(str(folder), split="random:2/1/1")
    assert dataset.class_names == ("first", "first/away/train/class_01", "linked", "own")
    assert np.array_equal(dataset.table.images[6], pixels["class_01", 0])
    assert np.array_equal(dataset.table.images[9], pixels["class_00", 0])


def test_folder_without_splits_and_a_tar_of_it_agree(tmp_path):
    write_folder(tmp_path / "top", splits=("abc", "xyz"))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "top", "wrapped")
    folder = load(str(tmp_path / "top"), split="group:abc=meta_test")
    tar = load(str(tmp_path / "data.tar"), split="group:abc=meta_test")
    assert folder.class_groups == ("abc", "abc", "xyz", "xyz") and folder.table.meta_test.tolist() == [0, 1]
    assert folder.fingerprint == tar.fingerprint


def test_mixed_sizes_and_channels_say_what_to_type(tmp_path):
    write_folder(tmp_path / "size")
    Image.new("RGB", (5, 5)).save(tmp_path / "size/train/class_00/other.png")
    fails(ValueError, "images differ in size .* type image_size", tmp_path / "size")
    assert load(str(tmp_path / "size"), image_size=6).table.images.shape == (19, 6, 6, 3)
    write_folder(tmp_path / "mode")
    Image.new("L", (12, 10)).save(tmp_path / "mode/train/class_00/other.png")
    fails(ValueError, "mix grey and colour: type channels=1 or channels=3", tmp_path / "mode")
    assert load(str(tmp_path / "mode"), channels=3).table.images.shape == (19, 10, 12, 3)


def test_a_class_in_two_splits_is_one_line(tmp_path):
    write_folder(tmp_path, splits=("train",))
    (tmp_path / "test").mkdir()
    (tmp_path / "train/class_00").rename(tmp_path / "test/class_01")
    fails(ValueError, "class 'class_01' is in meta_test and meta_train", tmp_path)


def bomb(width, height):
    """Return a PNG of few bytes that claims width x height pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not an image", "0.png: not a readable image"),
        (b"", "0.png: not a readable image"),
        (bomb(9000, 9000), "0.png: 9000x9000 pixels, at most 64 megapixels"),
        (bomb(60000, 60000), "0.png: not a readable image .*decompression bomb"),
        (None, "0.png: not a readable image"),
    ],
    ids=["text", "empty", "large", "bomb", "truncated"],
)
def test_a_bad_image_is_named(tmp_path, content, says):
    write_folder(tmp_path, size=(64, 64))
    path = tmp_path / "val/class_11/0.png"
    path.write_bytes(path.read_bytes()[:600] if content is None else content)
    fails(ValueError, says, tmp_path)


def test_modes_of_files(tmp_path):
    folder = tmp_path / "train" / "k"
    folder.mkdir(parents=True)
    Image.fromarray(np.full((2, 2), 0x80FF, np.uint16)).save(folder / "0_16bit.png")
    Image.new("1", (2, 2), 1).save(folder / "1_bits.png")
    Image.new("LA", (2, 2), (0, 0)).save(folder / "2_transparent.png")
    Image.new("P", (2, 2), 0).save(folder / "3_palette.png")
    dataset = load(str(tmp_path), channels=1)
    assert np.asarray(dataset.table.images)[:, 0, 0, 0].tolist() == [0x80, 255, 255, 0]


def test_labelled_folder(tmp_path):
    write_folder(tmp_path, splits=("support",), classes=3)
    (tmp_path / "support/class_01/2.png").unlink()
    images, labels, names = read_support(str(tmp_path / "support"), 8, 1)
    assert images.shape == (8, 8, 8, 1) and labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2] and labels.dtype == np.int32
    assert names == ("class_00", "class_01", "class_02")
    wide, _, _ = read_support(str(tmp_path / "support"), (6, 9), 1)
    with Image.open(tmp_path / "support/class_00/0.png") as image:
        expected = image.convert("L").resize((9, 6), Image.Resampling.LANCZOS)
    assert wide.shape == (8, 6, 9, 1) and np.array_equal(wide[0, ..., 0], expected)
    flat, files, none = read_images(str(tmp_path / "support/class_02"), 8, 1)
    assert none is None and files == ("0.png", "1.png", "2.png") and np.array_equal(flat, images[5:])
    _, files, own = read_images(str(tmp_path / "support"), 8, 1, ("class_02", "class_01", "class_00"))
    assert own.tolist() == [2, 2, 2, 1, 1, 0, 0, 0] and files[3] == "class_01/0.png"
    np.savez(tmp_path / "s.npz", images=images, labels=labels[::-1] + 1, class_names=["-", "a", "b", "c"])
    again, labels, names = read_support(str(tmp_path / "s.npz"), 8, 3)
    assert names == ("a", "b", "c") and labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2] and again.shape == (8, 8, 8, 3)
    (tmp_path / "one/k").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "one/k/0.png")
    for says, call in [
        ("is in no class folder", lambda: read_support(str(tmp_path / "support/class_00"), 8, 1)),
        ("has 1 class", lambda: read_support(str(tmp_path / "one"), 8, 1)),
        ("class 'class_00' has no support images", lambda: read_images(str(tmp_path / "support"), 8, 1, ("x",))),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    Image.new("L", (4, 4)).save(tmp_path / "support/stray.png")
    with pytest.raises(ValueError, match=r"stray\.png lies beside class folders"):
        read_images(str(tmp_path / "support"), 8, 1)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("omniglot", "omniglot_28.npz"),
        ("omniglot_by_alphabet", "omniglot_28.npz"),
        ("cifar_fs", "cifar_fs_60perclass_32.npz"),
        ("fc100", "cifar_fs_60perclass_32.npz"),
        ("mini_imagenet", "mini_imagenet_30perclass.tar"),
    ],
)
def test_protocols_hold_on_the_real_data(shared_data, name, file):
    path = shared_data / file
    if not path.exists():
        pytest.skip(f"no {path}")
    dataset = load(str(path), protocol=name)
    assert tuple(len(ids) for ids in dataset.table[2:]) == PROTOCOLS[name].counts
    if name in ("omniglot_by_alphabet", "fc100"):  # whole groups are held out
        of_split = [{dataset.class_groups[k] for k in np.asarray(ids)} for ids in dataset.table[2:]]
        assert not of_split[0] & of_split[1] and not of_split[2] & (of_split[0] | of_split[1])


def test_a_tar_member_outside_is_not_written(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        for name in ("../escape/k/0.png", "train/k/0.png"):
            member = tarfile.TarInfo(name)
            member.size = len(buffer.getvalue())
            archive.addfile(member, io.BytesIO(buffer.getvalue()))
    dataset = load(str(tmp_path / "data.tar"))
    assert dataset.class_names == ("k",) and dataset.table.images.shape[0] == 1  # a path with .. counts as hidden
    assert not (tmp_path.parent / "escape").exists()
