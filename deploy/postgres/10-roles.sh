#!/bin/bash
# At the database's first start: the mart, its three roles, and Metabase's own database. Passwords come from the
# environment into psql itself, so no command line shows them.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner MART_OWNER_PASSWORD
\getenv writer MART_WRITER_PASSWORD
\getenv reader MART_READER_PASSWORD
\getenv metabase METABASE_DATABASE_PASSWORD
CREATE ROLE mart_owner LOGIN PASSWORD :'owner';
CREATE ROLE mart_writer LOGIN PASSWORD :'writer';
CREATE ROLE analytics_reader LOGIN PASSWORD :'reader';
CREATE ROLE metabase LOGIN PASSWORD :'metabase';
CREATE DATABASE mart OWNER mart_owner;
CREATE DATABASE metabase OWNER metabase;
REVOKE CONNECT ON DATABASE mart, metabase FROM PUBLIC;
GRANT CONNECT ON DATABASE mart TO mart_writer, analytics_reader;
SQL
