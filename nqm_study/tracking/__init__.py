"""The mirror of studies in MLflow, written by a process beside the studies.

Import ``settings.Tracking`` and ``process`` (the process as its starter sees it), which do without
MLflow; ``worker`` is the process, ``follower`` the studies it follows, ``mirror`` and ``store`` the
runs, ``bulk`` MLflow's own tables, ``drafts``, ``layout``, ``summaries`` and ``diagnostics`` what
the runs say.
Never here: anything that changes a study, or that a study waits for.
"""
