"""Splits by class."""

import pytest

from atnas_jax.data.splits import assign_splits

NAMES = tuple(f"class {i}" for i in range(20))
GROUPS = tuple(f"g{i // 4}" for i in range(20))  # 5 groups of 4


def assign(split, given=None, names=NAMES, groups=GROUPS):
    return assign_splits(split, given or {}, names, groups, "data")


def counts(assigned):
    return tuple(assigned.count(split) for split in ("meta_train", "meta_valid", "meta_test"))


@pytest.mark.parametrize(
    ("split", "want"),
    [
        ("random:12/3/5@1", (12, 3, 5)),
        ("random:10/0/5", (10, 0, 5)),
        ("random:.64/.16/.2@2", (13, 3, 4)),
        ("random:1/0/0@2", (20, 0, 0)),
        ("group:3/1/1@0", (12, 4, 4)),
        ("group:g1,g3=meta_test;g0=val", (8, 4, 8)),
    ],
)
def test_counts(split, want):
    assert counts(assign(split)) == want


def test_shares_of_mamlpp_give_its_published_counts():
    names = [str(i) for i in range(1623)]
    assert counts(assign("random:.709/.031/.261@0", names=names, groups=[""] * 1623)) == (1150, 50, 423)


def test_seeds():
    assert assign("random:12/3/5@1") == assign("random:12/3/5@1") != assign("random:12/3/5@2")
    assert assign("random:12/3/5") == assign("random:12/3/5@0")
    # a golden value: seeds mean the same split for ever
    short = {"meta_train": "n", "meta_valid": "v", "meta_test": "t", "": "-"}
    assert "".join(short[s] for s in assign("random:3/2/1@7")) == "tnn--v-----v-----n--"


def test_groups_stay_whole():
    assigned = assign("group:.6/.2/.2@5")
    assert all(len({s for s, g in zip(assigned, GROUPS) if g == group}) == 1 for group in set(GROUPS))


def test_file(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("# a comment\nclass 0 train\n\nclass 1\tmeta_valid\n  class 19 test\n")
    for split in (str(path), f"file:{path}"):
        assigned = assign(split)
        assert counts(assigned) == (1, 1, 1) and assigned[19] == "meta_test" and assigned[2] == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("class 0 train\nclass 0 test", ":2: class 'class 0' is listed twice"),
        ("nobody train", ":1: the data has no class 'nobody'"),
        ("class 0 holdout", ":1: 'holdout' is no split"),
        ("alone", ":1: 'alone' is no split"),
    ],
)
def test_bad_file_is_one_line(tmp_path, line, says):
    path = tmp_path / "split.txt"
    path.write_text(line)
    with pytest.raises(ValueError, match=says) as caught:
        assign(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("", "states no split: type one"),
        ("random:15/4/5", "data has 20 classes: type whole counts that fit"),
        ("random:15/4", "need train/valid/test"),
        ("random:a/b/c", "need train/valid/test"),
        ("random:-1/4/5", "need train/valid/test"),
        ("random:nan/1/1", "need train/valid/test"),
        ("random:2.5/3/1", "type whole counts"),
        ("random:5/5/5@x", "need train/valid/test"),
        ("group:6/1/1", "data has 5 groups"),
        ("group:g9=meta_test", "no group 'g9': type some of g0, g1"),
        ("group:g1=test;g1=val", "named twice"),
        ("group:g1=holdout", "'holdout' is no split"),
        ("something", "is unknown"),
    ],
)
def test_bad_split_is_one_line(split, says):
    with pytest.raises(ValueError, match=says) as caught:
        assign(split)
    assert "\n" not in str(caught.value)


def test_group_split_needs_groups():
    with pytest.raises(ValueError, match="names no groups"):
        assign("group:3/1/1", groups=("",) * 20)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        assign("file:/nowhere")
