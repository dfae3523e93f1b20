"""Logging, health and process figures."""
