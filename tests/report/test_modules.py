import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from vlm_jax.report.modules import module_rows, module_table


class Recurrent(nn.Module):
    """[b l d] -> [b l d]: h = tanh(h W + x), over time in a scan."""

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.zeros, (width, width))

        def turn(h, x):
            h = jnp.tanh(h @ kernel + x)
            return h, h

        return nn.scan(
            lambda _, h, x: turn(h, x), variable_broadcast="params", in_axes=1, out_axes=1
        )(self, x[:, 0] * 0, x)[1]


class Model(nn.Module):
    reader: nn.Module
    head: nn.Module
    dropout: nn.Module = nn.Dropout(0.5)

    def __call__(self, batch, *, train):
        x = self.dropout(self.reader(batch["x"]), deterministic=not train)
        return self.score(x)

    def score(self, x):
        return self.head(x)


BATCH = {"x": np.zeros((7, 5, 4), np.float32), "valid": np.ones(7, bool)}


def test_flops_and_parameters_as_counted_by_hand():
    rows = {row.path: row for row in module_rows(Model(Recurrent(), nn.Dense(3)), BATCH)}
    # x[:, 0] * 0: 4. Each of 5 turns: 2*4*4 for the product, 4 additions, 4 tanh.
    assert rows["reader",].flops == 4 + 5 * (32 + 4 + 4)
    assert rows["head",].flops == 2 * 5 * 4 * 3 + 5 * 3
    assert rows[()].flops == rows["reader",].flops + rows["head",].flops
    assert rows["reader",].parameters == 16 and rows["head",].parameters == 4 * 3 + 3
    assert rows[()].parameters == 31
    assert (rows[()].output, rows["reader",].output) == ("[1, 5, 3]", "[1, 5, 4]")


@pytest.mark.parametrize(
    "layer, shape, flops",
    [
        # 6x6 places of 8 features, each of 3*3*4 products; and the bias
        (nn.Conv(8, (3, 3), padding="VALID"), (8, 8, 4), 2 * 36 * 8 * 36 + 36 * 8),
        # depthwise: each of the features from 3*3 products
        (
            nn.Conv(4, (3, 3), padding="VALID", feature_group_count=4, use_bias=False),
            (8, 8, 4),
            2 * 36 * 4 * 9,
        ),
    ],
)
def test_flops_of_convolutions(layer, shape, flops):
    batch = {"x": np.zeros((2, *shape), np.float32)}
    rows = {row.path: row for row in module_rows(Model(nn.Dropout(0.0, deterministic=True), layer), batch)}  # fmt: skip
    assert rows["head",].flops == flops


def test_the_table_names_what_has_parameters_or_work_and_computes_nothing():
    text = module_table(Model(Recurrent(), nn.Dense(300_000)), BATCH)
    lines = text.splitlines()
    assert lines[0].split()[0] == "module" and set(lines[1]) == {"-"}
    assert [line.split()[0] for line in lines[2:]] == ["(all)", "reader", "head"]
    assert "1,500,000" in lines[4] and "13.5 M" in lines[4]
    assert "Dropout" not in text
