-- title: Flows between segments
-- chart: sankey
-- description: How many customers moved from one segment to another on the latest day with moves: one band per pair of segments.
-- refresh: 5 s
-- columns: from_segment text, to_segment text, customers bigint
SELECT from_segment, to_segment, customers
FROM mart.segment_flow
WHERE day = (SELECT max(day) FROM mart.segment_flow) AND from_segment IS NOT NULL
ORDER BY customers DESC, from_segment, to_segment
