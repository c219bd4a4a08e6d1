"""The report of an adaptation: each picture with its own prediction, names that stay text, a bound on its size."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atnas_jax.job.spaces import make_space
from atnas_jax.novel.adapt import Adapted
from atnas_jax.novel.adapt_folder import KEPT, keep_queries, write_outcome
from atnas_jax.novel.adapted_network import AdaptedNetwork
from atnas_jax.novel.expected import describe, wilson
from atnas_jax.report.adaptation import SUPPORT_SHOWN, adaptation_page, draw_architecture, write_adaptation_report
from atnas_jax.report.choice import choice_section, how_scored, verdict
from atnas_jax.report.html import picture
from atnas_jax.report.read_adaptation import read_adaptation
from atnas_jax.space.cost import cost_model
from atnas_jax.space.text import parse, to_json

HOSTILE_CLASS = "<script>alert(1)</script>"
HOSTILE_FILES = ('"><img src=x onerror=alert(2)>.png', "'onload='alert(3).png", "&lt;b&gt;.png", "\udcff.png")
CLASSES = (HOSTILE_CLASS, "bee", "cow/brown")
NUMBER = KEPT + 30
GENOTYPE = "chain:d2/conv3-8/max3-4"


class Page(HTMLParser):
    """The pictures of a page with what stands beneath them, all its attributes and all its text."""

    def __init__(self, text):
        super().__init__()
        self.cards, self.pictures, self.attributes, self.tags, self.words, self.inside = [], [], [], set(), [], False
        self.broken = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        given, self.broken = dict(attrs), tag == "wbr"
        if tag == "div" and given.get("class") in ("card", "card wrong"):
            self.cards.append([given["class"], None, []])
            self.inside = True
        if tag == "img":
            (self.cards[-1].__setitem__(1, given["src"]) if self.inside else self.pictures.append(given["src"]))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "div"

    def handle_data(self, data):
        for words in (self.words, self.cards[-1][2]) if self.inside else (self.words,):
            words.append((words.pop() if self.broken else "") + data.replace("\xa0", " "))
        self.broken = False

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def _number(image):
    """Return a picture [10,10,1] that tells which it is."""
    return np.full((10, 10, 1), image, np.uint8)


def _pixels(src):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.removeprefix("data:image/png;base64,")))))


def _about(space, ways, **changes):
    params, macs = map(int, cost_model(space, (10, 10, 1), "flatten", ways)(parse(space, GENOTYPE)))
    return {
        "genotype": GENOTYPE, "found": GENOTYPE, "params": params, "macs": macs, "support_images": 6,
        "found_is_better_by": {"nats": 0.5, "standard_error": 0.125}, "generations": 2, "evaluations": 8,
        "expected": describe("leave-one-out", np.array([1, 1, 1, 1, 1, 0])), "architecture_s": 1.5, "weights_s": 0.25,
        "compile_s": 12.0, "seed": 7, "classes": list(CLASSES), "query_images": NUMBER, "accuracy": None,
    } | changes  # fmt: skip


def _network(config, about, support):
    space, head = make_space(config), {"w": np.zeros((8, 3), np.float32), "b": np.zeros(3, np.float32)}
    return AdaptedNetwork(
        {"head": head}, np.asarray(parse(space, GENOTYPE)), support, np.repeat(np.arange(3), len(support) // 3),
        np.asarray(CLASSES), space, (10, 10, 1), ((0.0,), (1.0,)), config, about, None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tiny, tmp_path_factory):
    """A folder as launch.adapt writes it, the probabilities and the labels of its queries."""
    rng, folder, config = np.random.default_rng(0), tmp_path_factory.mktemp("out"), tiny()
    probabilities = rng.dirichlet(np.ones(3), NUMBER).astype(np.float32)
    labels = rng.integers(0, 3, NUMBER).astype(np.int32)
    names = (*HOSTILE_FILES, *(f"{number}.png" for number in range(len(HOSTILE_FILES), NUMBER)))
    accuracy = float((probabilities.argmax(1) == labels).mean())
    about, images = _about(make_space(config), 3, accuracy=accuracy), np.stack([_number(i) for i in range(NUMBER)])
    network = _network(config, {}, np.stack([_number(10 * i) for i in range(6)]))
    text = to_json(network.space, network.genotype)
    found = Adapted(GENOTYPE, text, probabilities, network.weights, 1, 1, 1.0, 1.0, 1.0, network)
    write_outcome(str(folder), found, about, names)
    keep_queries(str(folder), images, labels)
    (folder / "command.txt").write_text("python -m launch.adapt --support='<i>'\n")
    return folder, probabilities, labels, names


@pytest.fixture(scope="module")
def html(outcome):
    return Path(write_adaptation_report(str(outcome[0]))).read_text(encoding="utf-8")


def test_names_of_classes_and_files_stay_text_and_nothing_comes_from_outside(html):
    page = Page(html)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base", "b onerror", "i"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {name for name, _ in page.attributes} <= {
        "alt", "src", "href", "class", "id", "lang", "charset", "name", "content"
    }  # fmt: skip
    for name, value in page.attributes:
        assert name != "src" or value.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
        assert name != "href" or value.startswith("#")
    for text in (HOSTILE_CLASS, *HOSTILE_FILES[:3], "?.png", "--support='<i>'"):
        assert text in page.text
    outside = html.replace("data:image/svg+xml", "")
    assert "http" not in outside and "url(" not in outside and "@import" not in outside


def test_each_picture_has_its_own_prediction_and_its_mistake(html, outcome):
    _, probabilities, labels, names = outcome
    cards, seen = Page(html).cards, []
    assert len(cards) == KEPT
    for kind, src, words in cards:
        words = [word for word in words if word.strip()]
        name = words[-1].replace("?.png", "\udcff.png")
        row = names.index(name)
        seen.append(row)
        assert np.array_equal(_pixels(src), _number(row)[..., 0])
        second, first = np.argsort(probabilities[row])[-2:]
        assert words[0] == f"{CLASSES[first]} {100 * probabilities[row][first]:.0f} %"
        assert words[-2] == f"{CLASSES[second]} {100 * probabilities[row][second]:.0f} %"
        assert (kind == "card wrong") == (first != labels[row]) == (f"is {CLASSES[labels[row]]}" in words)
    assert seen == sorted(set(seen)) and (seen[0], seen[-1]) == (0, NUMBER - 1) and max(np.diff(seen)) == 2


def test_the_page_says_how_many_of_how_many_and_how_far_to_trust_them(html, outcome):
    _, probabilities, labels, _ = outcome
    text, predicted = Page(html).text, probabilities.argmax(1)
    assert f"{KEPT} of {NUMBER} images" in text
    assert "Expected accuracy 83 % (95 % interval 44 to 97; leave-one-out, 6 support images)." in text
    assert f"of the images classified {100 * (predicted == labels).mean():.1f} " in text
    for label, name in enumerate(CLASSES):
        taken, own = predicted == label, labels == label
        counts = (2, taken.sum(), own.sum(), (taken & own).sum())
        assert f"{name} {' '.join(map(str, counts))} " in text
    assert "1.50 s" in text and "0.25 s" in text and "2 generations, 8 evaluations" in text and "seed 7" in text


def test_the_support_is_shown_class_by_class(html):
    pixels = [_pixels(src) for src in Page(html).pictures if src.startswith("data:image/png")]
    assert [int(image[0, 0]) for image in pixels] == [0, 10, 20, 30, 40, 50]


def test_a_large_support_is_bounded(outcome):
    found = read_adaptation(str(outcome[0]))
    support = np.zeros((300, 10, 10, 1), np.uint8)
    network = found.network._replace(support_images=support, support_labels=np.repeat(np.arange(3), 100))
    page = adaptation_page(found._replace(network=network), lambda *given: picture(b"", *given[2:]))
    assert page.count("support image of") == 3 * (SUPPORT_SHOWN // 3)
    assert f"bee: the first {SUPPORT_SHOWN // 3} of 100 images" in page


def test_the_drawing_is_of_the_chosen_architecture_with_a_head_of_its_classes(html, outcome):
    found = read_adaptation(str(outcome[0]))
    words = [text.get_text() for text in draw_architecture(found.network).findobj(lambda o: hasattr(o, "get_text"))]
    assert [w for w in words if w in ("image", "head") or re.fullmatch(r"\w+-\d+", w)] == [
        "image",
        "conv3-8",
        "max3-4",
        "head",
    ]
    assert "3 classes" in words
    assert f"{found.network.about['params']:,}" in Page(html).text and GENOTYPE in Page(html).text
    assert (outcome[0] / "figures" / "architecture.png").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, r"better than the shared best .* by \+0.500 ± 0.125 nats .* on the images that chose it, and was taken"),
        (
            {"found": "chain:d1/conv3-8/max3-4", "found_is_better_by": {"nats": 0.1, "standard_error": 0.125}},
            r"was kept: .* by \+0.100 ± 0.125 nats .* more than 1.5 standard errors",
        ),
        ({"found_is_better_by": {"nats": 0.0, "standard_error": 0.0}}, "ended where it began"),
        ({"found_is_better_by": None}, "was taken; it was not held against"),
        ({"found": "chain:d1/conv3-8/max3-4", "found_is_better_by": None}, "was kept: .* has no finite loss"),
    ],
)
def test_the_verdict_says_what_became_of_the_found_architecture(outcome, changes, says):
    found = read_adaptation(str(outcome[0]))
    about, config = found.network.about | changes, found.network.config.copy_and_resolve_references()
    config.adapt.margin = 1.5
    network = found.network._replace(about=about, config=config)
    assert re.search(says, verdict(found._replace(network=network)))
    one_a_class = network._replace(support_labels=np.arange(3))  # whose moved copies are made anew
    assert "that chose it" not in verdict(found._replace(network=one_a_class))


def _told(adaptation, changes, **about):
    """Return the section of the choice as text, with other settings and another outcome."""
    config = adaptation.network.config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    network = adaptation.network._replace(config=config, about=adaptation.network.about | about)
    return Page(choice_section(adaptation._replace(network=network)).body).text


def test_what_was_asked_for_and_what_was_not_taken_are_told(outcome):
    found = read_adaptation(str(outcome[0]))
    asked = {"adapt.generations": 6, "adapt.population": 9, "search.max_params": 12345}
    text = _told(found, asked)
    assert "6 generations of 9 architectures" in text and "(max_params) 12,345 parameters" in text
    assert "max_macs" not in text and "not taken" not in text
    text = _told(found, asked | {"adapt.seconds": 2.5, "search.max_macs": 7000}, found="chain:d1/conv3-8/max3-4")
    assert "2.5 s of 9 architectures" in text and "(max_macs) 7,000 MACs" in text
    assert "Found, and not taken: chain:d1/conv3-8/max3-4" in text
    assert "by naswot on the labelled images, before any adaptation" in _told(found, {"adapt.score": "naswot"})


def test_intervals_are_of_all_classified_images(html, outcome):
    _, probabilities, labels, _ = outcome
    low, high = (100 * end for end in wilson(float((probabilities.argmax(1) == labels).mean()), NUMBER))
    assert f"{low:.1f} to {high:.1f}" in Page(html).text
    assert "from the support alone 83.3 43.6 to 97.0" in Page(html).text


def test_how_candidates_were_scored_follows_the_support(outcome):
    found = read_adaptation(str(outcome[0]))
    assert "held out (2 folds)" in how_scored(found)
    single = found.network._replace(support_labels=np.array([0, 0, 0, 1, 1, 2]))
    assert "moved copies of the labelled images" in how_scored(found._replace(network=single))


def test_files_of_two_adaptations_are_refused_in_one_line(outcome, tmp_path):
    for file in outcome[0].iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    lines = (tmp_path / "predictions.csv").read_bytes().splitlines(True)
    (tmp_path / "predictions.csv").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"not of the adaptation in weights.npz; run launch.adapt again") as caught:
        read_adaptation(str(tmp_path))
    assert "\n" not in str(caught.value)
    (tmp_path / "predictions.csv").write_bytes(b"".join(lines))
    with np.load(tmp_path / "queries.npz") as file:
        np.savez(tmp_path / "queries.npz", **{**file, "rows": file["rows"] + 1})  # the last one is not there
    with pytest.raises(ValueError, match=r"not of the adaptation in weights.npz"):
        read_adaptation(str(tmp_path))
    (tmp_path / "queries.npz").write_bytes(b"no npz")
    with pytest.raises(ValueError, match=r"run launch\.adapt again"):
        read_adaptation(str(tmp_path))
