"""Disk and Redis -> an answer: one run, lists of runs, tasks, changes."""
