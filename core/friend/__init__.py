"""Friend connections: ties DHT, onion, relays and sessions together for each friend."""
