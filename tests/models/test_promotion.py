import math

import pytest

from models.evaluation import Interval
from models.promotion import Evidence, Rivalry, Rules, decide


def _evidence(auc=0.64, low=0.62, baseline=0.60, gain_low=0.02, ece=0.02, moved=4000):
    gain = auc - baseline
    return Evidence(Interval(auc, low, auc + 0.02), Interval(baseline, 0.58, 0.62), Interval(gain, gain_low, gain + 0.02), ece, moved)


def _rival(lead, low, **more):
    return Rivalry(3, 0.64 - lead, Interval(lead, low, lead + 0.02), **{"moved": 900, **more})


@pytest.mark.parametrize(
    ("candidate", "champion", "promoted", "word"),
    [
        (_evidence(), None, True, "there is no champion"),
        (_evidence(moved=499), None, False, "only 499"),
        (_evidence(auc=0.51, low=0.499, baseline=0.45), None, False, "not above chance"),
        (
            _evidence(auc=0.585, low=0.56, baseline=0.61, gain_low=-0.04),
            None,
            True,
            "nothing serves; it is worse than the baseline's 0.610",
        ),
        (_evidence(auc=0.601), None, True, "nothing serves; it does not beat the baseline's 0.600"),
        (_evidence(auc=0.59), None, True, "the gain is -0.010"),
        (_evidence(auc=0.56, low=0.54), None, False, "a gain of -0.0400"),
        (_evidence(auc=math.nan, low=0.6), None, False, "a gain of nan"),
        (_evidence(auc=0.601), _rival(0.01, 0.002), False, "a gain of 0.0010"),
        (_evidence(auc=0.59), _rival(0.01, 0.002), False, "a gain of -0.0100"),
        (_evidence(auc=0.59), _rival(math.nan, math.nan, same_features=False), True, "nothing serves"),
        (_evidence(gain_low=-0.001), _rival(0.01, 0.002), False, "may be luck"),
        (_evidence(gain_low=math.nan), _rival(0.01, 0.002), False, "may be luck"),
        (_evidence(auc=0.6, ece=0.2), None, False, "off by 0.200"),
        (_evidence(auc=math.nan, low=math.nan), None, False, "not above chance"),
        (_evidence(ece=0.2), None, False, "off by 0.200"),
        (_evidence(ece=math.nan), None, False, "off by nan"),
        (_evidence(), _rival(0.01, 0.002), True, "and champion 3 by 0.010"),
        (_evidence(), _rival(0.01, -0.002), False, "champion 3 has AUC 0.630"),
        (_evidence(), _rival(0.01, 0.002, moved=199), False, "champion 3 stays: 199 test rows"),
        (_evidence(), _rival(0.01, 0.002, moved=200), True, "and champion 3 by 0.010"),
        (_evidence(), _rival(-0.01, -0.02), False, "the lead is -0.010"),
        (_evidence(), _rival(math.nan, math.nan), False, "champion 3"),
        (_evidence(), _rival(math.nan, math.nan, same_features=False), True, "no longer made"),
    ],
)
def test_promotion(candidate, champion, promoted, word):
    decision = decide(candidate, champion)
    assert decision.promote is promoted
    assert word in decision.why


def test_rules_can_be_tightened():
    strict = Rules(min_auc_gain=0.05, max_first_loss=-1.0)
    assert not decide(_evidence(), None, strict).promote
    assert decide(_evidence(auc=0.66), None, strict).promote
    assert not decide(_evidence(), _rival(0.01, 0.002), Rules(min_lead=0.02)).promote
