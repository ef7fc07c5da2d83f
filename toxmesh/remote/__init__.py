"""The door for remote operators: TCP with ZeroMQ CURVE, in a process of its own."""
