"""`python -m jvm`: the Java in use, and the download of the jars."""

import typer

from conf.command import run_command
from jvm.jars import JarDownloadError, broker_classpath, s3_jars, spark_jars
from jvm.java import JavaNotFoundError
from jvm.java import java as find_java

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def java() -> None:
    """Print the home and the version of the Java that Spark and the broker use."""
    found = find_java()
    typer.echo(f"{found.home}\t{found.version}")


@app.command()
def jars() -> None:
    """Download the jars of Spark's connectors and of the broker, once, and print where each one is."""
    for jar in (*spark_jars(), *broker_classpath()):
        typer.echo(jar)


@app.command(name="spark-jars")
def submitted_jars() -> None:
    """Print the jars of Spark's connectors in one line, for `spark-submit --jars "$(python -m jvm spark-jars)"`."""
    typer.echo(",".join(map(str, spark_jars())))


@app.command(name="s3-jars")
def jars_of_s3() -> None:
    """Print in one line the jars that Spark needs beside those to read a lake on S3, for spark-submit's --jars, too."""
    typer.echo(",".join(map(str, s3_jars())))


if __name__ == "__main__":
    run_command(app, "jvm", (JavaNotFoundError, JarDownloadError))
