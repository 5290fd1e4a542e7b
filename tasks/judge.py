"""How the champion does on rows that it may not have seen."""

import numpy as np
from prefect import task

from models.evaluation import evaluate
from models.registry import Registry
from models.scorer import Scorer
from models.training import Examples


def judge(registry: Registry, examples: Examples) -> dict[str, float]:
    """Return the champion's version and its metrics on the trustworthy rows of `examples`, the baseline's beside them.

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
    rows = np.flatnonzero(examples.usable)
    order = [examples.names.index(name) for name in champion.names]
    probability = Scorer(champion.text, champion.calibration, champion.names).batch(examples.x[rows][:, order])[:, 1]
    found = evaluate(examples.direction[rows], probability, examples.baseline[rows], examples.return_bps[rows])
    return {"version": float(champion.version), **found}


judge_champion = task(judge, name="judge")
