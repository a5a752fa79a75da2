"""Sockets. Named after ``net/`` in Linux."""
