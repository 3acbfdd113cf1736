"""A stand-in for a CLI whose imports take time, and whose runs show all that a program can know of its process.

`python -m tests.warm_cli TASK`, `python tests/warm_cli/script.py TASK` and a console script that calls `main` do the same,
in the folder of a project: one after the other the words of the file `tasks/TASK/behaviour`. See `words.py` and
`endings.py` for what they mean, and `noisy.py` for what happens as it is imported.
"""
