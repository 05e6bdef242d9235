"""Schedules that are computed for a problem: optimal rates and batch sizes, and greedy rates.

Here: the least risk of a number of steps, the search for the fewest, the fewest examples of given
steps, greedy steps, their kernels.
To import: optimal (optimal_schedule), batch_sizes (optimal_batch_sizes) and greedy
(greedy_schedule, greedy_curve).
Never here: schedules that a user writes down, which are in the folder above.
"""
