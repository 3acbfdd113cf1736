"""The pages for a browser, and a run as one file."""
