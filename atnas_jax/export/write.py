"""A meta-network, and a support set if there is one, into a folder of files that others run."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.data.labelled_folder import read_support
from atnas_jax.export import reader
from atnas_jax.export.bake import bake, depends_on_batch
from atnas_jax.export.check import FILES, READERS, difference_in_fresh_process
from atnas_jax.export.compute import to_stablehlo
from atnas_jax.export.layers import make_layers
from atnas_jax.export.onnx_graph import need_onnx, to_onnx
from atnas_jax.export.reader import Layer
from atnas_jax.export.readme import readme
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.many_shot.specialise import Specialised
from atnas_jax.meta.adapt import first_body
from atnas_jax.meta.heads import logits_of
from atnas_jax.nets.conv import in_full
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.novel.adapt import Adapted, make_adapter
from atnas_jax.novel.meta_network import MetaNetwork, load_meta_network
from atnas_jax.space.slots import mask_of
from atnas_jax.space.text import parse, space_to_dict, to_json, to_text
from atnas_jax.types import Params

DTYPES = ("uint8", "float32")
PROBES = 8  # images that a format is checked on, at most twice as many


class Chosen(NamedTuple):
    """One network to export: its layers, what the supernet computes, and on which images the two are compared."""

    layers: tuple[Layer, ...]
    genotype: np.ndarray  # int32 [E]
    images: np.ndarray  # uint8 [n,H,W,C]
    outputs: np.ndarray  # float32 [n,N] or [n,D], of the supernet


def export_network(
    workdir: str,
    out: str,
    *,
    support: str = "",
    formats: Sequence[str] = ("stablehlo", "npz"),
    dtype: str = "uint8",
    seed: int = 0,
    generations: int | None = None,
    population: int | None = None,
) -> dict[str, object]:
    """Write a network, and compare every format, read in a fresh process, with the supernet.

    With a support set it is the network that `adapt` chooses and trains for it, and gives logits; the support's
    statistics are constants of it. Without one it is the shared best at the meta-weights, and gives the embedding.

    Args:
        workdir: of a finished search, or its meta_network.npz.
        out: folder to write into; made where absent.
        support: folder with one folder of images per class, or an npz; "" is none.
        formats: some of "stablehlo", "npz", "onnx".
        dtype: of the images that stablehlo and onnx take: "uint8", or "float32" in 0..1; npz takes both.
        seed, generations, population: of the search on the support, as in `adapt`.

    Returns:
        {"output", "genotype", "params", "classes", "differences": {format: largest difference, or None: unchecked}}.

    Raises:
        ValueError, FileNotFoundError: one line that says what does not fit.
        Fault: a format does not compute what the supernet computes.
    """
    _check(formats, dtype)
    network, classes = load_meta_network(workdir), ()
    network = network._replace(config=_in_full(network.config))
    if support:
        images, labels, classes = read_support(support, network.image_shape[:2], network.image_shape[-1])
        adapter = make_adapter(network, generations=generations, population=population)
        found = adapter(images, labels, images[:1], seed=seed)
        chosen = adapted_network(network, found, images, len(classes))
    else:
        chosen = shared_network(network)
    return _finish(network, chosen, classes, out, formats, dtype)


def _finish(network, chosen: Chosen, classes, out, formats, dtype) -> dict[str, object]:
    about = _about(network, chosen, classes)
    _write(out, chosen, about, network.image_shape, formats, dtype)
    return {
        **{name: about[name] for name in ("output", "genotype", "params", "classes")},
        "differences": {name: difference_in_fresh_process(out, name) for name in formats},
    }


def export_trained(
    found: Specialised, out: str, *, formats: Sequence[str] = ("stablehlo", "npz"), dtype: str = "uint8"
) -> dict[str, object]:
    """Write the network that `specialise_task` trained; arguments, result and errors as of `export_network`."""
    _check(formats, dtype)
    normalisation = found.network.config.net.normalisation
    normalisation = "support" if normalisation == "batch_transductive" else normalisation
    config = _in_full(found.network.config, normalisation=normalisation)
    network = found.network._replace(space=found.trained.space, config=config)
    genotype, params, rows = found.trained.genotype, found.trained.params, len(found.reference)
    apply = _subnet(network, genotype).model.apply

    def original(mask, support, images):
        embedding = apply(params["body"], jnp.concatenate([support, images]), None, rows)
        return logits_of(params["head"], embedding[rows:])

    layers = bake(_layers(network, genotype, params["body"], params["head"]), found.reference)
    images = 255 - found.reference[:PROBES]
    outputs = _original(network, original, genotype, found.reference, images)
    return _finish(network, Chosen(layers, genotype, images, outputs), found.classes, out, formats, dtype)


def adapted_network(network: MetaNetwork, found: Adapted, support: np.ndarray, ways: int) -> Chosen:
    """Return the network of one adaptation, the statistics of its support uint8 [S,H,W,C] baked in."""
    genotype = parse(network.space, found.genotype)
    layers = _layers(network, genotype, *_cut(network, genotype, found.weights["body"], found.weights["head"]))
    if network.config.net.normalisation != "batch_transductive":
        layers = bake(layers, support)
    images = np.concatenate([support[:: -(-len(support) // PROBES)], 255 - support[:PROBES]])
    predict = evaluation_learner(network.config, network.space, network.image_shape, ways).predict
    outputs = _original(network, lambda mask, s, q: predict(found.weights, mask, s, q), genotype, support, images)
    return Chosen(layers, genotype, images, outputs)


def shared_network(network: MetaNetwork, genotype: np.ndarray | None = None) -> Chosen:
    """Return the network of a genotype, the shared best by default, at the meta-weights; it ends in the embedding."""
    genotype = np.asarray(network.population[0] if genotype is None else genotype)
    net, body = network.config.net, first_body(network.params, network.config.learner.step_norms)
    model = make_supernet(
        network.space, network.image_shape,
        normalisation=net.normalisation, readout=net.readout, execution=net.execution, conv=net.conv,
    )  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (PROBES, *network.image_shape)).astype(np.uint8)
    outputs = _original(network, lambda mask, s, q: model.apply(body, q, mask, None), genotype, images[:1], images)
    width = _subnet(network, genotype).kept
    layers = _layers(network, genotype, *_cut(network, genotype, body, None))
    return Chosen(layers, genotype, images, outputs[:, width])


def _in_full(config, **net):
    """Return the config with all numbers float32, as they are in what is exported, and these settings of its net."""
    config = config.copy_and_resolve_references()
    config.net.update(net, dtype="float32", conv=in_full(config.net.conv))
    return config


def _subnet(network: MetaNetwork, genotype: np.ndarray):
    net = network.config.net
    return make_subnet(
        network.space, genotype, network.image_shape, normalisation=net.normalisation, readout=net.readout
    )


def _cut(network: MetaNetwork, genotype: np.ndarray, body: Params, head: Params | None) -> tuple[Params, Params | None]:
    """Return body and head of the plain subnet, from those of the supernet."""
    subnet = _subnet(network, genotype)
    return subnet.cut(body), None if head is None else {"w": head["w"][subnet.kept], "b": head["b"]}


def _layers(network: MetaNetwork, genotype: np.ndarray, body: Params, head: Params | None) -> tuple[Layer, ...]:
    net = network.config.net
    return make_layers(
        network.space, genotype, body, head,
        image_shape=network.image_shape, normalise=network.normalise,
        normalisation=net.normalisation, readout=net.readout,
    )  # fmt: skip


def _original(network: MetaNetwork, function: Callable, genotype: np.ndarray, support, images) -> np.ndarray:
    """Return function(mask, support, images) of the supernet, images being normalised as in training."""
    mean, deviation = (jnp.asarray(value) for value in network.normalise)
    ready = [(jnp.asarray(x, jnp.float32) / 255 - mean) / deviation for x in (support, images)]
    return np.asarray(jax.jit(function)(mask_of(network.space, jnp.asarray(genotype)), *ready))


def _about(network: MetaNetwork, chosen: Chosen, classes: Sequence[str]) -> dict[str, object]:
    sizes = [array.size for layer in chosen.layers if layer.op != "pixels" for array in layer.arrays.values()]
    return {
        "format": reader.FORMAT,
        "output": chosen.layers[-1].name,
        "genotype": to_text(network.space, chosen.genotype),
        "genotype_json": json.loads(to_json(network.space, chosen.genotype)),
        "space": space_to_dict(network.space),
        "image_shape": list(network.image_shape),
        "classes": list(classes),
        "normalisation": network.config.net.normalisation,
        "depends_on_batch": depends_on_batch(chosen.layers),
        "params": sum(sizes),
    }


def _write(out, chosen: Chosen, about, image_shape, formats, dtype) -> None:
    os.makedirs(out, exist_ok=True)
    if "npz" in formats:
        arrays = {f"{layer.name}/{role}": a for layer in chosen.layers for role, a in layer.arrays.items()}
        np.savez(os.path.join(out, FILES["npz"]), **arrays)
        shutil.copyfile(reader.__file__, os.path.join(out, "network.py"))
    layers = [layer._asdict() | {"arrays": sorted(layer.arrays)} for layer in chosen.layers]
    _write_text(out, "network.json", json.dumps(about | {"input": dtype, "layers": layers}, indent=1))
    for name, make in (("stablehlo", to_stablehlo), ("onnx", to_onnx)):
        if name in formats:
            with open(os.path.join(out, FILES[name]), "wb") as file:
                file.write(make(chosen.layers, image_shape, dtype))
    np.savez(os.path.join(out, "probe.npz"), images=chosen.images, outputs=chosen.outputs)
    _write_text(out, "README.md", readme(about, formats, dtype))


def _write_text(out: str, name: str, text: str) -> None:
    with open(os.path.join(out, name), "w", encoding="utf-8") as file:
        file.write(text)


def _check(formats: Sequence[str], dtype: str) -> None:
    if not formats or (unknown := [name for name in formats if name not in READERS]):
        given = unknown[0] if formats else ""
        raise ValueError(f"format {given!r} is unknown; choose some of {','.join(READERS)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    if "onnx" in formats:
        need_onnx()
