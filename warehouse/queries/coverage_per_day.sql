-- Seconds and intervals of each state, per stream and day on which the interval began.
SELECT
    venue,
    symbol,
    CAST(start_time AS DATE) AS day,
    state_name,
    count(*) AS intervals,
    sum(end_ns - start_ns) / 1e9 AS seconds
FROM coverage
GROUP BY ALL
ORDER BY ALL
