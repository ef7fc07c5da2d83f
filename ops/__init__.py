"""The operator's tools: they ask a running node over its control socket and show the answer."""
