-- Rows of every table, per stream and day, with the first and last seq: rows = last_seq - first_seq + 1 unless a day's rows interleave with another's.
SELECT 'l2_snapshots' AS table_name, venue, symbol, day, count(*) AS n, min(seq) AS first_seq, max(seq) AS last_seq FROM l2_snapshots GROUP BY ALL
UNION ALL
SELECT 'trades', venue, symbol, day, count(*), min(seq), max(seq) FROM trades GROUP BY ALL
UNION ALL
SELECT 'coverage_changes', venue, symbol, day, count(*), min(seq), max(seq) FROM coverage_changes GROUP BY ALL
UNION ALL
SELECT 'features', venue, symbol, day, count(*), min(seq), max(seq) FROM features GROUP BY ALL
UNION ALL
SELECT 'labels', venue, symbol, day, count(*), min(seq), max(seq) FROM labels GROUP BY ALL
UNION ALL
SELECT 'predictions', venue, symbol, day, count(*), min(seq), max(seq) FROM predictions GROUP BY ALL
UNION ALL
SELECT 'unreadable', venue, symbol, day, count(*), min(seq), max(seq) FROM unreadable GROUP BY ALL
ORDER BY ALL
