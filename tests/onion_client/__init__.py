"""Tests of the onion client, most of them among real onion nodes on made-up time."""
