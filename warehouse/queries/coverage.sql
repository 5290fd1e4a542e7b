-- Intervals in which a stream was good or doubtful, and why.  The last one is open: if it is
-- good it ends with the last book, since nothing proves that none was lost behind it, though
-- trades came; else with the last thing known of the stream.
SELECT
    venue,
    symbol,
    state,
    state_name,
    exchange_ns AS start_ns,
    greatest(
        exchange_ns,
        coalesce(lead(exchange_ns) OVER stream, CASE WHEN state = 0 THEN last_book_ns END, last_ns, exchange_ns)
    ) AS end_ns,
    make_timestamp(exchange_ns // 1000) AS start_time,
    make_timestamp(end_ns // 1000) AS end_time,
    expected_id,
    received_id
FROM coverage_changes
LEFT JOIN states USING (state)
LEFT JOIN stream_bounds USING (venue, symbol)
WINDOW stream AS (PARTITION BY venue, symbol ORDER BY event_seq)
ORDER BY venue, symbol, event_seq
