"""Settings of all tests."""

import os

import pytest

# Several test processes share the cores: threads of linear algebra, on matrices as small as those
# of L-BFGS-B, would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is slow, and say so, unless it is asked for: with -m, or by its own name."""
    if "slow" in config.option.markexpr or any("::" in argument for argument in config.args):
        return
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason="slow: run by `python -m pytest -n 2 -m slow`"))
