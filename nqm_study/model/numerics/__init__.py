"""Numerical methods that know no optimizer and no problem: each is stated here once.

Here: brackets, refinement, Gauss rules, simplex, the search among horizons, compiling, refusals.
To import: every module, from anywhere in the model; require also from outside.
Never here: curvatures, learning rates, or an import from the rest of the model.
"""
