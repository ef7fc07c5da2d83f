"""Tests of the web door, its metrics and its page."""
