"""Seconds a training step of a captioner whose frozen encoder is cached, here and in PyTorch, in one run.

    python -m benchmarks.captioner_step                          with torch in this environment
    python -m benchmarks.captioner_step --peer /path/to/python   with torch in another (torch==2.13.0 is what we measured)

Both sides train on random numbers of one shape: batch 128, captions of 14 tokens, a vocabulary of 2,560, the sizes of
`where_to_put_the_image.init_inject` (a picture vector) and of `show_attend_and_tell.soft` (49 places). Both have
dropout, a clipped gradient and Adam; ours also keeps its metrics and refuses a step that is not finite. The two take
turns; each number is the median [least-greatest] of 20 steps in a process of its own. The peer below is written as one
would write it in PyTorch: a fused GRU, a loop over an LSTMCell where there is attention.
"""

import argparse
import ast
import statistics
import subprocess
import sys
import time

MODELS = ("init_inject", "soft")
BATCH, LENGTH, VOCAB_SIZE, FEATURES = 128, 14, 2560, 1280
PLACES = {"init_inject": 1, "soft": 49}
WARM, STEPS = 5, 20


def main(argv: list[str] | None = None) -> int:
    """Prints one line a model: ours, theirs, and theirs over ours (above 1 we are faster)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        side, model = options.measure
        print((_ours if side == "ours" else _theirs)(model))
        return 0
    for model in MODELS:
        found = {"ours": [], "theirs": []}
        for _ in range(options.rounds):
            for side, python in (("ours", sys.executable), ("theirs", options.peer)):
                command = [python, __file__] if side == "theirs" else [python, "-m", __spec__.name]
                done = subprocess.run(
                    [*command, "--measure", side, model], capture_output=True, text=True
                )
                if done.returncode:
                    print(f"{python} cannot run {side}: {done.stderr[-500:]}", file=sys.stderr)
                    return 2
                found[side] += ast.literal_eval(done.stdout.splitlines()[-1])
        ours, theirs = (statistics.median(found[side]) for side in ("ours", "theirs"))
        shown = "  ".join(
            f"{side} {1e3 * statistics.median(times):.1f} ms [{1e3 * min(times):.1f}-{1e3 * max(times):.1f}]"
            for side, times in found.items()
        )
        print(f"{model:12s} {shown}  ratio {theirs / ours:.2f}", flush=True)
    return 0


def _timed(step) -> list[float]:
    times = []
    for _ in range(WARM + STEPS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times[WARM:]


def _ours(name: str) -> list[float]:
    from vlm_jax.memory import keep_freed_memory

    keep_freed_memory()  # as the command line does
    import jax
    import numpy as np

    from vlm_jax.language.attention_decoder import AttentionDecoder
    from vlm_jax.language.recurrent import InitInject, RecurrentDecoder
    from vlm_jax.layers.recurrent import GRU, LSTM
    from vlm_jax.models.generator import Generator
    from vlm_jax.tasks.generation import Generation
    from vlm_jax.train.optimizers import Adam
    from vlm_jax.train.state import init_state
    from vlm_jax.train.steps import make_train_step
    from vlm_jax.vision.precomputed import Precomputed

    shared = dict(vocab_size=VOCAB_SIZE, width=256, embedding_width=256)
    if name == "init_inject":
        decoder = RecurrentDecoder(
            **shared,
            cell=GRU(),
            inject=InitInject(),
            embedding_dropout_rate=0.3,
            output_dropout_rate=0.4,
        )
    else:
        decoder = AttentionDecoder(
            **shared,
            cell=LSTM(),
            attention_width=128,
            doubly_stochastic_weight=1.0,
            embedding_dropout_rate=0.4,
            rnn_dropout_rate=0.4,
            output_dropout_rate=0.4,
        )
    encoder = Precomputed(width=256) if name == "soft" else Precomputed()
    model = Generator(decoder=decoder, image_encoder=encoder)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(BATCH, PLACES[name], FEATURES)).astype(np.float32),
        "target": rng.integers(4, VOCAB_SIZE, (BATCH, LENGTH + 1)).astype(np.int32),
        "valid": np.ones(BATCH, bool),
        "id": np.arange(BATCH, dtype=np.int32),
    }
    smoothing = 0.1 if name == "soft" else 0.0
    task = Generation(tokenizer=None, decoding=None, label_smoothing=smoothing)
    tx = Adam(learning_rate=1e-3, clip_norm=5.0).build()
    key = jax.random.key(0)
    state = jax.jit(lambda: init_state(model, tx, batch, key))()
    take_step = make_train_step(model, task, tx, key)

    def step():
        nonlocal state
        state, metrics = take_step(state, batch)
        jax.block_until_ready(metrics)

    return _timed(step)


def _theirs(name: str) -> list[float]:
    import torch
    from torch import nn
    from torch.nn import functional

    class InitInject(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(VOCAB_SIZE, 256)
            self.picture, self.rnn = nn.Linear(FEATURES, 256), nn.GRU(256, 256, batch_first=True)
            self.out = nn.Linear(256, VOCAB_SIZE)

        def forward(self, image, tokens):
            words = functional.dropout(self.words(tokens), 0.3)
            hidden, _ = self.rnn(words, self.picture(image.mean(1))[None])
            return self.out(functional.dropout(hidden, 0.4)), None

    class Soft(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(VOCAB_SIZE, 256), nn.Linear(FEATURES, 256)
            self.keys, self.query, self.score = (
                nn.Linear(256, 128),
                nn.Linear(256, 128),
                nn.Linear(128, 1),
            )
            self.h, self.c, self.gate = nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, 1)
            self.cell = nn.LSTMCell(512, 256)
            self.from_state, self.from_seen = nn.Linear(256, 256), nn.Linear(256, 256)
            self.out = nn.Linear(256, VOCAB_SIZE)

        def forward(self, image, tokens):
            places = self.places(image)
            keys, mean = self.keys(places), places.mean(1)
            h, c = torch.tanh(self.h(mean)), torch.tanh(self.c(mean))
            words = functional.dropout(self.words(tokens), 0.4)
            kept = []
            for t in range(LENGTH):
                scores = self.score(torch.tanh(keys + self.query(h)[:, None]))[..., 0]
                weights = scores.softmax(-1)
                seen = torch.sigmoid(self.gate(h)) * (weights[..., None] * places).sum(1)
                h, c = self.cell(torch.cat([words[:, t], seen], -1), (h, c))
                kept.append((h, seen, weights))
            hidden, seen, weights = (torch.stack(part, 1) for part in zip(*kept))
            hidden = functional.dropout(hidden, 0.4)
            deep = words + self.from_state(hidden) + self.from_seen(seen)
            return self.out(functional.dropout(deep, 0.4)), weights

    on_gpu = torch.cuda.is_available()
    torch.set_default_device("cuda" if on_gpu else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True  # as JAX does by default
    torch.manual_seed(0)
    model = {"init_inject": InitInject, "soft": Soft}[name]()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    image = torch.randn(BATCH, PLACES[name], FEATURES)
    tokens, labels = torch.randint(4, VOCAB_SIZE, (2, BATCH, LENGTH))

    def step():
        optimizer.zero_grad()
        logits, weights = model(image, tokens)
        smoothing = 0.0 if weights is None else 0.1
        loss = functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing
        )
        if weights is not None:
            loss = loss + (1 - weights.sum(1)).square().sum(1).mean() / LENGTH
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize()

    return _timed(step)


if __name__ == "__main__":
    sys.exit(main())
