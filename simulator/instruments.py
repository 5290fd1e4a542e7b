"""What the simulated venues trade: grids, rates and cadences.  Plain data.

Rates are those of a quiet hour of 2024 in orders of magnitude; anyone who wants another
market passes an `Instrument` made with `dataclasses.replace`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """One simulated market.

    Attributes
    ----------
    venue, raw_symbol, pair : str
        Names as the venue writes them; `pair` only appears in coin-margined messages.
    price_decimals, price_pad, size_decimals, size_pad : int
        A tick is 10 ** -price_decimals, a size unit 10 ** -size_decimals; the pads are the
        zeros the venue writes behind them.
    contract_usd : float
        Quote units a contract stands for; 0 where sizes are base units.
    start_price : float
        Middle of the market when it opens.
    touch_units, level_units, trade_units : float
        Medians of the size waiting at the best price, at other levels, and of a trade.
    jump_ticks, depth_ticks : float
        Mean of a price move, and how far from the touch orders are placed.
    density, density_ticks : float
        Share of ticks that hold a level next to the touch, and the distance at which levels thin out.
    moves_s, sweeps_s, touches_s, levels_s, trades_s : float
        Events a second: moves without a trade, moves by a trade, changes of a best queue,
        changes behind it, trades that leave the price alone.
    depth_ms, depth_jitter : float
        Cadence of the depth stream, and the share of it that is random.
    id_jump : float
        Mean of the ids other symbols use up between two of ours; 0 where ids are ours alone.
    base, quote : str
        What is traded for what, as the venue writes them: BTC, USDT.
    contract_base : float
        Base units a contract stands for (OKX swaps); 0 where sizes are base units, or `contract_usd` rules.
    """

    venue: str
    raw_symbol: str
    pair: str
    price_decimals: int
    price_pad: int
    size_decimals: int
    size_pad: int
    contract_usd: float
    start_price: float
    touch_units: float
    level_units: float
    trade_units: float
    jump_ticks: float
    depth_ticks: float
    density: float
    density_ticks: float
    moves_s: float
    sweeps_s: float
    touches_s: float
    levels_s: float
    trades_s: float
    depth_ms: float
    depth_jitter: float
    id_jump: float
    base: str = "BTC"
    quote: str = "USDT"
    contract_base: float = 0.0

    @property
    def tick(self) -> float:
        """Return the price step in quote units."""
        return 10.0**-self.price_decimals


class UnknownInstrumentError(Exception):
    """A market the simulator does not have."""

    def __init__(self, venue: str, raw_symbol: str):
        self.venue, self.raw_symbol = venue, raw_symbol
        known = ", ".join(f"{v} {s}" for v, s in INSTRUMENTS)
        super().__init__(f"no simulated market {venue} {raw_symbol}; there are: {known}")


def _spot(symbol: str, price: float, size_decimals: int, touch: float, jump: float, dense_ticks: float) -> Instrument:
    return Instrument(
        "binance_spot", symbol, symbol, 2, 6, size_decimals, 8 - size_decimals, 0.0, price,
        touch, touch / 8, touch / 60, jump, 20_000, 7.8 / dense_ticks**0.64, dense_ticks, 3.5, 0.5, 28, 360, 24, 100, 0.0, 0.0,
    )  # fmt: skip


def _usdm(symbol: str, price: float, price_decimals: int, touch: float, jump: float) -> Instrument:
    return Instrument(
        "binance_usdm", symbol, symbol, price_decimals, 2 - price_decimals, 3, 0, 0.0, price,
        touch, touch / 8, touch / 60, jump, 20_000, 0.2, 300, 4.5, 0.8, 90, 900, 45, 50, 0.12, 90.0,
    )  # fmt: skip


def _coinm(symbol: str, price: float, price_decimals: int, contract_usd: float, touch: float, jump: float) -> Instrument:
    return Instrument(
        "binance_coinm", symbol, symbol.partition("_")[0], price_decimals, 0, 0, 0, contract_usd, price,
        touch, touch / 8, touch / 60, jump, 20_000, 0.2, 300, 3.5, 0.4, 30, 600, 6, 11, 0.3, 30.0, symbol[:3], "USD",
    )  # fmt: skip


INSTRUMENTS: dict[tuple[str, str], Instrument] = {
    (made.venue, made.raw_symbol): made
    for made in (
        _spot("BTCUSDT", 61_837.64, 5, 120_000, 60, 600),
        _spot("ETHUSDT", 2_684.31, 4, 150_000, 6, 300),
        _usdm("BTCUSDT", 61_800.2, 1, 2_700, 9),
        _usdm("ETHUSDT", 2_683.1, 2, 30_000, 6),
        _coinm("BTCUSD_PERP", 61_804.7, 1, 100.0, 900, 9),
        _coinm("ETHUSD_PERP", 2_683.2, 2, 10.0, 9_000, 6),
    )
}
DEFAULT_SYMBOL = {"binance_spot": "BTCUSDT", "binance_usdm": "BTCUSDT", "binance_coinm": "BTCUSD_PERP"}
VENUES = tuple(DEFAULT_SYMBOL)


def instrument(venue: str, raw_symbol: str) -> Instrument:
    """Return the simulated market of that name."""
    try:
        return INSTRUMENTS[venue, raw_symbol.upper()]
    except KeyError:
        raise UnknownInstrumentError(venue, raw_symbol) from None
