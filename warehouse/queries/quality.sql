-- What is missing or doubtful, when and why: coverage that is not ok, findings, quarantine,
-- frames that could not be read, and minutes in which something happened.  `count` is rows,
-- frames or events; a stretch ends where the stream was good again.
WITH noted AS (
    SELECT
        venue,
        symbol,
        start_ns,
        end_ns,
        state_name AS kind,
        1 AS count,
        CASE
            WHEN expected_id <> 0 OR received_id <> 0 THEN format('id {} should have come, {} came', expected_id, received_id)
            WHEN state_name = 'start' THEN 'recording began, the book was not whole yet'
            WHEN state_name = 'gap' THEN 'something was lost, the book waited for a snapshot'
            WHEN state_name = 'stale' THEN 'no update came'
            WHEN state_name = 'crossed' THEN 'the best bid was not below the best ask'
            ELSE 'the book was being made whole again'
        END AS why
    FROM coverage
    WHERE state <> 0
    UNION ALL
    SELECT venue, symbol, exchange_ns, greatest(exchange_ns, end_ns), kind_name, 1, detail
    FROM findings
    JOIN finding_kinds USING (kind)
    UNION ALL
    SELECT venue, symbol, exchange_ns, end_ns, 'quarantined', row_count, format('{}.{}: {}', table_name, rule, detail)
    FROM quarantine
    UNION ALL
    SELECT venue, symbol, min(receive_ns), max(receive_ns), 'unreadable', count(*), 'first of them: ' || arg_min(reason, seq)
    FROM unreadable
    GROUP BY venue, symbol, receive_ns // 60000000000
    UNION ALL
    SELECT
        venue,
        symbol,
        exchange_ns,
        exchange_ns + 60000000000,
        'minute',
        gaps + resyncs + reconnects + checksum_failures + suspects + queue_full,
        concat_ws(
            ', ',
            CASE WHEN gaps > 0 THEN format('gaps {}', gaps) END,
            CASE WHEN resyncs > 0 THEN format('resyncs {}', resyncs) END,
            CASE WHEN reconnects > 0 THEN format('reconnects {}', reconnects) END,
            CASE WHEN checksum_failures > 0 THEN format('checksum failures {}', checksum_failures) END,
            CASE WHEN suspects > 0 THEN format('suspects {}', suspects) END,
            CASE WHEN queue_full > 0 THEN format('queue full {}', queue_full) END
        )
    FROM stream_minutes
    WHERE gaps + resyncs + reconnects + checksum_failures + suspects + queue_full > 0
)
SELECT
    venue,
    symbol,
    start_ns,
    end_ns,
    make_timestamp(start_ns // 1000) AS start_time,
    make_timestamp(end_ns // 1000) AS end_time,
    (end_ns - start_ns) / 1e9 AS duration_s,
    kind,
    count,
    why
FROM noted
ORDER BY venue, symbol, start_ns, end_ns, kind
