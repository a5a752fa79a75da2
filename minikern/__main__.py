"""``python -m minikern``: the command line without an installed script."""

from minikern.cli import main

if __name__ == "__main__":
    main()
