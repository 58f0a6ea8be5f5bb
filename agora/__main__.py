"""`python -m agora` is the same as `agora`."""

from agora.cli import main

main()
