"""The command line for CI: a program of one file that needs nothing but Python."""
