"""Weekly and after each promotion: the champion on the newest days, and its page."""

import time

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.learning import costs_of, registry_of, run_address, stream_of
from flows.settings import Settings
from tasks import monitor
from tasks.judge import judge_champion
from tasks.report import report
from tasks.train import examples_of
from warehouse.columns import DAY_NS
from warehouse.lake import Lake


@flow
def benchmark(venue: str | None = None, symbol: str | None = None, days: float = 7.0) -> State:
    """Judge the champion against queue imbalance alone, and draw its report.

    Parameters
    ----------
    venue, symbol : str, optional
        The first of TIDEBOOK_STREAMS that has labels if not given.
    days : float
        How far back the rows go that it is judged on; a lake of captures that are older is judged whole.
    """
    settings = Settings()
    lake, registry = Lake(settings.lake), registry_of(settings)
    stream = stream_of(settings, lake.partitions("labels"), venue, symbol)
    if stream is None or registry.champion_version() is None:
        return Completed(name="NothingToJudge", message="no labels or no champion yet")
    recent = examples_of(lake, *stream, start_ns=time.time_ns() - int(days * DAY_NS))
    examples = recent if recent.usable.any() else examples_of(lake, *stream)
    found = judge_champion(registry, examples)
    page = report(lake, registry, *stream, settings.lake / "report.html", costs=costs_of(settings))
    monitor.table("benchmark", [{"metric": key, "value": value} for key, value in found.items()], f"champion on {' '.join(stream)}")
    run = run_address(settings, registry, registry.champion().run_id)
    monitor.link("report", f"{run}/artifacts/{page.name}", page.name, f"the page of what was trained, also {page}")
    monitor.link("champion", run, f"version {found['version']:.0f} in MLflow")
    monitor.flush()
    if not found["moved"]:
        return Completed(name="NothingNew", message="no rows yet that the champion was not trained on; its page shows the walk-forward")
    return Completed(message=f"AUC {found['auc']:.4f}, baseline {found['baseline_auc']:.4f}, on {found['rows']:,.0f} rows")
