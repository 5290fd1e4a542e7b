"""Whether a candidate becomes champion: a pure rule over what was measured out of sample."""

from dataclasses import dataclass

from models.evaluation import Interval


@dataclass(frozen=True)
class Evidence:
    """What is known of a candidate on its test span."""

    auc: Interval
    baseline_auc: Interval
    auc_gain: Interval  # over the naive baseline, the same rows
    ece: float
    moved: int  # test rows that AUC was taken on


@dataclass(frozen=True)
class Rivalry:
    """Candidate and champion on those test rows of the candidate's that are later than all the champion was trained on."""

    version: int
    champion_auc: float
    lead: Interval  # candidate's AUC less the champion's
    moved: int  # such rows that moved
    same_features: bool = True  # False: the champion cannot be scored on today's features


@dataclass(frozen=True)
class Rules:
    """What is asked of a candidate."""

    min_moved: int = 500
    min_auc_gain: float = 0.002  # over the baseline
    min_lead: float = 0.0  # over the champion
    min_rival_moved: int = 200  # rows new to both, to compare with a champion on
    max_ece: float = 0.10  # mean distance of a probability from what came of it
    # Of AUC to the baseline, that the first champion may lose.  While nothing serves, live scores, their page and
    # the comparison of all that follow have nothing to start from; calibrated probabilities about as good as the
    # baseline are better than none.  The reason says so, and how much was lost.  The next champion must beat the
    # baseline and this one.  0 or less asks of the first champion what is asked of all.
    max_first_loss: float = 0.03


@dataclass(frozen=True)
class Decision:
    """Promote or not, and why, in one sentence for people."""

    promote: bool
    why: str


def decide(candidate: Evidence, champion: Rivalry | None = None, rules: Rules | None = None) -> Decision:
    """Return whether the candidate should serve, with the first reason against it, or the reasons for it.

    The lower bounds must clear chance, baseline and champion, not the estimates alone: on few
    rows anything may look better once.  The very first champion must clear chance, and may
    trail the baseline by `max_first_loss`, even beyond doubt; the reason then says that it did.

    Examples
    --------
    >>> good = Evidence(Interval(0.64, 0.62, 0.66), Interval(0.6, 0.58, 0.62), Interval(0.04, 0.02, 0.06), 0.02, 4000)
    >>> decide(good)
    Decision(promote=True, why='AUC 0.640 beats the baseline 0.600 by 0.040 (at least 0.020) on 4,000 rows; there is no champion')
    >>> decide(good, Rivalry(3, 0.66, Interval(-0.02, -0.03, -0.01), moved=900)).why
    'champion 3 has AUC 0.660 on the same rows: the lead is -0.020 (-0.030 to -0.010), required above 0.000'
    """
    rules = rules or Rules()
    gain = candidate.auc_gain
    if candidate.moved < rules.min_moved:
        return Decision(False, f"only {candidate.moved:,} test rows moved, {rules.min_moved:,} are required")
    if not candidate.auc.low > 0.5:
        return Decision(False, f"AUC {_span(candidate.auc)} is not above chance")
    if not candidate.ece <= rules.max_ece:
        return Decision(False, f"probabilities are off by {candidate.ece:.3f} on average, {rules.max_ece:.3f} is allowed")
    nothing_serves = champion is None or not champion.same_features
    beats_baseline = gain.value >= rules.min_auc_gain and gain.low > 0
    if not beats_baseline and nothing_serves and gain.value >= -rules.max_first_loss:
        return Decision(
            True,
            f"AUC {_span(candidate.auc)} on {candidate.moved:,} rows is above chance and nothing serves; it "
            f"{'is worse than' if gain.high < 0 else 'does not beat'} the baseline's {candidate.baseline_auc.value:.3f}: "
            f"the gain is {_span(gain)}, a first champion may lose {rules.max_first_loss:.3f}",
        )
    if not gain.value >= rules.min_auc_gain:
        return Decision(
            False,
            f"AUC {candidate.auc.value:.3f} against the baseline's {candidate.baseline_auc.value:.3f}: "
            f"a gain of {gain.value:.4f}, required {rules.min_auc_gain:.4f}",
        )
    if not gain.low > 0:
        return Decision(False, f"the gain over the baseline, {_span(gain)}, may be luck")
    beats = (
        f"AUC {candidate.auc.value:.3f} beats the baseline {candidate.baseline_auc.value:.3f} "
        f"by {gain.value:.3f} (at least {gain.low:.3f}) on {candidate.moved:,} rows"
    )
    if champion is None:
        return Decision(True, f"{beats}; there is no champion")
    if not champion.same_features:
        return Decision(True, f"{beats}; champion {champion.version} wants features that are no longer made")
    if champion.moved < rules.min_rival_moved:
        return Decision(
            False,
            f"champion {champion.version} stays: {champion.moved:,} test rows that moved are later than all it was trained on, "
            f"{rules.min_rival_moved:,} are required to compare",
        )
    if not (champion.lead.value > rules.min_lead and champion.lead.low > 0):
        return Decision(
            False,
            f"champion {champion.version} has AUC {champion.champion_auc:.3f} on the same rows: "
            f"the lead is {_span(champion.lead)}, required above {rules.min_lead:.3f}",
        )
    return Decision(True, f"{beats}, and champion {champion.version} by {_span(champion.lead)}")


def _span(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
