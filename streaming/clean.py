"""Clean: what of each invoice counts, by the rules of `conf/line_rules.toml` and `sql/spark/`."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from conf.line_rules import admin_codes
from sql import line_condition, statement


def clean(parsed: DataFrame) -> DataFrame:
    """Parsed records (streaming.parse) with these columns in place of `lines`; null where the record is rejected:

    - line_count: lines of the invoice; counting_lines: those that count;
    - purchased: sum of quantity x price over the counting lines, decimal(38,2), in the shop's currency;
    - returned: the same over returned product lines, zero or negative.

    One row in, one row out, no shuffle.
    """
    counting = line_condition("counting_line", admin_codes())
    returned = line_condition("returned_line", admin_codes())
    return parsed.select(
        *(column for column in parsed.columns if column != "lines"),
        F.when(F.col("lines").isNotNull(), F.size("lines")).alias("line_count"),
        _of_lines("line_count", counting).alias("counting_lines"),
        _of_lines("line_amount", counting).alias("purchased"),
        _of_lines("line_amount", returned).alias("returned"),
    )


def _of_lines(expression: str, condition: str) -> F.Column:
    value = F.expr(statement(f"spark/{expression}").format(condition=condition))
    return F.when(F.col("lines").isNotNull(), value)
