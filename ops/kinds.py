"""What the first byte of a datagram or of a relay's frame is called, for people who look at them.

The packet classes in `core.packets` have these names; importing them would cost `toxmesh ops` its
quick start, so they are written out here and a test compares them.
"""

NAMES = {
    0x00: "ping request",
    0x01: "ping response",
    0x02: "nodes request",
    0x04: "nodes response",
    0x18: "cookie request",
    0x19: "cookie response",
    0x1A: "crypto handshake",
    0x1B: "crypto data",
    0x20: "dht request",
    0x21: "lan discovery",
    0x5A: "group handshake",
    0x5B: "group lossless",
    0x5C: "group lossy",
    0x80: "onion request 0",
    0x81: "onion request 1",
    0x82: "onion request 2",
    0x83: "announce request",
    0x84: "announce response",
    0x85: "data to route request",
    0x86: "data to route response",
    0x87: "group announce request",
    0x88: "group announce response",
    0x8C: "onion response 3",
    0x8D: "onion response 2",
    0x8E: "onion response 1",
    0x90: "forward request",
    0x91: "forwarding",
    0x92: "forward reply",
    0x93: "data search request",
    0x94: "data search response",
    0x95: "data retrieve request",
    0x96: "data retrieve response",
    0x97: "data store request",
    0x98: "data store response",
    0xF0: "bootstrap info request, bootstrap info",
}

DATA = 0x10
FRAMES = {
    0x00: "route request",
    0x01: "route response",
    0x02: "connect notice",
    0x03: "disconnect notice",
    0x04: "relay ping",
    0x05: "relay pong",
    0x06: "oob send",
    0x07: "oob receive",
    0x08: "relay onion request",
    0x09: "relay onion response",
    0x0A: "relay forward request",
    0x0B: "relay forwarding",
    DATA: "relay data",
}
"""Frames of relay clients; from DATA on the byte is the number of a link."""
