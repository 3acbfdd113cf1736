"""`python -m runner.client`"""

from runner.client.main import main

main()
