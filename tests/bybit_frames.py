"""A made-up Bybit stream: a wandering book of 60 levels told through depth 50, best prices and trades."""

import json
import random


def frames(n=400, seed=0, symbol="BTCUSDT"):
    """Return frames: one snapshot, then deltas, best prices after each, and trades now and then."""
    rng = random.Random(seed)
    book = [{60_000 - i: rng.randint(1, 9) for i in range(60)}, {60_001 + i: rng.randint(1, 9) for i in range(60)}]
    seen, ms, u, seq, out = [{}, {}], 1_700_000_000_000, 1000, 5000, []

    def best(side, n):
        return dict(sorted(book[side].items(), reverse=side == 0)[:n])

    def tell(topic, kind, b, a, number):
        levels = [[[f"{price / 10:.2f}", f"{size / 1000:.3f}" if size else "0"] for price, size in side.items()] for side in (b, a)]
        data = {"s": symbol, "b": levels[0], "a": levels[1], "u": number, "seq": seq}
        out.append(
            json.dumps({"topic": f"{topic}.{symbol}", "type": kind, "ts": ms + 1, "data": data, "cts": ms}, separators=(",", ":")).encode()
        )

    for i in range(n):
        if i:
            for _ in range(rng.randint(1, 5)):
                side = rng.randint(0, 1)
                touch = max(book[0]) if side == 0 else min(book[1])
                price = touch + (1 if side == 0 else -1) * rng.randint(-30, 1)
                other = min(book[1]) if side == 0 else max(book[0])
                if price >= other if side == 0 else price <= other:
                    continue
                if rng.random() < 0.35 and len(book[side]) > 55:
                    book[side].pop(price, None)
                else:
                    book[side][price] = rng.randint(1, 9999)
            for side in (0, 1):  # far levels come back as the touch moves on
                edge = (min if side == 0 else max)(book[side])
                while len(book[side]) < 60:
                    edge += -1 if side == 0 else 1
                    book[side][edge] = rng.randint(1, 99)
        now = [best(0, 50), best(1, 50)]
        changes = [{p: now[s].get(p, 0) for p in {**seen[s], **now[s]} if seen[s].get(p) != now[s].get(p)} for s in (0, 1)]
        ms, u, seq = ms + rng.randint(20, 300), u + 1, seq + rng.randint(1, 50)
        tell("orderbook.50", "delta" if i else "snapshot", *(changes if i else now), u)
        seen = now
        tell("orderbook.1", "snapshot", best(0, 1), best(1, 1), u)
        if rng.random() < 0.3:
            trade = {
                "T": ms,
                "s": symbol,
                "S": rng.choice(("Buy", "Sell")),
                "v": "0.010",
                "p": f"{max(now[0]) / 10:.2f}",
                "i": str(10**9 + i),
            }
            out.append(
                json.dumps(
                    {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": ms, "data": [trade]}, separators=(",", ":")
                ).encode()
            )
    return out
