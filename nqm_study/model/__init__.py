"""The noisy quadratic model: pure functions of NumPy arrays that know no framework.

Here: problems, optimizers and schedules as data; steps to a target, risks, optima and simulations.
To import: crossing, noise_scale, optimizers, outcome, simulate, and what the sub-packages name.
Never here: files but spectra, storage, configuration, hidden randomness, or any framework.
"""
