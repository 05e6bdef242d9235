"""The loop one would write first: Optuna on SQLite, an MLflow run nested in another for each trial.

    python naive_loop.py FOLDER N_TRIALS BATCH_SIZE...

It keeps of a trial what the program keeps, and runs the studies on all cores as the program does.
The databases are made before the workers start, which would crash in doing so at once.
"""

import sys
import time
from pathlib import Path

import mlflow
import optuna
from joblib import Parallel, delayed

import nqm_study as nqm


def study(folder: Path, batch_size: int, n_trials: int) -> float:
    """Run one study; milliseconds a trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), batch_size)
    connect(folder)
    tuned = optuna.create_study(
        storage=f"sqlite:///{folder}/optuna.db",
        study_name=f"sgd-B{batch_size}",
        sampler=optuna.samplers.TPESampler(seed=0),
        load_if_exists=True,
    )

    def objective(trial: optuna.Trial) -> float:
        with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
            learning_rate = trial.suggest_float("learning_rate", 1e-3, 2.0, log=True)
            mlflow.log_params({"learning_rate": learning_rate, "momentum": 0.0})
            found = nqm.steps_to_target(problem, nqm.SGD(learning_rate))
            reached = found.steps is not None
            trial.set_user_attr("steps", found.steps)
            trial.set_user_attr("status", found.status)
            trial.set_user_attr("risk", found.risk)
            trial.set_user_attr("risk_error", found.error)
            trial.set_constraint("not_reached", 0.0 if reached else 1.0)
            mlflow.set_tags(
                {
                    "kind": "trial",
                    "optuna.study_name": tuned.study_name,
                    "optuna.trial_number": trial.number,
                    "status": found.status,
                }
            )
            mlflow.log_metrics({"reached": float(reached), "risk": found.risk})
            if reached:
                mlflow.log_metrics({"steps_to_target": found.steps, "risk_error": found.error})
            return float(found.steps) if reached else 1e9

    with mlflow.start_run(run_name=tuned.study_name):
        mlflow.log_params({"optimizer": "sgd", "batch_size": batch_size})
        started = time.perf_counter()
        tuned.optimize(objective, n_trials=n_trials)
        seconds = time.perf_counter() - started
        mlflow.log_metric("best_steps_to_target", tuned.best_value)
    return 1e3 * seconds / n_trials


def connect(folder: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("naive")


def main() -> None:
    """Run the studies, and print the milliseconds a trial of each."""
    folder, n_trials = Path(sys.argv[1]), int(sys.argv[2])
    batch_sizes = [int(text) for text in sys.argv[3:]]
    connect(folder)
    optuna.storages.RDBStorage(f"sqlite:///{folder}/optuna.db")
    jobs = [delayed(study)(folder, batch_size, n_trials) for batch_size in batch_sizes]
    costs = Parallel(n_jobs=-1)(jobs) if len(jobs) > 1 else [study(folder, *batch_sizes, n_trials)]
    print(*costs)


if __name__ == "__main__":
    main()
