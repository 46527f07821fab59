"""The protocol `connector://ID/path`: every tool that knows fsspec reaches connectors.

fsspec finds it by an entry point, and imports it when a URL is first opened.
"""
