"""Detectors by their definitions: everything recomputed from all values so far, nothing folded."""

import math

import numpy as np
from scipy.special import gammaln, logsumexp
from scipy.stats import t as student

from tasks.features.catalogue import NAMES
from warehouse.schema import BURST, DRIFT, OK, REGIME_CHANGE

SECOND = 1_000_000_000
REGIMES = frozenset({"bocpd_change_prob", "bocpd_run_length"})  # what `regime` computes
DRIFTING = ("imbalance_5", "microprice_drift_bps", "spread_compression", "trade_imbalance_5")
VOLUMES = ("volume_zscore_1", "volume_zscore_5", "volume_zscore_30")
VOLATILITIES = ("realized_vol_1", "realized_vol_5", "realized_vol_30", "realized_vol_300")


def zscore(x, second, first_second, past_seconds, past):
    """Return x against the values of the 300 whole seconds before this one."""
    if second - first_second < 300:
        return math.nan
    usual = past[(past_seconds < second) & (past_seconds >= second - 300) & ~np.isnan(past)]
    if len(usual) < 30:
        return math.nan
    mean, std = usual.mean(), usual.std()
    return (x - mean) / std if std > 1e-9 * abs(mean) else 0.0 * x


def cusum_next(up, down, value, h):
    """Return both sums with one value more, and what they are afterwards."""
    up, down = max(0.0, up + value - 0.5), max(0.0, down - value - 0.5)
    return (up, down), (0.0, 0.0) if max(up, down) >= h else (up, down)


def cusum(z, h):
    """Return both sums after each value, before they begin anew."""
    sums, out = (0.0, 0.0), []
    for value in z:
        reached = (math.nan, math.nan)
        if not math.isnan(value):
            reached, sums = cusum_next(*sums, value, h)
        out.append(reached)
    return np.array(out)


def bocpd_next(log_p, past, x, hazard=1 / 250, longest=500):
    """Return the logs of the run-length distribution after one value more; each hypothesis learns its run from nothing."""
    runs = np.arange(len(log_p))
    back = past[::-1][: runs[-1]]
    total, squares = (np.concatenate([[0.0], np.cumsum(v)]) for v in (back, back**2))
    kappa, alpha = 1.0 + runs, 1.0 + runs / 2
    mean = total / kappa
    beta = 1.0 + (squares - kappa * mean**2) / 2
    density = student.logpdf(x, 2 * alpha, mean, np.sqrt(beta * (kappa + 1) / (alpha * kappa)))
    grown = log_p + density + math.log(1 - hazard)
    ended = logsumexp(log_p + density + math.log(hazard))
    log_p = np.concatenate([[ended], grown])
    if len(log_p) > longest + 1:
        log_p[longest] = np.logaddexp(log_p[longest], log_p[longest + 1])
        log_p = log_p[: longest + 1]
    return log_p - logsumexp(log_p)


def bocpd(x):
    """Return the run-length distribution after each value."""
    log_p, out = np.zeros(1), []
    for n in range(len(x)):
        log_p = bocpd_next(log_p, x[:n], x[n])
        out.append(np.exp(log_p))
    return out


def log_evidence(x):
    """Return the log density of values of one run: a normal with unknown mean and variance, prior (0, 1, 1, 1)."""
    n, mean = len(x), x.mean()
    beta = 1.0 + ((x - mean) ** 2).sum() / 2 + n * mean**2 / (2 * (1.0 + n))
    return gammaln(1.0 + n / 2) - (1.0 + n / 2) * math.log(beta) - math.log(1.0 + n) / 2 - n / 2 * math.log(2 * math.pi)


def run_lengths(x, hazard=1 / 250):
    """Return the run-length distribution after each value, from the densities of whole runs: nothing is predicted."""
    begun, out = [0.0], []  # log density of the values before a place together with a run that begins there
    for t in range(1, len(x) + 1):
        grown = [begun[t - r] + log_evidence(x[t - r : t]) + r * math.log(1 - hazard) for r in range(1, t + 1)]
        begun.append(logsumexp(grown) + math.log(hazard / (1 - hazard)))
        log_p = np.array([begun[t], *grown])
        out.append(np.exp(log_p - logsumexp(log_p)))
    return out


def _summed_up(p):
    return (p[:6].sum() if len(p) > 6 else math.nan, p @ np.arange(len(p)))


def regime(x):
    """Return the probability of a run of at most five values, and the expected run, after each value."""
    return np.array([_summed_up(p) for p in bocpd(x)]).T


def spectral_residual(x):
    """Return the salience score of the last of 128 values."""
    assert len(x) == 128
    before = x[:-1]
    slope = np.mean([(before[-1] - before[-1 - i]) / i for i in range(1, 6)])
    longer = np.append(x, [before[-5] + 5 * slope] * 5)
    spectrum = np.fft.fft(longer - longer[0])
    amplitude = np.abs(spectrum)
    floor = 1e-10 * np.abs(longer - longer[0]).sum()
    if floor == 0.0:
        return 0.0
    loud = amplitude > floor
    logs = np.log(np.where(loud, amplitude, floor))
    logs[0], loud[0] = logs[1], False
    average = (np.roll(logs, 1) + logs + np.roll(logs, -1)) / 3
    residual = np.where(loud, np.exp(logs - average) * spectrum / np.where(amplitude > 0, amplitude, 1.0), 0.0)
    salience = np.abs(np.fft.ifft(residual))
    usual = salience[106:127].mean()
    return (salience[127] - usual) / usual if usual > 0.0 else 0.0


def spectral_residuals(x):
    return np.array([spectral_residual(x[i - 127 : i + 1]) if i >= 127 else math.nan for i in range(len(x))])


