"""Linear optimizers (SGD, momentum, averages): exact moments, first crossings, fewest steps.

Here: risks at a constant rate, runs under a schedule, families of members, and their kernels.
To import: risks, scheduled, runs, members, fewest_steps and stability.
Never here: an optimizer whose update is not linear in its state, or a public entry.
"""
