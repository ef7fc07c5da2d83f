"""How processes of one node talk to the system and to each other; nothing else in `core` does."""
