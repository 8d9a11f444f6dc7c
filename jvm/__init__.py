"""The Java and the jars that Spark and the embedded broker run on."""

from jvm.jars import broker_classpath, spark_jars
from jvm.java import JavaNotFoundError, java_home

__all__ = ["JavaNotFoundError", "broker_classpath", "java_home", "spark_jars"]
