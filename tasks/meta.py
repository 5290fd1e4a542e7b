"""Which of a training's trades to take: a second model, judged on trades that neither model had seen."""

from models import booster
from models.errors import TooLittleDataError
from models.examples import Examples
from models.meta import MetaResult, trades_of, train_meta
from models.registry import Registry
from models.result import TrainingResult


def second_model(
    registry: Registry, run_id: str, examples: Examples, result: TrainingResult, fee_bps: float, margin: float | None = None
) -> list[dict[str, float]]:
    """Return how many trades that made money each model picks, a row a share of them; keep it all with the run.

    The second model learns from trades that the first one called for on rows it had not seen,
    and is judged walk-forward on later ones.  The run gets the metrics `meta_*`, the rows as
    `meta.json` and the model as `meta.lgb`.  Nothing trades by it: it serves to see whether it would help.

    Parameters
    ----------
    registry, run_id : Registry, str
        Where the training was logged.
    examples, result : Examples, TrainingResult
        What it was given, and gave.
    fee_bps : float
        Taker fee of one side: a trade pays if it earns more than the spread and two of them.
    margin : float, optional
        As of `models.meta.trades_of`.

    Returns
    -------
    list of dict
        `share` and `trades` that are picked, precision and recall of the first model's surest and
        of the second one's; recall is of all tested trades that made money.

    Raises
    ------
    TooLittleDataError
        If there are too few trades, or all or none of a training span's made money.
    """
    trades = trades_of(examples, result, fee_bps, margin=margin)
    if trades.paid.size and not trades.paid.any():
        raise TooLittleDataError(f"a second model of trades that earn more than two fees of {fee_bps:g} bps", 1, 0)
    choices = result.choices
    found = train_meta(trades, n_folds=choices.n_folds, embargo_ns=choices.embargo_ns, seed=choices.seed)
    rows = _rows(found)
    metrics = {f"meta_{name}_{round(100 * row['share'])}": row[name] for row in rows for name in row if name != "share"}
    documents = {"meta.json": {"fee_bps": fee_bps, "purged": found.purged, "rows": rows}, "meta.lgb": booster.text(found.model)}
    registry.extend(run_id, metrics, documents)
    return rows


def _rows(found: MetaResult) -> list[dict[str, float]]:
    everything = found.coverage[-1]  # a share of 1: all tested trades
    paid = everything.n * everything.primary
    return [
        {
            "share": each.share, "trades": each.n, "precision": each.secondary, "first_precision": each.primary,
            "recall": each.n * each.secondary / paid if paid else float("nan"),
            "first_recall": each.n * each.primary / paid if paid else float("nan"),
        }
        for each in found.coverage
    ]  # fmt: skip
