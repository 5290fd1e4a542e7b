"""How the champion does on rows that it has not seen."""

import numpy as np
from prefect import task

from models.evaluation import auc_intervals, evaluate, usual_block_ns
from models.examples import Examples
from models.registry import TRAINED_UNTIL, Registry
from models.scorer import Scorer


def judge(registry: Registry, examples: Examples) -> dict[str, float]:
    """Return the champion's version and its metrics on the trustworthy rows of `examples` that are new to it.

    New are rows that begin after the last label it was trained on ended; of a version that does
    not say when that was, all are taken, which flatters it.  The baseline's metrics stand
    beside its own.  Labels overlap and neighbours are alike, so the bounds (`auc_low`,
    `auc_high`, `gain_low`, `gain_high`) come from drawing whole blocks of time, and `blocks` says how many
    there are: that, not `rows`, is how much is known.  `rows` is 0, and the rest NaN, where nothing is new.

    Parameters
    ----------
    examples : Examples
        With at least the features that the champion was trained on.

    Raises
    ------
    NoChampionError
        If no version serves yet.
    """
    champion = registry.champion()
    rows = np.flatnonzero(examples.usable & (examples.exchange_ns > int(champion.tags.get(TRAINED_UNTIL, 0))))
    order = [examples.names.index(name) for name in champion.names]
    probability = Scorer(champion.text, champion.calibration, champion.names).batch(examples.x[rows][:, order])[:, 1]
    direction, ns, baseline = examples.direction[rows], examples.exchange_ns[rows], examples.baseline[rows]
    found = evaluate(direction, probability, baseline, examples.return_bps[rows])
    horizon_ns = int(np.median(examples.label_end_ns[rows] - ns)) if len(rows) else 0
    block_ns, moved = usual_block_ns(ns, horizon_ns), direction != 0
    (auc, _), gain = auc_intervals(direction[moved] > 0, [probability[moved], np.nan_to_num(baseline[moved])], ns[moved], block_ns)
    bounds = {"auc_low": auc.low, "auc_high": auc.high, "gain_low": gain.low, "gain_high": gain.high}
    return {"version": float(champion.version), **found, **bounds, "blocks": float(len(np.unique(ns[moved] // block_ns)))}


judge_champion = task(judge, name="judge")
