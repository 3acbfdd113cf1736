"""`python script.py TASK`"""

from tests.warm_cli.main import main

if __name__ == "__main__":
    main()
