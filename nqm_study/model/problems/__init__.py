"""Problems: spectra with their noise, their compression, and bounds on any algorithm.

Here: Spectrum, NoisyQuadratic, LeastSquares, power laws, measured densities, data, files, the limit
of small batches.
To import: every module but compression and law, which Spectrum uses.
Never here: an optimizer, a schedule, or a number of steps that depends on one.
"""
