"""Every night: a challenger, judged walk-forward, that becomes champion if it earned it."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.learning import choices_of, costs_of, registry_of, run_address, stream_of
from flows.settings import Settings
from models.errors import TooLittleDataError
from tasks import monitor, notify
from tasks.promote import promote_version
from tasks.train import train_stream
from warehouse.lake import Lake


@flow
def retrain(venue: str | None = None, symbol: str | None = None) -> State:
    """Train on one stream, register the version, decide whether it serves.

    Parameters
    ----------
    venue, symbol : str, optional
        The first of TIDEBOOK_STREAMS that has labels if not given.
    """
    settings = Settings()
    lake, registry = Lake(settings.lake), registry_of(settings)
    stream = stream_of(settings, lake.partitions("labels"), venue, symbol)
    if stream is None:
        return Completed(name="NothingToLearn", message="no stream has labels yet; they come with the next refresh")
    try:
        trained = train_stream(lake, registry, *stream, choices_of(settings), costs=costs_of(settings))
    except TooLittleDataError as error:
        return Completed(name="TooLittleData", message=str(error))
    decision = promote_version(registry, trained.version, trained.result, trained.examples)
    if decision.promote:
        notify.model_promoted(registry.name, trained.version, decision.why)
    told = {"version": trained.version, "promoted": decision.promote, "why": decision.why, **trained.result.metrics}
    monitor.table("retrain", [{"what": key, "value": str(value)} for key, value in told.items()], decision.why)
    monitor.link("retrain-run", run_address(settings, registry, trained.run_id), f"version {trained.version} in MLflow")
    monitor.flush()
    return Completed(message=f"version {trained.version}: {decision.why}")
