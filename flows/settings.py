"""What a machine decides: where the lake is, what to record, ports, costs.  The only reader of the environment.

Every field has an environment variable of the same name behind `TIDEBOOK_`.  What a single run
decides (a venue, a span, a number of seconds) is a parameter of its flow, not a setting.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

HOME = Path(__file__).resolve().parent.parent  # where prefect.yaml lies
POOL = "tidebook"
MODEL = "tidebook"  # name in the registry
LOOPBACK = "127.0.0.1"  # nothing here asks for a password, so nothing here listens further

Fee = Annotated[float, Field(ge=-10.0, le=100.0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """One machine's choices, checked once and then unchangeable.

    Examples
    --------
    >>> Settings(streams="binance_spot:BTC-USDT,binance_spot:ETH-USDT").streams
    {'binance_spot': ('BTC-USDT', 'ETH-USDT')}
    """

    model_config = SettingsConfigDict(env_prefix="TIDEBOOK_", frozen=True, extra="forbid")

    lake: Path = Field(default=Path("data"), description="root of everything that is stored")
    streams: Annotated[dict[str, tuple[str, ...]], NoDecode] = Field(
        default={"binance_usdm": ("BTC-USDT-PERP",)}, description="what to record: venue:SYMBOL,venue:SYMBOL"
    )
    score: bool = Field(default=True, description="also score what is recorded, with the champion")
    prefect_port: Port = 4200
    mlflow_port: Port = 5050  # 5000 is taken by AirPlay on a Mac
    simulator_port: Port = Field(default=0, description="simulated venues on loopback, from this port on, one a venue; 0 for the real ones")

    redis_url: SecretStr = Field(
        default=SecretStr(""), description="publish raw frames and normalised rows to Redis Streams there; empty for not"
    )
    live_from_redis: bool = Field(default=False, description="score what `ingest` publishes to Redis, without sockets of its own")
    quote_rates: Annotated[dict[str, float], NoDecode] = Field(
        default={"USDT": 1.0, "USD": 1.0, "USDC": 1.0},
        description="what a unit of each quote is worth where venues are compared: USDT:1.0,USD:1.0; others are left out",
    )

    horizon_s: float = Field(default=1.0, gt=0, description="how far ahead a label looks, seconds")
    embargo_s: float = Field(default=1.0, ge=0, description="time left out of training before and after a test span, seconds")
    taker_fee_bps: Fee = 4.0
    maker_fee_bps: Fee = 2.0
    trees: int = Field(default=300, gt=0, description="trees of a model")
    folds: int = Field(default=5, gt=1, description="walk-forward folds")
    trials: int = Field(default=0, ge=0, description="hyper-parameter trials of a nightly training")
    seed: int = Field(default=7, description="the same data, code and seed give the same model")

    seal_s: float = Field(default=30.0, gt=0, description="the write-ahead log becomes Parquet this often, seconds")
    refresh_workers: int = Field(default=2, gt=0, description="streams that a refresh works on at the same time")
    refresh_by: Literal["threads", "processes"] = Field(default="threads", description="what they are: threads, or processes")
    reference: str = Field(default="BTC", description="base asset that bars of the others at its venue are held against; empty for none")
    refresh_s: float = Field(default=300.0, gt=0, description="a growing partition asks for a refresh this often, seconds")
    witness_s: float = Field(default=300.0, ge=0, description="each book is held against the venue's own this often, seconds; 0 for never")
    ccxt_silence_s: float = Field(
        default=60.0,
        ge=0,
        description="a book that ccxt watches and of which nothing came for so long is watched anew, seconds; 0 for never",
    )
    lake_keep_days: Annotated[dict[str, int], NoDecode] = Field(
        default={"raw": 30}, description="days that tables, or `raw` captures, keep: trades:90,raw:30; the others keep all"
    )
    lake_bytes: int = Field(default=0, ge=0, description="what the lake may use; beyond, the oldest leaves, captures first; 0 for no bound")
    keep_days: int = Field(default=30, gt=0, description="runs and events older than this leave the Prefect database")
    drain_s: float = Field(default=40.0, gt=0, description="time that running flows get to finish when all is stopped, seconds")

    @field_validator("lake")
    @classmethod
    def _absolute(cls, lake: Path) -> Path:
        return lake.expanduser().resolve()  # flows run in other working directories

    @field_validator("streams", mode="before")
    @classmethod
    def _parse_streams(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        streams: dict[str, tuple[str, ...]] = {}
        for entry in filter(None, (part.strip() for part in given.split(","))):
            venue, separator, symbol = entry.partition(":")
            if not (venue and separator and symbol):
                raise ValueError(f"streams must read venue:SYMBOL,venue:SYMBOL, received {entry!r}")
            streams[venue] = (*streams.get(venue, ()), symbol)
        return streams

    @field_validator("lake_keep_days", mode="before")
    @classmethod
    def _parse_keep_days(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        days: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in given.split(","))):
            table, separator, number = entry.partition(":")
            if not (table and separator and number.isdigit() and int(number)):
                raise ValueError(f"lake_keep_days must read table:days,raw:days with days from 1 up, received {entry!r}")
            days[table] = number
        return days

    @field_validator("quote_rates", mode="before")
    @classmethod
    def _parse_rates(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            rates = {quote.strip(): float(rate) for quote, _, rate in (part.partition(":") for part in given.split(",") if part.strip())}
        except ValueError:
            rates = {"": 0.0}
        if not all(quote and rate > 0.0 for quote, rate in rates.items()):
            raise ValueError(f"quote_rates must read QUOTE:rate,QUOTE:rate with rates above 0, received {given!r}")
        return rates

    @property
    def prefect_home(self) -> Path:
        """Return the folder of Prefect's database, results and leases."""
        return self.lake / "prefect"

    @property
    def logs(self) -> Path:
        """Return the folder of what servers and workers print."""
        return self.lake / "logs"

    @property
    def prefect_url(self) -> str:
        """Return the address of the Prefect UI; its API is below `/api`."""
        return f"http://{LOOPBACK}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        """Return the address of the MLflow UI."""
        return f"http://{LOOPBACK}:{self.mlflow_port}"

    @property
    def tracking_uri(self) -> str:
        """Return where flows log models: the SQLite file itself, ten times quicker than the server."""
        return f"sqlite:///{self.lake / 'models' / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Return the folder of the files of MLflow runs."""
        return self.lake / "models" / "artifacts"

    def environment(self) -> dict[str, str]:
        """Return the environment of every process that works for this lake.

        What this process was given, these settings, and the switches without which Prefect
        3.8.8 and MLflow 3.17.2 lose work, listen too widely or call home.
        """
        ours = {
            "TIDEBOOK_LAKE": str(self.lake),
            "TIDEBOOK_STREAMS": ",".join(f"{venue}:{symbol}" for venue, symbols in self.streams.items() for symbol in symbols),
            "TIDEBOOK_LAKE_KEEP_DAYS": ",".join(f"{table}:{days}" for table, days in self.lake_keep_days.items()),
            "TIDEBOOK_QUOTE_RATES": ",".join(f"{quote}:{rate}" for quote, rate in self.quote_rates.items()),
            "TIDEBOOK_REDIS_URL": self.redis_url.get_secret_value(),
            "TIDEBOOK_HOME": str(HOME),
        }
        for name in type(self).model_fields.keys() - {"lake", "streams", "lake_keep_days", "quote_rates", "redis_url"}:
            ours[f"TIDEBOOK_{name.upper()}"] = str(getattr(self, name))
        return {
            **os.environ,
            **ours,
            "PREFECT_HOME": str(self.prefect_home),
            "PREFECT_PROFILES_PATH": str(self.prefect_home / "profiles.toml"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_SERVER_API_HOST": LOOPBACK,
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
            # Without it a flow that misses the server starts a second one in silence.
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            # In memory, leases die with the server and take running flows along.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(self.keep_days * 86_400),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # Manifests in the lake say what is done; a cached result would not notice a deleted partition.
            "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # The job runner is eight processes and 1.5 GB that nothing here uses.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "DO_NOT_TRACK": "1",
            "GX_ANALYTICS_ENABLED": "false",
        }
