"""Adam: a closure of its moments given the start, and sampling where that is in doubt.

Here: the starts (nodes), the closure's runs, the searches along them, chains, and their kernels.
To import: closure (adam_crossing, adam_risks), and nodes and run for a single run.
Never here: a linear optimizer, or a public entry.
"""
