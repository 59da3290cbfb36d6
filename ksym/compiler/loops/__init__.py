"""Passes that take loops apart: work moves out of them, before and behind."""
