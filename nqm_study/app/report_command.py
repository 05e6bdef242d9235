"""The report's command: every summary, table and figure again, from storage alone."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nqm_study.app.exit_status import FAILED, REFUSED
from nqm_study.app.terminal import begin, complain
from nqm_study.study.storage.backends import (
    SHARED,
    Backend,
    embedded,
    require_writable,
    working_folder,
)

if TYPE_CHECKING:
    from nqm_study.tracking.process import MirrorState


def main() -> None:
    """Rebuild the report of a directory; running it again changes nothing."""
    begin()
    arguments = _parser().parse_args()
    root = arguments.mlruns
    try:
        root = working_folder() / root
        status = _report(root, arguments)
    except ValueError as error:
        _complain(str(error))
        status = REFUSED
    except Exception as error:
        from nqm_study.study.storage.failures import failures, first_line

        if arguments.traceback or not isinstance(error, failures()):
            raise
        _complain(f"{getattr(error, 'filename', None) or root}: {first_line(error)}")
        status = FAILED
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nqm_study.report",
        description="Rebuild every summary, table and figure from storage.",
    )
    parser.add_argument("--mlruns", type=Path, default=Path("mlruns"), help="default: ./mlruns")
    parser.add_argument(
        "--storage",
        metavar="URL",
        default=os.environ.get("NQM_STUDY_STORAGE"),
        help="a PostgreSQL server whose studies join those of --mlruns; "
        "default: the environment variable NQM_STUDY_STORAGE",
    )
    parser.add_argument(
        "--tracking",
        metavar="URI",
        default="",
        help="an MLflow server; default: mlflow.db of --mlruns",
    )
    parser.add_argument("--experiment", default="nqm_study", help="MLflow experiment")
    parser.add_argument(
        "--filter",
        metavar="TERMS",
        help="compare these studies only, in figures and a run of their own: "
        "'optimizer == \"sgd\" and batch_size >= 64', or 'optimizer=sgd,adam batch_size>=2^6'",
    )
    parser.add_argument(
        "--by",
        metavar="KEYS",
        default="",
        help="name the compared curves by these: optimizer,schedule; default: by what differs",
    )
    parser.add_argument("--name", help="name of the comparison; default: made of --filter and --by")
    parser.add_argument(
        "--diagnostics",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw Optuna's own figures of the studies that lack them",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare MLflow's runs themselves, also where the record of the last call says that "
        "they are up to date",
    )
    parser.add_argument("--no-mlflow", action="store_true", help="leave MLflow alone")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="delete our runs from MLflow, set a damaged mlflow.db aside, and write all anew",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser


def _report(root: Path, arguments: argparse.Namespace) -> int:
    from nqm_study.config.refusals import readable
    from nqm_study.tracking.settings import require_nameable

    require_writable(root)
    readable("--experiment", arguments.experiment)
    if not (arguments.no_mlflow or arguments.tracking):
        require_nameable(root)
    backends = list(embedded(root))
    if arguments.storage:
        from nqm_study.study.storage.database import server_url

        server_url(arguments.storage)
        backends.append(Backend(SHARED, arguments.storage))
    nothing = f"{root} holds no finished trial; run `python -m nqm_study -m` first"
    if not backends:
        raise ValueError(nothing)

    import optuna
    from rich.console import Console

    from nqm_study.app.publish import compare, publish, show, unmirrored
    from nqm_study.report.frame import studies_frame
    from nqm_study.study.storage.studies import read_records
    from nqm_study.tracking.copy import Copy
    from nqm_study.tracking.process import MirroredStudy
    from nqm_study.tracking.settings import Tracking

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = {backend: read_records(backend.open(root), _complain) for backend in backends}
    studies = studies_frame(record for found in records.values() for record in found)
    if studies.empty:
        raise ValueError(nothing)
    asked = _comparison(arguments)
    # A comparison is refused before anything is begun, and leaves the runs of studies alone.
    published = compare(root, studies, *asked) if asked is not None else None
    mirror = None
    if not arguments.no_mlflow:
        tracking = Tracking(
            arguments.experiment, arguments.tracking, diagnostics=arguments.diagnostics
        )
        mirror = Copy(root, tracking, _ignore, compare=arguments.check, rebuild=arguments.rebuild)
        mirrored = [
            (backend, record)
            for backend, found in (records.items() if asked is None else ())
            for record in found
            if record.trials
        ]
        mirror.follow(
            [MirroredStudy(backend, record.name) for backend, record in mirrored],
            {record.name: record for _, record in mirrored},
        )
        mirror.hurry()
    published = published or publish(root, studies)
    state = None
    if mirror is not None:
        state = mirror.finish([record for _, record in mirrored], published.summaries)
    show(published, Console(), state)
    if state is not None and (missing := unmirrored(state)):
        _complain(missing)
        return FAILED
    return 0


def _comparison(arguments: argparse.Namespace) -> tuple[str, tuple[str, ...], str | None] | None:
    """Filter, keys and name of the comparison that is asked for; None for none."""
    from nqm_study.config.refusals import report_name

    name = report_name("--name", arguments.name)
    if arguments.filter is None and not arguments.by:
        if name is not None:
            raise ValueError(f"--name={name}: is of a comparison; add --filter or --by")
        return None
    if arguments.rebuild:
        raise ValueError("--rebuild: must be without --filter and --by, and rebuilds everything")
    by = tuple(key.strip() for key in arguments.by.split(",") if key.strip())
    return arguments.filter or "", by, name


def _ignore(_: MirrorState) -> None:
    """Nothing is shown before the end."""


def _complain(text: str) -> None:
    complain(text, "nqm_study.report")
