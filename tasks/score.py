"""Score books with the registered champion: live, in a replay, or from what the lake holds.

The champion is looked up by its alias; a new one is taken over between two books, without a
restart and without a book unscored.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from prefect import task

from models.errors import NoChampionError
from models.registry import ChampionModel, Registry
from models.scorer import Scorer, score_row
from tasks.features.catalogue import NAMES, columns
from tasks.features.fold import META
from warehouse.columns import DAY_NS, day_begins
from warehouse.lake import Lake
from warehouse.schema import OK, START, row_dtype

WARM_NS = 30_000_000_000  # clean for as long as most features look back
RELOAD_S = 1.0


@njit(cache=True)
def _pick(features, at, x):
    for i in range(at.size):
        x[i] = features[at[i]]


class LiveModel:
    """A registered version, ready to score rows of the whole catalogue.

    Attributes
    ----------
    version : int
        In the registry.
    scorer : Scorer
        Takes the model's own features in its own order.
    """

    def __init__(self, model: ChampionModel):
        self.version, self.names = model.version, model.names
        self.scorer = Scorer(model.text, model.calibration, model.names)
        self._at = np.array(columns(model.names))
        self._x, self._out = np.zeros(len(model.names)), self.scorer.arrays[-1]
        self.score(np.zeros(len(NAMES)))  # compiled before the first book

    def score(self, features: np.ndarray) -> tuple[float, float]:
        """Return raw score and calibrated probability of one row in catalogue order."""
        _pick(features, self._at, self._x)
        score_row(self._x, *self.scorer.arrays)
        return self._out[0], self._out[1]

    def batch(self, features: np.ndarray) -> np.ndarray:
        """Return raw score and probability of each row in catalogue order, shape (n, 2)."""
        return self.scorer.batch(features[:, self._at])

    def predict(self, features: np.ndarray, meta: np.ndarray, out: np.ndarray) -> None:
        """Fill a prediction of one book: NaN and the cause where the stream is doubtful or not warm.

        Parameters
        ----------
        features : ndarray of float64, shape (n features,)
        meta : ndarray of META, shape (1,)
        out : ndarray of the `predictions` record, shape (1,)
        """
        seen, told = meta[0], out[0]
        told["exchange_ns"], told["receive_ns"] = seen["exchange_ns"], seen["receive_ns"]
        told["event_seq"], told["book_seq"] = seen["event_seq"], seen["seq"]
        told["model_version"] = self.version
        doubt = seen["doubt"] or (OK if seen["clean_ns"] >= WARM_NS else START)
        told["doubt"] = doubt
        told["raw_score"], told["probability"] = self.score(features) if doubt == OK else (np.nan, np.nan)


def champion_of(uri: str, artifacts: Path) -> LiveModel | None:
    """Return the champion of a registry, or None where there is none yet."""
    try:
        return LiveModel(Registry(uri, artifacts).champion())
    except NoChampionError:
        return None


class Champion:
    """The champion kept current by a thread that asks the registry every second.

    Examples
    --------
    >>> from pathlib import Path
    >>> folder = Path(getfixture("tmp_path"))
    >>> with Champion(f"sqlite:///{folder / 'mlflow.db'}", folder) as champion:
    ...     print(champion.current())
    None
    """

    def __init__(self, uri: str, artifacts: Path, changed: Callable[[int], None] = lambda _: None, every_s: float = RELOAD_S):
        self._registry, self._changed, self._every_s = Registry(uri, artifacts), changed, every_s
        self._model: LiveModel | None = None
        self._ended = threading.Event()
        self.failures = 0  # looks that failed; the model in use stays

    def current(self) -> LiveModel | None:
        """Return the model to score with now."""
        return self._model

    def look(self) -> None:
        """Take over the champion if it is another than the one in use."""
        version = self._registry.champion_version()
        if version is not None and (self._model is None or version != self._model.version):
            self._model = LiveModel(self._registry.load(version))
            self._changed(version)

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self.look()
            except Exception:  # a registry that is away must not end the scoring
                self.failures += 1

    def __enter__(self) -> "Champion":
        self.look()
        threading.Thread(target=self._watch, name="champion", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()


def score(lake: Lake, model: LiveModel, venue: str, symbol: str) -> dict[str, Any]:
    """Write a prediction for each feature row that has none yet; return how many, and by which version.

    The scores equal, bit for bit, those of the live path on the same rows.
    """
    days = [day for *stream, day in lake.partitions("features") if stream == [venue, symbol]]
    with lake.writer() as writer:
        first = lake.watermark("predictions", venue, symbol) + 1
        session = writer.session(venue, symbol, f"score-{first}-{model.version}", ("predictions",))
        following = first = session.base["predictions"]
        for day in days:
            out = _unscored(lake, model, venue, symbol, day)
            out["seq"] = following + np.arange(out.size)
            following += out.size
            session.append("predictions", out)
            writer.commit()
    return {"venue": venue, "symbol": symbol, "rows": following - first, "version": model.version}


def _unscored(lake: Lake, model: LiveModel, venue: str, symbol: str, day: str) -> np.ndarray:
    # A book is scored if a prediction names it; what lies before a scored stretch may be open.
    since = day_begins(day)
    until = since + DAY_NS
    done = lake.read("predictions", venue, symbol, since, until, columns=["event_seq"])["event_seq"].to_numpy()
    table = lake.read("features", venue, symbol, since, until)
    rows = np.flatnonzero(~np.isin(table["event_seq"].to_numpy(), done))
    out = np.zeros(rows.size, row_dtype("predictions"))
    if not rows.size:
        return out
    fresh = table.take(rows)
    meta = {name: fresh[name].to_numpy() for name in META.names or ()}
    matrix = np.column_stack([fresh[name].to_numpy() for name in NAMES])
    for name in ("exchange_ns", "receive_ns", "event_seq"):
        out[name] = meta[name]
    out["book_seq"], out["model_version"] = meta["seq"], model.version
    out["doubt"] = np.where(meta["doubt"] != OK, meta["doubt"], np.where(meta["clean_ns"] >= WARM_NS, OK, START))
    scores = model.batch(matrix)
    scores[out["doubt"] != OK] = np.nan
    out["raw_score"], out["probability"] = scores[:, 0], scores[:, 1]
    return out


score_stream = task(score, name="score", task_run_name="score {venue} {symbol}")
