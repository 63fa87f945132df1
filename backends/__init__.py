"""Layers and containers as volumes of a filesystem; `backends.base` is the contract."""
