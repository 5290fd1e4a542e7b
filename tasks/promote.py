"""Decide whether a trained version becomes champion, and say why, in the registry and to people."""

import numpy as np
from prefect import task

from models.evaluation import Interval, auc_intervals
from models.examples import Examples
from models.promotion import Decision, Evidence, Rivalry, Rules, decide
from models.registry import TRAINED_UNTIL, Registry
from models.result import TrainingResult
from models.scorer import Scorer


def rivalry(registry: Registry, result: TrainingResult, examples: Examples) -> Rivalry | None:
    """Return champion and candidate on test rows that are new to both; None without a champion.

    A champion was fitted on all its rows, so only those that begin after its last label ended
    tell what it is worth.  A version that does not say when that was is judged on all rows,
    which flatters it: whoever beats it so beats it.
    """
    version = registry.champion_version()
    if version is None:
        return None
    champion = registry.load(version)
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    seen = result.out_of_sample
    judged = (examples.direction[seen.row] != 0) & (examples.exchange_ns[seen.row] > int(champion.tags.get(TRAINED_UNTIL, 0)))
    rows = seen.row[judged]
    up, ns = examples.direction[rows] > 0, examples.exchange_ns[rows]
    if set(champion.names) - set(examples.names):
        return Rivalry(version, float("nan"), nothing, len(rows), same_features=False)
    if len(np.unique(up)) < 2:
        return Rivalry(version, float("nan"), nothing, len(rows))
    order = [examples.names.index(name) for name in champion.names]
    held = Scorer(champion.text, champion.calibration, champion.names).batch(examples.x[rows][:, order])[:, 1]
    (_, theirs), lead = auc_intervals(up, [seen.probability[judged], held], ns, result.choices.block_ns, seed=result.choices.seed)
    return Rivalry(version, float(theirs.value), lead, len(rows))


def promote(registry: Registry, version: int, result: TrainingResult, examples: Examples, rules: Rules | None = None) -> Decision:
    """Make a version champion if it earned it; the reason stays with the version either way."""
    evidence = Evidence(
        result.auc, result.baseline_auc, result.auc_gain, result.metrics["ece"], int(np.nan_to_num(result.metrics["moved"]))
    )
    decision = decide(evidence, rivalry(registry, result, examples), rules)
    if decision.promote:
        registry.set_champion(version, decision.why)
    else:
        registry.annotate(version, {"why": decision.why})
    return decision


promote_version = task(promote, name="promote", task_run_name="promote version {version}")
