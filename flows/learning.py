"""What this machine's settings mean to training: the stream, the choices, the store, the costs."""

from typing import Any

from flows.settings import Settings
from models.examples import Choices
from models.registry import Registry
from models.verdict import Costs


def choices_of(settings: Settings) -> Choices:
    """Return how this machine trains."""
    return Choices(
        horizon_ns=int(settings.horizon_s * 1e9),
        n_folds=settings.folds,
        embargo_ns=int(settings.embargo_s * 1e9),
        n_trees=settings.trees,
        n_trials=settings.trials,
        seed=settings.seed,
        num_threads=1,  # on a few hundred thousand rows threads wait for each other longer than they work
    )


def labels_of(settings: Settings) -> dict[str, Any]:
    """Return the labels that this machine makes, as arguments of `tasks.label.label`."""
    return {"horizon_s": settings.horizon_s, "fee_bps": settings.taker_fee_bps}


def registry_of(settings: Settings) -> Registry:
    """Return the registry of this lake."""
    return Registry(settings.tracking_uri, settings.artifacts)


def costs_of(settings: Settings) -> Costs:
    """Return what trading costs here."""
    return Costs(settings.taker_fee_bps, settings.maker_fee_bps)


def stream_of(settings: Settings, partitions: list[tuple[str, str, str]], venue: str | None, symbol: str | None) -> tuple[str, str] | None:
    """Return the stream to learn from, of those in `partitions`: the one asked for, else the first of TIDEBOOK_STREAMS, else any."""
    labelled = {(at, name) for at, name, _ in partitions}
    configured = [(at, name) for at, names in settings.streams.items() for name in names]
    for candidate in (*configured, *sorted(labelled)):
        if candidate in labelled and venue in (None, candidate[0]) and symbol in (None, candidate[1]):
            return candidate
    return None


def run_address(settings: Settings, registry: Registry, run_id: str) -> str:
    """Return where the MLflow UI shows a run."""
    return f"{settings.mlflow_url}/#/experiments/{registry.experiment()}/runs/{run_id}"
