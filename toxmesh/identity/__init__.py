"""Tox identities of this machine: their files, and the asyncio front for Python programs."""
