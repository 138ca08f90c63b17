"""`python -m egotwin_sim` is the `egotwin` command."""

from egotwin_sim.cli.main import main

if __name__ == "__main__":
    main()
