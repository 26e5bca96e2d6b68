import pytest


@pytest.fixture(autouse=True)
def tiny_models_are_compiled_as_they_stand(compiled_as_it_stands):
    """They are run once or twice each: XLA's optimisations take longer."""
