"""What every simulated venue lists: BTC, ETH and SOL, and any number of made-up assets SIM001, SIM002, ...

Grids are those of the venues in 2026; rates are orders of magnitude of a quiet hour.  Made-up assets
trade less the higher their number, as the hundredth asset of a venue does.
"""

import re
from dataclasses import dataclass, replace

from simulator.instruments import INSTRUMENTS, Instrument, UnknownInstrumentError

PRICES = {"BTC": 61_800.0, "ETH": 2_683.0, "SOL": 148.2}
_BUSY = {"BTC": 1.0, "ETH": 0.8, "SOL": 0.5}
_SIM = re.compile(r"SIM(\d{3,4})$")


@dataclass(frozen=True)
class Trading:
    """How busy a venue's BTC market is, and how it writes.

    Attributes
    ----------
    touches_s, levels_s, trades_s : float
        Events a second, as of `Instrument`.
    touch_usd : float
        Median value waiting at the best price.
    depth_ms, depth_jitter, id_jump : float
        As of `Instrument`.
    decimals : mapping of str to (int, int, int)
        Price decimals, zeros written behind them, and size decimals by base; "" for any other.
    """

    touches_s: float
    levels_s: float
    trades_s: float
    touch_usd: float
    depth_ms: float
    depth_jitter: float
    id_jump: float
    decimals: dict[str, tuple[int, int, int]]


VENUES = {
    "binance_spot": Trading(28, 360, 24, 74_000, 100, 0.0, 0.0, {"SOL": (2, 6, 3), "": (4, 4, 1)}),
    "binance_usdm": Trading(90, 900, 45, 165_000, 50, 0.12, 90.0, {"SOL": (2, 2, 0), "": (4, 3, 0)}),
    "binance_coinm": Trading(30, 600, 6, 90_000, 11, 0.3, 30.0, {"SOL": (2, 0, 0), "": (4, 0, 0)}),
    "bybit_spot": Trading(20, 300, 8, 30_000, 20, 0.3, 0.0, {"BTC": (1, 0, 6), "ETH": (2, 0, 5), "SOL": (2, 0, 3), "": (4, 0, 1)}),
    "bybit_linear": Trading(60, 600, 20, 120_000, 20, 0.3, 0.0, {"BTC": (1, 1, 3), "ETH": (2, 0, 2), "SOL": (2, 1, 1), "": (4, 0, 0)}),
    "coinbase_exchange": Trading(40, 300, 10, 40_000, 50, 0.0, 0.0, {"BTC": (2, 0, 8), "ETH": (2, 0, 8), "SOL": (2, 0, 8), "": (4, 0, 2)}),
    "coinbase_advanced": Trading(40, 300, 10, 40_000, 50, 0.0, 0.0, {"BTC": (2, 0, 8), "ETH": (2, 0, 8), "SOL": (2, 0, 8), "": (4, 0, 2)}),
    "kraken": Trading(12, 80, 3, 50_000, 15, 3.0, 0.0, {"BTC": (1, 0, 8), "ETH": (2, 0, 8), "SOL": (2, 0, 8), "": (4, 0, 5)}),
    "okx": Trading(50, 400, 15, 60_000, 100, 0.0, 0.0, {"BTC": (1, 0, 8), "ETH": (2, 0, 6), "SOL": (2, 0, 6), "": (4, 0, 2)}),
    "hyperliquid": Trading(30, 200, 6, 60_000, 500, 0.15, 0.0, {"BTC": (0, 0, 5), "ETH": (1, 0, 4), "SOL": (2, 0, 2), "": (3, 0, 0)}),
}  # fmt: skip
_OKX_SWAP = {"BTC": 0.01, "ETH": 0.1, "SOL": 1.0}  # base units a contract
_USD_PER_CONTRACT = {"BTC": 100.0}  # coin-margined: 10 for all others

