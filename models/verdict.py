"""What a training comes to, in words: does it beat the naive rule, and can anybody trade it.

The words follow from bounds, not from estimates, and a model that loses says so first.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from models.summary import Summary
from models.words import bounds, count, duration, number, share


class Answer(StrEnum):
    """What the bounds allow to say."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Costs:
    """What a side of a trade costs in fees, in bps of notional."""

    taker_fee_bps: float = 4.0
    maker_fee_bps: float = 2.0


@dataclass(frozen=True)
class Verdict:
    """Two answers, and the sentences that carry them."""

    beats_baseline: Answer
    pays_taker: Answer
    headline: str
    model: str  # against the baseline
    money: str  # against the cost of taking
    caveats: list[str]


def taking_bps(summary: Summary, costs: Costs) -> float:
    """Return what a taker pays for a round trip, in bps: two fees and the mean spread crossed."""
    spread = summary.metrics.get("spread_bps", math.nan)
    return 2 * costs.taker_fee_bps + (0.0 if math.isnan(spread) else spread)


def verdict(summary: Summary, costs: Costs) -> Verdict:
    """Return what a training comes to at these costs."""
    beats, model = _against_baseline(summary)
    pays, money = _against_costs(summary, costs)
    first = {
        Answer.YES: "Better than the baseline",
        Answer.MAYBE: "Not shown to be better than the baseline",
        Answer.NO: "Worse than the baseline",
        Answer.UNKNOWN: "Not measured against the baseline",
    }[beats]
    second = {
        Answer.YES: "it pays a taker",
        Answer.MAYBE: "it may or may not pay a taker",
        Answer.NO: "it cannot be traded by a taker",
        Answer.UNKNOWN: "nothing was traded",
    }[pays]
    joint = "but" if (beats == Answer.YES) != (pays == Answer.YES) else "and"
    return Verdict(beats, pays, f"{first}, {joint} {second}.", model, money, _caveats(summary))


def _against_baseline(summary: Summary) -> tuple[Answer, str]:
    value, low, high = summary.intervals["auc"]
    naive = summary.intervals["baseline_auc"][0]
    gain, least, most = summary.intervals["auc_gain"]
    horizon = f"{summary.horizon_ns / 1e9:g} s"
    if not _known(value, low, naive, gain, least, most):
        return Answer.UNKNOWN, f"The test rows are too few to tell rises from falls over {horizon}: no ranking could be measured."
    opening = (
        f"Out of sample the model ranks a rise over the next {horizon} above a fall {share(value)} of the time "
        f"(AUC {value:.3f}, 95% bounds {low:.3f} to {high:.3f}); queue imbalance alone does so {share(naive)} of the time."
    )
    if least > 0:
        return Answer.YES, f"{opening} The model beats the naive baseline by {gain:.3f} AUC, and by at least {least:.3f}."
    if most < 0:
        return Answer.NO, f"{opening} The model loses to the naive baseline by {-gain:.3f} AUC: use the baseline."
    return Answer.MAYBE, (
        f"{opening} The difference of {number(gain, 3, '+')} AUC may be anything from {number(least, 3, '+')} to {number(most, 3, '+')}: "
        "the model is not shown to add anything to one number that everybody has."
    )


def _against_costs(summary: Summary, costs: Costs) -> tuple[Answer, str]:
    pays, low, high = summary.intervals["break_even_bps"]
    cost = taking_bps(summary, costs)
    spread = cost - 2 * costs.taker_fee_bps
    charged = f"taking costs {cost:.2f} bps (two fees of {costs.taker_fee_bps:g} bps and {spread:.2f} bps of spread)"
    if not _known(pays):
        return Answer.UNKNOWN, f"No score was extreme enough to trade, so there is nothing to set against costs; {charged}."
    sure = f" (95% bounds {bounds([pays, low, high], 2)})" if _known(low, high) else ""
    opening = f"The signal pays {number(pays, 2)} bps a trade before costs{sure} over {count(summary.metrics['trades'])} trades; {charged}."
    if _known(low) and low > cost:
        return Answer.YES, f"{opening} It pays even at the lower bound; look for a leak before you believe it."
    if pays > cost:
        return Answer.MAYBE, f"{opening} The estimate is above the cost, its lower bound is not."
    if pays <= 0:
        return Answer.NO, f"{opening} It earns nothing even where trading is free."
    maker = 2 * costs.maker_fee_bps
    resting = f"two maker fees of {costs.maker_fee_bps:g} bps are {'less' if maker < pays else 'more than it pays, too'}"
    return Answer.NO, (
        f"{opening} It cannot be traded by a taker, who would need {cost / pays:.1f} times as much; {resting}"
        f"{', but a resting order is not always filled' if maker < pays else ''}."
    )


def _caveats(summary: Summary) -> list[str]:
    said = []
    span_s = (summary.test_end_ns - summary.test_start_ns) * 1e-9
    if span_s < 5 * 86_400:
        said.append(f"All of this rests on {duration(span_s)} of one market: other days may differ by more than the bounds say.")
    trades = summary.metrics.get("trades", 0.0)
    if 0 < trades < 100:
        said.append(f"{trades:.0f} trades are few: their bounds are rough.")
    ece = summary.metrics.get("ece", math.nan)
    if ece > 0.05:
        said.append(f"Probabilities are off by {share(ece)} on average: use them to rank, not as odds.")
    if summary.metrics.get("auc", 0.0) > 0.9:
        said.append(f"An AUC of {summary.metrics['auc']:.3f} is more than order books are known to give: suspect a leak.")
    if summary.features and summary.features[0]["gain"] > 0.9:
        first = summary.features[0]
        said.append(f"{share(first['gain'], 0)} of what the trees gained is {first['name']}: the model is little more than that.")
    if summary.stability < 0.3:
        said.append(f"The folds disagree about which features matter (rank correlation {summary.stability:.2f}).")
    if summary.n_trials > 1:
        said.append(f"{summary.n_trials} parameter sets were tried; deflated Sharpe ratios allow for it, the other numbers do not.")
    return said


def _known(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
