"""The shared types, and the letters that every shape in this package is written in.

| letter | dimension                              | letter | dimension                                    |
|--------|----------------------------------------|--------|----------------------------------------------|
| T      | episodes (tasks) of a meta-batch       | P      | genotypes of a population                    |
| N      | ways: classes of an episode            | E      | slots of an encoding                         |
| K      | shots: support images of a class       | O      | choices of a slot, the largest over slots    |
| S      | support items, N*K when balanced       | I      | inner steps                                  |
| Q      | query items                            | M      | objectives                                   |
| H W C  | height, width, channels of an image    | D      | length of an embedding                       |
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
PyTree = Any
Params = PyTree
Reference = int | Array | None  # whose statistics normalise a batch, see `Model`


class Episode(NamedTuple):
    """One few-shot task; a meta-batch of them has a leading T on every field.

    Support items are laid out class by class, so `support_y` ascends; which class got which label is random. Where a
    learner is `padded`, rows of label -1 behind the others are padding, and so is an episode that has no other rows.
    """

    support_x: Array  # float32 [S,H,W,C]
    support_y: Array  # int32 [S], in 0..N-1
    query_x: Array  # float32 [Q,H,W,C]
    query_y: Array  # int32 [Q], in 0..N-1


class Blockwise(NamedTuple):
    """A masked network as B functions one after the other; all of it together is `Model.apply`.

    Genotypes that begin alike can so be computed up to where they part once, see `prefixes.py`.

    prepare(params) -> what the blocks read of them
    start(x [n,H,W,C]) -> what goes into the first block
    blocks: (prepared, value, mask [E,O], reference) -> value, B of them
    embed(value) -> float32 [n,D]
    kinds(masks [P,E,O]) -> int32 [P,B]; genotypes whose kinds agree up to a block have the same value after it
    """

    prepare: Callable[[Params], Params]
    start: Callable[[Array], PyTree]
    blocks: tuple[Callable[..., PyTree], ...]
    embed: Callable[[PyTree], Array]
    kinds: Callable[[Array], Array]


class Model(NamedTuple):
    """A masked network as pure functions; it ends in an embedding, the head belongs to the learner.

    init(key) -> params
    apply(params, x [n,H,W,C], mask [E,O], reference) -> float32 [n,D]. `reference` is None, a static number r or marks
        bool [n]: the batch statistics that normalise all n rows are then those of the first r rows, or of the marked
        ones (the support images), alone.
    normalisation: the name of the normalisation, see `nets/norm.py`.
    features: D, the length of the embedding.
    blockwise: the same network block by block, of a chain supernet of switch execution; else None.
    """

    init: Callable[[Array], Params]
    apply: Callable[..., Array]
    normalisation: str
    features: int
    blockwise: Blockwise | None = None


class MetaState(NamedTuple):
    """What a meta-learner carries from one outer step to the next."""

    step: Array  # int32 []
    params: Params
    opt_state: PyTree


class BlockwiseSolve(NamedTuple):
    """`MetaLearner.solve` of a learner whose inner loop leaves the body as it is.

    body: of the meta-parameters; its value is of support and queries in one array, `reference` the support's part
    solve(params, value, support_y) -> logits float32 [Q,N]
    """

    body: Blockwise
    solve: Callable[[Params, PyTree, Array], Array]


class MetaLearner(NamedTuple):
    """A gradient-based meta-learner as pure functions.

    init(key) -> MetaState
    adapt(params, mask [E,O], support_x, support_y) -> adapted parameters of this task, of whose classes each
        needs a support image
    predict(adapted, mask [E,O], support_x, query_x) -> logits float32 [Q,N]; one that is `padded` takes as a fifth
        argument which support images are real, bool [S]
    solve(params, mask [E,O], support_x, support_y, query_x) -> logits float32 [Q,N], those of predict after adapt
    step(state, masks [T,E,O], episodes [T,...]) -> (MetaState, metrics)
    blockwise: `solve` block by block; None where that is not possible, see `make_blockwise`
    padded: whether rows of label -1 are padding in `adapt` and `solve`, where a class without a support image is then
        none and never predicted; so tasks of many sizes can share one program
    """

    init: Callable[[Array], MetaState]
    adapt: Callable[..., Params]
    predict: Callable[..., Array]
    solve: Callable[..., Array]
    step: Callable[..., tuple[MetaState, dict[str, Array]]]
    blockwise: BlockwiseSolve | None = None
    padded: bool = False


class Strategy(NamedTuple):
    """A search over genotypes as pure, jittable functions; fitness is maximised.

    init(key, genotypes=None) -> state; `genotypes` int32 [n,E] warm-starts it.
    ask(key, state) -> int32 [P,E], only reads
    tell(state, genotypes [P,E], fitness [P,M]) -> state, only writes; NaN counts as -inf
    best(state) -> int32 [E], the best genotype told so far by the first objective

    A strategy that learns by the gradient of a loss with respect to the mask has two more, else None:
    relax(key, state) -> float32 [E,O], a mask to take that gradient at
    tell_grad(key, state, loss [], dloss_dmask [E,O]) -> state; the key is that of `relax`, whose noise the gradient
        goes through
    """

    init: Callable[..., PyTree]
    ask: Callable[..., Array]
    tell: Callable[..., PyTree]
    best: Callable[..., Array]
    relax: Callable[..., Array] | None = None
    tell_grad: Callable[..., PyTree] | None = None


class Evaluation(NamedTuple):
    """What the evaluator says of a population."""

    fitness: Array  # float32 [P,M], to be maximised
    accuracy: Array  # float32 [P,T], share of right queries
    loss: Array  # float32 [P,T], mean query cross-entropy, nats
