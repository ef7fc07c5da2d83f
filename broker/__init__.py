"""The broker: owns the node's sockets and decides which worker gets a packet."""
