"""The messenger: presence, messages and files between friends."""
