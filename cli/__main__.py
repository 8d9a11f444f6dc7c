"""`python -m cli`, and what spark-submit is given: it takes a file, not a script on PATH."""

from cli.main import main

if __name__ == "__main__":
    main()
