"""The best dependency tree: a maximum spanning tree with one word at the root (Chu and Liu 1965, Edmonds 1967; for
parsing, McDonald et al. 2005). On the host, in numpy."""

import numpy as np


def spanning_tree(scores: np.ndarray) -> np.ndarray:
    """Int[n]: the head of each word in the tree with the largest sum, of scores [n n+1].

    `scores[i, h]` is that of head h for word i + 1; head 0 is the root, and h the h-th word. Exactly one word has
    head 0 (the CoNLL rule), and there is no cycle. A score of -inf or nan forbids: as few of these as can be are taken.

        [[9 . 1], [8 3 .]] -> [0 1]:  9 + 3, though 9 + 8 is more: two roots
    """
    scores = np.array(scores, np.float64)
    num_words = len(scores)
    if scores.shape != (num_words, num_words + 1):
        raise ValueError(f"spanning_tree: given scores {scores.shape}, expected [n n+1]")
    if np.isposinf(scores).any():
        raise ValueError("spanning_tree: a score is +inf, expected numbers or -inf")
    scores[np.isnan(scores)] = -np.inf
    words = np.arange(num_words)
    scores[words, words + 1] = -np.inf  # no word is its own head
    heads = scores.argmax(1)
    if np.isfinite(scores[words, heads]).all() and _is_tree(heads):  # as it most often is
        return heads
    return _edmonds(_finite(scores))


def _finite(scores: np.ndarray) -> np.ndarray:
    """[n+1 n+1], the root first. More than one arc from the root, and then forbidden arcs, cost more than all else can
    bring, and no finite difference is lost to them."""
    num_words = len(scores)
    finite = scores[np.isfinite(scores)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    forbidden = (num_words + 1) * (high - low) + 1
    scores = np.where(np.isfinite(scores), scores - low, -forbidden)
    scores[:, 0] -= (num_words + 1) * (forbidden + high - low)
    return np.concatenate([np.full((1, num_words + 1), -np.inf), scores])


def _edmonds(scores: np.ndarray) -> np.ndarray:
    """The heads of the words 1 .. of the best arborescence from node 0, of scores [to from]."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    contracted = []
    while True:
        heads = scores.argmax(1)
        heads[0] = 0
        cycle = _cycle(heads)
        if cycle is None:
            break
        # The cycle becomes one node, the last.
        rest = np.setdiff1d(np.arange(len(scores)), cycle)
        into = _ways_in(scores, cycle, rest, heads)
        out = scores[np.ix_(rest, cycle)]  # [rest cycle]
        contracted.append((cycle, rest, heads, cycle[into.argmax(0)], cycle[out.argmax(1)]))
        scores = np.block(
            [
                [scores[np.ix_(rest, rest)], out.max(1)[:, None]],
                [into.max(0)[None], np.full((1, 1), -np.inf)],
            ]
        )
    for _, rest, before, entered, left in reversed(contracted):
        whole = before.copy()  # the cycle's own arcs, of which one is replaced
        node = len(rest)
        for place, word in enumerate(rest):
            head = heads[place]
            whole[word] = left[place] if head == node else rest[head]
        whole[entered[heads[node]]] = rest[heads[node]]
        heads = whole
    return heads[1:]


def _ways_in(
    scores: np.ndarray, cycle: np.ndarray, rest: np.ndarray, heads: np.ndarray
) -> np.ndarray:
    """[cycle rest]: entering the cycle at a word costs the arc of the cycle that ends there."""
    return scores[np.ix_(cycle, rest)] - scores[cycle, heads[cycle]][:, None]


def _cycle(heads: np.ndarray) -> np.ndarray | None:
    """The nodes of one cycle, in order of number; node 0 is in none."""
    seen = np.zeros(len(heads), np.int64)  # 0: not yet, else the start of the walk that came by
    for start in range(1, len(heads)):
        node = start
        while node and not seen[node]:
            seen[node] = start
            node = heads[node]
        if node and seen[node] == start:
            cycle, other = [node], heads[node]
            while other != node:
                cycle.append(other)
                other = heads[other]
            return np.sort(cycle)
    return None


def _is_tree(heads: np.ndarray) -> bool:
    """Whether these heads of words 1 .. are one tree with one root."""
    return (heads == 0).sum() == 1 and _cycle(np.concatenate([[0], heads])) is None
