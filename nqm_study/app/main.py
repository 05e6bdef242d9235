"""The command line: Hydra composes, one job runs one study, and the call ends with its report."""

from __future__ import annotations

import gc
import os
import sys
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nqm_study.app.exit_status import FAILED, INTERRUPTED, REFUSED
from nqm_study.app.job import config_dir, look_in, reason, users_folders
from nqm_study.app.preloading import preload_early
from nqm_study.app.presets import call_in_turn
from nqm_study.app.stopping import interrupted, listen, stop
from nqm_study.app.sweep import CALL, JOB
from nqm_study.app.terminal import begin, complain
from nqm_study.study.options import conf_dir
from nqm_study.study.storage.backends import working_folder
from nqm_study.study.text import on_one_line


class UsersFirst(SearchPathPlugin):
    """Looks for options in the user's folder before those of conf/, so that his own ones count.

    Hydra adds the folder of --config-dir behind them, where a file of a name that is taken would
    not be seen.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the user's folder before the program's."""
        folder = config_dir(sys.argv[1:])
        if folder is not None and folder.is_dir():
            search_path.prepend("users", f"file://{folder}", anchor="main")


CLUSTERS = ("submitit", "ray")
"""The packages whose errors say that a job did not come back."""


def main() -> None:
    """Run the command line."""
    # Until all is imported: what stays is not worth looking at for what can be freed.
    gc.disable()
    begin()
    listen()
    try:
        working_folder()
    except ValueError as error:
        complain(str(error))
        sys.exit(REFUSED)
    Plugins.instance().register(UsersFirst)
    JOB.folders = users_folders(sys.argv[1:])
    look_in(JOB.folders)
    # For presets: what is swept only where a package is there.
    OmegaConf.register_new_resolver(
        "if_installed", lambda package, text: text if find_spec(package) else "", replace=True
    )
    OmegaConf.register_new_resolver("described_keys", _described_keys, replace=True)
    # Our launcher files stand for the plugins' own of the same names.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")
    # Hydra then leaves the errors to this function.
    asked = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    preload_early(sys.argv[1:])
    status, changed = 0, False
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(JOB)()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else FAILED
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:  # noqa: BLE001 (shown, and the call ends)
        from nqm_study.app.job import ChangedError

        if interrupted():
            # OmegaConf and others make errors of their own of what interrupts them.
            status = INTERRUPTED
        else:
            status, changed = FAILED, isinstance(error, ChangedError)
            _show(error, whole=asked or CALL.verbose)
    if CALL.presets is not None and status == 0:
        if not asked:
            del os.environ["HYDRA_FULL_ERROR"]
        sys.exit(call_in_turn(CALL.presets))
    if CALL.board is not None:
        try:
            if status != INTERRUPTED:
                from nqm_study.app.ending import conclude

                status = conclude(CALL.board, status, changed=changed)
        except KeyboardInterrupt:
            status = INTERRUPTED
        if status == INTERRUPTED:
            status = stop(CALL.board, CALL.mirror, sweep=len(CALL.plans) > 1)
    sys.exit(status)


def _described_keys() -> str:
    """Every key of the configuration, for ``--help``."""
    from nqm_study.config.schema import described

    return described()


def _of_hydra(error: Exception) -> bool:
    """Whether it is Hydra's or OmegaConf's word on an override that it cannot take."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool({"hydra", "omegaconf"} & {*Path(frames[-1].filename).parts})


def _show(error: Exception, *, whole: bool) -> None:
    """Show an error that ended Hydra's part: a refusal of its own, a full disk, or a defect."""
    if isinstance(error, CompactHydraException) and not whole:
        lines = [str(error)]
        if isinstance(error.__cause__, OmegaConfBaseException):
            lines.append(str(error.__cause__))
        lines.append(
            "\nSet the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace."
        )
        print("\n".join(lines), file=sys.stderr)  # noqa: T201 (this is the terminal)
    elif isinstance(error, OSError) and not whole:
        complain(reason(error))
    elif _of_hydra(error) and not whole:
        complain(on_one_line(str(error)))
    elif type(error).__module__.partition(".")[0] in CLUSTERS and not whole:
        from nqm_study.study.storage.failures import first_line

        complain(f"a job was lost, {type(error).__name__}: {first_line(error)}")
    else:
        traceback.print_exception(error)
