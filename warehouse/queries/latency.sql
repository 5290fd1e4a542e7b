-- Milliseconds from the venue's clock to ours, per stream and day.  Clocks disagree, so it may be negative.
SELECT
    venue,
    symbol,
    day,
    count(*) AS books,
    quantile_cont((receive_ns - exchange_ns) / 1e6, 0.5) AS median_ms,
    quantile_cont((receive_ns - exchange_ns) / 1e6, 0.99) AS p99_ms,
    max((receive_ns - exchange_ns) / 1e6) AS max_ms
FROM l2_snapshots
GROUP BY ALL
ORDER BY ALL
