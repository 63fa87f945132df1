"""The command `cowshed`: one module per family of commands, and no logic of its own."""
