"""Schedules that are computed for a problem: the optimal piecewise-constant and the greedy one.

Here: the least risk of a number of steps, the search for the fewest, greedy steps, their kernels.
To import: optimal (optimal_schedule) and greedy (greedy_schedule, greedy_curve).
Never here: schedules that a user writes down, which are in the folder above.
"""
