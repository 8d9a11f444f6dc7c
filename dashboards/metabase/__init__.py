"""Metabase as code: the cards as questions on a dashboard, kept in line through Metabase's REST API.

Written against the API of Metabase 0.58 (its OpenAPI document calls itself v1.58.0-SNAPSHOT) and compared with the
source of its handlers: docs/metabase.md.
"""