def _top(values):
    known = [v for v in values if not math.isnan(v)]
    return max(known, key=abs) if known else math.nan


def _highest(values):
    known = [v for v in values if not math.isnan(v)]
    return max(known) if known else math.nan


class Stretch:
    """A clean stretch of rows: what each second left, and what each detector saw of it."""

    def __init__(self, h, weights, floor):
        self.h, self.weights, self.floor = h, weights, floor
        self.ns, self.scores = [], []
        self.sums = dict.fromkeys(DRIFTING, (0.0, 0.0))
        self.log_p = np.zeros(1)
        self.closes, self.returns, self.return_seconds, self.return_z = [], [], [], []
        self.volatility, self.volume, self.flags = [], [], []
        self.regime = (math.nan, math.nan)
        self.salience, self.confirmed = math.nan, False

    def close(self, second, past):
        """The second is over."""
        rows = past[np.array(self.ns) // SECOND == second]
        last = past[-1]
        mid = last[NAMES.index("mid")]
        step = math.log(mid / self.closes[-1]) if self.closes else math.nan
        z = zscore(step, second, self.ns[0] // SECOND, np.array(self.return_seconds), np.array(self.returns))
        self.closes.append(mid)
        self.returns.append(step)
        self.return_seconds.append(second)
        if not math.isnan(z):
            self.log_p = bocpd_next(self.log_p, np.array(self.return_z), z)
            self.return_z.append(z)
            self.regime = _summed_up(np.exp(self.log_p))
        volatility = rows[-1][NAMES.index("realized_vol_1")] if len(rows) else 0.0
        self.salience = math.nan
        if not math.isnan(volatility):
            self.volatility.append(volatility)
            if len(self.volatility) >= 128:
                self.salience = spectral_residual(np.array(self.volatility[-128:]))
        self.flags.append(self.salience > 3.0)
        volume = _highest([last[NAMES.index(name)] for name in VOLUMES])
        self.confirmed = sum(self.flags[-5:]) >= 3 and volume > 1.0

    def row(self, ns, row, past):
        """Return what the detectors say of a row after those of the stretch before it: lead, side, values."""
        second = ns // SECOND
        if self.ns:
            for over in range(self.ns[-1] // SECOND, second):
                self.close(over, past)
        first = (self.ns[0] if self.ns else ns) // SECOND
        seconds = np.array(self.ns) // SECOND
        sums = []
        for name in DRIFTING:
            x = row[NAMES.index(name)]
            z = zscore(x, second, first, seconds, past[:, NAMES.index(name)])
            if math.isnan(z):
                sums.append(math.nan)
                continue
            (up, down), self.sums[name] = cusum_next(*self.sums[name], z, self.h)
            sums.append(up if up >= down else -down)
        volumes = [row[NAMES.index(name)] for name in VOLUMES]
        vols = [zscore(row[NAMES.index(n)], second, first, seconds, past[:, NAMES.index(n)]) for n in VOLATILITIES]
        burst, drift = _highest(volumes + vols), _top(sums)
        self.ns.append(ns)
        salience = self.salience / 3.0
        parts = [
            abs(drift) / self.h,
            burst / 2.5,
            self.regime[0] / 0.7,
            max(1.0, salience) if self.confirmed else min(salience, 0.99),
        ]
        weighed = [w * min(max(part, 0.0), 2.0) for w, part in zip(self.weights, parts, strict=True)]
        score = math.nan if all(map(math.isnan, parts)) else sum(w for w in weighed if not math.isnan(w))
        threshold = math.nan
        lead = None
        if not math.isnan(score):
            recent = self.scores[-500:]
            threshold = max(self.floor, np.quantile(recent, 0.99)) if recent else self.floor
            self.scores.append(score)
            passed = [i for i in range(4) if parts[i] >= 1.0]
            if score > threshold and passed:
                lead = max(passed, key=lambda i: weighed[i])
        push = row[NAMES.index("trade_imbalance_5")]
        leader = sums.index(drift) if drift in sums else 2
        side = (
            0 if lead is None
            else 0 if lead == 0 and leader == 2
            else np.sign(drift) if lead == 0
            else np.sign(self.return_z[-1]) if lead == 2
            else 0 if math.isnan(push)
            else np.sign(push)
        )  # fmt: skip
        return lead, side, (drift, burst, *self.regime, self.salience, float(self.confirmed), score, threshold)


def detect(meta, rows, h=3.0, weights=(0.25,) * 4, floor=0.5, cooldown_s=30.0):
    """Return the signals, as (row, kind, side), and the values of each row."""
    stretch, signals, values, said, clock, clean_ns = None, [], [], -math.inf, 0, 0
    for i, row in enumerate(rows):
        unknown = (math.nan,) * 5 + (0.0, math.nan, math.nan)
        if meta["doubt"][i] != OK:
            stretch = None
            values.append(unknown)
            continue
        clock = max(clock, int(meta["exchange_ns"][i]))
        if stretch and (meta["clean_ns"][i] < clean_ns or math.isnan(row[NAMES.index("microprice_drift_bps")])):
            stretch = None
        if stretch and clock // SECOND - stretch.ns[-1] // SECOND > 300:
            stretch = None
        clean_ns = meta["clean_ns"][i]
        stretch = stretch or Stretch(h, weights, floor)
        lead, side, told = stretch.row(clock, row, rows[i - len(stretch.ns) : i])
        values.append(told)
        if lead is not None and clock - said >= cooldown_s * SECOND:
            said = clock
            signals.append((i, (DRIFT, BURST, REGIME_CHANGE, BURST)[lead], int(side)))
    return signals, np.array(values)
