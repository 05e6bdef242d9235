"""The mirror of studies in MLflow, written by processes beside the studies.

Import ``settings.Tracking`` and ``pool`` (the processes as their starter sees them), which do
without MLflow; ``worker`` is the process, ``follower`` the studies it follows, ``mirror`` and
``store`` the runs, ``layout``, ``summaries`` and ``diagnostics`` what these say.
Never here: anything that changes a study, or that a study waits for.
"""
