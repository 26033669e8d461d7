"""`python -m guard` is `guard`."""

from guard.cli.main import run

if __name__ == "__main__":
    run()
