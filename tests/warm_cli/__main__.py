"""`python -m tests.warm_cli TASK`"""

from tests.warm_cli.main import main

if __name__ == "__main__":
    main()
