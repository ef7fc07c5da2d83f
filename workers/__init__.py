"""Workers: one process per role and shard, each running core modules in one loop."""
