"""Ranges and first trials that fit a problem, from its scales, before any trial was run.

Import ``batch_sizes.fit_sizes`` for any study, ``ranges.fit`` where there is one batch size.
``scales`` has the problem's rates and steps that both are made from.
Never here: the true optimum (room ``optimum``), or the results of trials.
"""