# How a venue writes base and quote, and which quote it has.
_NAMES = {
    "binance_spot": re.compile(r"([A-Z0-9]+?)(USDT|USDC)$"),
    "binance_usdm": re.compile(r"([A-Z0-9]+?)(USDT|USDC)$"),
    "binance_coinm": re.compile(r"([A-Z0-9]+?)(USD)_PERP$"),
    "bybit_spot": re.compile(r"([A-Z0-9]+?)(USDT|USDC)$"),
    "bybit_linear": re.compile(r"([A-Z0-9]+?)(USDT)$"),
    "coinbase_exchange": re.compile(r"([A-Z0-9]+)-(USD|USDT)$"),
    "coinbase_advanced": re.compile(r"([A-Z0-9]+)-(USD|USDT)$"),
    "kraken": re.compile(r"([A-Z0-9]+)/(USD|USDT)$"),
    "okx": re.compile(r"([A-Z0-9]+)-(USDT|USD)(?:-SWAP)?$"),
    "hyperliquid": re.compile(r"([A-Z0-9]+)()$"),
}
_WRITTEN = {
    "binance_spot": "{}USDT", "binance_usdm": "{}USDT", "binance_coinm": "{}USD_PERP", "bybit_spot": "{}USDT", "bybit_linear": "{}USDT",
    "coinbase_exchange": "{}-USD", "coinbase_advanced": "{}-USD", "kraken": "{}/USD", "okx": "{}-USDT", "hyperliquid": "{}",
}  # fmt: skip


def raw_symbols(venue: str, bases: int | tuple[str, ...] = tuple(PRICES)) -> tuple[str, ...]:
    """Return the venue's main markets of some assets: of those named, or of BTC, ETH, SOL and SIM up to a number.

    Examples
    --------
    >>> raw_symbols("kraken"), raw_symbols("binance_usdm", 5)[3:]
    (('BTC/USD', 'ETH/USD', 'SOL/USD'), ('SIM001USDT', 'SIM002USDT'))
    """
    if isinstance(bases, int):
        bases = (*PRICES, *(f"SIM{i:03d}" for i in range(1, bases - len(PRICES) + 1)))[:bases]
    return tuple(_WRITTEN[venue].format(base) for base in bases)


def listing(venue: str, raw_symbol: str) -> Instrument:
    """Return the market of that name on a venue.

    Raises
    ------
    UnknownInstrumentError
        The venue does not exist, writes its markets otherwise, or does not list the asset.

    Examples
    --------
    >>> made = listing("okx", "ETH-USDT-SWAP")
    >>> made.base, made.quote, made.tick, made.contract_base
    ('ETH', 'USDT', 0.01, 0.1)
    """
    name = raw_symbol.upper()
    match = _NAMES[venue].match(name) if venue in _NAMES else None
    if match is None:
        raise UnknownInstrumentError(venue, raw_symbol)
    base, quote = match[1], match[2] or "USD"
    if known := INSTRUMENTS.get((venue, name)):
        return replace(known, base=base, quote=quote)
    if base not in PRICES and not _SIM.match(base):
        raise UnknownInstrumentError(venue, raw_symbol)
    return _make(venue, name, base, quote)


def price_of(base: str) -> float:
    """Return what an asset costs when a market opens."""
    if sim := _SIM.match(base):
        return 2.0 + 97.0 * (int(sim[1]) * 0.618034 % 1.0)
    return PRICES[base]


def _make(venue: str, name: str, base: str, quote: str) -> Instrument:
    trading, price = VENUES[venue], price_of(base)
    busy = _BUSY.get(base) or max(0.05, 0.5 / int(base[3:]) ** 0.5)
    price_decimals, pad, size_decimals = trading.decimals.get(base) or trading.decimals[""]
    contract_usd = _USD_PER_CONTRACT.get(base, 10.0) if venue == "binance_coinm" else 0.0
    contract_base = 0.0
    if name.endswith("-SWAP"):
        contract_usd, contract_base = (100.0 if base == "BTC" else 10.0, 0.0) if quote == "USD" else (0.0, _OKX_SWAP.get(base, 1.0))
        size_decimals = 2 if quote == "USDT" else 1
    unit_usd = (contract_usd or (contract_base or 1.0) * price) * 10.0**-size_decimals
    touch = max(40.0, trading.touch_usd * busy / unit_usd)
    tick_bps = 1e4 * 10.0**-price_decimals / price
    jump_ticks = max(1.5, 0.13 / tick_bps)
    moves_s = min(max((0.45 / (jump_ticks * tick_bps)) ** 2, 0.25), 5.0)
    size_pad = 8 - size_decimals if venue == "binance_spot" else 0
    depth_ticks = min(20_000.0, 0.3 * price * 10**price_decimals)
    return Instrument(
        venue, name, name.partition("_")[0], price_decimals, pad, size_decimals, size_pad, contract_usd, price,
        touch, touch / 8, touch / 60, jump_ticks, depth_ticks, 0.2, 300, moves_s, moves_s * 0.15,
        trading.touches_s * busy, trading.levels_s * busy, trading.trades_s * busy, trading.depth_ms, trading.depth_jitter, trading.id_jump,
        base, quote, contract_base,
    )  # fmt: skip
