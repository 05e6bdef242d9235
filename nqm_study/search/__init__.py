"""Ranges and first trials that fit a problem, from its scales, before any trial was run.

Import ``ranges.fit``; ``scales`` has the problem's rates and steps that it is made from.
Never here: the true optimum (room ``optimum``), or the results of trials.
"""
