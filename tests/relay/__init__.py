"""The TCP relay: directory, shards, the broker's half, and all of them joined in memory."""
