"""The whole platform as real processes on the loopback of one machine, without Docker."""
