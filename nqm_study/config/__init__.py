"""Configuration as types, and the way from a configuration to the plan of a study.

Here are the groups with their keys (``schema``), the words of refusals, and ``plan``: what to run,
where it is kept, where it is mirrored. ``app`` and ``api`` import from here. Nothing is computed,
stored or shown here, and no default stands here: conf/ has them.
"""
