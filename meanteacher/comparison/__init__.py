"""Compares finished runs: results read, grouped, measured, and shown as tables, picture and page."""
