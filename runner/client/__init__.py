"""The command line `bugninja-runner`: it starts batches of tests, follows them, and ends with their result.

It speaks HTTP only and imports nothing else of this project: the same files run as a zipapp, without an installation.
"""
