aggregate(
    filter(lines, line -> {condition}),
    CAST(0 AS DECIMAL(38, 2)),
    (total, line) -> CAST(total + line.quantity * line.price AS DECIMAL(38, 2))
)
