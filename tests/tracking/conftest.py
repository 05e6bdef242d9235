from pathlib import Path

import pytest
from mlflow import MlflowClient

from nqm_study.tracking.store import RunStore


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow database without runs: making one takes seconds."""
    root = tmp_path_factory.mktemp("empty")
    MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    return (root / "mlflow.db").read_bytes()


@pytest.fixture
def store(tmp_path: Path, empty_store: bytes) -> RunStore:
    root = tmp_path / "mlruns"
    root.mkdir()
    (root / "mlflow.db").write_bytes(empty_store)
    return RunStore.local(root, "nqm_study")
