"""Vision-language models in JAX and Flax. See README.md."""

__version__ = "0.1.0"
