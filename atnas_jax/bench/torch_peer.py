"""The same works in PyTorch, written from the definition, with our weights and episodes.

Torch is no dependency of this package: it is imported when a peer is asked for, and nowhere else.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from atnas_jax.bench.works import INNER_LR, Sizes, draw_episodes, space_of
from atnas_jax.nets.ops import CONV_SIZE, SEPARABLE_SIZE
from atnas_jax.space.chain import hand_made, op_slot
from atnas_jax.types import Params


class Peer:
    """The works of one size in PyTorch.

    Args:
        sizes: of the work.
        params: the meta-parameters of our supernet, from `learner_of(sizes).init`.

    Raises:
        ValueError: torch is not installed.
    """

    def __init__(self, sizes: Sizes, params: Params):
        try:
            import torch
        except ModuleNotFoundError as error:
            raise ValueError("torch is not installed; type pip install torch, or --peer=none") from error

        self.torch, self.sizes, self.body = torch, sizes, params["body"]
        self.head = {name: torch.tensor(np.asarray(leaf)) for name, leaf in params["head"].items()}
        self.episodes = [self._episode(t) for t in range(sizes.tasks)]
        self.parts = jax.tree.map(lambda *rows: torch.stack(rows), *self.episodes)
        self.spec = space_of(sizes).spec

    def meta_step(self, first_order: bool) -> Callable[[], dict[str, Any]]:
        """Return one outer step, a task after the other, as MAML's definition reads; it returns the gradient."""
        torch, ops = self.torch, self.ops_of(hand_made(space_of(self.sizes)))
        params = self._leaves(ops)
        outer = torch.optim.Adam(params.values(), lr=1e-3)

        def step():
            total = [torch.zeros_like(leaf) for leaf in params.values()]
            for support_x, support_y, query_x, query_y in self.episodes:
                fast = params
                for _ in range(self.sizes.steps):
                    loss = self._loss(ops, fast, support_x, support_y)
                    grads = torch.autograd.grad(loss, list(fast.values()), create_graph=not first_order)
                    fast = {name: leaf - INNER_LR * grad for (name, leaf), grad in zip(fast.items(), grads)}
                loss = self._loss(ops, fast, query_x, query_y)
                for sum_, grad in zip(total, torch.autograd.grad(loss, list(params.values()))):
                    sum_ += grad
            return self._update(outer, params, total)

        return step

    def meta_step_vmap(self, first_order: bool) -> Callable[[], dict[str, Any]]:
        """Return one outer step with all tasks at once, by torch.func."""
        torch, ops = self.torch, self.ops_of(hand_made(space_of(self.sizes)))
        params = self._leaves(ops)
        outer = torch.optim.Adam(params.values(), lr=1e-3)

        def task_loss(params, support_x, support_y, query_x, query_y):
            fast = params
            for _ in range(self.sizes.steps):
                grads = torch.func.grad(lambda p: self._loss(ops, p, support_x, support_y))(fast)
                grads = {name: grad.detach() if first_order else grad for name, grad in grads.items()}
                fast = {name: fast[name] - INNER_LR * grads[name] for name in fast}
            return self._loss(ops, fast, query_x, query_y)

        gradient = torch.func.vmap(torch.func.grad(task_loss), in_dims=(None, 0, 0, 0, 0))

        def step():
            frozen = {name: leaf.detach() for name, leaf in params.items()}
            grads = gradient(frozen, *self.parts)
            return self._update(outer, params, [grads[name].sum(0) for name in params])

        return step

    def adapt(self, genotype: np.ndarray) -> Callable[[], list[Any]]:
        """Return the adaptation of one genotype to every task, in place, and its logits of the queries."""
        torch, ops = self.torch, self.ops_of(genotype)
        params = self._leaves(ops)

        def run():
            logits = []
            for support_x, support_y, query_x, _ in self.episodes:
                fast = {name: leaf.detach().clone().requires_grad_() for name, leaf in params.items()}
                for _ in range(self.sizes.steps):
                    loss = self._loss(ops, fast, support_x, support_y)
                    grads = torch.autograd.grad(loss, list(fast.values()))
                    with torch.no_grad():
                        for leaf, grad in zip(fast.values(), grads):
                            leaf -= INNER_LR * grad
                with torch.no_grad():
                    logits.append(self._logits(ops, fast, query_x))
            return logits

        return run

    def population(self, genotypes: np.ndarray) -> Callable[[], list[list[Any]]]:
        """Return the same for every genotype [P,E], one after the other."""
        runs = [self.adapt(genotype) for genotype in np.asarray(genotypes)]
        return lambda: [run() for run in runs]

    def ops_of(self, genotype: np.ndarray) -> list[str]:
        """Return the op of every block."""
        return [self.spec.ops[block][genotype[op_slot(block)]] for block in range(len(self.spec.ops))]

    def _episode(self, t):
        torch, episode = self.torch, jax.tree.map(lambda x: np.asarray(x[t]), draw_episodes(self.sizes))
        images = [torch.tensor(x).permute(0, 3, 1, 2).contiguous() for x in (episode.support_x, episode.query_x)]
        labels = [torch.tensor(y).long() for y in (episode.support_y, episode.query_y)]
        return images[0], labels[0], images[1], labels[1]

    def _leaves(self, ops):
        """Return name -> our weights as a leaf, kernels as [d,c,s,s]."""
        torch, found = self.torch, dict(self.head)
        for block, op in enumerate(ops):
            own = self.body[f"block{block}"]
            for name, leaf in {**own.get(op, {}), **own["norm"]}.items():
                value = torch.tensor(np.asarray(leaf))
                if name in ("kernel", "pointwise"):
                    value = value.permute(3, 2, 0, 1).contiguous()
                elif name == "depthwise":
                    value = value.permute(2, 0, 1)[:, None].contiguous()
                found[f"{block}.{name}"] = value
        return {name: leaf.clone().requires_grad_() for name, leaf in found.items()}

    def _loss(self, ops, params, x, y):
        return self.torch.nn.functional.cross_entropy(self._logits(ops, params, x), y)

    def _logits(self, ops, params, x):
        F = self.torch.nn.functional
        for block, op in enumerate(ops):
            own = {name.split(".")[1]: leaf for name, leaf in params.items() if name.startswith(f"{block}.")}
            pools = self.spec.downsample == "pool" and self.spec.strides[block] == 2
            x = self._op(op, own, x, 1 if self.spec.downsample == "pool" else self.spec.strides[block])
            x = F.relu(F.batch_norm(x, None, None, own["scale"], own["bias"], training=True, eps=1e-5))
            x = F.max_pool2d(x, 2) if pools and x.shape[-1] > 1 else x
        return x.permute(0, 2, 3, 1).flatten(1) @ params["w"] + params["b"]

    def _op(self, op, own, x, stride):
        F, channels = self.torch.nn.functional, x.shape[1]
        if op in CONV_SIZE:
            dilation = 2 if op == "dil3" else 1
            return F.conv2d(x, own["kernel"], None, stride, dilation * (CONV_SIZE[op] // 2), dilation)
        if op in SEPARABLE_SIZE:
            x = F.conv2d(x, own["depthwise"], None, stride, SEPARABLE_SIZE[op] // 2, groups=channels)
            return F.conv2d(x, own["pointwise"])
        if op == "max3":
            x = F.max_pool2d(x, 3, stride, 1)
        elif op == "avg3":
            x = F.avg_pool2d(x, 3, stride, 1)
        else:
            x = x[:, :, ::stride, ::stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.sizes.channels - channels))

    def _update(self, outer, params, total):
        for leaf, grad in zip(params.values(), total):
            leaf.grad = grad / self.sizes.tasks
        outer.step()
        return {name: leaf.grad for name, leaf in params.items()}
