"""``python -m nqm_study.report``: rebuild every summary, table and figure from storage."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import optuna
from rich.console import Console

from nqm_study.publish import publish, stored_records


def main() -> None:
    """Rebuild the report of a directory; running it again changes nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m nqm_study.report",
        description="Rebuild every summary, table and figure from storage.",
    )
    parser.add_argument("--mlruns", type=Path, default=Path("mlruns"), help="default: ./mlruns")
    parser.add_argument("--experiment", default="nqm_study", help="MLflow experiment")
    parser.add_argument("--no-mlflow", action="store_true", help="leave MLflow alone")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    root = arguments.mlruns.absolute()
    if not any(record.trials for record in stored_records(root)):
        print(  # noqa: T201 (this is the terminal)
            f"nqm_study.report: {root} holds no finished trial; run `python -m nqm_study -m` first",
            file=sys.stderr,
        )
        sys.exit(2)
    publish(root, Console(), experiment=None if arguments.no_mlflow else arguments.experiment)


if __name__ == "__main__":
    main()
