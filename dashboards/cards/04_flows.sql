-- title: Flows between segments
-- chart: sankey
-- description: One band a pair of segments: how many times a customer moved from the one to the other on the newest day with moves.
-- refresh: 5 s
-- columns: from_segment text, to_segment text, customers bigint
SELECT from_segment, to_segment, customers
FROM mart.segment_flow
WHERE day = (SELECT max(day) FROM mart.segment_flow) AND from_segment IS NOT NULL
ORDER BY customers DESC, from_segment, to_segment
