"""Runs and models in MLflow: what was trained from what, which version serves, and why.

The only file that imports MLflow.  A registered model carries all that scoring needs: its
text, and as metadata its features in order and its calibration.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

from models.errors import BadArtifactError, NoChampionError, RegistryNotWritableError

logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table it makes in a new store
NAME, ALIAS = "tidebook", "champion"
TRAINED_UNTIL = "trained_until_ns"  # tag of a version: where the last label that it learnt from ends
_ABSENT = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens it as chat traces
_BATCH = 1000  # metrics MLflow takes at once


@dataclass(frozen=True)
class LoggedRun:
    """A run in the store, and the URI of the model that it logged."""

    run_id: str
    model_uri: str


@dataclass(frozen=True)
class ChampionModel:
    """A registered version, ready for `models.scorer.Scorer(text, calibration, names)`."""

    name: str
    version: int
    text: str
    names: tuple[str, ...]
    calibration: tuple[float, float]
    tags: dict[str, str]
    run_id: str


class Registry:
    """One MLflow store: an experiment with its artifacts under a folder, and a registered model.

    Parameters
    ----------
    uri : str
        Tracking and registry URI, such as `sqlite:////lake/models/mlflow.db`.
    artifacts : Path
        Folder for the artifacts of a new experiment; an existing one keeps its own.
    name : str
        Of the registered model and of the experiment.

    Raises
    ------
    RegistryNotWritableError
        If there is no store and none can be made.  One that exists can be read without being writable.
    """

    def __init__(self, uri: str, artifacts: Path, name: str = NAME) -> None:
        self.uri, self.artifacts, self.name = uri, Path(artifacts).resolve(), name
        self._check(writable=False)
        self._client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    def _check(self, writable: bool) -> None:
        if self.uri.startswith("sqlite:///"):
            _check(Path(self.uri.removeprefix("sqlite:///")), writable)

    def experiment(self) -> str:
        """Return the experiment's id; creates it on first use."""
        found = self._client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        self.artifacts.mkdir(parents=True, exist_ok=True)
        return str(self._client.create_experiment(self.name, artifact_location=self.artifacts.as_uri(), tags=_KIND))

    def log_training(
        self,
        model: Any,
        names: Sequence[str],
        calibration: tuple[float, float],
        *,
        run_name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, Any],
        steps: Sequence[Mapping[str, float]] = (),
        figures: Mapping[str, Any] | None = None,
        documents: Mapping[str, Any] | None = None,
    ) -> LoggedRun:
        """Return the run that now holds a training: all of it, or a run marked failed.

        Parameters
        ----------
        model : lightgbm.Booster
            The trained model.
        names : sequence of str
            Its features in order.
        calibration : tuple of float
            Platt's (a, b).
        run_name : str
            What people read in the list of runs.
        params, metrics, tags : mapping
            Flat; metrics that are NaN or infinite are left out.  Tags say what the model was
            made from: lake version, catalogue version, commit, seed.
        steps : sequence of mapping
            Metrics a fold, logged under the fold's number.
        figures : mapping of str to matplotlib Figure, optional
            By artifact path, `plots/roc.png`.
        documents : mapping, optional
            By artifact path: a `.json` is written as JSON, all else as text.

        Raises
        ------
        RegistryNotWritableError
            With the folder or database that cannot be written.
        """
        self._check(writable=True)
        with _at(self.uri):
            run = mlflow.start_run(experiment_id=self.experiment(), run_name=run_name)
            status = "FAILED"
            try:
                run_id = run.info.run_id
                self._log_values(run_id, params, metrics, tags, steps)
                for path, figure in (figures or {}).items():
                    mlflow.log_figure(figure, path)
                for path, document in (documents or {}).items():
                    mlflow.log_text(_text(path, document), path)
                info = mlflow.lightgbm.log_model(
                    model,
                    name="model",
                    pip_requirements=[f"{package}=={installed(package)}" for package in ("lightgbm", "numpy", "mlflow")],
                    metadata={"features": list(names), "calibration": [float(value) for value in calibration]},
                )
                status = "FINISHED"
            finally:
                mlflow.end_run(status)
        return LoggedRun(run_id, info.model_uri)

    def _log_values(
        self,
        run_id: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, Any],
        steps: Sequence[Mapping[str, float]],
    ) -> None:
        values = [Metric(key, float(value), 0, 0) for key, value in metrics.items()]
        values += [Metric(f"fold_{key}", float(value), 0, step) for step, fold in enumerate(steps) for key, value in fold.items()]
        values = [value for value in values if abs(value.value) < float("inf")]
        texts = [Param(key, str(value)) for key, value in params.items()]
        self._client.log_batch(run_id, params=texts, tags=[RunTag(key, str(value)) for key, value in tags.items()])
        for first in range(0, len(values), _BATCH):
            self._client.log_batch(run_id, metrics=values[first : first + _BATCH])

    def register(self, run: LoggedRun, tags: Mapping[str, Any] | None = None) -> int:
        """Return the version under which the run's model is now registered."""
        with contextlib.suppress(MlflowException):  # exists already
            self._client.create_registered_model(self.name)
        with _at(self.uri):
            made = self._client.create_model_version(
                self.name, run.model_uri, run_id=run.run_id, tags={key: str(value) for key, value in (tags or {}).items()}
            )
        return int(made.version)

    def set_champion(self, version: int, why: str, alias: str = ALIAS) -> None:
        """Let the alias point to a version; the reason is kept on the version as the tag `why`."""
        self._client.set_model_version_tag(self.name, str(version), "why", why)
        self._client.set_registered_model_alias(self.name, alias, str(version))

    def annotate(self, version: int, tags: Mapping[str, Any]) -> None:
        """Add tags to a registered version, such as why it was not promoted."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, str(version), key, str(value))

    def champion_version(self, alias: str = ALIAS) -> int | None:
        """Return which version serves, None without one: cheap enough to ask every second."""
        try:
            return int(self._client.get_model_version_by_alias(self.name, alias).version)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise

    def newest(self, tags: Mapping[str, str]) -> tuple[int, str, dict[str, str]] | None:
        """Return version, run and tags of the newest version that bears all these tags; None without one."""
        found = self._client.search_model_versions(f"name = '{self.name}'", max_results=1000)
        for made in sorted(found, key=lambda made: -int(made.version)):
            if all(made.tags.get(key) == value for key, value in tags.items()):
                return int(made.version), str(made.run_id), dict(made.tags)
        return None

    def document(self, run_id: str, path: str) -> dict[str, Any]:
        """Return a JSON document that a run logged."""
        with _at(self.uri):
            return dict(mlflow.artifacts.load_dict(f"runs:/{run_id}/{path}"))

    def extend(self, run_id: str, metrics: Mapping[str, float], documents: Mapping[str, Any]) -> None:
        """Keep further metrics and documents with a run that was logged before, as `log_training` does."""
        self._check(writable=True)
        self._log_values(run_id, {}, metrics, {}, ())
        for path, document in documents.items():
            self._client.log_text(run_id, _text(path, document), path)

    def attach(self, run_id: str, path: Path) -> None:
        """Keep a file with a run that was logged before."""
        self._client.log_artifact(run_id, str(path))

    def champion(self, alias: str = ALIAS) -> ChampionModel:
        """Return the model that serves, with all that scoring needs.

        Raises
        ------
        NoChampionError
            If no version has the alias.
        BadArtifactError
            If the version lacks its text, features or calibration.
        """
        version = self.champion_version(alias)
        if version is None:
            raise NoChampionError(self.name, alias)
        return self.load(version)

    def load(self, version: int) -> ChampionModel:
        """Return one registered version, with all that scoring needs."""
        found = self._client.get_model_version(self.name, str(version))
        uri = f"models:/{self.name}/{version}"
        with _at(self.uri):
            folder = Path(mlflow.artifacts.download_artifacts(uri))
            metadata = mlflow.models.Model.load(str(folder)).metadata or {}
        path = folder / "model.lgb"
        if not path.is_file():
            raise BadArtifactError(uri, path.name)
        for key in ("features", "calibration"):
            if key not in metadata:
                raise BadArtifactError(uri, key)
        a, b = metadata["calibration"]
        names = tuple(metadata["features"])
        return ChampionModel(self.name, version, path.read_text(), names, (float(a), float(b)), dict(found.tags), found.run_id or "")


def _text(path: str, document: Any) -> str:
    return json.dumps(document, indent=1, default=float) if path.endswith(".json") else str(document)


def _check(database: Path, writable: bool) -> None:
    """Make the folder of a store; raise RegistryNotWritableError with what refuses."""
    folder = database.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryNotWritableError(Path(error.filename or folder), error.strerror or str(error)) from None
    for path in (folder, database) if writable else (() if database.exists() else (folder,)):
        if path.exists() and not os.access(path, os.W_OK, effective_ids=True):
            raise RegistryNotWritableError(path, "permission denied, or a read-only file system")


@contextlib.contextmanager
def _at(uri: str) -> Iterator[None]:
    """Let MLflow's fluent calls, which know one global store, use this one."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)  # the registry follows it
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
