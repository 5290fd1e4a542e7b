"""Queries that become views of their own name, in DuckDB SQL."""
