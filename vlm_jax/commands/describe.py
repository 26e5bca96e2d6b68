"""The verb `describe`: the modules of a model."""

from vlm_jax.commands.command import Command
from vlm_jax.commands.workdirs import trained


def describe(command: Command) -> None:
    """Prints a table of the modules with their shapes and numbers of parameters, of a function or of a workdir."""
    from vlm_jax.report.modules import module_table
    from vlm_jax.train.adapted import Adapted

    command.refuse_words()
    if command.workdir is not None:
        experiment, _ = trained(command)
    else:
        experiment = command.build()
    batch = next(iter(experiment.train_data.batches()))[1]
    model = experiment.model
    if isinstance(model, Adapted):
        print(f"What {type(model).__name__} adapts:\n")
        model = model.model
    print(module_table(model, batch))
