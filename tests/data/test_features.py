import numpy as np
import pytest
import tensorflow_datasets as tfds

from vlm_jax.data.datasets.features import numbers, texts


@pytest.mark.parametrize("words", [[], ["a"], ["a dog\n", "", "Straße ☃"], ["x"] * 300], ids=len)
def test_texts_and_numbers_are_stored_as_sequences_of_them_are(words):
    """What was prepared with the one is read with the other."""
    ours = tfds.features.FeaturesDict({"texts": texts(), "numbers": numbers()})
    sequences = tfds.features.FeaturesDict(
        {
            "texts": tfds.features.Sequence(tfds.features.Text()),
            "numbers": tfds.features.Sequence(tfds.features.Scalar(np.int64)),
        }
    )
    example = {"texts": words, "numbers": list(range(len(words)))}
    stored = [each.serialize_example(each.encode_example(example)) for each in (ours, sequences)]
    assert stored[0] == stored[1]
    read = ours.deserialize_example_np(stored[1])
    assert [text.decode() for text in read["texts"]] == words
    assert read["numbers"].tolist() == example["numbers"]
