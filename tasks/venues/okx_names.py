"""How OKX names its instruments, and what a contract of one stands for."""

import re

from tasks.venues.errors import WrongVenueError
from tasks.venues.ladder import Instrument

_RAW = re.compile(r"([A-Z0-9]{1,20}-[A-Z0-9_]{1,20})(-SWAP|-\d{6})?")
_SYMBOL = re.compile(r"([A-Z0-9]{1,20}-[A-Z0-9_]{1,20})(-PERP|-\d{6})?")
_CONTRACT_USD = {"BTC": 100.0}  # quote units of a contract settled in the coin: 10 for all others
_CONTRACT_BASE = {"BTC": 0.01, "ETH": 0.1}  # base units of a contract settled in USDT, where REST did not tell


def canonical_symbol(venue: str, raw: str) -> str:
    """Return our name of an instrument.

    Examples
    --------
    >>> [canonical_symbol("okx", raw) for raw in ("BTC-USDT", "BTC-USD-SWAP", "BTC-USD-220527")]
    ['BTC-USDT', 'BTC-USD-PERP', 'BTC-USD-220527']

    Raises
    ------
    WrongVenueError
        Not written so here; options are not read.
    """
    match = _RAW.fullmatch(raw.upper())
    if not match:
        raise WrongVenueError(venue, f"symbol {raw}")
    return match[1] + ("-PERP" if match[2] == "-SWAP" else match[2] or "")


def raw_symbol(venue: str, symbol: str) -> str:
    """Return the venue's own name of an instrument.

    Examples
    --------
    >>> raw_symbol("okx", "BTC-USDT-PERP")
    'BTC-USDT-SWAP'
    """
    match = _SYMBOL.fullmatch(symbol.upper())
    if not match:
        raise WrongVenueError(venue, f"symbol {symbol}")
    return match[1] + ("-SWAP" if match[2] == "-PERP" else match[2] or "")


def usual_contract(raw: str) -> Instrument:
    """Return what a contract stands for where REST did not tell: right for coin-margined ones, and for USDT ones of BTC and ETH.

    Examples
    --------
    >>> usual_contract("BTC-USD-220527").contract_usd, usual_contract("ETH-USDT-SWAP").contract_base
    (100.0, 0.1)
    """
    base, quote, *kind = raw.split("-")
    if not kind:
        return Instrument()
    if quote == "USD":
        return Instrument(contract_usd=_CONTRACT_USD.get(base, 10.0))
    return Instrument(contract_base=_CONTRACT_BASE.get(base, 1.0))
