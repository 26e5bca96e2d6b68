"""Choosing among classes that are only described, with a two-tower model that was not trained on them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlm_jax.tasks.classification import Chosen, Classification
from vlm_jax.types import Batch, References, Variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShot(Classification):
    """p(class | picture) by the cosine with the class's prompts (Radford et al. 2021, arXiv 2103.00020, section 3.1).

    `tokenize` is the Tokenize transform of the model's training. Each of `templates` with the class at `{}` is a
    prompt; the vector of a class is the mean over its prompts, at length 1 again (section 3.1.4). The numbers are
    called `<name>_accuracy`; the label is batch[label].
    """

    tokenize: Any
    templates: tuple[str, ...] = ("{}",)
    label: str = "label"
    name: str = "zero_shot"

    def prompts(self) -> np.ndarray:
        """Int[k*templates l], the tokens of all prompts, those of a class together."""
        texts = [
            template.replace("{}", name) for name in self.classes for template in self.templates
        ]
        read = [self.tokenize({self.tokenize.key: text}) for text in texts]
        return np.stack([example[self.tokenize.output] for example in read])

    def loss(self, model: Any, variables: Variables, batch: Batch, *, rngs: dict, train: bool):
        raise ValueError("ZeroShot is not trained; give its Evaluation loss=False")

    def predict(self, model: Any, variables: Variables, batch: Batch, key: jax.Array) -> Chosen:
        prompts = model.apply(variables, {"text": jnp.asarray(self.prompts())}, train=False).text
        found = model.apply(variables, {"image": batch["image"]}, train=False)
        of_class = prompts.reshape(len(self.classes), len(self.templates), -1).mean(1)  # [k d]
        of_class /= jnp.linalg.norm(of_class, axis=-1, keepdims=True)
        logits = found.scale * found.image @ of_class.T
        return Chosen(probabilities=jax.nn.softmax(self._answered(logits).astype(jnp.float32)))

    def examples(self, predictions: Chosen, batch: Batch) -> list[dict[str, Any]]:
        return super().examples(predictions, self._labelled(batch))

    def score(self, predictions: Chosen, batch: Batch, references: References) -> dict[str, Any]:
        return super().score(predictions, self._labelled(batch), references)

    def report(self, stats: dict[str, Any]) -> dict[str, float]:
        return {f"{self.name}_{key}": value for key, value in super().report(stats).items()}

    def _labelled(self, batch: Batch) -> Batch:
        others = {name: x for name, x in batch.items() if name != "label"}
        return {**others, "label": batch[self.label]} if self.label in batch else others
