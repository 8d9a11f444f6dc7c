# One image for producer, streaming, batch_rules and dashboards: Python, a Java, the jars; no compiler, no root.
# Stage `airflow` adds Airflow in an environment of its own (compose profile `airflow`).
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 MART_CACHE=/opt/jars
WORKDIR /opt/mart
COPY . .
# The jars' download ends with the layer; the broker's jars are not needed beside a broker of its own.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --editable '.[stack,dashboards]' \
 && /opt/venv/bin/retail-mart jvm spark-jars \
 && chmod -R a+rX /opt/jars /opt/mart

FROM python:3.11-slim-bookworm AS mart
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 LOG_FORMAT=json \
    MART_CACHE=/opt/jars MART_HOME=/var/lib/mart
COPY --from=build /opt /opt
RUN useradd --system --uid 10001 --home-dir /var/lib/mart --create-home mart && chmod 755 /var/lib/mart
WORKDIR /opt/mart
USER mart
VOLUME /var/lib/mart
CMD ["retail-mart", "run"]

FROM mart AS airflow
USER root
RUN python3 -m venv /opt/airflow \
 && /opt/airflow/bin/pip install --no-cache-dir --upgrade 'pip>=25.1' \
 && /opt/airflow/bin/pip install --no-cache-dir --group airflow
ENV PATH=/opt/airflow/bin:$PATH MART_PYTHON=/opt/venv/bin/python \
    AIRFLOW_HOME=/var/lib/mart/airflow AIRFLOW__CORE__DAGS_FOLDER=/opt/mart/dags AIRFLOW__CORE__LOAD_EXAMPLES=False
USER mart
CMD ["airflow", "standalone"]
